"""`python -m analysis`: fit laws to runs or to a CSV, predict with them, and draw the figures of studies."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from analysis.claims.words import print_claims
from analysis.commands.autopsy import add_autopsy_command
from analysis.commands.claims import add_claims_command
from analysis.commands.compare import add_compare_command
from analysis.commands.difference import add_difference_command
from analysis.commands.growth import add_growth_command
from analysis.commands.plan import add_plan_command
from analysis.drawing.pictures import check_picture
from analysis.fits.request import Done, Order, by_group, carry_out, needs_curves, predict_groups, read_fits
from analysis.fits.words import print_fit, print_laws
from analysis.fitter.fit import OBJECTIVES
from analysis.laws.registry import find_law
from analysis.tables.columns import FitError
from analysis.tables.csv import TableError, load_csv, rename, where
from analysis.tables.curves import Curves
from analysis.tables.lineage import with_bases, with_growth
from analysis.tables.lint import FINDINGS
from analysis.tables.run_curves import curves_of_runs
from analysis.tables.runs import CONVENTIONS, read_runs, runs_asked_for, runs_of_study
from conf.command_line import Parser, counted
from conf.schema import UserError
from train.record.files import write_bytes, write_json
from train.record.manifest import PROFILES
from train.record.run import RecordError

# Only matplotlib waits until a command needs it, so that --help and small fits answer at once.


class UsageError(UserError):
    """Options that do not fit together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 2 for a user's mistake, else what the command says, or 0."""
    try:
        options = _parser().parse_args(arguments)
        status: int | None = options.run(options)
        sys.stdout.flush()
        return status or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `… | head` has read enough
        sys.stdout = None  # or Python would flush into the closed pipe at exit
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


# --- commands --------------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace) -> None:
    for path in (options.out, options.plot):
        _check_writable(path)
    check_picture("--plot", options.plot)
    law = find_law(options.law)
    if options.schedules is not None and not needs_curves(law):
        raise UsageError(f"--schedules {options.schedules}: {law.name} reads no curves; allowed: with a law of curves")
    points = _points(options, curves=needs_curves(law))
    order = Order(
        law=law,
        x=options.x,
        options=dict(options.set),
        fixed=dict(options.fix),
        objective=options.objective,
        delta=options.delta,
        bootstrap=options.bootstrap,
        seed=options.seed,
        cluster=options.cluster,
        se=options.se,
        profiles=tuple(options.profile_of),
        holdout=options.holdout,
        exclude=tuple(options.exclude),
    )
    groups = {None: points} if options.group is None else by_group(points, options.group)
    done = {}
    for name, part in groups.items():
        try:
            done[name] = carry_out(order, part)
        except UserError as error:
            if name is None:
                raise
            raise FitError(f"{options.group} = {name}: {error}") from None
    for name, one in done.items():
        if name is not None:
            print(f"{options.group} = {name}")
        print_fit(one.result)
    if options.out is not None:
        results = {name: one.result.to_json() for name, one in done.items()}
        write_json(options.out, results[None] if options.group is None else {"group": options.group, "fits": results})
    if options.plot is not None:
        _plot(options, done)


def _plot(options: argparse.Namespace, done: Mapping[str | None, Done]) -> None:
    from analysis.drawing.style import write_figure
    from analysis.fits.plot import plot_fit

    for name, one in done.items():
        path = options.plot
        if name is not None:
            path = path.with_stem(f"{path.stem}-" + re.sub(r"[^\w.+=-]+", "_", name))
        write_figure(plot_fit(one), path)


def _predict(options: argparse.Namespace) -> None:
    _check_writable(options.out)
    results = read_fits(options.fit)
    points = _points(options)
    columns = predict_groups(results, points)
    for name in columns:
        if name in points.columns:
            raise UsageError(f"{options.data}: has a column {name} already; allowed: a name that is free")
    frame = points.points if isinstance(points, Curves) else points
    write_bytes(options.out, frame.with_columns(**columns).write_csv().encode())
    print(f"{len(frame)} predictions are in {options.out}")


def _laws(options: argparse.Namespace) -> None:
    print_laws([find_law(name) for name in options.names] or None)


def _table(options: argparse.Namespace) -> None:
    _check_writable(options.out)
    points = _points(options)
    if options.out is None:
        print(points.write_csv(), end="")
        return
    write_bytes(options.out, points.write_csv().encode())
    print(f"{len(points)} runs are in {options.out}")


def _figure(options: argparse.Namespace) -> None:
    from analysis.claims.claim import write_claims
    from analysis.figures.registry import get_figure

    draw = get_figure(options.study)
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


def _points(options: argparse.Namespace, *, curves: bool = False) -> Any:
    """The table that --data, --runs or --study names, renamed and filtered; points of `Curves` where these are asked
    for, or a schedule is given."""
    schedules = None
    given = getattr(options, "schedules", None)
    if given is not None:
        schedules = load_csv(given)
    if getattr(options, "data", None) is not None:
        points = load_csv(options.data)
    elif curves:
        folders = _run_folders(options)
        points, known, without = curves_of_runs(folders, params=options.params)
        if without:
            count = f"{counted(len(without), 'run')} of {len(folders)}"
            print(f"{count} left out: grown from another model, or its schedule or moments restarted", file=sys.stderr)
        schedules = known if schedules is None else schedules
    else:
        folders = _run_folders(options)
        try:
            points = with_growth(with_bases(folders, params=options.params))[: len(folders)]
        except (TableError, RecordError) as error:
            points = read_runs(folders, params=options.params)  # a run without its base has a loss too
            print(f"{error}; columns grown.* are left out", file=sys.stderr)
        if options.command in ("fit", "compare"):
            loss = dict(options.map).get("loss", "loss")
            measured = points.filter(pl.col(loss).is_not_null()) if loss in points.columns else points
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


