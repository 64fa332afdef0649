"""Figures 1, 2 and E.1: loss over learning rates with and without QK-norm, and the attention logits behind it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, arms_apart, by_seed, slopes
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import RISE, curves_of, failing_lr, lr_window, read_sweep, sensitivity, with_numbers
from analysis.stability.plot_lr_sweep import draw_lr_sweep

WITHOUT, WITH = "none", "head"
ARMS = {WITHOUT: "without QK-norm", WITH: "with QK-norm"}
LINES = {WITHOUT: "-", WITH: "--"}
LOGIT = "block0/attention_logit_max"
QUERY, KEY = "block0/query_rms", "block0/key_rms"
SAME = 0.02
HALF = 0.5
DECADES = "sizes that span decades, as the paper's 2.4M to 1.2B parameters"


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity` (figure 1) and `logits` (figures 2 and E.1)."""
    sweep = read_sweep(runs, pl.col("model.qk_norm"))
    curves = curves_of(sweep)
    logit, query, key = (pl.col(metric).max() for metric in (LOGIT, QUERY, KEY))
    sweep = with_numbers(sweep, curves, logit=logit, query=query, key=key)
    sweep = sweep.with_columns(query_key=pl.col("query") * pl.col("key"))
    draw_lr_sweep(sweep, folder / "sensitivity", arms=ARMS)
    _draw_logits(sweep, curves, folder)
    return _claims(sweep)


def _claims(sweep: pl.DataFrame) -> list[Claim]:
    lowest = lr_window(sweep)[0]
    log_loss = sweep.with_columns(pl.col("loss").log())
    sensitive = sensitivity(sweep)
    return [
        Claim(
            "At a low learning rate both arms reach the same loss.",
            of=arms_apart(log_loss, "loss", WITHOUT, WITH, lr=lowest).behind(sweep),
            statistic=f"ln loss without minus with QK-norm at a rate of {lowest:g}, mean over sizes",
            accept=between(-SAME, SAME),
        ),
        Claim(
            "Training is less sensitive to the learning rate with QK-norm.",
            of=arms_apart(sensitive, "sensitivity", WITHOUT, WITH),
            statistic="LR sensitivity without minus with QK-norm, mean over sizes, nats",
            accept=above(0),
        ),
        *_failure_claims(sweep),
        *_logit_claims(sweep),
        *(
            Claim(
                f"Sensitivity to the learning rate rises with size {name}.",
                of=slopes(sensitive, "sensitivity", arm=arm),
                statistic=f"slope of LR sensitivity {name} against log10 of parameters, nats per decade",
                accept=above(0),
                needs=DECADES,
            )
            for arm, name in ARMS.items()
        ),
    ]


def _failure_claims(sweep: pl.DataFrame) -> list[Claim]:
    """Which rates fail. A curve's own lowest loss falls with size, and so, without any failure, may the rate at which
    it is `RISE` above that: the arm with QK-norm is the control, run by run in the last claim."""
    fails = failing_lr(sweep, rise=RISE)
    no_rise = f"no curve rises by {RISE:g} nats within the rates"
    all_train = no_rise if fails["censored"].all() else None
    bare_train = no_rise if fails.filter(pl.col("arm") == WITHOUT)["censored"].all() else None
    fails = fails.with_columns(pl.col("lr_fail").log10())
    falls = {arm: slopes(fails, "lr_fail", arm=arm) for arm in ARMS}
    rate = f"log10 of the rate at which the loss is {RISE:g} nats above its lowest"
    return [
        Claim(
            "Without QK-norm training fails at a lower learning rate.",
            of=arms_apart(fails, "lr_fail", WITHOUT, WITH).unless(all_train),
            statistic=f"{rate}, without minus with, mean over sizes; where it never is, the highest rate",
            accept=below(0),
        ),
        Claim(
            "Without QK-norm the learning rate at which training fails falls with size.",
            of=falls[WITHOUT].unless(bare_train),
            statistic=f"slope of {rate} against log10 of parameters; where it never is, the highest rate",
            accept=below(0),
        ),
        Claim(
            "With QK-norm the learning rate at which training fails does not fall with size as it does without.",
            of=(falls[WITHOUT] - falls[WITH]).unless(all_train),
            statistic="that slope without minus with QK-norm",
            accept=below(0),
            needs=DECADES,
        ),
        Claim(
            "The learning rate from which on training suffers for want of QK-norm falls with size.",
            of=_parting_slopes(sweep),
            statistic=f"slope of log10 of the rate at which the loss without QK-norm is {RISE:g} nats above that with "
            "it at the same rate, against log10 of parameters",
            accept=below(0),
        ),
    ]


def _parting_slopes(sweep: pl.DataFrame) -> Sample:
    parting = parting_lr(sweep)
    if parting is None:
        return Sample({}, len(sweep), lacking=f"QK-norm gains {RISE:g} nats at no rate of some size")
    return slopes(parting, "lr_part").behind(sweep)


def parting_lr(sweep: pl.DataFrame) -> pl.DataFrame | None:
    """`size`, `seed` and `lr_part`: log10 of the lowest learning rate at which the loss without QK-norm is `RISE` above
    that with it, interpolated in log10; None where some size and seed has no such rate above its lowest."""
    apart = sweep.pivot("arm", index=["size", "seed", "lr"], values="loss")
    apart = apart.with_columns(over=pl.col(WITHOUT) - pl.col(WITH) - RISE)
    rows = []
    for (size, seed), curve in apart.sort("lr").group_by("size", "seed", maintain_order=True):
        over, x = curve["over"].to_numpy(), np.log10(curve["lr"].to_numpy())
        beyond = np.flatnonzero(over >= 0)
        if not len(beyond) or beyond[0] == 0:
            return None
        k = int(beyond[0])
        place = x[k - 1] - over[k - 1] / (over[k] - over[k - 1]) * (x[k] - x[k - 1])
        rows.append({"size": size, "seed": seed, "lr_part": float(place)})
    return pl.DataFrame(rows)


