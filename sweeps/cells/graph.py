"""The graph of runs: which run starts from which other one, and what sharing a base saves.

grown(base, 200, {"model.depth": 8})                    a cell that starts from step 200 of the run of `base`
cost_of(grown(base, 200, {"model.depth": 8})).flops     what that run computes itself, from its own first step
cell_of_run("0123456789abcdef", Path("runs"))           the cell of a run that is there already
sharing(plan.nodes, plan.wanted).saved                  0.57, of the FLOPs if every run made its bases' steps itself
lines(plan.nodes)                                       ["0123abcd (1000 steps; seeds 0, 1)", "    500: 89ab4567"]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conf.compose import compose, read_config
from conf.identity import identity
from conf.schema import ConfigError
from conf.vocab import vocab_size
from sweeps.cells.cell import BASE, Cell, CellError, no_base
from sweeps.cells.grid import GridPoint, Value
from train.record.lineage import folders_of
from train.record.run import FINAL, read_run
from train.timetable.cost import RunCost, run_cost


def grown(base: Cell | GridPoint, step: int, settings: GridPoint | None = None) -> Cell:
    """The cell of a run that starts from `base` at `step`: its settings, but for `settings` and its own `grow.*`."""
    base = Cell.of(base)
    kept = {key: value for key, value in base.settings.items() if not key.startswith("grow.")}
    return Cell(kept | (settings or {}), base, int(step))


def cell_of_run(run: str, runs_dir: Path) -> Cell:
    """The cell that a run was made from: what can change what it measures, as far as it is not the default.

    Args:
        run: its id or its folder.

    Raises:
        CellError: no run under `runs_dir` has that id, or none of them has ended, or its settings cannot be read.
    """
    folders = list(folders_of(Path(run).name, below=runs_dir))
    if not folders or ("/" in run and Path(run).resolve() not in {folder.resolve() for folder in folders}):
        raise CellError(f"{BASE}: {run} is no run under {runs_dir}; allowed: the id of one, or the base's own cell")
    folder = next((folder for folder in folders if (read_run(folder) or {}).get("state") in FINAL), None)
    if folder is None:
        raise CellError(f"{BASE}: {run} has not ended; allowed: a run that has, or the base's own cell")
    try:
        settings = identity(read_config(folder / "config.yaml"))
    except ConfigError as error:
        raise CellError(f"{folder / 'config.yaml'}: {error}") from None
    usual = identity(compose())
    return Cell.of({name: value for name, value in settings.items() if usual[name] != value})


def cost_of(cell: Cell | GridPoint) -> RunCost:
    """What the run of a cell costs, its bases included.

    Raises:
        ConfigError: it is no possible run.
        CellError: its base is a run that is there already, whose cost is in its record.
    """
    cell = Cell.of(cell)
    if cell.base is None:
        base, argv = None, cell.overrides()
    elif isinstance(cell.base, Cell):
        base, argv = cost_of(cell.base), replace(cell, base=_ANY_ID).overrides()
    else:
        raise no_base(cell.base, by_id=False)
    config = compose(argv)
    return run_cost(config, vocab_size(config.data), base=base)


_ANY_ID = "0" * 16  # what a base costs is not in its name


# --- the graph of the runs of a plan ---------------------------------------------------------------------


@dataclass(frozen=True)
class Node:
    """What the graph knows of one run: where it starts, if not from nothing, what it costs, and what it is."""

    base: str | None
    step: int
    cost: RunCost
    seed: Value = 0
    settings: tuple[tuple[str, Value], ...] = ()
    """Of its cell, but for the seed and the base."""


@dataclass(frozen=True)
class Sharing:
    """FLOPs of all runs as they are shared, and if every run made its bases' steps itself."""

    n_bases: int
    n_grown: int
    spent: int
    unused: int
    """Of these, what bases compute after the last step that a run starts from; none where their end is asked for."""
    apart: int

    @property
    def saved(self) -> float:
        """The share of the FLOPs that sharing saves; negative where bases go on for other studies."""
        return 1 - self.spent / self.apart


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
    needed = sum(nodes[run_id].cost.executed_by(step).flops for run_id, step in used.items())
    spent = sum(node.cost.executed.flops for node in nodes.values())
    return Sharing(len(dict(starts)), len(starts), spent, spent - needed, apart)


def lines(nodes: Mapping[str, Node]) -> list[str]:
    """The graph in words: under each base the runs that start from it, by step. Trees that are the same but for the
    seed are written once, with the ids of the first."""
    children: dict[str, list[str]] = {}
    for name, node in sorted(nodes.items(), key=lambda item: item[1].step):
        if node.base is not None:
            children.setdefault(node.base, []).append(name)

    def tree(name: str) -> tuple[Any, ...]:
        node = nodes[name]
        return node.step, node.settings, node.cost.n_steps, tuple(tree(child) for child in children.get(name, ()))

    def below(name: str, indent: str) -> Iterator[str]:
        ends = [child for child in children[name] if child not in children]
        if ends:
            yield indent + ", ".join(f"{nodes[child].step}: {child[:8]}" for child in ends)
        for child in children[name]:
            if child in children:
                yield f"{indent}{nodes[child].step}: {child[:8]}"
                yield from below(child, f"{indent}    ")

    alike: dict[tuple[Any, ...], list[str]] = {}
    for name in children:
        if nodes[name].base is None:
            alike.setdefault(tree(name), []).append(name)
    written: list[str] = []
    for first, *others in alike.values():
        seeds = ", ".join(str(nodes[name].seed) for name in (first, *others))
        written += [f"{first[:8]} ({nodes[first].cost.n_steps} steps{f'; seeds {seeds}' if others else ''})"]
        written += below(first, "    ")
    return written
