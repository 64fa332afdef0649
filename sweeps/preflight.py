"""Before compute is spent: does the study's code do what the study asks, does it fit, and how long will it take.

    preflight(plan, console)        0, with a line for each check: "pass  switch optim.lr  weights after two steps …"
    questions(plan)                 {"switches": [{"key": "optim.lr", "values": ["0.001", "0.01"], …}], …}

This side makes the questions from a plan and shows the answers; `train.preflight`, a process of its own, has the model.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import Console

from conf.command_line import in_words
from conf.compose import compose
from conf.config import Config, resolve
from conf.schema import Kind, ParamConfig, UserError, kind
from conf.vocab import vocab_size
from sweeps.cells.grid import GridPoint, overrides
from sweeps.cells.study import DEVICE
from sweeps.engines.base import child_environment
from sweeps.plan.cost import run_seconds
from sweeps.plan.plan import Plan, PlannedRun
from train.timetable.cost import run_cost
from train.timetable.makespan import makespan
from train.timetable.schedule import build_schedule

# The kinds of keys that have to change the model or its update where a study varies them.
SWITCHES: frozenset[Kind] = frozenset({"update", "size", "proportion", "schedule", "phase"})
# The kinds of keys that may tell two runs apart that are each taken `alone`.
TELLING: frozenset[Kind] = SWITCHES | {"validation", "seen"}

LARGER = (1, 2, 4)  # times the base width or depth, in the coordinate check
COORDINATE_LR = 3e-3
COORDINATE_READOUT = 0.1  # of `param.readout_scale`: a large initial readout hides what the updates add to the logits
LARGEST_BASE = 3_000_000  # parameters of a cell that a switch is tried on
MOST_BASES = 8

Question = dict[str, Any]


def preflight(plan: Plan, console: Console) -> int:
    """Ask, print a line per check as it is answered, and return the exit status: 1 if a check failed."""
    console.print(f"{plan.study.name} ({plan.profile})", style="bold", end="  ")
    console.print(f"{len(plan.runs)} runs, {plan.capacity.threads} threads each", soft_wrap=True)
    failed, measured = 0, list[tuple[PlannedRun, float]]()
    timed = timed_runs(plan)
    with console.status("torch is imported") as status, _asked(questions(plan)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            if "doing" in answer:
                status.update(answer["doing"])
            elif "timed" in answer:
                run = timed[answer["timed"]]
                measured.append((run, answer["seconds"]))
                rate = f"{answer['tokens_per_second']:,.0f} tokens/s, {1e3 * answer['seconds']:.1f} ms a step"
                _say(console, "note", f"throughput {run.run_id[:8]}", f"{rate}, {run.cost.n_params:,} parameters")
            else:
                failed += answer["state"] == "FAIL"
                _say(console, answer["state"], answer["check"], answer["evidence"])
    if process.returncode:
        _say(console, "FAIL", "preflight", f"its process ended with exit status {process.returncode}")
        return 1
    if measured:
        _say(console, "note", "time", _time(plan, measured))
    return 1 if failed else 0


@contextmanager
def _asked(asked: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """The process that has the model, with the questions at its standard input."""
    with subprocess.Popen(
        [sys.executable, "-m", "train.preflight"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | child_environment(),
    ) as process:
        assert process.stdin is not None
        json.dump(asked, process.stdin)
        process.stdin.close()
        yield process


def _time(plan: Plan, measured: Sequence[tuple[PlannedRun, float]]) -> str:
    """How long the study takes, as measured and as planned."""
    jobs = plan.capacity.jobs
    seconds = makespan(study_seconds(plan, measured), jobs)
    planned = makespan((run.seconds for run in plan.runs), jobs)
    return (
        f"{in_words(seconds)} for all {len(plan.runs)} runs, {jobs} at a time, as measured one by one; "
        f"the plan says {in_words(planned)}"
    )


def _say(console: Console, state: str, check: str, evidence: str) -> None:
    console.print(f"{state:4}  {check:28}  {evidence}", soft_wrap=True)


# --- questions -------------------------------------------------------------------------------------------


def questions(plan: Plan) -> dict[str, Any]:
    """What `train.preflight.answers` reads."""
    runs = sorted(plan.runs, key=_flops_per_token)
    return {
        "device": DEVICE[plan.profile],
        "threads": plan.capacity.threads,
        "jobs": plan.capacity.jobs,
        "coordinates": coordinate_questions(runs),
        "switches": [q for key in plan.varied if kind(key) in SWITCHES for q in switch_questions(runs, key)],
        "architectures": architecture_questions(runs),
        "growths": growth_questions(plan),
        "largest": alone(max(plan.runs, key=lambda run: (run.cost.n_params, run.cost.tokens_per_step))),
        "timed": [{"name": run.run_id[:8], "argv": alone(run)} for run in timed_runs(plan)],
    }


def coordinate_questions(runs: Sequence[PlannedRun]) -> list[Question]:
    """Over the width for each parametrisation, at the smallest depth, with the settings of its smallest cell; and over
    the depth, at the base width, for those that scale it.

    Rules that the study itself switches off in some cells are shown and not judged.
    """
    deep = [run for run in runs if run.config.model.depth]
    smallest: dict[ParamConfig, PlannedRun] = {}
    for run in deep:
        smallest.setdefault(run.config.param, run)
    on_purpose = len({param.without for param in smallest}) > 1
    asked: list[Question] = []
    for param, run in smallest.items():
        smallest_depth = min(other.config.model.depth for other in deep)
        shared: GridPoint = {
            "optim.lr": COORDINATE_LR,
            "param.readout_scale": min(param.readout_scale, COORDINATE_READOUT),
            "schedule": "constant",
            "schedule.floor": 0.0,
        }

        excuse = "" if param.scales_width else "width transfer is not promised"
        if on_purpose and param.without != "none":
            excuse = "the study itself switches the rule off"
        question = {"name": _told(param, smallest), "excuse": excuse}
        widths = [param.base_width * times for times in LARGER]
        cells = [_sized(run, shared, width, smallest_depth) for width in widths]
        asked.append(question | {"along": "width", "sizes": widths, "cells": cells})
        if param.name == "completep":
            depths = [param.base_depth * times for times in LARGER]
            cells = [_sized(run, shared, param.base_width, depth) for depth in depths]
            asked.append(question | {"along": "depth", "sizes": depths, "cells": cells})
    return asked


def _sized(run: PlannedRun, shared: GridPoint, width: int, depth: int) -> list[str]:
    """`changed` to another size, with heads as wide as the run's if they fit."""
    head = run.config.model.head_dim
    heads = width // head if width % head == 0 else 1
    return changed(run, shared | {"model.width": width, "model.heads": heads, "model.depth": depth})


