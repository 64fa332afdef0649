"""Coordinate check of Yang et al. 2022 and nanoGPT-mup, a control for each rule, and figure 7 of Dey et al. 2025."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.claims.claim import Claim
from analysis.claims.region import above, below, between
from analysis.claims.sample import Sample, by_seed
from analysis.drawing import style
from analysis.drawing.lines import draw_over_seeds
from analysis.drawing.pictures import write_picture
from analysis.figures.mup.coordinates import MODULES, read_coordinates, size_slopes
from analysis.stability.plot_lr_sweep import mean_over_seeds

FLAT = 0.15  # the largest slope that counts as none, as in the published checks
GROWING = 0.5
BLOCKS, HEADS = ("attention", "mlp"), ("attention_logit",)
HIDDEN = ("embedding", *BLOCKS, "output")
ARMS = {"standard": "standard", "mup": "muP", "completep": "CompleteP"}
ONE_HEAD = "mup, one head"
DEPTH_ARMS = {
    "mup": "muP (α = 0)",
    "completep, alpha 0.5": "depth-muP (α = 1/2)",
    "completep": "CompleteP (α = 1)",
    "completep without residual_multiplier": "CompleteP without\nresidual multiplier",
}


class Control(NamedTuple):
    """What theory says of muP without one rule: the slopes of these modules differ by `power` from those of `twin`."""

    arm: str
    twin: str | None
    """The arm with the rule; None where its modules are exactly zero."""
    modules: tuple[str, ...]
    power: float
    at_init: bool
    """Seen at initialisation, as rules of the init are; those of updates after the last step."""
    because: str


# From Yang et al. 2022 (arXiv 2203.03466), table 3 and definition 4.1, and appendix D.2. A matrix that meets
# what it was not trained on adds as a random sum does, with the root of its fan-in; one that meets what its own updates
# came from adds in step, with the fan-in.
CONTROLS = (
    Control("mup without hidden_init", "mup", BLOCKS, 1.0, True, "two matrices in a row, each off by d^1/2"),
    Control("mup without hidden_lr", "mup", BLOCKS, 1.0, False, "d updates of one size each add up in step"),
    Control("mup without readout_init", "mup", ("logits",), 0.5, True, "a random sum of d terms, std d^-1/2 for d^-1"),
    Control("mup without readout_lr", "mup", ("logits",), 1.0, False, "d updates of one size each add up in step"),
    Control("mup without embedding_std", "mup", ("embedding",), -0.5, True, "drawn with std d^-1/2"),
    Control(
        f"{ONE_HEAD} without attention_scale", ONE_HEAD, HEADS, 0.5, False, "q·k/d^1/2 where q and k are correlated"
    ),
    Control(
        f"{ONE_HEAD} without query_init", None, HEADS, -0.5, True, "a random q·k/d, which zero queries do not have"
    ),
)


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `coordinates`, `rules` and `depth`, whose runs have another base width."""
    deep = pl.col("model.depth").n_unique().over("param.base_width") > 1
    wide = read_coordinates(runs.filter(~deep), _arm())
    depth = read_coordinates(runs.filter(deep), _arm())
    width_slopes, depth_slopes = size_slopes(wide, "width"), size_slopes(depth, "depth")
    _draw_coordinates(wide, folder)
    _draw_rules(width_slopes, folder)
    _draw_depth(depth, folder)
    return [
        *_width_claims(width_slopes, wide, runs.filter(~deep)),
        *_control_claims(width_slopes, runs.filter(~deep)),
        *_depth_claims(depth_slopes, runs.filter(deep)),
    ]


def _arm() -> pl.Expr:
    """`mup`, `completep, alpha 0.5`, `mup, one head without query_init`, …"""
    half = (pl.col("param.name") == "completep") & (pl.col("param.depth_alpha") != 1)
    one_head, bare = pl.col("model.heads") == 1, pl.col("param.without") != "none"
    return pl.concat_str(
        "param.name",
        pl.when(half).then(pl.format(", alpha {}", "param.depth_alpha")).otherwise(pl.lit("")),
        pl.when(one_head).then(pl.lit(", one head")).otherwise(pl.lit("")),
        pl.when(bare).then(pl.format(" without {}", "param.without")).otherwise(pl.lit("")),
    )


def _last(table: pl.DataFrame) -> int:
    return int(table["t"].max())  # type: ignore[arg-type]  # polars says Any


def _steepest(table: pl.DataFrame, arm: str, modules: tuple[str, ...]) -> Sample:
    """For each seed the largest |slope| of the modules at any step after the first update."""
    rows = table.filter((pl.col("arm") == arm) & pl.col("module").is_in(modules) & (pl.col("t") > 0))
    return by_seed(rows.group_by("seed").agg(pl.col("slope").abs().max()), "slope")


