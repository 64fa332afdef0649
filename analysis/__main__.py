"""`python -m analysis`: fit laws to runs or to a CSV, predict with them, and draw the figures of studies."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from analysis import select, table
from analysis.fit import OBJECTIVES, fit, predict, read_fit
from analysis.report import print_claims, print_fit, print_laws
from analysis.table import CONVENTIONS
from conf.door import Parser, counted
from conf.schema import UserError
from train.record import PROFILES, write_bytes, write_json

# Only matplotlib waits until a command needs it, so that --help and small fits answer at once.


class UsageError(UserError):
    """Options that do not fit together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status, 2 for a user's mistake."""
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
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
    if options.plot is not None and options.plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--plot {options.plot}: not a picture; allowed: a name that ends in .png, .svg or .pdf")
    points = _points(options)
    result = fit(
        options.law,
        points,
        x=options.x,
        objective=options.objective,
        delta=options.delta,
        bootstrap=options.bootstrap,
        seed=options.seed,
    )
    print_fit(result)
    if options.out is not None:
        write_json(options.out, result.to_json())
    if options.plot is not None:
        from analysis.plot import plot_fit
        from analysis.style import write_figure

        write_figure(plot_fit(result, points), options.plot)


def _predict(options: argparse.Namespace) -> None:
    _check_writable(options.out)
    result = read_fit(options.fit)
    points = _points(options)
    columns = [pl.Series(name, values) for name, values in predict(result, points).items()]
    for column in columns:
        if column.name in points.columns:
            raise UsageError(f"{options.data}: has a column {column.name} already; allowed: a name that is free")
    write_bytes(options.out, points.with_columns(columns).write_csv().encode())
    print(f"{len(points)} predictions are in {options.out}")


def _laws(options: argparse.Namespace) -> None:  # noqa: ARG001  # every command takes the options
    print_laws()


def _table(options: argparse.Namespace) -> None:
    _check_writable(options.out)
    points = _points(options)
    if options.out is None:
        print(points.write_csv(), end="")
        return
    write_bytes(options.out, points.write_csv().encode())
    print(f"{len(points)} runs are in {options.out}")


def _figure(options: argparse.Namespace) -> None:
    from analysis.claims import write_claims
    from analysis.figures.registry import get_figure

    draw = get_figure(options.study)
    runs = table.read_runs(table.runs_of_study(options.runs_dir, options.study, options.profile), params=options.params)
    out = options.results_dir / options.study / options.profile
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():  # nothing of an earlier drawing may stand beside the new claims
        if old.suffix in {".png", ".svg", ".csv", ".json"}:
            old.unlink()
    claims = draw(runs, out)
    write_claims(out / "claims.json", options.study, options.profile, claims)
    print_claims(claims)


def _points(options: argparse.Namespace) -> pl.DataFrame:
    """The table that --data or --runs names, renamed and filtered."""
    if getattr(options, "data", None) is not None:
        points = table.load_csv(options.data)
    else:
        points = table.read_runs(_run_folders(options), params=options.params)
        if options.command == "fit":
            done = select.finished(points)
            if len(done) < len(points):
                left_out = counted(len(points) - len(done), "run")
                print(f"{left_out} of {len(points)} left out: not finished", file=sys.stderr)
            points = done
    # Filters speak of the table as it came, or of the new names; both are there after renaming.
    names = [name for name, _ in options.map]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--map {name}: given {names.count(name)} times; allowed: one column for each name")
    points = table.rename(points, dict(options.map))
    for condition in options.where:
        points = table.where(points, condition)
    return points


def _run_folders(options: argparse.Namespace) -> list[Path]:
    if options.study is None:
        return table.runs_matching(options.runs)
    return table.runs_of_study(options.runs_dir, options.study, options.profile)


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

    fit_command = commands.add_parser("fit", help="fit a law, with intervals and warnings")
    fit_command.add_argument("law", help="a name of `python -m analysis laws`, e.g. chinchilla")
    _add_points(fit_command, ("data", "runs"))
    fit_command.add_argument("--x", metavar="COLUMN", help="the variable of a law of one variable, e.g. n_tokens")
    fit_command.add_argument(
        "--objective",
        default="huber_log",
        choices=tuple(OBJECTIVES),
        help="huber_log: Huber's loss of ln loss (default); lsq, lad: squared or absolute difference of losses",
    )
    fit_command.add_argument("--delta", type=float, default=1e-3, help="of huber_log, in ln loss (default: 1e-3)")
    fit_command.add_argument(
        "--bootstrap", type=int, default=1000, metavar="N", help="resamples (default: 1000; 0: none)"
    )
    fit_command.add_argument("--seed", type=int, default=0, help="draws the resamples (default: 0)")
    fit_command.add_argument("--out", type=Path, metavar="FIT.JSON", help="write the fit here")
    fit_command.add_argument(
        "--plot", type=Path, metavar="FIT.PNG", help="draw points, law and residuals (.png, .svg, .pdf)"
    )
    fit_command.set_defaults(run=_fit)

    predict_command = commands.add_parser("predict", help="predict losses with a fit")
    predict_command.add_argument("--fit", type=Path, required=True, metavar="FIT.JSON", help="what `fit --out` wrote")
    _add_points(predict_command, ("data",))
    predict_command.add_argument(
        "--out", type=Path, required=True, metavar="CSV", help="the rows of --data with predictions"
    )
    predict_command.set_defaults(run=_predict)

    laws_command = commands.add_parser("laws", help="every law: formula, columns, constants, source")
    laws_command.set_defaults(run=_laws)

    table_command = commands.add_parser("table", help="runs as one table, a row each")
    _add_points(table_command, ("runs",))
    table_command.add_argument("--out", type=Path, metavar="CSV", help="write it here instead of to the terminal")
    table_command.set_defaults(run=_table)

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


if __name__ == "__main__":
    sys.exit(main())
