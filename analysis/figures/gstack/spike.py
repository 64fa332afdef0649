"""Du et al. 2024 (arXiv 2405.15319), figure 44: the jump of the loss at growth and its recovery."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from analysis.claims.claim import Claim
from analysis.claims.seeds import claim_over_seeds
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.figures.gstack.plots import flops_axis, show_losses
from analysis.growth.speed_up import SCRATCH, arm_of, finals, name_broken
from analysis.stability.lr_sweep import arms_apart, by_seed, differences
from analysis.tables.lineage import FROM_SCRATCH, courses, trace
from analysis.tables.select import FINISHED
from train.record.files import write_bytes

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


def spike(runs: pl.DataFrame, out: Path) -> list[Claim]:
    """Draw `spike` and `restart` into `out`, and return the claims.

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
    _draw_spike(course, runs, out)
    _draw_restart(close, out)
    claims = [*_jump_claims(close), _recovery_claim(course, close, budget), _end_claim(level), *_restart_claims(close)]
    return name_broken(claims, traced)


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


def _jump_claims(close: pl.DataFrame) -> list[Claim]:
    first = close.filter(pl.col("step") == 0)
    statistic = "validation loss after growth and before the first step minus the base's last (nats)"
    return [
        claim_over_seeds(
            list(by_seed(first, "rise", arm=STACK).values()),
            sentence="At growth the loss jumps for stack.",
            statistic=statistic,
            threshold="above 0",
            low=0.0,
            n_runs=first.filter(pl.col("arm") == STACK).height,
        ),
        claim_over_seeds(
            list(by_seed(first, "rise", arm=ZERO).values()),
            sentence="At growth the loss does not jump for zero.",
            statistic=statistic,
            threshold=f"within {KEPT:g}",
            low=-KEPT,
            high=KEPT,
            n_runs=first.filter(pl.col("arm") == ZERO).height,
        ),
    ]


def _recovery_claim(course: pl.DataFrame, close: pl.DataFrame, budget: float) -> Claim:
    """From both, since the short runs are the beginning of the long ones, and measured more often."""
    usual = (pl.col("moments") == "reset") & (pl.col("rate") == "restart") & (pl.col("arm") == STACK)
    columns = ("seed", "flops", "rise", "base_flops")
    whole = rises(course.filter(pl.col("arm") == STACK)).select(columns)
    found = {}
    for (seed,), rows in pl.concat([whole, close.filter(usual).select(columns)]).group_by("seed", maintain_order=True):
        found[seed] = recovery(rows.sort("flops")) / budget
    return claim_over_seeds(
        list(found.values()),
        sentence="The stack is soon back below the base's last loss.",
        statistic="FLOPs from growth until the validation loss is below the base's last, over those of the full budget "
        "(a straight line between measurements; where it never is, all that were measured)",
        threshold=f"below {QUICK:g}",
        high=QUICK,
        n_runs=2 * len(found),
    )


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


def _end_claim(ends: pl.DataFrame) -> Claim:
    return claim_over_seeds(
        arms_apart(ends, "loss", ZERO, STACK),
        sentence="Though its loss jumps, the stack ends below zero: keeping the function is not necessary.",
        statistic="final validation loss at the full budget, zero minus stack (nats)",
        threshold="above 0",
        low=0.0,
        n_runs=ends.filter(pl.col("arm").is_in([STACK, ZERO])).height,
    )


def _restart_claims(close: pl.DataFrame) -> list[Claim]:
    keys = ("arm", "moments", "rate", "seed")
    highest = close.group_by(*keys, maintain_order=True).agg(pl.col("rise").max())
    last = close.filter(pl.col("step") == pl.col("step").max())

    def above(
        table: pl.DataFrame, arm: str, one: tuple[str, str], other: tuple[str, str], sentence: str, statistic: str
    ) -> Claim:
        values = [by_seed(table, "rise", arm=arm, moments=moments, rate=rate) for moments, rate in (one, other)]
        return claim_over_seeds(
            differences(*values),
            sentence=sentence,
            statistic=f"{statistic} (nats)",
            threshold="above 0",
            low=0.0,
            n_runs=sum(map(len, values)),
        )

    return [
        above(
            highest,
            ZERO,
            ("reset", "continue"),
            ("carry", "continue"),
            "Fresh moments at the full rate make a spike of their own, even where the function is kept.",
            "highest validation loss after growth by zero, fresh moments minus the base's, both without warm-up",
        ),
        above(
            highest,
            ZERO,
            ("reset", "continue"),
            ("reset", "restart"),
            "A new warm-up prevents that spike.",
            "highest validation loss after growth by zero with fresh moments, without minus with a new warm-up",
        ),
        above(
            last,
            STACK,
            ("reset", "restart"),
            ("carry", "continue"),
            "A stack that goes on with the base's moments and rate recovers faster than one that begins anew.",
            "validation loss of the stack three warm-ups after growth, begun anew minus gone on",
        ),
    ]


# --- figures ---------------------------------------------------------------------------------------------


def _draw_spike(course: pl.DataFrame, runs: pl.DataFrame, out: Path) -> None:
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
                line = draw_over_seeds(
                    axes,
                    rows.drop_nulls("val_loss"),
                    x,
                    "val_loss",
                    colour=colour,
                    line="-",
                    label=name if x == "flops" else None,
                    log=False,
                )
                drawn.append(line.rename({x: "x"}).select(pl.lit(name).alias("arm"), pl.lit(x).alias("axis"), pl.all()))
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
        style.save(figure, out / "spike")
    write_bytes(out / "spike.csv", pl.concat(drawn, how="vertical_relaxed").write_csv().encode())


def _draw_restart(close: pl.DataFrame, out: Path) -> None:
    """`restart`: the loss above the base's last one in the first steps, by moments and schedule."""
    drawn = []
    with style.paper():
        figure = Figure(figsize=style.TWO_PANELS)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, arm in zip(panels, (STACK, ZERO), strict=True):
            for k, ((moments, rate), label) in enumerate(RESTARTS.items()):
                own = close.filter((pl.col("arm") == arm) & (pl.col("moments") == moments) & (pl.col("rate") == rate))
                points = draw_over_seeds(axes, own, "step", "rise", colour=style.ARMS[k], label=label, log=False)
                drawn.append(points.select(pl.lit(arm).alias("arm"), pl.lit(label).alias("begins_with"), pl.all()))
            axes.axhline(0, color=style.REFERENCE, linestyle=":", linewidth=1)
            axes.set_title(arm)
            axes.set_xlabel("steps since growth")
        panels[0].set_ylabel("validation loss minus\nthe base's last (nats per token)")
        panels[1].legend()
        style.save(figure, out / "restart")
    write_bytes(out / "restart.csv", pl.concat(drawn).write_csv().encode())
