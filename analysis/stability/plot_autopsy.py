"""The picture of an autopsy: everything measured, over the steps, with the events and the thresholds of the causes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.drawing import style
from analysis.stability.autopsy import LOGIT_DIVERGES, LOGIT_HURTS, STALE, Autopsy, epsilon_of
from analysis.stability.signals import Signals

FEW = 40  # points of a series that are shown one by one

# One colour for each kind of tensor, whatever its block; gate and up are never told apart in a small picture.
KINDS: Mapping[str, str] = dict(
    zip(("query", "key", "value", "out", "up", "down", "readout"), style.ARMS, strict=True)
) | {"gate": style.ARMS[4], "tokens": style.REFERENCE}


def plot_autopsy(findings: Autopsy) -> Figure:
    """Eight panels over the steps; what was not measured says so. Dashed lines are thresholds, red ones events."""
    signals = findings.signals
    panels: Sequence[tuple[str, Callable[[Axes, Signals], None]]] = (
        ("loss (nats per token)", _loss),
        ("gradient norm, before clipping", _gradient_norm),
        ("largest attention logit", _attention_logits),
        ("entropy of attention (nats)", _entropy),
        ("log Z and mean logit", _output_logits),
        ("gradient RMS, and epsilon", _gradient_rms),
        ("RMS of Adam's direction; of updates (dotted)", _updates),
        ("staleness: RMS of g / sqrt(v)", _staleness),
    )
    with style.paper():
        figure = Figure(figsize=(7.6, 8.8))
        grid = figure.subplots(4, 2, sharex=True)
        for axes, (title, draw) in zip(grid.flat, panels, strict=True):
            axes.set_title(title, loc="left")
            draw(axes, signals)
            if not axes.lines:
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=style.REFERENCE)
                axes.set_yticks([])
            for event in signals.events:
                axes.axvline(event.step, color=style.HELD_OUT, lw=0.8, alpha=0.7, zorder=1)
        for axes in grid[-1]:
            axes.set_xlabel("step")
        tensors = {line.get_label(): line for axes in grid[2:].flat for line in axes.lines if line.get_label() in KINDS}
        if tensors:
            figure.legend(tensors.values(), tensors.keys(), loc="outside lower center", ncols=len(tensors))
        likely = findings.likely
        figure.suptitle(
            findings.verdict if likely is None else f"{likely.name} (score {likely.score:.2f})", fontsize=10
        )
    return figure


# --- panels ----------------------------------------------------------------------------------------------


def _loss(axes: Axes, signals: Signals) -> None:
    _line(axes, signals, "train_loss", color=style.ARMS[0], label="training")
    steps, losses = signals.series("val_loss")
    axes.plot(steps, losses, "o", color="black", mfc="white", ms=4, label="validation")
    axes.legend()


def _gradient_norm(axes: Axes, signals: Signals) -> None:
    _line(axes, signals, "grad_norm", color=style.ARMS[0])
    _log(axes)


def _attention_logits(axes: Axes, signals: Signals) -> None:
    _by_block(axes, signals, "attention_logit_max")
    _thresholds(axes, LOGIT_HURTS, LOGIT_DIVERGES)
    _log(axes)


def _entropy(axes: Axes, signals: Signals) -> None:
    _by_block(axes, signals, "attention_entropy")


def _output_logits(axes: Axes, signals: Signals) -> None:
    _line(axes, signals, "log_z_mean", color=style.ARMS[0], label="log Z")
    _line(axes, signals, "logit_mean", color=style.ARMS[1], label="mean logit")
    _legend(axes)


def _gradient_rms(axes: Axes, signals: Signals) -> None:
    _by_tensor(axes, signals, "gradient_rms")
    if axes.lines:
        for eps in sorted({epsilon_of(tensor, signals.config) for tensor in ("block", "readout")}):
            axes.axhline(eps, color=style.REFERENCE, lw=0.9, ls="--")
    _log(axes)


def _updates(axes: Axes, signals: Signals) -> None:
    _by_tensor(axes, signals, "adam_rms")
    for role in ("hidden", "residual", "readout"):
        _line(axes, signals, f"{role}/update_rms", color="black", ls=":", lw=0.9)
    _log(axes)


def _staleness(axes: Axes, signals: Signals) -> None:
    _by_tensor(axes, signals, "staleness")
    _thresholds(axes, STALE)


# --- lines -----------------------------------------------------------------------------------------------


def _line(axes: Axes, signals: Signals, name: str, **look: Any) -> None:
    steps, values = signals.series(name)
    if len(steps):
        marker = "." if len(steps) <= FEW else None
        axes.plot(steps, values, marker=marker, **look)


def _by_block(axes: Axes, signals: Signals, metric: str) -> None:
    """A line for each block, light to dark with depth."""
    names = signals.names(rf"block\d+/{metric}")
    shades = matplotlib.colormaps["viridis_r"](np.linspace(0.14, 1.0, max(1, len(names))))
    for k, (name, shade) in enumerate(zip(names, shades, strict=False)):
        ends = k in (0, len(names) - 1)
        _line(axes, signals, name, color=shade, label=name.split("/")[0] if ends else None)
    _legend(axes)


def _by_tensor(axes: Axes, signals: Signals, metric: str) -> None:
    """A thin line for each matrix, coloured by its kind."""
    labelled: set[str] = set()
    for name in signals.names(rf"(?:block\d+/[a-z]+|tokens|readout)/{metric}"):
        kind = name.split("/")[-2]
        label = None if kind in labelled else kind
        labelled.add(kind)
        _line(axes, signals, name, color=KINDS[kind], lw=0.8, label=label)


def _thresholds(axes: Axes, *levels: float) -> None:
    if axes.lines:
        for level in levels:
            axes.axhline(level, color=style.REFERENCE, lw=0.9, ls="--")


def _log(axes: Axes) -> None:
    if not any(np.any(np.asarray(line.get_ydata()) > 0) for line in axes.lines):
        return
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    if high < 100 * low:  # where powers of ten alone are too few
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend()
