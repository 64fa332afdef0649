"""How figures look: sizes, colours by meaning, markers, and how they are written. No data.

Colours say one thing each: the size of a model is a place on a sequential map, an arm of a comparison one of a
few colours that readers with any colour vision can tell apart, a held-out measurement is red.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.tables.columns import Array
from conf.command_line import COUNTS, human
from train.record.files import write_bytes

matplotlib.use("Agg")

# Inches; a paper's text is 5.5 to 7 wide.
ONE_PANEL = (4.6, 3.3)
TWO_PANELS = (7.6, 3.3)

VALIDATION_LOSS = "validation loss (nats per token)"

HELD_OUT = "#c1272d"
REFERENCE = "#6b6b6b"
# Okabe and Ito 2008, without yellow, which vanishes on white.
ARMS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

_RC: Any = {
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "svg.hashsalt": "windtunnel",  # else the ids in an SVG change from run to run
    "svg.fonttype": "none",
}


@contextmanager
def paper() -> Iterator[None]:
    """Figures made inside have the house style."""
    with matplotlib.rc_context(_RC):
        yield


@contextmanager
def panels(size: tuple[float, float], rows: int = 1, columns: int = 1, **how: Any) -> Iterator[tuple[Figure, Any]]:
    """`with panels((9.2, 3.0), 1, 3) as (figure, axes)`: a figure in the house style and its axes, as
    `Figure.subplots` gives them; the size is in inches."""
    with paper():
        figure = Figure(figsize=size)
        yield figure, figure.subplots(rows, columns, **how)


def size_colours(sizes: Array) -> dict[float, Any]:
    """A colour for each model size, light to dark with growing size."""
    return _shades(sizes, "viridis_r")


def setting_colours(values: Array) -> dict[float, Any]:
    """A colour for each value of a setting such as the learning rate, light to dark, on another map than sizes."""
    return _shades(values, "inferno_r")


def _shades(values: Array, name: str) -> dict[float, Any]:
    ordered = np.unique(values)
    # The lightest sixth of a map is too faint for lines on white.
    shades = matplotlib.colormaps[name](np.linspace(0.14, 1.0, len(ordered)))
    return {float(value): shade for value, shade in zip(ordered, shades, strict=True)}


def size_bar(figure: Figure, axes: Any, colours: dict[float, Any], label: str) -> None:
    """A colour bar of equal steps, one labelled step for each size."""
    bounds = np.arange(len(colours) + 1)
    mappable = ScalarMappable(BoundaryNorm(bounds, len(colours)), ListedColormap(list(colours.values())))
    bar = figure.colorbar(mappable, ax=axes, ticks=bounds[:-1] + 0.5, aspect=25, pad=0.02)
    bar.ax.set_yticklabels([human(size) for size in colours])
    bar.ax.tick_params(length=0)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.set_label(label)


def count_axis(axes: Axes, values: Array, prefixes: str = COUNTS) -> None:
    """A logarithmic x-axis of counts (parameters, tokens; FLOPs with `SI`), with ticks such as 300K, 1M, 3M where
    decades are few."""
    decades = float(np.log10(values.max() / values.min()))
    subs = (1.0, 2.0, 5.0) if decades <= 0.8 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(count_ticks(prefixes))


def count_ticks(prefixes: str = COUNTS) -> FuncFormatter:
    """Ticks such as 300K, for an axis of any scale."""
    return FuncFormatter(lambda value, _: human(value, prefixes))


def plain_ticks(axis: Axis, subs: Sequence[float] | None = None) -> None:
    """Plain numbers on a logarithmic axis, at these multiples of each decade where they are given."""
    if subs is not None:
        axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_formatter(NullFormatter())


def doubling_axis(axes: Axes, sizes: Sequence[float], label: str) -> None:
    """A logarithmic x-axis of sizes that double, such as widths, with a tick at each of those given."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def loss_axis(axes: Axes, label: str | None = None) -> None:
    """A logarithmic loss axis whose ticks are plain numbers at round places; its label stays where none is given."""
    if label is not None:
        axes.set_ylabel(label)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if (high - low) / s <= 7)
    ticks = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(ticks)
    axes.set_yticks([], minor=True)
    axes.set_ylim(low, high)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem.png` (200 dpi) and `stem.svg`; the same figure gives the same bytes."""
    return [write_figure(figure, stem.with_name(f"{stem.name}.{kind}")) for kind in ("png", "svg")]


def write_figure(figure: Figure, path: Path) -> Path:
    """Write one file in the format of its suffix (.png, .svg or .pdf); an older file stays until it is whole."""
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(path.suffix[1:], {})
    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(buffer, format=path.suffix[1:], dpi=200, metadata=metadata)
    write_bytes(path, buffer.getvalue())
    return path
