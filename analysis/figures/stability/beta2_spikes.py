"""Spikes of the training loss over beta2, what comes before them, and what prevents them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis.claims.claim import Claim
from analysis.claims.region import above, below
from analysis.claims.sample import Sample, arms_apart, slopes
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.figures.stability.loss_spikes import Course, lags, read_courses
from analysis.stability.autopsy import STALE
from analysis.stability.lr_sweep import arm_where
from analysis.stability.plot_arms import arm_colours
from analysis.stability.plot_lr_sweep import draw_intervals, mean_over_seeds
from analysis.stability.signals import REACH

FREE, CLIP, TENSOR, STABLE = "free", "clip", "tensor", "stable"
ARMS = {FREE: "no clipping", CLIP: "clipped at 1", TENSOR: "each tensor clipped", STABLE: "StableAdamW"}
SAME = 0.02
SHOWN_LAGS = 20  # steps


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `losses`, `spikes` and `lags`."""
    stable, free = pl.col("optim.name") == "stable_adamw", pl.col("optim.clip").is_null()
    arm = arm_where({STABLE: stable, FREE: free, TENSOR: pl.col("optim.clip_by") == "tensor"}, pl.lit(CLIP))
    courses = read_courses(runs, arm)
    table = tabulate(courses)
    _draw_losses(courses, folder)
    _draw_spikes(table, folder)
    _draw_lags([course for course in courses if course.staleness is not None], folder)
    return [*_beta2_claims(table), _precedence_claim(courses), *_stable_claims(table)]


def tabulate(courses: Sequence[Course]) -> pl.DataFrame:
    """A row for each run: `arm`, `beta2`, `memory` (log10 of 1 / (1 - beta2), decades of steps), `seed`, `spikes`,
    `bump` and `loss`."""
    rows = [
        (run.arm, run.beta2, -float(np.log10(1 - run.beta2)), run.seed, len(run.spikes), run.bump, run.final_loss)
        for run in courses
    ]
    numbers = dict.fromkeys(("spikes", "bump", "loss"), pl.Float64)
    schema = {"arm": pl.String, "beta2": pl.Float64, "memory": pl.Float64, "seed": pl.Int64, **numbers}
    return pl.DataFrame(rows, schema, orient="row").sort("arm", "beta2", "seed")


def _beta2_claims(table: pl.DataFrame) -> list[Claim]:
    free = table.filter(pl.col("arm") == FREE)
    return [
        Claim(
            sentence,
            of=slopes(free, value, "memory", log_against=False).or_say(
                "the runs are too short" if free[value].null_count() else None
            ),
            statistic=f"slope of {statistic} against log10 of 1 / (1 - beta2), without clipping",
            accept=above(0),
        )
        for value, sentence, statistic in (
            ("spikes", "The loss spikes more often the higher beta2 is.", "spikes in a run"),
            (
                "bump",
                "After a surprising batch the loss stays higher the higher beta2 is.",
                f"the mean loss of {REACH} steps after a shifted batch minus that before it (nats)",
            ),
        )
    ]


def _precedence_claim(courses: Sequence[Course]) -> Claim:
    probed = [course for course in courses if course.staleness is not None]
    hits, chance = Counter[int](), defaultdict[int, float](float)
    for course in probed:
        hits[course.seed] += course.preceded
        chance[course.seed] += course.preceded_by_chance
    ratios = {seed: hits[seed] / chance[seed] for seed in sorted(hits) if chance[seed] > 0}
    neither = None if ratios else "no run has both spikes and a second moment that is out of date"
    return Claim(
        "Spikes follow 1 to 8 steps after a second moment was out of date.",
        of=Sample(ratios, len(probed)).or_say(neither),
        statistic=f"spikes with a step 1 to {REACH} steps before them at which the RMS of g / sqrt(v) of the token "
        f"table or of a matrix of the first block rose above {STALE:g}, over as many by chance",
        accept=above(1),
        needs="runs that spike by themselves: here a mirrored batch makes both the stale moment and the spike",
    )


def _stable_claims(table: pl.DataFrame) -> list[Claim]:
    log_loss = table.with_columns(pl.col("loss").log())
    return [
        Claim(
            "StableAdamW prevents spikes without clipping.",
            of=arms_apart(table, "spikes", STABLE, FREE),
            statistic="spikes in a run, StableAdamW minus AdamW, both without clipping, mean over beta2",
            accept=below(0),
        ),
        Claim(
            "StableAdamW costs no loss at the end.",
            of=arms_apart(log_loss, "loss", STABLE, FREE),
            statistic="ln of the final loss, StableAdamW minus AdamW, both without clipping, mean over beta2",
            accept=below(SAME),
        ),
    ]