def _told(param: ParamConfig, others: Iterable[ParamConfig]) -> str:
    """A parametrisation in words, with the settings that tell it from others of the same words."""

    def words(param: ParamConfig) -> str:
        variant = f" {param.variant}" if param.name == "mup" else ""
        return f"{param.name}{variant}{'' if param.without == 'none' else f' without {param.without}'}"

    alike = [other for other in others if words(other) == words(param)]
    telling = [name for name, value in vars(param).items() if any(getattr(other, name) != value for other in alike)]
    return " ".join([words(param), *(f"{name}={_shown(getattr(param, name))}" for name in telling)])


def switch_questions(runs: Sequence[PlannedRun], key: str) -> list[Question]:
    """None where all values are the default, otherwise one: some cells with each value of `key`.

    The values, or the only one and the default, are put into a few cells, all else equal: a switch may need a size or
    another setting to do something. Two values that no cell can have both are looked at in the study's own cells that
    are nearest to each other, and the other keys that differ there are named.
    """
    setting = [run for run in runs if key in run.cell.settings]
    values = list({repr(run.cell.settings[key]): run.cell.settings[key] for run in setting}.values())
    names = [_shown(value) for value in values]
    having = [[run for run in setting if repr(run.cell.settings[key]) == repr(value)] for value in values]
    absent = len(values) == 1
    if absent:
        names.append("the default")
        having.append([run for run in runs if key not in run.cell.settings])
    bases: list[list[list[str] | None]] = []
    spelt_out = False
    for base in _bases(setting, key):
        cells = [changed(base, {key: value}) for value in values] + ([changed(base, {}, without=key)] if absent else [])
        configs = [_possible(cell) for cell in cells]
        if absent and configs[0] is not None and configs[0] == configs[1]:
            spelt_out = True
        elif sum(config is not None for config in configs) > 1:
            bases.append([cell if config else None for cell, config in zip(cells, configs, strict=True)])
    if spelt_out and not bases:
        return []
    nearest = [min(some, key=lambda run: len(_differing(setting[0], run))) for some in having]
    together = sorted({k for a, b in pairwise(nearest) for k in _differing(a, b)} - {key})
    others = [alone(run) for run in nearest]
    return [{"key": key, "values": names, "bases": bases, "nearest": others, "together": together}]


def architecture_questions(runs: Sequence[PlannedRun]) -> list[Question]:
    """The smallest cell of every architecture; sizes alone do not make another."""

    def architecture(config: Config) -> tuple[tuple[str, Any], ...]:
        sizes = {"width", "heads", "mlp_hidden", "mix_fraction"}
        settings = {name: value for name, value in vars(config.model).items() if name not in sizes}
        return tuple(sorted((settings | {"depth": settings["depth"] > 0}).items()))

    smallest: dict[tuple[tuple[str, Any], ...], PlannedRun] = {}
    for run in runs:
        smallest.setdefault(architecture(run.config), run)
    every = [dict(settings) for settings in smallest]
    varied = [name for name in every[0] if len({repr(one[name]) for one in every}) > 1]
    names = [" ".join(f"{name}={_shown(one[name])}" for name in varied) for one in every]
    return [{"name": name, "argv": alone(run)} for name, run in zip(names, smallest.values(), strict=True)]


