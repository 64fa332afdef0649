"""Whether growing paid: grown runs against training from scratch at equal total FLOPs.

    compare_with_scratch(kept, traced)  ->  a row for each run that ends with a decay, with the loss from scratch
    left_out(kept)                      ->  "1 diverged, 3 not annealed"
    loss_at(flops_K, loss_K, 1e12, slack=1e9)  ->  the loss between measured ones

Runs that end with a decay are compared, each with all that it has grown out of on its bill; those that changed where
they branched off a trunk (`unbroken` of `analysis.tables.lineage.trace`) are no one run, and are left out. The run from
scratch may differ in how long it is (`LENGTH`) and in what cannot change a loss (`seen`); it has the same size,
data and validation windows (`_task`). Where none agrees in the other settings, the nearest are taken, of several the
best, and `differing` names what differs: a rate tuned for each of the two is a fair comparison, a rate that nobody
chose is not, and only the user knows which of them it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import polars as pl

from analysis.growth.speed_up import SCRATCH, speed_up
from analysis.tables.columns import Array
from analysis.tables.csv import TableError
from analysis.tables.lineage import ENDED, FROM_SCRATCH, GROWING, SIZE
from analysis.tables.runs import DATA
from analysis.tables.select import FINISHED
from conf.command_line import SI, counted, human
from conf.config import Config
from conf.identity import identity
from conf.schema import Direction, ModelConfig, paths

DECAY = "schedule.cooldown"
LENGTH = paths("length", "phase")
SETTINGS = paths("update", "size", "proportion", "schedule", "validation")
"""What a run and the one from scratch that it is compared with should agree in."""

COLUMNS = {
    "arm": pl.String,
    "grown": pl.String,
    "how": pl.String,
    "seed": pl.Int64,
    "run_id": pl.String,
    "flops": pl.Int64,
    "base_flops": pl.Int64,
    "n_tokens": pl.Int64,
    "loss": pl.Float64,
    "scratch_loss": pl.Float64,
    "gap": pl.Float64,
    "speedup": pl.Float64,
    "bound": pl.String,
    "scratch_seed": pl.String,
    "against": pl.String,
    "differing": pl.String,
    "missing": pl.String,
}
"""What `--out` writes, a row for each finished run that ends with a decay. `flops` and `n_tokens` are totals, with all
that it has grown out of; `loss` is the last validation loss (nats per token). Of a grown run: `grown` (blocks x width,
from and to), `how`, and both as its `arm`; `base_flops`, spent before it last grew; `scratch_loss` at equal FLOPs and
`gap`, that minus `loss`; `speedup` and `bound` (`analysis.growth.speed_up.speed_up`); whether the runs from scratch are
of its "own" seed or of "others"; `against`, their ids; `differing`, their settings that differ; and `missing`, why
there is no `scratch_loss`."""


# --- the comparison --------------------------------------------------------------------------------------


def compare_with_scratch(kept: pl.DataFrame, traced: pl.DataFrame) -> pl.DataFrame:
    """Every finished run that ends with a decay, and what training from scratch reaches at its FLOPs; `COLUMNS` says
    what is in the table. Arms lie in the order of their sizes and growth steps, with rising FLOPs, those from scratch
    last.

    Args:
        kept: the rows of `traced` to compare.
        traced: of `analysis.tables.lineage.trace`.

    Raises:
        TableError: no run has grown, or none that has ends with a decay.
    """
    grown = kept.filter(~FROM_SCRATCH)
    if grown.is_empty():
        raise TableError(
            f"none of {counted(len(kept), 'run')} has grown out of another one (a decay that branches off is no growth)"
        )
    if _ended(grown).is_empty():
        raise TableError(
            f"none of {counted(len(grown), 'grown run')} has finished with a decay (schedule.shape cosine, linear or "
            f"wsd): {left_out(grown)}"
        )
    scratch = _ended(kept).filter(FROM_SCRATCH).rows(named=True)
    runs = _with_arms(_ended(grown).rows(named=True), {row["run_id"]: row for row in traced.iter_rows(named=True)})
    rows = [run | _against_scratch(run, scratch) for run in runs]
    rows += [run | {"arm": SCRATCH, "grown": _size(run), "how": SCRATCH} for run in scratch]
    return pl.DataFrame([{name: row.get(name) for name in COLUMNS} for row in rows], schema=COLUMNS)


def _ended(runs: pl.DataFrame) -> pl.DataFrame:
    return runs.filter(ENDED).sort(*SIZE, "flops", "seed")


def left_out(runs: pl.DataFrame) -> str:
    """Why runs are not compared, with how many of them; empty if all are."""
    reason = pl.when(state="running").then(pl.lit("unfinished")).when(~FINISHED).then("state")
    reason = reason.when(~pl.col("annealed")).then(pl.lit("not annealed"))
    reason = reason.when(~pl.col("unbroken")).then(pl.lit("with other moments or settings than their trunk"))
    reasons = runs.select(reason).to_series().drop_nulls()
    return ", ".join(f"{n} {reason}" for reason, n in sorted(Counter(reasons).items()))


def _against_scratch(run: Mapping[str, Any], scratch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs from scratch say about a grown one: those of its own seed, if it has any, or each other seed's for
    itself, and then the mean."""
    size = _size(run)
    same_size = [other for other in scratch if _of(other, GROWING) == _of(run, GROWING)]
    if not same_size:
        return {"missing": f"no run of {size} from scratch that has finished with a decay is among those kept"}
    same_task = [other for other in same_size if _task(other) == _task(run)]
    if not same_task:
        return {"missing": f"the runs of {size} from scratch have other data or validation windows"}

    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for other in same_task:
        groups.setdefault(_of(other, SETTINGS), []).append(other)
    least = min(len(_differing(run, group[0])) for group in groups.values())
    nearest = [group for group in groups.values() if len(_differing(run, group[0])) == least]
    return min((_against(run, group) for group in nearest), key=lambda answer: answer.get("scratch_loss", math.inf))


