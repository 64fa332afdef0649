"""What happened to a run, in words for a terminal.

print_autopsy(autopsy(read_signals(folder)))  ->  what was read, events, causes with their evidence, the verdict
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from analysis.stability.autopsy import Autopsy
from conf.command_line import counted
from train.record.run import divergence


def print_autopsy(findings: Autopsy, console: Console | None = None) -> None:
    """`print_autopsy(autopsy(signals))`: what was read, the events, every cause with its evidence, what could not be
    seen, and the verdict."""
    console = console or Console(highlight=False)

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    signals = findings.signals
    say(f"{signals.folder}: {signals.record['state']}, last step {signals.rows[-1]['step']}", "bold")
    if "diverged_at_step" in signals.record:
        say(f"diverged {divergence(signals.record)}")
    say("read: " + ", ".join(f"{rows} rows of {name}" for name, rows in signals.sources.items()))
    say("events: " + ("; ".join(map(str, signals.events)) or "none, the loss never rose"))
    if signals.shifted:
        say(f"{counted(len(signals.shifted), 'step')} of shifted data (data.shift_every): their losses are no events")
    for cause in findings.causes:
        capped = "" if cause.below is None or not cause.score else f", below {cause.below}, which explains it"
        say(f"{cause.score:.2f}  {cause.name}{capped}", "bold" if cause == findings.likely else "")
        for criterion in cause.criteria:
            worth = f"+{criterion.points:.2f}" if criterion.met else "    -"
            say(f"      {worth}  {criterion.text}", "" if criterion.met else "dim")
    for cause in findings.causes:
        if cause.blind is not None:
            say(f"could not see: {cause.blind}", "yellow")
    say(f"verdict: {findings.verdict}", "bold")