def growth_questions(plan: Plan) -> list[Question]:
    """Every growth of one model into another by one operator, once: the overrides of the base and of the run.

    Of the branches that go on with the base's own model there is one, and one more where they carry its moments.
    """
    bases = {run.run_id: run for run in plan.runs}
    by_text: dict[str, Question] = {}
    for run in plan.runs:
        if run.base is None:
            continue
        base, grow = bases[run.base], run.config.grow
        sizes = [(one.config.model, one.config.param) for one in (base, run)]
        operator = (grow.depth, grow.pattern, grow.ramp is not None, grow.width, grow.noise > 0)
        grows = grow.noise or sizes[0] != sizes[1]
        growth = repr((grow.optimizer, (operator, sizes) if grows else "as it is"))
        how = [text for text in run.overrides if text.startswith("grow.")]
        name = f"{base.run_id[:8]} to {run.run_id[:8]}"
        by_text.setdefault(growth, {"name": name, "base": alone(base), "argv": alone(run) + how})
    return list(by_text.values())


def timed_runs(plan: Plan) -> list[PlannedRun]:
    """The smallest, a middle and the largest run by FLOPs of a step, each once."""
    runs = sorted(plan.runs, key=_flops_per_step)
    chosen = {_flops_per_step(runs[place]): runs[place] for place in (0, len(runs) // 2, -1)}
    return list(chosen.values())


def study_seconds(plan: Plan, measured: Sequence[tuple[PlannedRun, float]]) -> list[float]:
    """Seconds of every run: the plan's estimate times the ratio of measured to estimated steps, between the measured
    ones by the logarithm of a step's FLOPs."""
    sizes = [np.log(_flops_per_step(run)) for run, _ in measured]
    pace = plan.capacity.speed
    ratios = [seconds / (_flops_per_step(run) / pace.flops_per_second + pace.step_seconds) for run, seconds in measured]
    seconds: list[float] = []
    for run in plan.runs:
        ratio = float(np.interp(np.log(_flops_per_step(run)), sizes, ratios))
        seconds.append(
            ratio * (run_seconds(run.config, run.cost, pace, until=run.until) - pace.run_seconds) + pace.run_seconds
        )
    return seconds


# --- cells -----------------------------------------------------------------------------------------------


def alone(run: PlannedRun) -> list[str]:
    """The overrides of a run like this one, but from nothing: of as many steps as its learning rate is a schedule of,
    others' steps before it included."""
    own = [text for text in run.overrides if not text.startswith(("grow.", "train.keep=", "train.duration="))]
    return [*own, f"train.duration={run.cost.begun + run.cost.n_steps}steps"]


def changed(run: PlannedRun, settings: GridPoint, *, without: str | None = None) -> list[str]:
    """`alone` with other settings, and without one key."""
    gone = {*settings, without}
    return [text for text in alone(run) if text.partition("=")[0] not in gone] + overrides(settings)


def _possible(argv: Sequence[str]) -> Config | None:
    """The resolved config, its schedule in steps, or None where it would be refused."""
    try:
        config = resolve(compose(argv), cuda=False)
        cost = run_cost(config, vocab_size(config.data))
        build_schedule(config.schedule, peak=config.optim.lr, cost=cost)
    except UserError:
        return None
    steps: dict[str, Any] = {
        name: f"{cost.steps(getattr(config.schedule, name))}steps" for name in ("warmup", "cooldown")
    }
    return dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, **steps))


def _bases(runs: Sequence[PlannedRun], key: str) -> list[PlannedRun]:
    """Runs to try a switch on: the smallest, and of each named variant the smallest and the largest that is small."""
    small = [run for run in runs if run.cost.n_params <= LARGEST_BASE] or [runs[0]]
    variants: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in small:
        words = {
            k: v for k, v in run.cell.settings.items() if isinstance(v, (str, bool)) and k != key and kind(k) in TELLING
        }
        variants.setdefault(tuple(f"{k}={v}" for k, v in words.items()), []).append(run)
    chosen = [small[0], *(run for variant in variants.values() for run in (variant[0], variant[-1]))]
    return list({run.run_id: run for run in chosen}.values())[:MOST_BASES]


def _differing(a: PlannedRun, b: PlannedRun) -> set[str]:
    a_sets, b_sets = a.cell.settings, b.cell.settings
    return {key for key in a_sets.keys() | b_sets.keys() if kind(key) in TELLING and a_sets.get(key) != b_sets.get(key)}


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _flops_per_token(run: PlannedRun) -> float:
    return run.cost.flops / run.cost.n_tokens


def _flops_per_step(run: PlannedRun) -> float:
    return run.cost.flops / run.cost.n_steps