def _against(run: Mapping[str, Any], scratch: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of runs that agree in their settings."""
    size = _size(run)
    same_seed = [other for other in scratch if other["seed"] == run["seed"]]
    used = same_seed or scratch
    answer: dict[str, Any] = {
        "scratch_seed": "own" if same_seed else "others",
        "against": " ".join(other["run_id"] for other in used),
        "differing": "; ".join(_differing(run, scratch[0])) or None,
    }

    seeds = sorted({other["seed"] for other in used})
    lines = [_line([other for other in used if other["seed"] == seed]) for seed in seeds]
    step = run["flops_per_token"] * run["tokens_per_step"]
    at_equal = [loss_at(*line, run["flops"], slack=step) for line in lines]
    reached = [loss for loss in at_equal if loss is not None]
    if reached:
        answer |= {"scratch_loss": float(np.mean(reached)), "gap": float(np.mean(reached)) - run["loss"]}
    else:
        ends = [human(pick(other["flops"] for other in used), SI) for pick in (min, max)]
        span = f"at {ends[0]}" if ends[0] == ends[1] else f"from {ends[0]} to {ends[1]}"
        answer["missing"] = f"{size} from scratch{_of_seed(same_seed)} was measured {span} FLOPs only"
    gains = [speed_up(*line, run["flops"], run["loss"]) for line in lines]
    bounds = {bound for _, bound in gains} - {None}
    if len(bounds) < 2:  # else seeds are bounded on both sides
        answer |= {"speedup": float(np.mean([gain for gain, _ in gains])), "bound": next(iter(bounds), None)}
    return answer


def _of_seed(runs: Sequence[Mapping[str, Any]]) -> str:
    return f" with seed {runs[0]['seed']}" if runs else ""


def loss_at(flops_K: Array, loss_K: Array, flops: float, *, slack: float) -> float | None:
    """Loss at `flops` on straight lines in ln L over ln C between measured ones.

    Args:
        flops_K: rising.
        slack: FLOPs beyond either end, such as those of one step, that still count as the end; None further away.
    """
    if not flops_K[0] - slack <= flops <= flops_K[-1] + slack:
        return None
    return float(np.exp(np.interp(np.log(flops), np.log(flops_K), np.log(loss_K))))


def _line(runs: Iterable[Mapping[str, Any]]) -> tuple[Array, Array]:
    """FLOPs, rising, and loss of runs; those of equal cost are one point."""
    losses: dict[int, list[float]] = {}
    for run in runs:
        losses.setdefault(run["flops"], []).append(run["loss"])
    flops = sorted(losses)
    return np.array(flops, dtype=float), np.array([np.mean(losses[c]) for c in flops])


def _of(run: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    return tuple(run[name] for name in names)


def _task(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two losses must share to be comparable."""
    return (
        run.get(DATA),
        *_of(run, [name for name in SETTINGS if name.startswith("data.") or name == "eval.sequences"]),
    )


def _differing(run: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """`optim.lr 0.01 (scratch 0.003)`."""
    return [
        f"{name} {_word(run[name])} (scratch {_word(other[name])})" for name in SETTINGS if run[name] != other[name]
    ]


def _word(value: Any) -> str:
    return "null" if value is None else str(value)


# --- arms ------------------------------------------------------------------------------------------------


def _with_arms(runs: Iterable[dict[str, Any]], by_id: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Grown runs in the order of their arms, with `grown`, `how` and `arm`.

    Arms differ in what `grown` and `how` say, or in a setting of the run, of a base, or of the warm-up after growth;
    `how` names such settings where arms would otherwise read alike.
    """
    alike: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for run in runs:
        links = [by_id[part] for part in run["chain"] if by_id[part]["growth"] == part]
        hops = [(by_id[link["grow.base"]], link) for link in links]
        grown = " -> ".join(dict.fromkeys([_size(hops[0][0]), *(_size(link) for _, link in hops)]))
        how = ", then ".join(_hop(base, link) for base, link in hops)
        order = (*_of(run, SIZE), *_of(hops[0][0], SIZE), grown, how.partition(" at ")[0], run["base_steps"])
        alike.setdefault((grown, how), []).append((run | {"order": order}, _settings(run, hops)))
    named = []
    for (grown, how), members in alike.items():
        names = _telling(members)
        for run, settings in members:
            told = ", ".join([how, *(f"{name} {_word(settings.get(name))}" for name in names)])
            named.append(run | {"grown": grown, "how": told, "arm": f"{grown} {told}"})
    return sorted(named, key=lambda run: (*run["order"], run["arm"], run["flops"], run["seed"]))


def _telling(members: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """The settings that tell arms apart, among them that of the decay only if one budget has several."""
    names = [
        name
        for name in dict.fromkeys(name for _, settings in members for name in settings)
        if name != DECAY and len({settings.get(name) for _, settings in members}) > 1
    ]
    decays: dict[Any, set[str]] = {}
    for run, settings in members:
        budget = (run["flops"], run["seed"], *(settings.get(name) for name in names))
        decays.setdefault(budget, set()).add(settings[DECAY])
    return [*names, DECAY] if any(len(lengths) > 1 for lengths in decays.values()) else names


def _settings(run: Mapping[str, Any], hops: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[str, Any]:
    settings = {name: run[name] for name in (*SETTINGS, DECAY)}
    for k, (base, link) in enumerate(hops, start=1):
        number = f" {k}" if len(hops) > 1 else ""
        # How long a base was to be says nothing about it before its decay.
        names = [*SETTINGS, "schedule.warmup", *(LENGTH if base["annealed"] else ())]
        settings |= {f"base{number} {name}": base[name] for name in names}
        settings[f"warmup{number}"] = link["schedule.warmup"]
    return settings


def _size(run: Mapping[str, Any]) -> str:
    """Blocks x width, and what else of a model can grow where it is not the usual."""
    usual = {"model.mlp_hidden": ModelConfig(width=run["model.width"], activation=run["model.activation"]).hidden}
    told = [name for name in GROWING if name not in SIZE and run[name] != usual.get(name)]
    extra = [f"{name.partition('.')[2]} {_word(run[name])}" for name in told]
    size = f"{run['model.depth']}x{run['model.width']}"
    return f"{size} ({', '.join(extra)})" if extra else size


def _hop(base: Mapping[str, Any], link: Mapping[str, Any]) -> str:
    """One growth: its operators, its step, and whatever is not the default."""
    defaults = identity(Config())
    sizes = {direction: paths("size", grows=direction) for direction in get_args(Direction)}
    operators = [
        f"{direction} {link[f'grow.{direction}']}"
        for direction, names in sizes.items()
        if _of(base, names) != _of(link, names)
    ]
    told = {"grow.base", "grow.step", "grow.depth", "grow.width"}
    details = [
        f"{name.partition('.')[2]} {_word(link[name])}"
        for name, default in defaults.items()
        if name.startswith("grow.") and name not in told and link[name] != default
    ]
    return ", ".join([f"{' '.join(operators) or 'same size'} at step {link['base_steps']}", *details])


def used(grown: pl.DataFrame) -> set[str]:
    """The runs from scratch that grown ones are compared with."""
    return {run_id for ids in grown["against"].drop_nulls() for run_id in ids.split()}
