"""`python -m analysis difference`: is B better than A, by how much, and could these seeds have shown it?"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.commands.options import add_study, check_files
from analysis.difference.difference import POWER, Difference, Units, difference, seeds_in_words, sentence, units_of
from analysis.difference.pairs import LOSSES, SIDES, Pairs, Run, pair_runs, read_side
from analysis.difference.top_up import STUDIES, Budget, Decision, decide
from analysis.tables.columns import FitError
from analysis.tables.csv import where
from analysis.tables.lineage import with_bases, with_growth
from analysis.tables.runs import runs_matching, runs_of_study
from conf.command_line import counted
from train.record.files import write_json

EPILOG = """Exit status: 0 a report, and with --until a decision; 1 still undecided when the budget of --until ended;
2 a mistake in the command; 130 interrupted after the runs saved their checkpoints: the same command goes on."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("a", metavar="A", help="run folders, as a glob, or with --study a condition on its runs")
    parser.add_argument("b", metavar="B", help="the same of the other side: \"model.qk_norm = 'head'\"")
    parser.add_argument("--study", help="A and B are conditions on the runs of this study")
    add_study(parser)
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="keep runs of both sides, e.g. 'optim.lr < 1'"
    )
    parser.add_argument(
        "--metric", default="val_loss", metavar="COLUMN", help="what is compared (default: %(default)s)"
    )
    parser.add_argument(
        "--until", type=float, metavar="X", help="add seeds until one side is better or the difference is within X"
    )
    parser.add_argument("--max-seeds", type=int, metavar="N", help="--until: seeds of a cell at most (default: 16)")
    parser.add_argument("--max-minutes", type=float, metavar="M", help="--until: stop after so long (default: never)")
    parser.add_argument("--jobs", type=int, metavar="N", help="--until: runs at a time (default: the sweep's choice)")
    parser.add_argument("--out", type=Path, metavar="FILE.JSON", help="write the comparison here")
    parser.add_argument("--plot", type=Path, metavar="FILE.PNG", help="draw the pairs (.png, .svg, .pdf)")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; raises `UserError`."""
    check_files(options.out, options.plot)
    _check(options)
    try:
        return compare_sides(options)
    except KeyboardInterrupt:
        return 130


def _check(options: argparse.Namespace) -> None:
    if options.until is not None and not (0 < options.until < math.inf):
        raise FitError(f"--until {options.until:g}: is not allowed; allowed: a number above 0")
    for name, least in (("max_seeds", 2), ("max_minutes", 0), ("jobs", 1)):
        value = getattr(options, name)
        option = f"--{name.replace('_', '-')}"
        if value is not None and options.until is None:
            raise FitError(f"{option}: limits what --until starts; allowed: with --until")
        if value is not None and not value >= least:
            raise FitError(f"{option} {value}: is not allowed; allowed: at least {least}")


def compare_sides(options: argparse.Namespace) -> int:
    a, b = _sides(options)
    decision = None
    if options.until is None:
        pairs = pair_runs(a, b)
        units = units_of(pairs)
        found = difference(units)
    else:
        budget = Budget(options.max_seeds or 16, options.max_minutes, options.jobs)
        decision = decide(
            a,
            b,
            metric=options.metric,
            margin=options.until,
            budget=budget,
            runs_dir=options.runs_dir,
            say=lambda text: print(text, flush=True),
        )
        pairs, units, found = decision.pairs, decision.units, decision.found
    warnings = _warnings(pairs, units, corrected=decision is not None)
    print_difference(pairs, units, found, options.metric, warnings, decision)
    if options.out is not None:
        write_json(options.out, to_json(pairs, units, found, options.metric, warnings, decision))
    if options.plot is not None:
        from analysis.difference.plot import plot_difference
        from analysis.drawing.style import write_figure

        write_figure(plot_difference(pairs, found, options.metric), options.plot)
    return 1 if decision is not None and found.verdict == "undecided" else 0


def _sides(options: argparse.Namespace) -> tuple[list[Run], list[Run]]:
    """The runs that A and B name."""
    if options.study is None:
        folders = [runs_matching([pattern]) for pattern in (options.a, options.b)]
        known = with_growth(with_bases([*folders[0], *folders[1]]))
        frames = [known[: len(folders[0])], known[len(folders[0]) : sum(map(len, folders))]]
    else:
        asked = runs_of_study(options.runs_dir, options.study, options.profile)
        known = with_growth(with_bases(asked))
        frames = [
            where(known[: len(asked)], condition, side)
            for side, condition in zip(SIDES, (options.a, options.b), strict=True)
        ]
    sides = []
    for side, rows in zip(SIDES, frames, strict=True):
        for condition in options.where:
            rows = where(rows, condition, f"{side}: --where")
        sides.append(read_side(rows, options.metric, known))
    return sides[0], sides[1]


def _warnings(pairs: Pairs, units: Units, *, corrected: bool) -> list[str]:
    warnings = []
    if not pairs.told_by:
        warnings.append("no setting tells A from B: they differ in what settings do not say, e.g. code or machine")
    if pairs.diverged:
        warnings.append("losses at initialisation among the others are far from normal, which the interval assumes")
    if len(units.counts) > 1:
        warnings.append("pairs of one seed count as independent: the interval is too narrow where they hang together")
    if len(units.block_U) > 1 and (units.a_U == units.b_U).all():
        warnings.append("the two sides are equal to the last digit: does the setting act at all?")
    added = sum(STUDIES in Path(pair.a.folder).parts for pair in pairs.pairs)
    if added and not corrected:
        warnings.append(
            f"{counted(added, 'pair')} came from --until, which looks more than once; this interval is that of one look"
        )
    return warnings


# --- words -----------------------------------------------------------------------------------------------


def print_difference(
    pairs: Pairs,
    units: Units,
    found: Difference,
    metric: str,
    warnings: list[str],
    decision: Decision | None = None,
    console: Console | None = None,
) -> None:
    """What was paired, the difference with its interval, what it could have shown, and the verdict."""
    console = console or Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    told = "; ".join(f"{name} {_values(a)} -> {_values(b)}" for name, (a, b) in pairs.told_by.items())
    console.print(Text(f"B against A: {told or 'no setting tells them apart'}", style="bold"))
    over = f" in {len(pairs.cells)} cells of {', '.join(pairs.cell_names)}" if pairs.cell_names else ""
    say(f"{counted(len(pairs.pairs), 'pair')}: {counted(len(pairs.seeds), 'seed')}{over}")
    if pairs.unpaired:
        named = [f"{one.side} {one.run.run_id[:8]} (seed {one.run.seed}, {one.reason})" for one in pairs.unpaired]
        more = f", and {len(named) - 6} more" if len(named) > 6 else ""
        say(f"{counted(len(named), 'run')} unpaired: {', '.join(named[:6])}{more}")
    if pairs.diverged:
        counts = ", counted at the loss at initialisation" if metric in LOSSES else ""
        say(f"{pairs.diverged} of {2 * len(pairs.pairs)} runs diverged{counts}")
    say(f"statistic: {units.choice}")
    unit = " nats" if metric in LOSSES else ""
    percent = "" if found.percent is None else f" ({found.percent:+.3g}% of A)"
    subject = "" if metric == "val_loss" else f" of {metric}"
    if found.interval is None or found.detectable is None:
        say(f"difference B - A{subject}: {found.mean:+.4g}{unit}{percent}; one pair shows no spread, so no interval")
        say("with one more seed it has an interval")
    else:
        low, high = found.interval
        say(
            f"difference B - A{subject}: {found.mean:+.4g}{unit}{percent}, {1 - found.level:.1%} interval "
            f"{low:+.4g} to {high:+.4g}"
        )
        if found.gain is not None:
            say(
                f"pairing: the difference has {1 / found.gain:.2g} times the sum of both "
                f"variances; without pairs it would take {found.gain:.3g} times the seeds"
            )
        say(f"smallest detectable difference: {found.detectable:.3g}{unit} at {POWER:.0%} power")
        if found.effect:
            which = "observed difference" if found.margin is None else "difference"
            say(f"for the {which} of {found.effect:.3g}{unit}: {seeds_in_words(found)}")
    if decision is not None:
        ends = {"verdict": "the verdict", "seeds": "the last planned look", "minutes": "the time limit"}
        say(f"ended by {ends[decision.ended_by]} after {counted(len(decision.looks), 'look')} of {decision.planned}")
    console.print(Text(f"verdict: {sentence(found, metric)}", style="bold"))
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _values(values: list[Any]) -> str:
    return ", ".join("null" if value is None else str(value) for value in values)


def to_json(
    pairs: Pairs, units: Units, found: Difference, metric: str, warnings: list[str], decision: Decision | None
) -> dict[str, Any]:
    """What `--out` writes: everything that is printed, and every pair."""
    content = {
        "metric": metric,
        "told_by": {name: {"A": a, "B": b} for name, (a, b) in pairs.told_by.items()},
        "statistic": units.choice,
        **dataclasses.asdict(found),
        "gain": found.gain,
        "power": POWER,
        "sentence": sentence(found, metric),
        "warnings": warnings,
        "n_diverged": pairs.diverged,
        "pairs": [
            {"seed": pair.seed, "cell": dict(zip(pairs.cell_names, pair.cell, strict=True))}
            | {
                side: {"run_id": run.run_id, "folder": run.folder, "state": run.state, "value": run.value}
                for side, run in zip(SIDES, (pair.a, pair.b), strict=True)
            }
            for pair in pairs.pairs
        ],
        "unpaired": [
            {"side": one.side, "run_id": one.run.run_id, "folder": one.run.folder, "reason": one.reason}
            for one in pairs.unpaired
        ],
    }
    if decision is not None:
        content["until"] = {
            "study": decision.study,
            "ended_by": decision.ended_by,
            "looks_planned": decision.planned,
            "looks": [dataclasses.asdict(look) for look in decision.looks],
        }
    return content
