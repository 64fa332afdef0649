"""Plans in words for a terminal.

print_study(study, plans, jobs, console, …)     name, claim, and a row for each profile
print_plan(plan, console, elsewhere=0)          a row for each run, the graph of bases, what is to start
print_states(plan, console)                     a row for each run: how far it has come, and its result
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conf.command_line import SI, counted, human, in_words
from conf.schema import UserError
from sweeps.cells.cell import BASE
from sweeps.cells.graph import lines, sharing
from sweeps.cells.study import Study
from sweeps.engines.base import last_log_line
from sweeps.engines.board import last_step, summary
from sweeps.plan.plan import Plan, PlannedRun
from train.record.run import FINAL
from train.timetable.makespan import makespan


def print_study(
    study: Study, plans: Sequence[Plan], jobs: Sequence[int], console: Console, *, results_dir: Path
) -> None:
    """Its claim, and for each profile what it takes where so many runs go at a time, and what its claims came to."""
    table = _table("profile", "runs", "done", "FLOPs", "minutes", "verdicts")
    for plan, at_a_time in zip(plans, jobs, strict=True):
        done = sum(run.state in FINAL for run in plan.runs)
        flops = human(sum(run.cost.executed.flops for run in plan.runs), SI)
        minutes = makespan((run.seconds for run in plan.runs), at_a_time) / 60
        said = verdicts(results_dir / study.name / plan.profile / "claims.json")
        table.add_row(plan.profile, str(len(plan.runs)), str(done), flops, f"{minutes:.1f}", said)
    console.print(study.name, style="bold", end="  ")
    console.print(study.claim, soft_wrap=True)
    console.print(table)


def verdicts(claims: Path) -> str:
    """`verdicts(Path("results/gstack/timing/cpu/claims.json"))` is "1 reproduced, 3 inconclusive", and "none" where no
    figure was drawn; raises `UserError` if the file does not hold claims."""
    if not claims.exists():
        return "none"
    try:
        counts = Counter(claim["verdict"] for claim in json.loads(claims.read_text(encoding="utf-8"))["claims"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{claims}: not the claims of a study ({error})") from None
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def print_plan(plan: Plan, console: Console, *, elsewhere: int) -> None:
    """What would run, what is done, and what it costs; `elsewhere`: how many runs another study has already."""
    keys = plan.varied
    table = _table("run", *keys, "params", "tokens", "steps", "FLOPs", "state", "time")
    for run in plan.runs:
        cost = run.cost
        sizes = (human(cost.n_params), human(cost.n_tokens), str(cost.n_steps), human(cost.executed.flops, SI))
        table.add_row(run.run_id[:8], *_values(run, keys), *sizes, run.state, in_words(run.seconds))
    console.print(f"{plan.study.name} ({plan.profile})", style="bold", end="  ")
    console.print(plan.study.claim, soft_wrap=True)
    console.print(table)
    print_edges(plan, console)
    _print_graph(plan, console)
    print_totals(plan, console)
    if elsewhere:
        console.print(f"{elsewhere} of these have ended in another study, and will only be linked")


def print_states(plan: Plan, console: Console) -> None:
    """How far each run has come."""
    keys = plan.varied
    table = _table("run", *keys, "state", "result")
    for run in plan.runs:
        table.add_row(run.run_id[:8], *_values(run, keys), run.state, _result(run))
    console.print(f"{plan.study.name} ({plan.profile})", style="bold")
    console.print(table)
    print_edges(plan, console)


def print_totals(plan: Plan, console: Console) -> None:
    """How many runs are done, and what those that are to start will take."""
    runs, missing = plan.runs, plan.missing
    flops = human(sum(run.cost.executed_by(run.until).flops for run in missing), SI)
    same = f" ({plan.n_cells} cells, some of them the same run)" if plan.n_cells > len(runs) else ""
    done = sum(run.state in FINAL for run in runs)
    lost = sum(run.state == "base diverged" for run in runs)
    never = f", {lost} whose base diverged" if lost else ""
    console.print(f"{counted(len(runs), 'run')}{same}: {done} done{never}, {len(missing)} to start", soft_wrap=True)
    if missing:
        at = plan.capacity
        console.print(
            f"to start: {flops} FLOPs, about {in_words(plan.seconds_left)} with {at.jobs} at a time, "
            f"threads for each: {at.threads} ({at.speed.basis})",
            soft_wrap=True,
        )


def print_edges(plan: Plan, console: Console) -> None:
    """A line for every grid whose best value is still at an end."""
    for line in plan.bracket.at_the_edge:
        console.print(line, soft_wrap=True)


def _print_graph(plan: Plan, console: Console) -> None:
    """Which run starts from which other one, and what that saves."""
    nodes = plan.nodes
    shared = sharing(nodes, plan.wanted)
    if not shared.n_grown:
        return
    console.print("the graph: bases, and by step the runs that start from them", style="bold")
    for line in lines(nodes):
        console.print(line, soft_wrap=True)
    saved = f"sharing saves {shared.saved:.0%}" if shared.saved >= 0 else f"this takes {-shared.saved:.0%} more"
    unused = f"; no run here uses the last {human(shared.unused, SI)} of the bases" if shared.unused else ""
    console.print(
        f"{counted(shared.n_bases, 'base')} shared by {counted(shared.n_grown, 'run')}: {human(shared.spent, SI)} "
        f"FLOPs, and {human(shared.apart, SI)} if every run made its own way; {saved}{unused}",
        soft_wrap=True,
    )


def _result(run: PlannedRun) -> str:
    """The loss of a run that has one, the step of one that is under way, the last words of the others."""
    record = run.record or {}
    if run.state in FINAL:
        return summary(record)
    if run.state == "failed":
        return run.problem or str(record["error"])
    if run.state == "base diverged":
        return f"it starts from step {run.config.grow.step} of {(run.base or '')[:8]}"
    if run.state == "running":
        return f"step {last_step(run.folder)} of {run.cost.n_steps}"
    return last_log_line(run.folder) or ""


def _values(run: PlannedRun, keys: Sequence[str]) -> list[str]:
    """The run's values of these keys, of a base the first digits of its id."""
    cell = run.cell.plain
    return [str(cell[key])[: 8 if key == BASE else None] if key in cell else "" for key in keys]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
