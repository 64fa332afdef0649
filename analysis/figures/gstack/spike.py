"""Du et al. 2024 (arXiv 2405.15319), figure 44: the jump of the loss at growth and its recovery."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, within
from analysis.claims.sample import Sample, arms_apart, by_seed
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.gstack.plots import draw_line, flops_axis, show_losses, zero_line
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken
from analysis.tables.lineage import FROM_SCRATCH, courses, trace
from analysis.tables.select import FINISHED

STACK, ZERO = "stack", "zero"
COLOURS = {SCRATCH: style.REFERENCE, STACK: style.ARMS[0], ZERO: style.ARMS[1]}
RESTARTS = {
    ("reset", "restart"): "fresh moments, new warm-up",
    ("carry", "restart"): "base's moments, new warm-up",
    ("reset", "continue"): "fresh moments, full rate",
    ("carry", "continue"): "base's moments, full rate",
}
KEPT = 1e-3  # nats: an operator that keeps the function is off by rounding alone
QUICK = 0.1  # of the budget


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `spike` and `restart` into `folder`, and return the claims.

    Args:
        runs: `analysis.tables.runs.read_runs` of the base, the target from scratch, its stack and its zero growth to
            the end, and short runs of both with other moments and schedules.
    """
    traced = trace(runs).with_columns(arm_of(pl.col("grow.depth")))
    ends = finals(traced)
    budget = float(ends.filter(~FROM_SCRATCH)["budget"].to_numpy().max())
    level = ends.filter(pl.col("budget") == budget)
    course = courses(traced, level["run_id"]).join(_settings(traced), on="run_id", how="left")
    short = _short(traced)
    close = rises(courses(traced, short["run_id"]).join(_settings(traced), on="run_id", how="left"))
    _draw_spike(course, runs, folder)
    _draw_restart(close, folder)
    return name_broken(_claims(course, close, level, budget), traced)


def _short(traced: pl.DataFrame) -> pl.DataFrame:
    """The finished runs that grow and end soon: as short as any, and no trunk that another run goes on from."""
    trunks = {link for chain in traced["chain"] for link in chain[:-1]}
    ended = FINISHED & (pl.col("run_id") == pl.col("growth"))
    short = traced.filter(ended & ~pl.col("run_id").is_in(trunks))
    return short.filter(pl.col("n_steps") == pl.col("n_steps").min())


def _settings(traced: pl.DataFrame) -> pl.DataFrame:
    return traced.select(
        "run_id",
        "arm",
        "seed",
        "base_flops",
        pl.col("grow.optimizer").alias("moments"),
        pl.col("grow.schedule").alias("rate"),
    )


def jumps(course: pl.DataFrame) -> pl.DataFrame:
    """For each grown run of `analysis.tables.lineage.courses` its validation loss right before its last growth
    (`before`), right after it (`after`), and the difference (`jump`), in nats."""
    measured = course.drop_nulls("val_loss")
    before = measured.filter(~pl.col("since_growth")).group_by("run_id", maintain_order=True).last()
    after = measured.filter("since_growth").group_by("run_id", maintain_order=True).first()
    return (
        before.select("run_id", pl.col("val_loss").alias("before"))
        .join(after.select("run_id", pl.col("val_loss").alias("after")), on="run_id", maintain_order="left")
        .with_columns((pl.col("after") - pl.col("before")).alias("jump"))
    )


def rises(course: pl.DataFrame) -> pl.DataFrame:
    """The validation losses since the growth, with `rise`: what is above the base's last one."""
    return (
        course.filter("since_growth")
        .drop_nulls("val_loss")
        .join(jumps(course).select("run_id", "before"), on="run_id", maintain_order="left")
        .with_columns((pl.col("val_loss") - pl.col("before")).alias("rise"))
    )


# --- claims ----------------------------------------------------------------------------------------------


def _claims(course: pl.DataFrame, close: pl.DataFrame, ends: pl.DataFrame, budget: float) -> list[Claim]:
    first, last = (close.filter(pl.col("step") == step) for step in (0, pl.col("step").max()))
    highest = close.group_by("arm", "moments", "rate", "seed", maintain_order=True).agg(pl.col("rise").max())
    at_growth = "validation loss after growth and before the first step minus the base's last (nats)"

    def rise(table: pl.DataFrame, arm: str, moments: str, rate: str) -> Sample:
        return by_seed(table, "rise", arm=arm, moments=moments, rate=rate)

    return [
        Claim(
            "At growth the loss jumps for stack.",
            of=by_seed(first, "rise", arm=STACK),
            statistic=at_growth,
            accept=above(0.0),
        ),
        Claim(
            "At growth the loss does not jump for zero.",
            of=by_seed(first, "rise", arm=ZERO),
            statistic=at_growth,
            accept=within(KEPT),
        ),
        Claim(
            "The stack is soon back below the base's last loss.",
            of=_recoveries(course, close, budget),
            statistic="FLOPs from growth until the validation loss is below the base's last, over those of the full "
            "budget (a straight line between measurements; where it never is, all that were measured)",
            accept=below(QUICK),
        ),
        Claim(
            "Though its loss jumps, the stack ends below zero: keeping the function is not necessary.",
            of=arms_apart(ends, "loss", ZERO, STACK),
            statistic="final validation loss at the full budget, zero minus stack (nats)",
            accept=above(0.0),
        ),
        Claim(
            "Fresh moments at the full rate make a spike of their own, even where the function is kept.",
            of=rise(highest, ZERO, "reset", "continue") - rise(highest, ZERO, "carry", "continue"),
            statistic="highest validation loss after growth by zero, fresh moments minus the base's, both without "
            "warm-up (nats)",
            accept=above(0.0),
        ),
        Claim(
            "A new warm-up prevents that spike.",
            of=rise(highest, ZERO, "reset", "continue") - rise(highest, ZERO, "reset", "restart"),
            statistic="highest validation loss after growth by zero with fresh moments, without minus with a new "
            "warm-up (nats)",
            accept=above(0.0),
        ),
        Claim(
            "A stack that goes on with the base's moments and rate recovers faster than one that begins anew.",
            of=rise(last, STACK, "reset", "restart") - rise(last, STACK, "carry", "continue"),
            statistic="validation loss of the stack three warm-ups after growth, begun anew minus gone on (nats)",
            accept=above(0.0),
        ),
    ]


