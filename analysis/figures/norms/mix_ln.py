"""Li et al. 2024 (arXiv 2412.13795): gradient norms over the blocks, loss over the share of Post-LN blocks, and what
removing a block costs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import polars as pl

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.figures.norms.failing import BEARS, CENSORED, bearing_lr, fewer_fail, with_failed
from analysis.figures.norms.layers import at_start, broke, by_block, over_blocks, read_rows, tilt, unevenness
from analysis.figures.norms.layers_plot import draw_bars, draw_profile
from analysis.stability.lr_sweep import read_sweep, sensitivity
from analysis.stability.plot_arms import arm_colours

PRE, MIX, POST = "0/1", "1/4", "1/1"
SHOWN = {PRE: "Pre-LN", MIX: "Mix-LN, 1/4", POST: "Post-LN"}
EARLY = 0.1  # of the run, its warm-up
LARGE = "71M parameters and 1e9 tokens, where the paper finds 2 to 5 % of perplexity"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `gradients`, `fraction` and `removal`."""
    name = pl.col("model.mix_fraction").map_elements(_as_fraction, return_dtype=pl.String)
    sweep = read_sweep(runs, name)
    rows = read_rows(sweep)
    sweep = with_failed(broke(sweep, rows))
    gradient = by_block(rows, "gradient_norm")
    measured = set(runs.filter(pl.col("eval.layers"))["run_id"])
    removal = by_block([run for run in rows if run.keys["run_id"] in measured], "removal_loss")
    _draw_gradients(gradient.filter(pl.col("lr") == removal["lr"][0]), folder)
    _draw_fraction(sweep, folder)
    _draw_removal(removal, folder)
    warmup = gradient.filter(pl.col("step") <= EARLY * int(runs["n_steps"].max()))  # type: ignore[arg-type]
    return [*_gradient_claims(gradient, warmup), *_loss_claims(sweep), _deep_block_claim(removal)]


def _as_fraction(value: float) -> str:
    """With its denominator, or a CSV's reader would take the first arm for a number."""
    fraction = Fraction(value).limit_denominator(48)
    return f"{fraction.numerator}/{fraction.denominator}"


def _gradient_claims(gradient: pl.DataFrame, warmup: pl.DataFrame) -> list[Claim]:
    tilts, early_tilts = (over_blocks(table, tilt, "tilt") for table in (at_start(gradient), warmup))
    uneven = over_blocks(warmup, unevenness, "uneven")
    decades = "decades by which the gradient norm rises from the first block to the last"
    return [
        Claim(
            "In pre-LN gradient norms fall with depth at the start of training.",
            of=by_seed(tilts, "tilt", arm=PRE),
            statistic=f"{decades}, at initialisation",
            accept=below(0),
        ),
        Claim(
            "In Post-LN gradient norms rise with depth at the start of training.",
            of=by_seed(early_tilts, "tilt", arm=POST),
            statistic=f"{decades}, mean over the probes of the warm-up",
            accept=above(0),
        ),
        *(
            Claim(
                f"Mix-LN makes gradient norms more even over the blocks than {SHOWN[arm]}.",
                of=arms_apart(uneven, "uneven", arm, MIX),
                statistic="standard deviation over the blocks of log10 gradient norm, mean over the probes of the "
                f"warm-up, {SHOWN[arm]} minus {SHOWN[MIX]}",
                accept=above(0),
            )
            for arm in (PRE, POST)
        ),
    ]


def _loss_claims(sweep: pl.DataFrame) -> list[Claim]:
    best = sensitivity(sweep)
    fails = bearing_lr(sweep).with_columns(pl.col("lr_fail").log10())
    return [
        *(
            Claim(
                sentence,
                of=arms_apart(best, "best_loss", other, MIX),
                statistic=f"loss of {name} minus {SHOWN[MIX]}, each at its best rate, nats per token",
                accept=above(0),
                needs=LARGE,
            )
            for other, name, sentence in (
                (PRE, SHOWN[PRE], "Mix-LN reaches a lower loss than pre-LN."),
                ("1/2", "a half of Post-LN blocks", "A quarter of Post-LN blocks is better than a half."),
            )
        ),
        Claim(
            "Mix-LN trains at learning rates at which Post-LN fails.",
            of=arms_apart(fails, "lr_fail", MIX, POST),
            statistic=f"{BEARS}, {SHOWN[MIX]} minus Post-LN; {CENSORED}",
            accept=above(0),
        ),
        *fewer_fail(
            sweep,
            MIX,
            POST,
            names=("Mix-LN", "Post-LN"),
            apart=f"Post-LN minus {SHOWN[MIX]}",
            needs="250M parameters and 24 blocks, where the paper's Post-LN diverges and its Mix-LN does not",
        ),
    ]


