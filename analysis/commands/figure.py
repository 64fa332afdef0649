"""`python -m analysis figure`: a study's figures drawn, and its claims judged."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.claims.words import print_claims
from analysis.commands.options import (
    add_params,
    add_study,
)
from analysis.tables.runs import read_runs, runs_of_study


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("study", help="e.g. demo/ladder")
    add_study(parser)
    parser.add_argument("--results-dir", type=Path, default=Path("results"), help="default: results")
    add_params(parser)


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    from analysis.claims.claim import write_claims
    from analysis.figures.find import find_figure

    draw = find_figure(options.study)
    runs = read_runs(runs_of_study(options.runs_dir, options.study, options.profile), params=options.params)
    out = options.results_dir / options.study / options.profile
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        new = Path(name)
        claims = draw(runs, new)
        write_claims(new / "claims.json", options.study, options.profile, claims)
        for old in out.iterdir():  # nothing of an earlier drawing may stand beside the new claims
            if old.suffix in {".png", ".svg", ".csv", ".json"}:
                old.unlink()
        for file in new.iterdir():
            shutil.move(file, out / file.name)
    print_claims(claims)
    print(f"figures, numbers and claims are in {out}")
