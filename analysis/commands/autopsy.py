"""`python -m analysis autopsy`: what happened to a run, drawn, with the likely cause and the evidence for it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from analysis.commands.options import check_files
from analysis.stability.autopsy import autopsy
from analysis.stability.signals import read_signals
from analysis.stability.words import print_autopsy


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--out", type=Path, metavar="PNG", help="draw it here (default: RUN/autopsy.png)")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    check_files(None, options.out, option="--out")
    findings = autopsy(read_signals(options.folder))
    print_autopsy(findings)

    from analysis.drawing.style import write_figure
    from analysis.stability.plot_autopsy import plot_autopsy

    path = write_figure(plot_autopsy(findings), options.out or options.folder / "autopsy.png")
    Console(highlight=False).print(f"the picture is in {path}", markup=False, soft_wrap=True)