def _deep_block_claim(removal: pl.DataFrame) -> Claim:
    deeper = removal.filter(pl.col("block") > pl.col("block").max() / 2)
    missed = over_blocks(deeper, lambda x: float(x.mean()), "missed")
    return Claim(
        "Removing a deep block costs more under Mix-LN than in pre-LN.",
        of=arms_apart(missed, "missed", MIX, PRE),
        statistic="rise of the loss without a block, mean over the deeper half, "
        f"{SHOWN[MIX]} minus pre-LN at a rate of {removal['lr'][0]:g}, nats",
        accept=above(0),
        needs=LARGE,
    )


def _draw_gradients(gradient: pl.DataFrame, folder: Path) -> None:
    """`gradients`: the gradient norm of each block at initialisation, during the warm-up, at its end, and late."""
    steps = gradient["step"].unique().sort()
    last = int(steps[-1])
    nearest = [int(steps[int((steps - share * last).abs().arg_min() or 0)]) for share in (0.0, EARLY / 2, EARLY, 1.0)]
    wanted = list(dict.fromkeys(nearest))
    size = 2.35 * len(wanted) + 0.6, 2.8
    with style.panels(size, 1, len(wanted), sharey=True, squeeze=False) as (figure, [panels]):
        for axes, step in zip(panels, wanted, strict=True):
            draw_profile(axes, gradient.filter(pl.col("step") == step), SHOWN)
            axes.set_title("at initialisation" if step == wanted[0] else f"step {step}")
        panels[0].set_ylabel("gradient norm of the block")
        panels[0].legend()
    drawn = gradient.filter(pl.col("step").is_in(wanted))
    write_picture(figure, drawn.drop("size"), folder / "gradients")


def _draw_fraction(sweep: pl.DataFrame, folder: Path) -> None:
    """`fraction`: loss, and the share of failed runs, against the share of Post-LN blocks, a line for each rate."""
    fraction = pl.col("arm").map_elements(lambda text: float(Fraction(text)), return_dtype=pl.Float64)
    sweep = sweep.with_columns(fraction=fraction)
    shades = style.setting_colours(sweep["lr"].to_numpy())
    ticks = sweep.select("fraction", "arm").unique().sort("fraction")
    with style.panels(style.TWO_PANELS, 1, 2) as (figure, (loss, share)):
        for k, (lr, colour) in enumerate(shades.items()):
            rows = sweep.filter(pl.col("lr") == lr)
            draw_over_seeds(loss, rows, "fraction", "loss", colour=colour, label=f"{lr:g}", log=False)
            failed = rows.group_by("fraction").agg(pl.col("failed").mean()).sort("fraction")
            shift = 0.006 * (k - (len(shades) - 1) / 2)  # or equal shares would hide each other
            share.plot(failed["fraction"] + shift, failed["failed"], "o-", color=colour, mec="white", mew=0.5)
        for axes in (loss, share):
            axes.set_xticks(ticks["fraction"].to_list(), [str(Fraction(arm)) for arm in ticks["arm"]])
            axes.set_xlabel("share of Post-LN blocks")
        loss.set_ylabel(style.VALIDATION_LOSS)
        loss.legend(title="learning rate", loc="center", bbox_to_anchor=(0.4, 0.7))  # the one place without a line
        share.set(ylim=(-0.05, 1.05), ylabel="share of runs that failed")
    write_picture(figure, sweep.drop("folder"), folder / "fraction")


def _draw_removal(removal: pl.DataFrame, folder: Path) -> None:
    """`removal`: what the loss rises by without each block, for pre-LN, a quarter, and Post-LN."""
    with style.panels((6.4, 3.0)) as (figure, axes):
        draw_bars(axes, removal, SHOWN, arm_colours(SHOWN))
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set(ylabel="loss without the block minus loss (nats)", title=f"learning rate {removal['lr'][0]:g}")
        axes.legend()
    write_picture(figure, removal.drop("size"), folder / "removal")
