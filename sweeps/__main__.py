"""`python -m sweeps list | plan | preflight | run | status | reproduce`: many runs, printed before they are started."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from conf.command_line import SI, Parser, counted, human, pick
from conf.schema import UserError
from sweeps.cells.file import WHERE, read_study
from sweeps.cells.graph import BASE, lines, sharing
from sweeps.cells.study import DEVICE, Study
from sweeps.engines.base import TRAINER, Launched, Outcome, Trainer, last_log_line
from sweeps.engines.board import duration, last_step, summary
from sweeps.engines.registry import ENGINES
from sweeps.plan.cost import makespan
from sweeps.plan.machine import cores_for, has_gpu, share_cores
from sweeps.plan.plan import Plan, PlannedRun, make_plan
from sweeps.plan.reuse import adopt, ended_elsewhere
from sweeps.preflight import preflight
from sweeps.studies.find import studies as find_studies
from train.record.manifest import PROFILES, Manifest, Profile
from train.record.run import FINAL

EPILOG = """Exit status: 0 every run finished or diverged (both are results) or has a base that diverged, 1 some run did
not, or a check of the preflight failed, 2 a mistake in the command, 130 or 143 interrupted after the runs saved their
checkpoints: the same command goes on. A study may ask for its grid to be widened until the best value is not at an end
of it: `run` then adds runs, which `plan` and `status` show."""

_PIPE_WIDTH = 160  # columns of a table that no terminal limits


def main(
    arguments: Sequence[str] | None = None, *, studies: Mapping[str, Study] | None = None, trainer: Trainer = TRAINER
) -> int:
    """Carry out one command; returns the exit status. `studies` are those of `sweeps/studies/` if not given."""
    try:
        given = _parser().parse_args(arguments)
        studies = find_studies() if studies is None else studies
        if given.command == "list":
            return _list(studies, given.runs_dir, given.results_dir)
        study = _study(given, studies)
        profiles: dict[str, Profile] = {name: name for name in PROFILES if given.cells is None or name in WHERE}
        if given.command == "status" and given.profile is None:
            return _status(study, _begun(study, given.runs_dir), given)
        profile = pick("profile", given.profile, profiles)
        if given.command == "plan":
            return _plan(_make(study, profile, given, jobs=given.jobs), given.runs_dir)
        if given.command == "preflight":
            return preflight(_make(study, profile, given, jobs=given.jobs), _console())
        if given.command == "status":
            return _status(study, [profile], given)
        status = _run(study, profile, given, trainer)
        if given.command == "reproduce" and status == 0:
            door = [sys.executable, "-m", "analysis", "figure", study.name, "--profile", profile]
            return subprocess.run([*door, "--runs-dir", str(given.runs_dir)], check=False).returncode
        return status
    except (UserError, OSError) as error:  # a folder that cannot be written is a mistake too, and names its path
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- commands --------------------------------------------------------------------------------------------


def _list(studies: Mapping[str, Study], runs_dir: Path, results_dir: Path) -> int:
    console = _console()
    for study in studies.values():
        table = _table("profile", "runs", "done", "FLOPs", "minutes", "verdicts")
        for profile in PROFILES:
            plan = make_plan(study, profile, runs_dir=runs_dir)
            device = DEVICE[profile]
            jobs, _ = share_cores(len(plan.runs), jobs=None, cores=cores_for(device), device=device)
            done = sum(run.state in FINAL for run in plan.runs)
            flops = human(sum(run.cost.executed.flops for run in plan.runs), SI)
            minutes = makespan((run.seconds for run in plan.runs), jobs) / 60
            said = _verdicts(results_dir / study.name / profile / "claims.json")
            table.add_row(profile, str(len(plan.runs)), str(done), flops, f"{minutes:.1f}", said)
        console.print(study.name, style="bold", end="  ")
        console.print(study.claim, soft_wrap=True)
        console.print(table)
    return 0


def _plan(plan: Plan, runs_dir: Path) -> int:
    keys = plan.varied
    table = _table("run", *keys, "params", "tokens", "steps", "FLOPs", "state", "time")
    for run in plan.runs:
        cost = run.cost
        sizes = (human(cost.n_params), human(cost.n_tokens), str(cost.n_steps), human(cost.executed.flops, SI))
        table.add_row(run.run_id[:8], *_values(run, keys), *sizes, run.state, duration(run.seconds))
    console = _console()
    console.print(f"{plan.study.name} ({plan.profile})", style="bold", end="  ")
    console.print(plan.study.claim, soft_wrap=True)
    console.print(table)
    _edges(plan, console)
    _graph(plan, console)
    _totals(plan, console)
    if there := ended_elsewhere(plan, runs_dir):
        console.print(f"{len(there)} of these have ended in another study, and will only be linked")
    return 0


def _run(study: Study, profile: Profile, given: argparse.Namespace, trainer: Trainer) -> int:
    console = _console()
    engine = pick("engine", given.engine, ENGINES)
    plan = _make(study, profile, given, jobs=given.jobs)
    if plan.missing and DEVICE[profile] == "cuda" and not has_gpu():
        raise UserError(f"--profile: {profile} needs a GPU, and this machine has none; allowed: smoke, cpu")
    outcomes: dict[str, Outcome] = {}
    while True:
        while linked := adopt(plan, given.runs_dir):  # what they came to may ask for more runs
            console.print(f"{counted(linked, 'run')} linked: another study has them already")
            plan = _make(study, profile, given, jobs=given.jobs)
        plan.manifest.write(given.runs_dir)
        _totals(plan, console)
        untried = replace(plan, runs=tuple(run for run in plan.runs if run.run_id not in outcomes))
        launched = engine(untried, trainer, console) if untried.missing else Launched()
        outcomes |= {outcome.run.run_id: outcome for outcome in launched.outcomes}
        if launched.stopped_by is not None:
            console.print("interrupted; the same command goes on from the checkpoints")
            return 128 + launched.stopped_by
        before, plan = plan, _make(study, profile, given, jobs=given.jobs)
        if plan.manifest == before.manifest:
            break
        for extension in plan.bracket.extensions:
            if extension not in before.bracket.extensions:
                console.print(str(extension), soft_wrap=True)
    _edges(plan, console)
    elsewhere = sum(run.state == "running" for run in plan.runs)
    lost = {run_id for run_id, outcome in outcomes.items() if outcome.problem is not None}
    if lost:
        console.print(f"{counted(len(lost), 'run')} failed; the same command starts what is missing")
    if behind := {run.run_id for run in plan.runs if {run.run_id, run.base} <= lost and run.record is None}:
        # Or the analysis would wait for them, though not for the base.
        kept = tuple(run_id for run_id in plan.manifest.run_ids if run_id not in behind)
        replace(plan.manifest, run_ids=kept).write(given.runs_dir)
        console.print(f"{counted(len(behind), 'run')} among them that a failed base kept from beginning")
    if elsewhere:
        console.print(f"another process has {counted(elsewhere, 'run')} in hand")
    return 1 if lost or elsewhere else 0


def _status(study: Study, profiles: Sequence[Profile], given: argparse.Namespace) -> int:
    console = _console()
    for profile in profiles:
        plan = _make(study, profile, given)
        keys = plan.varied
        table = _table("run", *keys, "state", "result")
        for run in plan.runs:
            table.add_row(run.run_id[:8], *_values(run, keys), run.state, _result(run))
        console.print(f"{study.name} ({profile})", style="bold")
        console.print(table)
        _edges(plan, console)
    return 0


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


# --- words -----------------------------------------------------------------------------------------------


def _verdicts(claims: Path) -> str:
    """How many claims came to what; none where no figure was drawn."""
    if not claims.exists():
        return "none"
    try:
        counts = Counter(claim["verdict"] for claim in json.loads(claims.read_text(encoding="utf-8"))["claims"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{claims}: not the claims of a study ({error})") from None
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def _totals(plan: Plan, console: Console) -> None:
    runs, missing = plan.runs, plan.missing
    flops = human(sum(run.cost.executed_by(run.until).flops for run in missing), SI)
    same = f" ({plan.n_cells} cells, some of them the same run)" if plan.n_cells > len(runs) else ""
    done = sum(run.state in FINAL for run in runs)
    lost = sum(run.state == "base diverged" for run in runs)
    never = f", {lost} whose base diverged" if lost else ""
    console.print(f"{len(runs)} runs{same}: {done} done{never}, {len(missing)} to start", soft_wrap=True)
    if missing:
        console.print(
            f"to start: {flops} FLOPs, about {duration(plan.seconds_left)} with {plan.jobs} at a time, "
            f"threads for each: {plan.threads} ({plan.speed.basis})",
            soft_wrap=True,
        )


def _graph(plan: Plan, console: Console) -> None:
    """Which run starts from which other one, and what that saves."""
    nodes = plan.nodes
    found = sharing(nodes, plan.wanted)
    if not found.n_grown:
        return
    console.print("the graph: bases, and by step the runs that start from them", style="bold")
    for line in lines(nodes):
        console.print(line, soft_wrap=True)
    saved = f"sharing saves {found.saved:.0%}" if found.saved >= 0 else f"this takes {-found.saved:.0%} more"
    unused = f"; no run here uses the last {human(found.unused, SI)} of the bases" if found.unused else ""
    console.print(
        f"{counted(found.n_bases, 'base')} shared by {counted(found.n_grown, 'run')}: {human(found.spent, SI)} FLOPs, "
        f"and {human(found.apart, SI)} if every run made its own way; {saved}{unused}",
        soft_wrap=True,
    )


def _edges(plan: Plan, console: Console) -> None:
    for line in plan.bracket.at_the_edge:
        console.print(line, soft_wrap=True)


def _values(run: PlannedRun, keys: Sequence[str]) -> list[str]:
    return [str(run.cell[key])[: 8 if key == BASE else None] if key in run.cell else "" for key in keys]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console() -> Console:
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False)  # errors and values may hold brackets


# --- the command line ------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sweeps", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "list": "every study: claim, runs, FLOPs, estimated time and verdicts per profile",
        "plan": "what would run, what is done, and what it costs",
        "preflight": "about a minute of checks: coordinates, switches, counts, memory, throughput",
        "run": "start what is missing, and widen the grid where the study asks for it",
        "status": "states, losses, and the errors of failed runs",
        "reproduce": "run, then draw the study's figure and judge its claims",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text, epilog=EPILOG)
        command.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where run folders are (%(default)s)")
        if name == "list":
            command.add_argument(
                "--results-dir", type=Path, default=Path("results"), help="where verdicts are (%(default)s)"
            )
            continue
        command.add_argument("study", metavar="STUDY", nargs="?", help="a name of `python -m sweeps list`")
        command.set_defaults(cells=None)
        if name != "reproduce":  # which draws a study's figure
            command.add_argument(
                "--cells", type=Path, metavar="PLAN.JSON", help="instead: the cells of `python -m analysis plan`"
            )
        every = "every profile that was run" if name == "status" else "cpu"
        default = None if name == "status" else "cpu"
        command.add_argument("--profile", default=default, help=f"{', '.join(PROFILES)} ({every})")
        command.add_argument(
            "-o",
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="extra",
            help="a setting of all runs that cannot change what they measure, e.g. runtime.cache_dir=/tmp/cache",
        )
        if name != "status":
            command.add_argument("--jobs", type=int, help="runs at a time (as many as usable cores)")
        if name in {"run", "reproduce"}:
            command.add_argument("--engine", default="local", help=f"{', '.join(ENGINES)} (%(default)s)")
    return parser


def _study(given: argparse.Namespace, studies: Mapping[str, Study]) -> Study:
    """The study that the command names, or the one in the file of --cells."""
    if given.cells is not None and given.study is not None:
        raise UserError(f"--cells {given.cells}: is a study itself, beside {given.study}; allowed: one of the two")
    if given.cells is not None:
        return read_study(given.cells, taken=studies)
    if given.study is None:
        other = "" if given.command == "reproduce" else ", or --cells PLAN.JSON"
        raise UserError(f"{given.command}: names no study; allowed: {', '.join(studies)}{other}")
    return pick("study", given.study, studies)


def _make(study: Study, profile: Profile, given: argparse.Namespace, *, jobs: int | None = None) -> Plan:
    return make_plan(study, profile, runs_dir=given.runs_dir, extra=given.extra, jobs=jobs)


def _begun(study: Study, runs_dir: Path) -> list[Profile]:
    begun = [profile for profile in PROFILES if Manifest.path(runs_dir, study.name, profile).exists()]
    if not begun:
        raise UserError(f"{study.name}: no profile was run under {runs_dir}; allowed: `run` first, or --profile")
    return begun


if __name__ == "__main__":
    sys.exit(main())