def _at(table: pl.DataFrame, arm: str, *modules: str, at_init: bool = False) -> Sample:
    """For each seed the mean slope of the modules at initialisation, or before the last step."""
    t = 0 if at_init else _last(table)
    return by_seed(table.filter(pl.col("module").is_in(modules)), "slope", arm=arm, t=t)


def _width_claims(table: pl.DataFrame, coordinates: pl.DataFrame, runs: pl.DataFrame) -> list[Claim]:
    steps = _last(table)
    losses = coordinates.filter((pl.col("module") == "loss") & (pl.col("t") == pl.col("t").max()))

    def widest_minus_base(arm: str) -> Sample:
        widths = losses["width"].max(), losses["width"].min()
        widest, base = (by_seed(losses, "value", arm=arm, width=width) for width in widths)
        return (widest - base).behind(runs)

    return [
        *(
            Claim(
                f"Under {ARMS[arm]} the sizes of activations do not depend on the width.",
                of=_steepest(table, arm, HIDDEN).behind(runs),
                statistic="largest |slope| of log2 mean |x| against log2 width of embedding, attention, MLP and last "
                f"block over updates 1 to {steps}",
                accept=below(FLAT),
            )
            for arm in ("mup", "completep")
        ),
        Claim(
            "Under muP the logits, which shrink with the width at initialisation, end with one size.",
            of=_at(table, "mup", "logits").behind(runs),
            statistic=f"slope of log2 mean |logit| against log2 width after {steps} updates",
            accept=between(-FLAT, FLAT),
        ),
        Claim(
            "Under the standard parametrisation activations grow with the width.",
            of=_at(table, "standard", "attention", "mlp").behind(runs),
            statistic=f"slope of log2 mean |x| against log2 width after {steps} updates, mean of attention and MLP",
            accept=above(GROWING),
        ),
        *(
            Claim(
                sentence,
                of=widest_minus_base(arm),
                statistic=f"training loss of the widest model minus that of the base after {steps} updates, nats",
                accept=accept,
            )
            for arm, sentence, accept in (
                ("mup", "Under muP wider is better.", below(0)),
                ("standard", "Under the standard parametrisation wider is worse at this rate.", above(0)),
            )
        ),
    ]


def _control_claims(table: pl.DataFrame, runs: pl.DataFrame) -> Iterator[Claim]:
    for control in CONTROLS:
        shift = _at(table, control.arm, *control.modules, at_init=control.at_init)
        if control.twin is not None:
            shift = shift - _at(table, control.twin, *control.modules, at_init=control.at_init)
        rule = control.arm.rpartition(" ")[2]
        names = " and ".join(MODULES[module].replace("\n", " ") for module in control.modules)
        when = "at initialisation" if control.at_init else f"after {_last(table)} updates"
        beyond = above if control.power > 0 else below
        yield Claim(
            f"The check fails without {rule}: {names}, by d^{control.power:g} ({control.because}).",
            of=shift.behind(runs),
            statistic=f"slope of log2 of {names} against log2 width {when}"
            + (", without the rule minus with it" if control.twin else ""),
            accept=beyond(control.power / 2, "half of theory's"),
        )


def _depth_claims(table: pl.DataFrame, runs: pl.DataFrame) -> list[Claim]:
    flat, growing = between(-FLAT, FLAT), above(GROWING)
    ends_flat = "Under {} the stream after the last block ends with one size at every depth."
    bare = "completep without residual_multiplier"
    return [
        Claim(
            sentence,
            of=_at(table, arm, module).behind(runs),
            statistic=f"slope of log2 {what} against log2 depth after {_last(table)} updates",
            accept=accept,
        )
        for arm, module, what, accept, sentence in (
            ("completep", "output", "mean |x|", flat, ends_flat.format("CompleteP")),
            ("completep, alpha 0.5", "output", "mean |x|", flat, ends_flat.format("depth-muP")),
            ("mup", "output", "mean |x|", growing, "Under muP the stream after the last block grows with the depth."),
            ("mup", "change", "of the change of mean |x|", growing,
             "Under muP the change of the stream grows with the depth."),
            (bare, "output", "mean |x|", growing,
             "Without its residual multiplier CompleteP does not keep the stream from growing with the depth."),
        )
    ]  # fmt: skip


PANELS = {**{name: MODULES[name] for name in (*HIDDEN, "logits")}, "loss": "training loss"}


def _draw_coordinates(coordinates: pl.DataFrame, folder: Path) -> None:
    """`coordinates`: the size of each module and the training loss against width for each parametrisation."""
    rows = {"arm": {arm: f"{name}\nmean |x|" for arm, name in ARMS.items()}}
    with style.panels((10.2, 5.4), len(ARMS), len(PANELS), sharex=True, sharey="col") as (figure, grid):
        _draw_grid(figure, grid, coordinates, rows | {"module": PANELS}, "width", "width")
        for axes in grid[:, -1]:
            axes.set_ylabel("nats per token")
    write_picture(figure, coordinates, folder / "coordinates")


