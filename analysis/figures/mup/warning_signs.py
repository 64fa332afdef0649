"""Ways in which muP fails silently, each with the number of the first steps that shows it, beside a healthy twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
from matplotlib.axes import Axes

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import arms_apart, slopes
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.mup.coordinates import size_slopes
from analysis.stability.lr_sweep import best_lr, curves_of, read_sweep
from analysis.stability.plot_lr_sweep import draw_intervals, geometric_mean_over_seeds

VISIBLE = 0.15  # what a coordinate check lets pass as flat
HEALTHY, SICK = style.ARMS[0], style.ARMS[1]

_RAISED_EPS = pl.col("optim.eps") > pl.col("optim.eps").min()
_COUPLED = pl.col("optim.decay") == "coupled"
_PLAIN = (pl.col("param.name") == "mup") & ~_RAISED_EPS & ~_COUPLED & (pl.col("model.heads") > 1)
_ONE_HEAD = pl.col("model.heads") == 1
_NOTHING_OFF = pl.col("param.without") == "none"
# At the base width lambda m and lambda are one run.
_FULL_DECAY = pl.col("optim.weight_decay") == pl.col("optim.weight_decay").max()


class Sign(NamedTuple):
    """A failure of muP and its symptom."""

    title: str
    symptom: str
    sick: pl.Expr
    """Which runs have the failure."""
    healthy: pl.Expr
    power: float
    """What theory says of the sick slope in log-log minus the healthy one; for `epsilon` where epsilon rules."""
    sentence: str


SIGNS = {
    "updates": Sign(
        "one rate for all groups",
        "RMS of hidden updates",
        _PLAIN & (pl.col("param.without") == "hidden_lr"),
        _PLAIN & _NOTHING_OFF,
        1.0,
        "A scheduler that overwrites the groups' rates shows in the updates of hidden matrices.",
    ),
    "readout": Sign(
        "readout learns like an embedding",
        "mean |logit|",
        _PLAIN & (pl.col("param.without") == "readout_lr"),
        _PLAIN & _NOTHING_OFF,
        1.0,
        "A readout without its rule shows in the logits.",
    ),
    "attention": Sign(
        "1/√d with growing heads",
        "largest attention logit\nafter the first update",
        _ONE_HEAD & ~_NOTHING_OFF,
        _ONE_HEAD & _NOTHING_OFF,
        0.5,
        "Attention scaled by 1/d^1/2 of growing heads shows in the attention logits.",
    ),
    "epsilon": Sign(
        "epsilon above the gradient",
        "RMS of Adam's direction",
        _RAISED_EPS & (pl.col("param.name") == "mup"),
        _RAISED_EPS & (pl.col("param.name") == "completep"),
        -1.0,
        "An epsilon that does not fall with the gradients shows in Adam's direction.",
    ),
    "decay": Sign(
        "coupled decay without λm",
        "RMS of hidden weights\nover that at the start",
        _COUPLED & (~_FULL_DECAY | (pl.col("model.width") == pl.col("model.width").min())),
        _COUPLED & _FULL_DECAY,
        1.0,
        "Coupled decay without its rule shows in the size of hidden weights.",
    ),
}


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `signs`: a few probed steps over widths for each arm, and learning rates at several lengths of training."""
    long = pl.col("probe.every").is_null()
    symptoms = _symptoms(runs.filter(~long))
    lengths = read_sweep(runs.filter(long), pl.lit("mup"), size=pl.col("n_steps"))
    _draw(symptoms, lengths, folder)
    return [*_claims(symptoms), _horizon_claim(lengths)]


