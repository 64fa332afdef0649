"""The graph of runs: which run starts from which other one, and what sharing a base saves.

    grown(base, 200, {"model.depth": 8})        a cell that starts from step 200 of the run of the cell `base`

A cell holds the whole cell that it starts from, as JSON under `grow.base`, since a run has no name before its settings
are complete; a plan turns it into the run's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conf.compose import compose
from conf.schema import UserError
from conf.vocab import vocab_size
from models.count import RunCost, run_cost
from sweeps.grid import Cell, overrides

BASE = "grow.base"
STEP = "grow.step"


class GraphError(UserError):
    """A cell that starts from something that is no cell."""


def grown(base: Cell, step: int, settings: Cell | None = None) -> Cell:
    """The cell of a run that starts from `base` at `step`: its settings, but for `settings` and its own `grow.*`."""
    kept = {key: value for key, value in base.items() if not key.startswith("grow.")}
    return kept | {BASE: json.dumps(base, sort_keys=True), STEP: step} | (settings or {})


def base_of(cell: Cell) -> Cell | None:
    """The cell that a cell starts from, or None.

    Raises:
        GraphError: `grow.base` holds something else, such as a run id, whose settings and cost a plan cannot know.
    """
    text = cell.get(BASE)
    if text is None:
        return None
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise GraphError(f"{BASE}: {text!r} is not allowed in a sweep; allowed: the base's own cell, as JSON")
    return found


@dataclass(frozen=True)
class Node:
    """What the graph knows of one run: where it starts, if not from nothing, and what it costs."""

    base: str | None
    step: int
    cost: RunCost


@dataclass(frozen=True)
class Sharing:
    """FLOPs of all runs as they are shared, and if every run made its bases' steps itself."""

    n_bases: int
    n_grown: int
    shared: int
    """With each base up to the last step that a run starts from, unless its end is asked for too."""
    beyond: int
    """What bases compute after that."""
    apart: int

    @property
    def saved(self) -> float:
        """The share of the FLOPs that sharing saves, never negative."""
        return 1 - self.shared / self.apart


def sharing(nodes: Mapping[str, Node], wanted: Iterable[str]) -> Sharing:
    """What the graph saves.

    Args:
        wanted: the runs that a study asks for; a base that is only a base would not be run apart.
    """
    used = {run_id: nodes[run_id].cost.n_steps for run_id in wanted}
    apart = sum(nodes[run_id].cost.spent(step).flops for run_id, step in used.items())
    starts = [(node.base, node.step) for node in nodes.values() if node.base is not None]
    for base, step in starts:
        used[base] = max(used.get(base, 0), step)
    shared = sum(nodes[run_id].cost.executed_by(step).flops for run_id, step in used.items())
    whole = sum(node.cost.executed.flops for node in nodes.values())
    return Sharing(len(dict(starts)), len(starts), shared, whole - shared, apart)


def lines(nodes: Mapping[str, Node]) -> list[str]:
    """The graph in words: under each base the runs that start from it, by step."""

    def below(run_id: str, indent: str) -> Iterable[str]:
        steps: dict[int, list[str]] = {}
        for name, node in nodes.items():
            if node.base == run_id:
                steps.setdefault(node.step, []).append(name)
        for step, children in sorted(steps.items()):
            yield f"{indent}step {step}: {', '.join(child[:8] for child in children)}"
            for child in children:
                deeper = list(below(child, f"{indent}    "))
                yield from [f"{indent}  {child[:8]}", *deeper] if deeper else []

    found = []
    for name, node in nodes.items():
        if node.base is None and any(other.base == name for other in nodes.values()):
            found += [f"{name[:8]} ({node.cost.n_steps} steps)", *below(name, "  ")]
    return found


def cost_of(cell: Cell) -> RunCost:
    """What the run of a cell costs, with what it inherits; raises `ConfigError` if it is no possible run."""
    before = base_of(cell)
    named = {} if before is None else {BASE: "0" * 16}  # any id: what a base costs is not in its name
    config = compose(overrides(cell | named))
    return run_cost(config, vocab_size(config.data), base=None if before is None else cost_of(before))
