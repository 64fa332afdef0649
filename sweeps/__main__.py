"""`python -m sweeps list | plan | preflight | run | status | reproduce`: many runs, printed before they are started."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from conf.command_line import Parser, counted, pick, wide_console
from conf.schema import UserError
from sweeps.cells.file import WHERE, read_study
from sweeps.cells.study import DEVICE, Study
from sweeps.engines.base import TRAINER, Ended, Launch, Trainer
from sweeps.engines.machine import has_gpu, this_machine
from sweeps.engines.registry import ENGINES
from sweeps.plan.plan import Plan, make_plan
from sweeps.plan.reuse import adopt, ended_elsewhere
from sweeps.preflight import preflight
from sweeps.studies.find import find_study
from sweeps.studies.find import studies as find_studies
from sweeps.words import print_edges, print_plan, print_states, print_study, print_totals
from train.record.manifest import PROFILES, Manifest, Profile

EPILOG = """Exit status: 0 every run finished or diverged (both are results) or has a base that diverged, 1 some run did
not, or a check of the preflight failed, 2 a mistake in the command, 130 or 143 interrupted after the runs saved their
checkpoints: the same command goes on. A study may ask for its grid to be widened until the best value is not at an end
of it: `run` then adds runs, which `plan` and `status` show."""


def main(
    arguments: Sequence[str] | None = None, *, studies: Mapping[str, Study] | None = None, trainer: Trainer = TRAINER
) -> int:
    """Do what the command line says; returns the exit status. `studies` are those of `sweeps/studies/` if not given."""
    try:
        given = _parser().parse_args(arguments)
        if given.command == "list":
            return _list(find_studies() if studies is None else studies, given.runs_dir, given.results_dir)
        study = _study(given, studies)
        profiles: dict[str, Profile] = {name: name for name in PROFILES if given.cells is None or name in WHERE}
        if given.command == "status" and given.profile is None:
            return _status(study, _begun(study, given.runs_dir), given)
        profile = pick("profile", given.profile, profiles)
        if given.command == "plan":
            plan = _make(study, profile, given)
            print_plan(plan, wide_console(markup=False), elsewhere=len(ended_elsewhere(plan, given.runs_dir)))
            return 0
        if given.command == "preflight":
            return preflight(_make(study, profile, given), wide_console(markup=False))
        if given.command == "status":
            return _status(study, [profile], given)
        status = _run(study, profile, given, trainer)
        if given.command == "reproduce" and status == 0:
            figure = [sys.executable, "-m", "analysis", "figure", study.name, "--profile", profile]
            return subprocess.run([*figure, "--runs-dir", str(given.runs_dir)], check=False).returncode
        return status
    except (UserError, OSError) as error:  # a folder that cannot be written is a mistake too, and names its path
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- commands --------------------------------------------------------------------------------------------


def _list(studies: Mapping[str, Study], runs_dir: Path, results_dir: Path) -> int:
    console = wide_console(markup=False)
    for study in studies.values():
        try:
            plans = [make_plan(study, profile, runs_dir=runs_dir, capacity=this_machine) for profile in PROFILES]
        except UserError as error:  # the others can be listed all the same
            print(f"left out: {error}", file=sys.stderr)
            continue
        jobs = [this_machine(len(plan.runs), DEVICE[plan.profile]).jobs for plan in plans]
        print_study(study, plans, jobs, console, results_dir=results_dir)
    return 0


def _run(study: Study, profile: Profile, given: argparse.Namespace, trainer: Trainer) -> int:
    console = wide_console(markup=False)
    engine = pick("engine", given.engine, ENGINES)
    plan = _make(study, profile, given)
    if plan.missing and DEVICE[profile] == "cuda" and not has_gpu():
        raise UserError(f"--profile: {profile} needs a GPU, and this machine has none; allowed: smoke, cpu")
    ended: dict[str, Ended] = {}
    while True:
        while linked := adopt(plan, given.runs_dir):  # what they came to may ask for more runs
            console.print(f"{counted(linked, 'run')} linked: another study has them already")
            plan = _make(study, profile, given)
        plan.manifest.write(given.runs_dir)
        print_totals(plan, console)
        untried = replace(plan, runs=tuple(run for run in plan.runs if run.run_id not in ended))
        launch = engine.launch(untried, trainer, console) if untried.missing else Launch()
        ended |= {end.run.run_id: end for end in launch.ended}
        if launch.stopped_by is not None:
            console.print("interrupted; the same command goes on from the checkpoints")
            return 128 + launch.stopped_by
        before, plan = plan, _make(study, profile, given)
        if plan.manifest == before.manifest:
            break
        for extension in plan.bracket.extensions:
            if extension not in before.bracket.extensions:
                console.print(str(extension), soft_wrap=True)
    print_edges(plan, console)
    elsewhere = sum(run.state == "running" for run in plan.runs)
    lost = {run_id for run_id, end in ended.items() if end.problem is not None}
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
    console = wide_console(markup=False)
    for profile in profiles:
        print_states(_make(study, profile, given), console)
    return 0


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
            command.add_argument("--results-dir", type=Path, default=Path("results"), help="of figures (%(default)s)")
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


def _study(given: argparse.Namespace, studies: Mapping[str, Study] | None) -> Study:
    """The study that the command names, or the one in the file of --cells."""
    if given.cells is None and given.study is not None and studies is None:
        return find_study(given.study)
    studies = find_studies() if studies is None else studies
    if given.cells is not None and given.study is not None:
        raise UserError(f"--cells {given.cells}: is a study itself, beside {given.study}; allowed: one of the two")
    if given.cells is not None:
        return read_study(given.cells, taken=studies)
    if given.study is None:
        other = "" if given.command == "reproduce" else ", or --cells PLAN.JSON"
        raise UserError(f"{given.command}: names no study; allowed: {', '.join(studies)}{other}")
    return pick("study", given.study, studies)


def _make(study: Study, profile: Profile, given: argparse.Namespace) -> Plan:
    """The plan for what the engine of `--engine` offers, with `--jobs` at a time; `status` has neither."""
    engine = pick("engine", vars(given).get("engine", "local"), ENGINES)
    jobs = vars(given).get("jobs")
    return make_plan(
        study,
        profile,
        runs_dir=given.runs_dir,
        extra=given.extra,
        capacity=lambda n_runs, device: engine.capacity(n_runs, device, jobs),
    )


def _begun(study: Study, runs_dir: Path) -> list[Profile]:
    begun = [profile for profile in PROFILES if Manifest.path(runs_dir, study.name, profile).exists()]
    if not begun:
        raise UserError(f"{study.name}: no profile was run under {runs_dir}; allowed: `run` first, or --profile")
    return begun


if __name__ == "__main__":
    sys.exit(main())