def _recoveries(course: pl.DataFrame, close: pl.DataFrame, budget: float) -> Sample:
    """From both, since the short runs are the beginning of the long ones, and measured more often."""
    usual = (pl.col("moments") == "reset") & (pl.col("rate") == "restart") & (pl.col("arm") == STACK)
    columns = ("seed", "flops", "rise", "base_flops")
    whole = rises(course.filter(pl.col("arm") == STACK)).select(columns)
    both = pl.concat([whole, close.filter(usual).select(columns)])
    shares = [recovery(rows.sort("flops")) / budget for _, rows in both.group_by("seed", maintain_order=True)]
    return Sample.of(shares, 2 * len(shares))


def recovery(rows: pl.DataFrame) -> float:
    """FLOPs from the growth until `rise` is 0, of rows in the order of `flops`; up to the last one if it never is."""
    flops, rise = rows["flops"].to_numpy() - rows["base_flops"].to_numpy(), rows["rise"].to_numpy()
    below = (rise <= 0).nonzero()[0]
    if not len(below):
        return float(flops[-1])
    k = int(below[0])
    if k == 0 or rise[k] == rise[k - 1]:
        return float(flops[k])
    share = rise[k - 1] / (rise[k - 1] - rise[k])
    return float(flops[k - 1] + share * (flops[k] - flops[k - 1]))


# --- figures ---------------------------------------------------------------------------------------------


def _draw_spike(course: pl.DataFrame, runs: pl.DataFrame, folder: Path) -> None:
    """`spike`: loss through growth by steps, and by FLOPs beside scratch; validation as lines with their seeds' range,
    training as faint lines."""
    course = course.with_columns((pl.col("tokens") / runs["tokens_per_step"][0]).alias("steps_in_all"))
    parts = [
        ("base", style.ARMS[6], course.filter(~pl.col("since_growth")).unique(["part", "step"], maintain_order=True)),
        *(
            (arm, colour, course.filter((pl.col("arm") == arm) & pl.col("since_growth")))
            for arm, colour in COLOURS.items()
        ),
    ]
    drawn = []
    with style.paper():
        figure = Figure(figsize=(8.6, 3.4))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, x in zip(panels, ("steps_in_all", "flops"), strict=True):
            for name, colour, rows in parts:
                if name == SCRATCH and x != "flops":
                    continue
                training = rows.drop_nulls("train_loss").group_by(x).agg(pl.col("train_loss").mean()).sort(x)
                axes.plot(training[x], training["train_loss"], color=colour, linewidth=0.6, alpha=0.4)
                label = name if x == "flops" else None
                points = draw_line(axes, rows.drop_nulls("val_loss"), label, colour, x=x, arm=name, axis=x)
                drawn.append(points.rename({x: "x"}))
        since = course.filter(pl.col("since_growth") & (pl.col("arm") != SCRATCH))
        trained = since.group_by("arm", "flops").agg(pl.col("train_loss").mean())["train_loss"]
        show_losses(panels[0], pl.concat([since["val_loss"], trained]))
        panels[0].plot([], [], color="black", label="validation loss")
        panels[0].plot([], [], color="black", linewidth=0.6, alpha=0.6, label="training loss")
        panels[0].legend()
        panels[0].set_xlabel("training steps, the base's included")
        panels[0].set_ylabel("loss (nats per token)")
        flops_axis(panels[1])
        panels[1].legend()
    write_picture(figure, pl.concat(drawn, how="vertical_relaxed"), folder / "spike")


def _draw_restart(close: pl.DataFrame, folder: Path) -> None:
    """`restart`: the loss above the base's last one in the first steps, by moments and schedule."""
    drawn = []
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, arm in zip(panels, (STACK, ZERO), strict=True):
            for k, ((moments, rate), label) in enumerate(RESTARTS.items()):
                rows = close.filter((pl.col("arm") == arm) & (pl.col("moments") == moments) & (pl.col("rate") == rate))
                look: dict[str, str] = {"x": "step", "y": "rise", "line": "o-"}
                drawn.append(draw_line(axes, rows, label, style.ARMS[k], **look, arm=arm, begins_with=label))
            zero_line(axes)
            axes.set_title(arm)
            axes.set_xlabel("steps since growth")
        panels[0].set_ylabel("validation loss minus\nthe base's last (nats per token)")
        panels[1].legend()
    write_picture(figure, pl.concat(drawn), folder / "restart")