def _logit_claims(sweep: pl.DataFrame) -> list[Claim]:
    lowest, highest = lr_window(sweep)
    logs = sweep.with_columns(pl.col("logit", "query_key").log10())
    over = f"at a rate of {highest:g} over that at {lowest:g}, mean over sizes"

    def growth(arm: str, value: str) -> Sample:
        return by_seed(logs, value, arm=arm, lr=highest) - by_seed(logs, value, arm=arm, lr=lowest)

    grown = growth(WITHOUT, "logit")
    shares = growth(WITHOUT, "query_key") / grown
    return [
        Claim(
            "Without QK-norm the largest attention logit grows by orders of magnitude with the learning rate.",
            of=grown,
            statistic=f"log10 of block 0's largest attention logit without QK-norm {over}",
            accept=above(2),
        ),
        Claim(
            "With QK-norm the largest attention logit does not grow so with the learning rate.",
            of=growth(WITH, "logit"),
            statistic=f"log10 of block 0's largest attention logit with QK-norm {over}",
            accept=below(1),
        ),
        Claim(
            "The logits grow because queries and keys do, and not because they align.",
            of=shares.behind(grown.n_runs).or_say(None if shares.values else "without QK-norm logits do not grow"),
            statistic=f"decades by which block 0's RMS of queries times RMS of keys grows without QK-norm, {over}; "
            "over those of its largest attention logit",
            accept=above(HALF),
        ),
    ]


def _draw_logits(sweep: pl.DataFrame, curves: pl.DataFrame, folder: Path) -> None:
    """`logits`: the smallest and the largest model over steps at one high rate, and all of them over the rates."""
    high = sweep["lr"].unique().sort()[-2]
    colours = style.size_colours(sweep["size"].to_numpy())
    with style.panels((10.6, 2.9), 1, 4) as (figure, (loss_axes, logit_axes, *rate_axes)):
        drawn = [_draw_over_steps(loss_axes, logit_axes, sweep.filter(pl.col("lr") == high), curves, colours)]
        for axes, value in zip(rate_axes, ("logit", "query_key"), strict=True):
            drawn += _draw_over_rates(axes, sweep, value, colours)
        for arm, name in ARMS.items():
            loss_axes.plot([], [], LINES[arm], color=style.REFERENCE, label=name)
        loss_axes.legend()
        rate_axes[0].set(title="block 0", ylabel="largest attention logit of a run")
        rate_axes[1].set(title="block 0", ylabel="largest query RMS × key RMS")
        style.size_bar(figure, rate_axes[1], colours, "parameters without embeddings")
    write_picture(figure, pl.concat(drawn, how="diagonal_relaxed"), folder / "logits")


def _draw_over_steps(
    loss_axes: Axes, logit_axes: Axes, at_one_rate: pl.DataFrame, curves: pl.DataFrame, colours: Mapping[float, Any]
) -> pl.DataFrame:
    """One seed of the smallest and of the largest model; returns what was drawn."""
    lr, seed, sizes = at_one_rate["lr"][0], at_one_rate["seed"].min(), at_one_rate["size"]
    chosen = at_one_rate.filter((pl.col("seed") == seed) & pl.col("size").is_in([sizes.min(), sizes.max()]))
    curves = curves.filter(pl.col("step") > 0)
    drawn, highest = [], 0.0
    for run in chosen.iter_rows(named=True):
        rows = curves.filter(pl.col("curve") == run["run_id"])
        smooth = rows["train_loss"].rolling_mean(9, min_samples=1).to_numpy()
        highest = max(highest, float(smooth[len(smooth) // 10 :].max()))
        probed = rows.filter(pl.col(LOGIT).is_not_null())
        look = {"color": colours[run["size"]], "linestyle": LINES[run["arm"]]}
        loss_axes.plot(rows["step"], smooth, linewidth=1.0, **look)
        logit_axes.plot(probed["step"], probed[LOGIT], **look)
        named = {name: pl.lit(run[name]) for name in ("arm", "size", "lr", "seed")}
        drawn.append(rows.select("step", "train_loss", pl.col(LOGIT).alias("logit"), **named))
    loss_axes.set_ylim(top=1.1 * highest)  # the first steps fall from ln V
    shared = {"title": f"learning rate {lr:g}", "xlabel": "step"}
    loss_axes.set(ylabel="training loss (nats per token)", **shared)
    logit_axes.set(yscale="log", ylabel="largest attention logit, block 0", **shared)
    return pl.concat(drawn)


def _draw_over_rates(axes: Axes, sweep: pl.DataFrame, value: str, colours: Mapping[float, Any]) -> list[pl.DataFrame]:
    drawn = []
    for (arm, size), rows in sweep.sort("size").group_by("arm", "size", maintain_order=True):
        points = draw_over_seeds(axes, rows, "lr", value, colour=colours[float(size)], line="o" + LINES[str(arm)])
        drawn.append(points.with_columns(arm=pl.lit(arm), size=pl.lit(size), drawn=pl.lit(value)))
    axes.set(xscale="log", yscale="log", xlabel="learning rate")
    return drawn