def _draw_depth(coordinates: pl.DataFrame, folder: Path) -> None:
    """`depth`: the stream after the last block, and how far its size moved, against depth for each parametrisation."""
    rows = {"output": "last block, mean |x|", "change": "its change since\ninitialisation"}
    arms = {arm: name for arm, name in DEPTH_ARMS.items() if arm in set(coordinates["arm"])}
    with style.panels((1.8 * len(arms) + 1.0, 4.2), len(rows), len(arms), sharex=True, sharey="row") as (figure, grid):
        _draw_grid(figure, grid, coordinates, {"module": rows, "arm": arms}, "depth", "blocks")
    write_picture(figure, coordinates, folder / "depth")


def _draw_grid(
    figure: Figure, grid: Any, coordinates: pl.DataFrame, of: dict[str, dict[str, str]], size: str, size_label: str
) -> None:
    """A panel for each value of two columns, the rows' and the columns' of the grid, with a label for each value."""
    colours = style.size_colours(coordinates["t"].to_numpy())
    (row_name, rows), (column_name, columns) = of.items()
    for row, (row_value, row_label) in zip(grid, rows.items(), strict=True):
        for axes, column_value in zip(row, columns, strict=True):
            here = (pl.col(row_name) == row_value) & (pl.col(column_name) == column_value)
            _draw_lines(axes, coordinates.filter(here), size, colours)
        row[0].set_ylabel(row_label)
    for top, bottom, title in zip(grid[0], grid[-1], columns.values(), strict=True):
        top.set_title(title)
        bottom.set_xlabel(size_label)
    style.size_bar(figure, grid, colours, "updates done")


def _draw_lines(axes: Axes, coordinates: pl.DataFrame, size: str, colours: dict[float, Any]) -> None:
    """Value against size on logarithmic axes, a line for each step."""
    for (t,), rows in coordinates.sort("t").group_by("t", maintain_order=True):
        draw_over_seeds(axes, rows, size, "value", colour=colours[float(t)], mew=0, markersize=2.5, linewidth=1.1)
    sizes = coordinates[size].unique().sort().to_list()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(sizes[::2], [str(size) for size in sizes[::2]])
    style.plain_ticks(axes.yaxis)


def _draw_rules(table: pl.DataFrame, folder: Path) -> None:
    """`rules`: the slope of each module in the width, at initialisation and at the last step, for the parametrisations
    and for muP without each rule; a frame is where theory says that a rule's absence shows."""
    arms = [*ARMS, *(c.arm for c in CONTROLS if c.twin == "mup"), ONE_HEAD]
    arms += [c.arm for c in CONTROLS if c.twin != "mup"]
    arms = [arm for arm in arms if arm in set(table["arm"])]
    framed = {(c.arm, module, c.at_init) for c in CONTROLS for module in c.modules}
    steps = _last(table)
    means = mean_over_seeds(table.filter(pl.col("t").is_in([0, steps])), "slope", by=("arm", "module", "t"))
    values = {(arm, module, t): mean for arm, module, t, mean in means.select("arm", "module", "t", "mean").iter_rows()}
    with style.panels((10.6, 4.4), 1, 2, sharey=True) as (figure, panels):
        for axes, at_init in zip(panels, (True, False), strict=True):
            t = 0 if at_init else steps
            cells = np.array([[values.get((arm, module, t), np.nan) for module in MODULES] for arm in arms])
            image = axes.imshow(cells, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
            for i, arm in enumerate(arms):
                for j, module in enumerate(MODULES):
                    text = "zero" if np.isnan(cells[i, j]) else f"{cells[i, j]:+.2f}"
                    colour = "white" if abs(cells[i, j]) > 0.65 else "black"
                    axes.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
                    if (arm, module, at_init) in framed:
                        axes.add_patch(Rectangle((j - 0.47, i - 0.46), 0.94, 0.92, fill=False, linewidth=1.6))
            for first in ("mup without", ONE_HEAD):
                border = next((i for i, arm in enumerate(arms) if arm.startswith(first)), len(arms))
                axes.axhline(border - 0.5, color="white", linewidth=4)
            axes.grid(visible=False)
            axes.set_xticks(range(len(MODULES)), [name.replace(" ", "\n", 1) for name in MODULES.values()], fontsize=7)
            axes.set_title("at initialisation" if at_init else f"after {steps} updates")
        panels[0].set_yticks(range(len(arms)), [_name(arm) for arm in arms])
        figure.colorbar(image, ax=panels, label="slope of log mean |x| against log width", aspect=30, extend="both")
    write_picture(figure, means, folder / "rules")


def _name(arm: str) -> str:
    base, _, rule = arm.partition(" without ")
    name = ARMS.get(base, "muP, one head")
    return f"{name} without {rule}" if rule else name