def _run_folders(options: argparse.Namespace) -> list[Path]:
    return runs_asked_for(options.runs_dir, options.study, options.profile, options.runs)


def _check_writable(path: Path | None) -> None:
    """Raise `UsageError` now rather than after the work."""
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    if path is not None and path.is_dir():
        raise UsageError(f"{path}: is a folder; allowed: the name of a file")


# --- options ---------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    fit_command = commands.add_parser("fit", help="fit a law, with intervals, held-out error and warnings")
    fit_command.add_argument("law", help="a name of `python -m analysis laws`, e.g. chinchilla")
    _add_points(fit_command, ("data", "runs"))
    _add_schedules(fit_command)
    fit_command.add_argument("--x", metavar="COLUMN", help="the variable of a law of one variable, e.g. n_tokens")
    fit_command.add_argument(
        "--set",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help="an option of the law, e.g. breaks=2",
    )
    fit_command.add_argument(
        "--fix", action="append", default=[], type=_number, metavar="NAME=VALUE", help="hold a constant, e.g. E=1.69"
    )
    fit_command.add_argument(
        "--objective",
        choices=tuple(OBJECTIVES),
        help="; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items()) + " (default: the law's own)",
    )
    fit_command.add_argument(
        "--delta", type=float, default=1e-3, help="where Huber's loss turns linear (default: 1e-3)"
    )
    fit_command.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000; 0: none)"
    )
    fit_command.add_argument("--cluster", metavar="COLUMN", help="the bootstrap draws its values instead of rows")
    fit_command.add_argument("--se", metavar="COLUMN", help="standard errors of the target; points weigh as 1 / se²")
    fit_command.add_argument("--seed", type=int, default=0, help="draws the resamples (default: 0)")
    fit_command.add_argument(
        "--profile-of", nargs="+", default=[], metavar="NAME", help="trace the profile of constants, e.g. alpha beta"
    )
    fit_command.add_argument(
        "--holdout",
        metavar="RULE",
        help="fit without the dearest point (largest), a dearest share (0.3) or rows (a condition), and predict them; "
        "by default all points are fitted, and a second fit without the dearest fifth says how well it predicts that; "
        "none: no second fit",
    )
    fit_command.add_argument(
        "--exclude", nargs="+", default=[], choices=(*FINDINGS, "all"), help="leave out the rows of these findings"
    )
    fit_command.add_argument("--group", metavar="COLUMN", help="one fit for each of its values")
    fit_command.add_argument("--out", type=Path, metavar="FIT.JSON", help="write the fit here")
    fit_command.add_argument(
        "--plot", type=Path, metavar="FIT.PNG", help="draw points, law and residuals (.png, .svg, .pdf)"
    )
    fit_command.set_defaults(run=_fit)

    add_compare_command(commands, add_points=_add_points, read_points=_points, check_writable=_check_writable)
    add_plan_command(commands)
    add_autopsy_command(commands, check_writable=_check_writable)
    add_difference_command(commands, add_profile=_add_profile, check_writable=_check_writable)
    add_growth_command(commands, add_profile=_add_profile, check_writable=_check_writable)

    predict_command = commands.add_parser("predict", help="predict losses with a fit")
    predict_command.add_argument("--fit", type=Path, required=True, metavar="FIT.JSON", help="what `fit --out` wrote")
    _add_points(predict_command, ("data",))
    _add_schedules(predict_command)
    predict_command.add_argument(
        "--out", type=Path, required=True, metavar="CSV", help="the rows of --data with predictions"
    )
    predict_command.set_defaults(run=_predict)

    laws_command = commands.add_parser("laws", help="every law: formula, columns, constants, source")
    laws_command.add_argument("names", nargs="*", metavar="NAME", help="only these")
    laws_command.set_defaults(run=_laws)

    table_command = commands.add_parser("table", help="runs as one table, a row each")
    _add_points(table_command, ("runs",))
    table_command.add_argument("--out", type=Path, metavar="CSV", help="write it here instead of to the terminal")
    table_command.set_defaults(run=_table)

    add_claims_command(commands)
    figure_command = commands.add_parser("figure", help="draw a study's figures and judge its claims")
    figure_command.add_argument("study", help="e.g. demo/ladder")
    _add_profile(figure_command)
    figure_command.add_argument("--results-dir", type=Path, default=Path("results"), help="default: results")
    _add_params(figure_command)
    figure_command.set_defaults(run=_figure)
    return parser


def _add_points(parser: argparse.ArgumentParser, sources: Sequence[str]) -> None:
    where_from = parser.add_mutually_exclusive_group(required=True)
    if "data" in sources:
        where_from.add_argument("--data", type=Path, metavar="CSV", help="points, with a header")
    if "runs" in sources:
        where_from.add_argument("--runs", nargs="+", metavar="GLOB", help="run folders, or folders of them")
        where_from.add_argument("--study", help="the runs of a study, e.g. demo/ladder")
        _add_profile(parser)
        _add_params(parser)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=COLUMN",
        help="use COLUMN as NAME, e.g. loss=bpb",
    )
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="keep rows, e.g. 'used_in_fit == 1'"
    )


def _add_schedules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schedules", type=Path, metavar="CSV", help="curve, step, lr of every step, for laws of training curves"
    )


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="cpu", choices=PROFILES, help="which runs of a study (default: cpu)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where they are (default: runs)")


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--params",
        default="total",
        choices=CONVENTIONS,
        help="which parameters of a run n_params counts (default: total)",
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COLUMN")
    return name, column


def _number(text: str) -> tuple[str, float]:
    name, value = _pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=NUMBER") from None


if __name__ == "__main__":
    sys.exit(main())