def _draw_losses(courses: Sequence[Course], folder: Path) -> None:
    """`losses`: loss with its spikes and staleness, unclipped, one seed at the lowest and the second highest beta2."""
    free = [course for course in courses if course.arm == FREE]
    seed = min(course.seed for course in free)
    own = sorted((course for course in free if course.seed == seed), key=lambda course: course.beta2)
    shown = [own[0], own[max(len(own) - 2, 1)]] if len(own) > 1 else own
    drawn = []
    how: dict[str, Any] = {"sharex": True, "sharey": "row", "squeeze": False, "height_ratios": [1.3, 1]}
    with style.panels((7.6, 4.2), 2, len(shown), **how) as (figure, panels):
        for (loss_axes, stale_axes), course in zip(panels.T, shown, strict=True):
            _draw_course(loss_axes, stale_axes, course)
            drawn.append(_course_table(course))
        highest = max(float(course.loss[~course.shifted][len(course.loss) // 10 :].max()) for course in shown)
        lowest = min(float(course.loss.min()) for course in shown)
        panels[0, 0].set(ylim=(lowest - 0.1, highest + 0.35), ylabel="training loss (nats per token)")
        panels[1, 0].set(ylim=(0, None), ylabel=r"RMS of $g\,/\sqrt{v}$")
        for axes in panels[:, -1]:
            axes.legend(loc="upper right", frameon=True, facecolor="white", edgecolor="none", framealpha=0.9)
    write_picture(figure, pl.concat(drawn), folder / "losses")


def _draw_course(loss_axes: Axes, stale_axes: Axes, course: Course) -> None:
    loss_axes.set_title(f"$\\beta_2$ = {course.beta2:g}")
    stale_axes.set_xlabel("step")
    shown = np.where(course.shifted, np.nan, course.loss)
    loss_axes.plot(course.step, shown, color=style.ARMS[0], linewidth=0.8)
    at = np.isin(course.step, course.spikes)
    loss_axes.plot(course.step[at], course.loss[at], "v", color=style.HELD_OUT, label="a spike begins")
    for axes in (loss_axes, stale_axes):
        for k, step in enumerate(course.step[course.shifted]):
            axes.axvline(step, color="#c8c8c8", linewidth=1.5, zorder=0, label=None if k else "mirrored bytes")
    if course.staleness is not None and course.tokens_staleness is not None:
        stale_axes.plot(course.step, course.staleness, color=style.ARMS[2], linewidth=0.8, label="tokens or block 0")
        stale_axes.plot(course.step, course.tokens_staleness, color=style.ARMS[1], linewidth=0.8, label="tokens")
    stale_axes.axhline(STALE, color=style.REFERENCE, linestyle=":", linewidth=1)


def _course_table(course: Course) -> pl.DataFrame:
    columns = {
        "step": course.step,
        "train_loss": course.loss,
        "shifted": course.shifted,
        "spike": np.isin(course.step, course.spikes),
        "staleness": course.staleness,
        "tokens_staleness": course.tokens_staleness,
    }
    known = {name: values for name, values in columns.items() if values is not None}
    return pl.DataFrame(known).insert_column(0, pl.lit(course.beta2).alias("beta2"))


def _draw_spikes(table: pl.DataFrame, folder: Path) -> None:
    """`spikes`: spikes in a run, loss after a shifted batch, and final loss against beta2, with 95 % intervals."""
    panels = {
        "spikes": "spikes in a run",
        "bump": f"loss of {REACH} steps after a mirrored batch\nminus loss before (nats per token)",
        "loss": "validation loss at the end\n(nats per token)",
    }
    memories = table.select("memory", "beta2").unique().sort("memory")
    drawn = []
    with style.panels((9.6, 3.2), 1, 3) as (figure, row):
        for axes, (value, label) in zip(row, panels.items(), strict=True):
            known = table.drop_nulls(value)
            colours = {arm: colour for arm, colour in arm_colours(ARMS).items() if arm in set(known["arm"])}
            for k, (arm, colour) in enumerate(colours.items()):
                points = mean_over_seeds(known.filter(pl.col("arm") == arm), value, ("memory", "beta2"))
                shift = 0.05 * (k - 1.5)  # or intervals would hide each other
                draw_intervals(axes, points["memory"] + shift, points, color=colour, label=ARMS[arm])
                drawn.append(points.select(pl.lit(arm).alias("arm"), pl.lit(value).alias("value"), pl.all()))
            axes.set_xticks(memories["memory"].to_list(), [f"{beta2:g}" for beta2 in memories["beta2"]], fontsize=7)
            axes.set(xlabel=r"$\beta_2$", ylabel=label)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
    write_picture(figure, pl.concat(drawn), folder / "spikes")


def _draw_lags(courses: Sequence[Course], folder: Path) -> None:
    """`lags`: how many steps after a second moment went out of date spikes begin, and what chance would give."""
    found, expected = lags(courses, SHOWN_LAGS)
    at = np.arange(-SHOWN_LAGS, SHOWN_LAGS + 1)
    counts = np.bincount(found + SHOWN_LAGS, minlength=len(at))
    with style.panels(style.ONE_PANEL) as (figure, axes):
        axes.axvspan(0.5, REACH + 0.5, color="#f0e6d2", label=f"1 to {REACH} steps")
        axes.bar(at, counts, 0.85, color=style.ARMS[0], label="spikes")
        axes.step(at, expected, where="mid", color=style.HELD_OUT, label="by chance")
        axes.set(
            ylim=(0, max(1.0, 1.15 * counts.max(), 1.15 * expected.max())),
            xlabel="steps from a second moment out of date to a spike",
            ylabel="pairs",
        )
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper left")
    write_picture(figure, pl.DataFrame({"lag": at, "pairs": counts, "by_chance": expected}), folder / "lags")