def _symptoms(runs: pl.DataFrame) -> pl.DataFrame:
    """`sign`, `arm` (healthy or sick), `width`, `seed` and the symptom's `value`, which is late but for `attention`."""
    curves = curves_of(runs).filter(pl.col("logits_abs").is_not_null())
    n_blocks = int(runs["model.depth"].max())  # type: ignore[arg-type]  # polars says Any
    adam = [f"block{block}/{matrix}/adam_rms" for block in range(n_blocks) for matrix in ("value", "up")]
    attention = [f"block{block}/attention_logit_max" for block in range(n_blocks)]
    ends = curves.sort("curve", "step").group_by("curve", maintain_order=True)
    measured = ends.agg(
        pl.col("hidden/update_rms").last().alias("updates"),
        pl.col("logits_abs").last().alias("readout"),
        pl.mean_horizontal(attention).gather(1).first().alias("attention"),
        pl.mean_horizontal(adam).last().alias("epsilon"),
        (pl.col("hidden/parameter_rms").last() / pl.col("hidden/parameter_rms").first()).alias("decay"),
    )
    table = runs.join(measured, left_on="run_id", right_on="curve", how="left", maintain_order="left")
    parts = [
        table.filter(which).select(sign=pl.lit(name), arm=pl.lit(arm), width="model.width", seed="seed", value=name)
        for name, sign in SIGNS.items()
        for arm, which in (("healthy", sign.healthy), ("sick", sign.sick))
    ]
    return pl.concat(parts).filter(pl.col("value").is_finite() & (pl.col("value") > 0))


def _claims(symptoms: pl.DataFrame) -> Iterator[Claim]:
    for name, sign in SIGNS.items():
        rows = symptoms.filter(pl.col("sign") == name)
        steep = size_slopes(rows.with_columns(pl.lit(name).alias("module"), pl.lit(0).alias("t")), "width")
        yield Claim(
            sign.sentence,
            of=arms_apart(steep, "slope", "sick", "healthy").behind(rows),
            statistic=f"slope of log2 of the {' '.join(sign.symptom.split())} against log2 width, sick minus healthy",
            accept=above(VISIBLE) if sign.power > 0 else below(-VISIBLE),
            needs="with the usual epsilon of 1e-8, widths at which gradients of hidden matrices fall to it"
            if name == "epsilon"
            else None,
        )


def _horizon_claim(lengths: pl.DataFrame) -> Claim:
    return Claim(
        "A rate tuned on too short a run shows in a best rate that falls with the length of training.",
        of=slopes(best_lr(lengths), "lr_opt", log_value=True)
        .behind(lengths)
        .or_say("the best rate of a length is at an end of its grid in too many seeds"),
        statistic="slope of log2 of the base model's best rate against log2 of steps",
        accept=below(-VISIBLE),
    )


def _draw(symptoms: pl.DataFrame, lengths: pl.DataFrame, folder: Path) -> None:
    """`signs`: a panel for each sign, the symptom against width in the sick and in the healthy set-up."""
    best = best_lr(lengths).filter(~pl.col("at_edge"))
    with style.panels((8.4, 5.0), 2, 3) as (figure, grid):
        *panels, last = grid.ravel()
        for axes, (name, sign) in zip(panels, SIGNS.items(), strict=True):
            for arm, colour, line in (("healthy", HEALTHY, "-"), ("sick", SICK, "--")):
                rows = symptoms.filter((pl.col("sign") == name) & (pl.col("arm") == arm))
                _draw_line(axes, rows.rename({"width": "size"}), "value", colour, line, arm)
            axes.set(title=sign.title, ylabel=sign.symptom)
        panels[0].legend()
        if not best.is_empty():
            _draw_line(last, best, "lr_opt", SICK, "--", "")
        last.set(title="trained too short", ylabel="best learning rate\nof the base model", xlabel="steps of training")
    horizon = best_lr(lengths).select(
        sign=pl.lit("horizon"), arm=pl.lit("sick"), steps="size", seed="seed", value="lr_opt", at_edge="at_edge"
    )
    write_picture(figure, pl.concat([symptoms, horizon], how="diagonal_relaxed"), folder / "signs")


def _draw_line(axes: Axes, rows: pl.DataFrame, value: str, colour: str, line: str, label: str) -> None:
    """Geometric mean over seeds with its 95 % interval against size, on logarithmic axes."""
    if not rows.is_empty():
        points = geometric_mean_over_seeds(rows, value)
        draw_intervals(axes, points["size"], points, fmt="o" + line, color=colour, label=label)
    style.doubling_axis(axes, rows["size"].unique().sort().to_list(), "width")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    style.plain_ticks(axes.yaxis, (1.0, 2.0, 5.0) if high > 5 * low else range(1, 10))
