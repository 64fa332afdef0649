"""`python -m analysis growth`: did growing pay, against training from scratch at equal total FLOPs?

What is compared with what is told in `analysis.growth.gain`; `--where` picks others.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.claims.sample import over_seeds
from analysis.commands.options import add_study, check_files
from analysis.drawing.words import wide_console
from analysis.growth.gain import compare_with_scratch, left_out, used
from analysis.growth.speed_up import SCRATCH
from analysis.tables.csv import where
from analysis.tables.lineage import trace, with_bases
from analysis.tables.runs import runs_asked_for
from conf.command_line import SI, counted, human
from train.record.files import write_bytes

BOUNDS = {
    "at least": "no run from scratch ended so low; one with more FLOPs would tell how much it is",
    "at most": "no run from scratch ended so high; one with fewer FLOPs would tell how much it is",
}
PERCENT = "+z.1%"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    where_from = parser.add_mutually_exclusive_group(required=True)
    where_from.add_argument(
        "--runs", nargs="+", metavar="GLOB", help="run folders, or folders of them; bases are found"
    )
    where_from.add_argument("--study", help="the runs of a study, e.g. gstack/operators")
    add_study(parser)
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="keep runs, e.g. 'model.width = 32', or 'growth is null or optim.lr = 0.01' (growth is null from scratch)",
    )
    parser.add_argument("--out", type=Path, metavar="CSV", help="write a row for each run here")
    parser.add_argument("--plot", type=Path, metavar="FILE.PNG", help="draw loss over FLOPs (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    folders = runs_asked_for(options.runs_dir, options.study, options.profile, options.runs)
    traced = trace(with_bases(folders))
    kept = traced
    for condition in options.where:
        kept = where(kept, condition)
    compared = compare_with_scratch(kept, traced)
    print_growth(kept, compared)
    if options.out is not None:
        write_bytes(options.out, compared.write_csv().encode())
    if options.plot is not None:
        from analysis.drawing.style import write_figure
        from analysis.growth.plot import plot_growth

        write_figure(plot_growth(traced, compared), options.plot)


# --- words -----------------------------------------------------------------------------------------------


def print_growth(kept: pl.DataFrame, compared: pl.DataFrame, console: Console | None = None) -> None:
    """What was left out, a row for each arm and budget, and what is missing or in doubt."""
    console = console or wide_console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    grown = compared.filter(pl.col("arm") != SCRATCH)
    say(f"{counted(len(grown), 'grown run')} against {len(used(grown))} from scratch at equal total FLOPs", "bold")
    if reasons := left_out(kept):
        say(f"{len(kept) - len(compared)} of {counted(len(kept), 'run')} left out: {reasons}")

    shown = Table("grown (blocks x width)", box=None, pad_edge=False)
    for name in ("seeds", "FLOPs", "in base", "tokens", "loss", "from scratch", "gap (nats)", "speed-up"):
        shown.add_column(name, justify="right")
    last = None
    for (arm, flops), runs in grown.group_by("arm", "flops", maintain_order=True):
        first = runs.row(0, named=True)
        base = first["base_flops"]  # unknown where a base broke before it could say
        shown.add_row(
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
    console.print(shown)

    say("gap: loss from scratch minus loss, above 0 where growing paid; ±: 95 % intervals over seeds")
    for reason, n in _counts(grown["missing"]):
        say(f"{counted(n, 'run')} without a loss from scratch: {reason}", "yellow")
    for bound, n in _counts(grown["bound"]):
        say(f"{bound}: {BOUNDS[bound]} ({counted(n, 'run')})")
    n_unsure = grown.filter(pl.col("speedup").is_null() & pl.col("against").is_not_null()).height
    if n_unsure:
        say(f"{counted(n_unsure, 'run')} without a speed-up: seeds from scratch bound it on both sides", "yellow")
    n_foreign = grown.filter(scratch_seed="others").height
    if n_foreign:
        text = "is compared with other seeds" if n_foreign == 1 else "are compared with other seeds"
        say(f"warning: {counted(n_foreign, 'run')} {text}, whose own noise the intervals leave out", "yellow")
    for differing, n in _counts(grown["differing"]):
        say(f"warning: {counted(n, 'run')} and scratch differ in more than growth: {differing}", "yellow")


def _counts(values: pl.Series) -> list[tuple[str, int]]:
    return list(Counter(values.drop_nulls()).items())


def _by_seed(runs: pl.DataFrame, name: str) -> list[float]:
    return runs.drop_nulls(name).group_by("seed", maintain_order=True).agg(pl.col(name).mean())[name].to_list()


def _cell(runs: pl.DataFrame, name: str, fmt: str = ".4f") -> str:
    """Mean over seeds, and half the width of its 95 % interval where there are two or more."""
    values = _by_seed(runs, name)
    if not values:
        return "-"
    some = f" ({counted(len(values), 'seed')})" if len(values) < runs["seed"].n_unique() else ""
    if len(values) == 1:
        return f"{values[0]:{fmt}}{some}"
    mean, (_, high) = over_seeds(values)
    return f"{mean:{fmt}} ± {high - mean:{fmt.removeprefix('+')}}{some}"


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
