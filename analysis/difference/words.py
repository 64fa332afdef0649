"""A difference of two arms in words: what is printed, and what is written to a file.

print_difference(pairs, units, result, "val_loss", warnings)  ->  pairs, difference, what they could have shown
to_json(pairs, units, result, "val_loss", warnings, None)     ->  the same, and every pair
sentence(result, "val_loss")                                  ->  "B is better"
warnings_of(pairs, units, corrected=False)                    ->  what makes the interval doubtful
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.difference.difference import MOST_SEEDS, POWER, Difference, Units
from analysis.difference.pairs import LOSSES, SIDES, Pairs
from analysis.difference.top_up import STUDIES, Decision
from conf.command_line import counted


def print_difference(
    pairs: Pairs,
    units: Units,
    result: Difference,
    metric: str,
    warnings: Sequence[str],
    decision: Decision | None = None,
    console: Console | None = None,
) -> None:
    """`print_difference(pairs, units, result, metric, [])`: what was paired, the difference with its interval, what it
    could have shown, and the verdict."""
    console = console or Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    told = "; ".join(f"{name} {_values(a)} -> {_values(b)}" for name, (a, b) in pairs.told_by.items())
    console.print(Text(f"B against A: {told or 'no setting tells them apart'}", style="bold"))
    _say_pairs(say, pairs, metric)
    say(f"statistic: {units.choice}")
    _say_difference(say, result, metric)
    if decision is not None:
        ends = {"verdict": "the verdict", "seeds": "the last planned look", "minutes": "the time limit"}
        say(f"ended by {ends[decision.ended_by]} after {counted(len(decision.looks), 'look')} of {decision.planned}")
    console.print(Text(f"verdict: {sentence(result, metric)}", style="bold"))
    for warning in warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _say_pairs(say: Callable[[str], None], pairs: Pairs, metric: str) -> None:
    over = f" in {len(pairs.cells)} cells of {', '.join(pairs.cell_names)}" if pairs.cell_names else ""
    say(f"{counted(len(pairs.pairs), 'pair')}: {counted(len(pairs.seeds), 'seed')}{over}")
    if pairs.unpaired:
        named = [f"{left.side} {left.run.run_id[:8]} (seed {left.run.seed}, {left.reason})" for left in pairs.unpaired]
        more = f", and {len(named) - 6} more" if len(named) > 6 else ""
        say(f"{counted(len(named), 'run')} unpaired: {', '.join(named[:6])}{more}")
    if pairs.diverged:
        counts = ", counted at the loss at initialisation" if metric in LOSSES else ""
        say(f"{pairs.diverged} of {2 * len(pairs.pairs)} runs diverged{counts}")


def _say_difference(say: Callable[[str], None], result: Difference, metric: str) -> None:
    unit = " nats" if metric in LOSSES else ""
    percent = "" if result.percent is None else f" ({result.percent:+.3g}% of A)"
    subject = "" if metric == "val_loss" else f" of {metric}"
    told = f"difference B - A{subject}: {result.mean:+.4g}{unit}{percent}"
    if result.interval is None or result.detectable is None:
        say(f"{told}; one pair shows no spread, so no interval")
        say("with one more seed it has an interval")
        return
    low, high = result.interval
    say(f"{told}, {1 - result.level:.1%} interval {low:+.4g} to {high:+.4g}")
    if result.gain is not None:
        say(
            f"pairing: the difference has {1 / result.gain:.2g} times the sum of both "
            f"variances; without pairs it would take {result.gain:.3g} times the seeds"
        )
    say(f"smallest detectable difference: {result.detectable:.3g}{unit} at {POWER:.0%} power")
    if result.effect:
        which = "observed difference" if result.margin is None else "difference"
        say(f"for the {which} of {result.effect:.3g}{unit}: {seeds_in_words(result)}")


def sentence(result: Difference, metric: str) -> str:
    """The verdict in words; only of a loss is it known that lower is better."""
    nats = " nats" if metric in LOSSES else ""
    if result.verdict == "equal":
        return f"no difference larger than {result.margin:g}{nats}"
    if result.verdict == "undecided":
        return "undecided"
    better = "better" if metric in LOSSES else "lower"
    small = result.interval and result.margin and max(map(abs, result.interval)) <= result.margin
    return f"{result.verdict} is {better}" + (f", by no more than {result.margin:g}{nats}" if small else "")


def seeds_in_words(result: Difference) -> str:
    """`3 more seeds are missing`, for the effect that is asked about."""
    if result.missing_seeds is None:
        return f"more than {MOST_SEEDS} seeds are missing"
    if result.missing_seeds == 0:
        return "no seed is missing"
    return f"{counted(result.missing_seeds, 'more seed')} {'is' if result.missing_seeds == 1 else 'are'} missing"


def warnings_of(pairs: Pairs, units: Units, *, corrected: bool) -> list[str]:
    """What makes the interval doubtful.

    Args:
        corrected: its level allows for several looks (`analysis.difference.difference.pocock_level`).
    """
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


def _values(values: Sequence[Any]) -> str:
    return ", ".join("null" if value is None else str(value) for value in values)


def to_json(
    pairs: Pairs, units: Units, result: Difference, metric: str, warnings: Sequence[str], decision: Decision | None
) -> dict[str, Any]:
    """What `--out` writes as JSON: everything that is printed, and every pair."""
    content = {
        "metric": metric,
        "told_by": {name: {"A": a, "B": b} for name, (a, b) in pairs.told_by.items()},
        "statistic": units.choice,
        **dataclasses.asdict(result),
        "gain": result.gain,
        "power": POWER,
        "sentence": sentence(result, metric),
        "warnings": list(warnings),
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
            {"side": left.side, "run_id": left.run.run_id, "folder": left.run.folder, "reason": left.reason}
            for left in pairs.unpaired
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
