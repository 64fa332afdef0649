"""The options that several commands share, and what they name.

add_table(parser, ("data", "runs"))       --data or --runs or --study, with what belongs to them, --map and --where
points = read_table(options)              the table that these options name
add_study(parser)                         --profile and --runs-dir
check_files(options.out, options.plot)    that they can be written, before the work
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.drawing.pictures import check_picture
from analysis.tables import select
from analysis.tables.csv import TableError, load_csv, rename, where
from analysis.tables.curves import Curves
from analysis.tables.lineage import with_bases, with_growth
from analysis.tables.run_curves import curves_of_runs
from analysis.tables.runs import CONVENTIONS, read_runs, runs_asked_for
from conf.command_line import counted, pair
from conf.schema import UserError
from train.record.manifest import PROFILES
from train.record.run import RecordError


class UsageError(UserError):
    """Options that do not fit together."""


# --- adding them -----------------------------------------------------------------------------------------


def add_table(parser: argparse.ArgumentParser, sources: Sequence[str]) -> None:
    """--data, or --runs or --study with what belongs to them, whichever `sources` names; --map and --where."""
    where_from = parser.add_mutually_exclusive_group(required=True)
    if "data" in sources:
        where_from.add_argument("--data", type=Path, metavar="CSV", help="points, with a header")
    if "runs" in sources:
        where_from.add_argument("--runs", nargs="+", metavar="GLOB", help="run folders, or folders of them")
        where_from.add_argument("--study", help="the runs of a study, e.g. demo/ladder")
        add_study(parser)
        add_params(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=COLUMN",
        help="use COLUMN as NAME, e.g. loss=bpb",
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="keep rows, e.g. 'used_in_fit == 1'"
    )


def add_schedules(parser: argparse.ArgumentParser) -> None:
    """--schedules, for laws of training curves."""
    parser.add_argument(
        "--schedules", type=Path, metavar="CSV", help="curve, step, lr of every step, for laws of training curves"
    )


def add_study(parser: argparse._ActionsContainer) -> None:
    """--profile and --runs-dir: which runs of a study, and where they are."""
    parser.add_argument("--profile", default="cpu", choices=PROFILES, help="which runs of a study (default: cpu)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where they are (default: runs)")


def add_params(parser: argparse._ActionsContainer) -> None:
    """--params: which parameters `n_params` counts."""
    parser.add_argument(
        "--params",
        default="total",
        choices=CONVENTIONS,
        help="which parameters of a run n_params counts (default: total)",
    )


# --- reading them ----------------------------------------------------------------------------------------


def read_table(options: argparse.Namespace, *, curves: bool = False, with_loss: bool = False) -> Any:
    """The table that --data, --runs or --study names, renamed and filtered; points of `Curves` where these are asked
    for, or a schedule is given."""
    schedules = None
    given = getattr(options, "schedules", None)
    if given is not None:
        schedules = load_csv(given)
    if getattr(options, "data", None) is not None:
        points = load_csv(options.data)
    elif curves:
        folders = run_folders(options)
        points, known, without = curves_of_runs(folders, params=options.params)
        if without:
            count = f"{counted(len(without), 'run')} of {len(folders)}"
            print(f"{count} left out: grown from another model, or its schedule or moments restarted", file=sys.stderr)
        schedules = known if schedules is None else schedules
    else:
        folders = run_folders(options)
        try:
            points = with_growth(with_bases(folders, params=options.params))[: len(folders)]
        except (TableError, RecordError) as error:
            points = read_runs(folders, params=options.params)  # a run without its base has a loss too
            print(f"{error}; columns grown.* are left out", file=sys.stderr)
        if with_loss:
            loss = dict(options.map).get("loss", "loss")
            measured = select.with_loss(points, loss) if loss in points.columns else points
            if measured.is_empty():
                raise UsageError(f"none of {counted(len(points), 'run')} has a loss: diverged, failed or unfinished")
            if len(measured) < len(points):
                left_out = counted(len(points) - len(measured), "run")
                print(f"{left_out} of {len(points)} left out: diverged, failed or unfinished, no loss", file=sys.stderr)
            points = measured
    # Filters speak of the table as it came, or of the new names; both are there after renaming.
    names = [name for name, _ in options.map]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--map {name}: given {names.count(name)} times; allowed: one column for each name")
    points = rename(points, dict(options.map))
    for condition in options.where:
        points = where(points, condition)
    return points if schedules is None else Curves(points, schedules)


def run_folders(options: argparse.Namespace) -> list[Path]:
    """The folders that --study or --runs names."""
    return runs_asked_for(options.runs_dir, options.study, options.profile, options.runs)


def check_files(out: Path | None, picture: Path | None = None, *, option: str = "--plot") -> None:
    """Raise `UserError` now rather than after the work: no folder to write to, or a picture of an unknown format."""
    for path in (out, picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}")
        if path is not None and path.is_dir():
            raise UsageError(f"{path}: is a folder; allowed: the name of a file")
    check_picture(option, picture)
