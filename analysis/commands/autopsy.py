"""`python -m analysis autopsy`: what happened to a run, drawn, with the likely cause and the evidence for it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.text import Text

from analysis.commands.options import check_files
from analysis.stability.autopsy import Autopsy, autopsy
from analysis.stability.signals import read_signals
from conf.command_line import counted


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw it here (default: RUN/autopsy.png)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(None, options.out, option="--out")
    found = autopsy(read_signals(options.folder))
    print_autopsy(found)

    from analysis.drawing.style import write_figure
    from analysis.stability.plot_autopsy import plot_autopsy

    path = write_figure(plot_autopsy(found), options.out or options.folder / "autopsy.png")
    Console(highlight=False).print(f"the picture is in {path}", markup=False, soft_wrap=True)


def print_autopsy(found: Autopsy, console: Console | None = None) -> None:
    """What was read, the events, every cause with its evidence, what could not be seen, and the verdict."""
    console = console or Console(highlight=False)

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    signals = found.signals
    say(f"{signals.folder}: {signals.record['state']}, last step {signals.rows[-1]['step']}", "bold")
    say("read: " + ", ".join(f"{rows} rows of {name}" for name, rows in signals.sources.items()))
    say("events: " + ("; ".join(map(str, signals.events)) or "none, the loss never rose"))
    if signals.shifted:
        say(f"{counted(len(signals.shifted), 'step')} of shifted data (data.shift_every): their losses are no events")
    for cause in found.causes:
        capped = "" if cause.below is None or not cause.score else f", below {cause.below}, which explains it"
        say(f"{cause.score:.2f}  {cause.name}{capped}", "bold" if cause == found.likely else "")
        for criterion in cause.criteria:
            worth = f"+{criterion.points:.2f}" if criterion.met else "    -"
            say(f"      {worth}  {criterion.text}", "" if criterion.met else "dim")
    for cause in found.causes:
        if cause.blind is not None:
            say(f"could not see: {cause.blind}", "yellow")
    say(f"verdict: {found.verdict}", "bold")
