"""Whether growing paid, in words for a terminal.

print_growth(kept, compare_with_scratch(kept, traced))  ->  what was left out, a row for each arm, what is in doubt
"""

from __future__ import annotations

from collections import Counter

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.claims.sample import over_seeds
from analysis.growth.gain import left_out, used
from analysis.growth.speed_up import SCRATCH
from conf.command_line import SI, counted, human, wide_console

BOUNDS = {
    "at least": "no run from scratch ended so low; one with more FLOPs would tell how much it is",
    "at most": "no run from scratch ended so high; one with fewer FLOPs would tell how much it is",
}
PERCENT = "+z.1%"


def print_growth(kept: pl.DataFrame, compared: pl.DataFrame, console: Console | None = None) -> None:
    """`print_growth(kept, compared)`: what was left out, a row for each arm and budget, and what is in doubt.

    Args:
        kept: the runs that were asked about, of `analysis.tables.lineage.trace`.
        compared: of `analysis.growth.gain.compare_with_scratch`.
    """
    console = console or wide_console()
    grown = compared.filter(pl.col("arm") != SCRATCH)
    title = f"{counted(len(grown), 'grown run')} against {len(used(grown))} from scratch at equal total FLOPs"
    _say(console, title, "bold")
    if reasons := left_out(kept):
        _say(console, f"{len(kept) - len(compared)} of {counted(len(kept), 'run')} left out: {reasons}")
    console.print(_table(grown))
    _say(console, "gap: loss from scratch minus loss, above 0 where growing paid; ±: 95 % intervals over seeds")
    _print_doubts(console, grown)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


# --- a row for each arm and budget -----------------------------------------------------------------------


def _table(grown: pl.DataFrame) -> Table:
    table = Table("grown (blocks x width)", box=None, pad_edge=False)
    for name in ("seeds", "FLOPs", "in base", "tokens", "loss", "from scratch", "gap (nats)", "speed-up"):
        table.add_column(name, justify="right")
    last = None
    for (arm, flops), runs in grown.group_by("arm", "flops", maintain_order=True):
        first = runs.row(0, named=True)
        base = first["base_flops"]  # unknown where a base broke before it could say
        table.add_row(
            "" if arm == last else str(arm),
            str(runs["seed"].n_unique()),
            human(flops, SI),
            "-" if base is None else f"{human(base, SI)} ({base / flops:.0%})",
            human(first["n_tokens"]),
            *(_cell(runs, name) for name in ("loss", "scratch_loss")),
            _cell(runs, "gap", "+.4f"),
            _speed_up_cell(runs),
        )
        last = arm
    return table


def _by_seed(runs: pl.DataFrame, name: str) -> list[float]:
    return runs.drop_nulls(name).group_by("seed", maintain_order=True).agg(pl.col(name).mean())[name].to_list()


def _cell(runs: pl.DataFrame, name: str, fmt: str = ".4f") -> str:
    """Mean over seeds, and half the width of its 95 % interval where there are two or more."""
    values = _by_seed(runs, name)
    if not values:
        return "-"
    fewer = f" ({counted(len(values), 'seed')})" if len(values) < runs["seed"].n_unique() else ""
    if len(values) == 1:
        return f"{values[0]:{fmt}}{fewer}"
    mean, (_, high) = over_seeds(values)
    return f"{mean:{fmt}} ± {high - mean:{fmt.removeprefix('+')}}{fewer}"


def _speed_up_cell(runs: pl.DataFrame) -> str:
    """As `_cell`; of bounds, the mean and the end of the interval that they have."""
    values = _by_seed(runs, "speedup")
    bounds = runs["bound"].drop_nulls().unique().to_list()
    if not values:
        return "-"
    if len(bounds) > 1:
        return "bounded both ways"
    mean, ends = over_seeds(values) if len(values) > 1 else (values[0], None)
    told = f"{mean:{PERCENT}}"
    if not bounds:
        return told if ends is None else f"{told} ± {ends[1] - mean:.1%}"
    (bound,) = bounds
    side, end = ("above", 0) if bound == "at least" else ("below", 1)
    sure = told if ends is None else f"{ends[end]:{PERCENT}}"
    return f"{bound} {told}" if sure == told else f"{bound} {told} ({side} {sure})"


# --- what is missing or in doubt -------------------------------------------------------------------------


def _print_doubts(console: Console, grown: pl.DataFrame) -> None:
    for reason, n in _counts(grown["missing"]):
        _say(console, f"{counted(n, 'run')} without a loss from scratch: {reason}", "yellow")
    for bound, n in _counts(grown["bound"]):
        _say(console, f"{bound}: {BOUNDS[bound]} ({counted(n, 'run')})")
    n_unsure = grown.filter(pl.col("speedup").is_null() & pl.col("against").is_not_null()).height
    if n_unsure:
        text = f"{counted(n_unsure, 'run')} without a speed-up: seeds from scratch bound it on both sides"
        _say(console, text, "yellow")
    n_foreign = grown.filter(scratch_seed="others").height
    if n_foreign:
        text = "is compared with other seeds" if n_foreign == 1 else "are compared with other seeds"
        text = f"warning: {counted(n_foreign, 'run')} {text}, whose own noise the intervals leave out"
        _say(console, text, "yellow")
    for differing, n in _counts(grown["differing"]):
        text = f"warning: {counted(n, 'run')} and scratch differ in more than growth: {differing}"
        _say(console, text, "yellow")


def _counts(values: pl.Series) -> list[tuple[str, int]]:
    return list(Counter(values.drop_nulls()).items())
