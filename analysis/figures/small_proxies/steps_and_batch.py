"""Figures E.7 and E.9: LR sensitivity at half and twice the steps, and at half and twice the batch."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from matplotlib.axes import Axes

from analysis.claims.claim import Claim
from analysis.claims.region import between
from analysis.claims.sample import arms_apart
from analysis.drawing import style
from analysis.drawing.pictures import write_picture
from analysis.stability.lr_sweep import arm_where, lr_window, read_sweep, sensitivity
from analysis.stability.plot_lr_sweep import draw_intervals, draw_loss_panels, mean_over_seeds
from conf.command_line import human

RECIPE = "recipe"
ARMS = {
    "steps": {"half the steps": 0.5, RECIPE: 1.0, "twice the steps": 2.0},
    "batch": {"half the batch": 0.5, RECIPE: 1.0, "twice the batch": 2.0},
}
SAME = 0.05  # nats: less than half of what QK-norm changes in the sensitivity of models like these


def draw(runs: pl.DataFrame, folder: Path) -> list[Claim]:
    """Draw `sensitivity`. Runs of half and twice the batch have as many tokens as the recipe's."""
    batch, steps = pl.col("train.batch_size"), pl.col("n_steps")
    usual_batch = runs["train.batch_size"].unique().sort()[1]
    usual_steps = runs.filter(batch == usual_batch)["n_steps"].unique().sort()[1]
    # Batches first: other batches have other steps too.
    conditions = {"half the batch": batch < usual_batch, "twice the batch": batch > usual_batch}
    conditions |= {"half the steps": steps < usual_steps, "twice the steps": steps > usual_steps}
    sweep = read_sweep(runs, arm_where(conditions, pl.lit(RECIPE)))
    sensitive = sensitivity(sweep)
    _draw(sweep, sensitive, folder)

    return [
        Claim(
            f"With {name} training is as sensitive to the learning rate as with the recipe's"
            f"{' (and as many tokens)' if kind == 'batch' else ''}.",
            of=arms_apart(sensitive, "sensitivity", name, RECIPE),
            statistic=f"LR sensitivity with {name} minus that of the recipe, mean over sizes, nats",
            accept=between(-SAME, SAME),
            needs="runs so long that the lowest rate of the window is past the first fall of the loss: the paper's "
            "5e4 to 2e5 steps",
        )
        for kind, arms in ARMS.items()
        for name in arms
        if name != RECIPE
    ]


def _draw(sweep: pl.DataFrame, sensitive: pl.DataFrame, folder: Path) -> None:
    """A row for steps and one for batch: a panel of loss against rate for each factor, and one of sensitivity against
    the factor; both coloured by size."""
    colours = style.size_colours(sweep["size"].to_numpy())
    low, high = lr_window(sweep)
    with style.panels((9.0, 4.6), 2, 4) as (figure, rows):
        for axes_of_row, (kind, arms) in zip(rows, ARMS.items(), strict=True):
            draw_loss_panels(axes_of_row, sweep, {name: name for name in arms}, colours)
            axes_of_row[0].set_ylabel("validation loss\n(nats per token)")
            _draw_factors(axes_of_row[-1], sensitive, kind, colours)
        rows[0][-1].set_title(f"rates {low:g} to {high:g}")
        if len(colours) > 1:
            style.size_bar(figure, rows[:, -1].tolist(), colours, "parameters without embeddings")
        else:
            figure.suptitle(f"{human(sweep['size'][0])} parameters without embeddings", fontsize=9.5)
    write_picture(figure, sweep.drop("folder"), folder / "sensitivity")


def _draw_factors(axes: Axes, sensitive: pl.DataFrame, kind: str, colours: dict[float, object]) -> None:
    arms = pl.DataFrame({"arm": list(ARMS[kind]), "factor": list(ARMS[kind].values())})
    table = sensitive.join(arms, on="arm")
    for size, colour in colours.items():
        points = mean_over_seeds(table.filter(pl.col("size") == size), "sensitivity", by=("factor",))
        usual = points.filter(pl.col("factor") == 1)["mean"][0]
        axes.axhspan(usual - SAME, usual + SAME, color=colour, alpha=0.12, linewidth=0)
        draw_intervals(axes, points["factor"], points, color=colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.5, 1, 2], ["1/2", "1", "2"])
    axes.set(xlabel=f"{kind}, relative to the recipe's", ylabel="LR sensitivity (nats)")
    axes.set(xlim=(0.42, 2.4), ylim=(0, None))
