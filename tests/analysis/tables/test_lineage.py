"""Chains of bases, courses along them, equal budgets, and speed-ups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.claims.claim import Claim
from analysis.claims.region import above
from analysis.claims.sample import Sample
from analysis.growth.speed_up import finals, name_broken, speed_up, speed_ups
from analysis.tables.csv import TableError
from analysis.tables.lineage import courses, trace, with_growth
from train.record.metrics_file import MetricsWriter

STEP = 100  # FLOPs of a target's step


def row(run_id: str, base: str | None = None, step: int | None = None, **settings: Any) -> dict[str, Any]:
    """A run as the table has it; a target of 8 blocks at a constant rate unless told otherwise."""
    return {
        "run_id": run_id,
        "folder": run_id,
        "state": "finished",
        "seed": 0,
        "grow.base": base,
        "grow.step": step,
        "grow.depth": "stack",
        "grow.schedule": "restart",
        "model.depth": 8,
        "model.width": 64,
        "model.mlp_hidden": 256,
        "model.param_tokens": None,
        "model.stages": None,
        "model.templates": None,
        "schedule.shape": "constant",
        "schedule.floor": 0.0,
        "schedule.floor_is": "relative",
        "n_steps": 10,
        "n_steps_inherited": 0,
        "n_tokens_inherited": 0,
        "flops_inherited": 0,
        "flops": 10 * STEP,
        "flops_per_token": STEP,
        "tokens_per_step": 1,
        "loss": 3.0,
    } | settings


def branch(run_id: str, base: str, step: int, **settings: Any) -> dict[str, Any]:
    continued = {"grow.schedule": "continue", "grow.optimizer": "carry", "schedule.shape": "wsd"}
    return row(run_id, base, step, **(continued | settings))


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)


GROWN = {"n_steps_inherited": 4, "n_tokens_inherited": 40, "flops_inherited": STEP}
GRAPH = (
    row("base", **{"model.depth": 2}),
    row("trunk", "base", 4, **({"grow.depth": "interpolate"} | GROWN)),
    branch("leaf", "trunk", 6, flops=980),
    row("scratch"),
    branch("short", "scratch", 3, flops=500, loss=3.5),
    branch("long", "scratch", 8, flops=1000),
)


def test_a_branch_is_told_by_the_growth_of_its_trunk() -> None:
    traced = {run["run_id"]: run for run in trace(table(*GRAPH)).iter_rows(named=True)}
    leaf = traced["leaf"]
    assert (leaf["chain"], leaf["left_at"]) == (["base", "trunk", "leaf"], [4, 6, None])
    assert (leaf["growth"], leaf["grow.depth"], leaf["base_depth"]) == ("trunk", "interpolate", 2)
    assert (leaf["base_steps"], leaf["base_tokens"], leaf["base_flops"]) == (4, 40, STEP)
    assert leaf["annealed"]
    assert not traced["trunk"]["annealed"]
    for name in ("scratch", "long"):  # a decay that branches off is no growth
        assert traced[name]["growth"] is None
        assert traced[name]["grow.depth"] is None
        assert traced[name]["base_flops"] == 0


def test_a_branch_has_the_columns_of_the_growth_before_it() -> None:
    """Where its own settings are those of its branching, and those from scratch the defaults."""
    runs = with_growth(table(*GRAPH))
    assert runs["run_id"].to_list() == [run["run_id"] for run in GRAPH]
    found = {run["run_id"]: run for run in runs.iter_rows(named=True)}
    assert found["leaf"]["grow.depth"] == found["long"]["grow.depth"] == "stack"
    assert (found["leaf"]["grown.depth"], found["leaf"]["grown.step"]) == ("interpolate", 4)
    assert (found["leaf"]["model_grew"], found["long"]["model_grew"]) == (True, False)
    assert found["long"]["grown.depth"] is None
    assert "grown.base" not in runs.columns


def test_a_chain_is_one_run_where_moments_and_settings_go_on() -> None:
    def unbroken(*rows: dict[str, Any]) -> bool:
        return bool(trace(table(*rows))["unbroken"][-1])

    scratch, trunk, lr = row("scratch"), GRAPH[1], {"optim.lr": 0.1}
    assert unbroken(scratch)
    assert unbroken(scratch, branch("decay", "scratch", 3))
    assert unbroken(GRAPH[0], trunk), "a growth is no break, whatever it changes"
    assert unbroken(GRAPH[0], trunk, branch("decay", "trunk", 3))
    for change in ({"grow.optimizer": "reset"}, lr):
        assert not unbroken(scratch, branch("decay", "scratch", 3, **change))
        assert not unbroken(GRAPH[0], trunk, branch("decay", "trunk", 3, **change))
    assert unbroken(scratch | lr, branch("decay", "scratch", 3, **lr, **{"schedule.cooldown": "9steps"}))
    ended = finals(trace(table(*GRAPH, branch("dropped", "trunk", 6, flops=1000, **{"grow.optimizer": "reset"}))))
    assert "dropped" not in ended["run_id"].to_list()


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "wsd", "inverse_sqrt"])
def test_a_rate_that_falls_to_its_floor_has_annealed(shape: str) -> None:
    (annealed,) = trace(table(row("run", **{"schedule.shape": shape})))["annealed"]
    assert annealed is (shape in {"cosine", "linear", "wsd"})


@pytest.mark.parametrize("size", ["depth", "width", "mlp_hidden", "param_tokens", "stages", "templates"])
def test_another_model_grows_even_where_its_rate_goes_on(size: str) -> None:
    runs = table(row("base", **{f"model.{size}": 2}), branch("grown", "base", 4), branch("decay", "grown", 4))
    assert trace(runs)["growth"].to_list() == [None, "grown", "grown"]
    same = table(row("base"), branch("decay", "base", 4))
    assert trace(same)["growth"].to_list() == [None, None]


def test_the_last_of_several_growths_counts() -> None:
    middle = row("middle", "base", 4, **{"model.depth": 4})
    runs = trace(table(GRAPH[0], middle, row("top", "middle", 2, flops_inherited=300), branch("leaf", "top", 6)))
    leaf = runs.row(3, named=True)
    assert leaf["chain"] == ["base", "middle", "top", "leaf"]
    assert (leaf["growth"], leaf["base_depth"], leaf["base_flops"]) == ("top", 4, 300)


def test_a_base_that_is_missing_is_one_line() -> None:
    with pytest.raises(TableError, match=r"^grow\.base: base, which trunk starts from, is no run of the table$"):
        trace(table(*GRAPH[1:]))


def test_runs_are_compared_at_equal_budgets_only() -> None:
    uneven = branch("uneven", "trunk", 7, flops=850)  # a step and a half from any run from scratch
    other = branch("other", "trunk", 6, flops=1000, **{"model.width": 32})
    lost = branch("lost", "trunk", 6, flops=1000, state="diverged")
    ended = finals(trace(table(*GRAPH, uneven, other, lost)))
    budgets = dict(zip(ended["run_id"], ended["budget"], strict=True))
    assert budgets == {"leaf": 1000, "short": 500, "long": 1000}


@pytest.mark.parametrize("lost", ["leaf", "long"])
def test_nothing_to_compare_is_one_line(lost: str) -> None:
    """Either the only run that has grown, or the one from scratch of its FLOPs."""
    rows = [run | ({"state": "diverged", "loss": None} if run["run_id"] == lost else {}) for run in GRAPH]
    with pytest.raises(TableError, match=r"^none of 6 runs has grown and finished at the FLOPs of one from scratch"):
        finals(trace(table(*rows)))


def test_a_course_joins_what_a_run_has_grown_out_of(tmp_path: Path) -> None:
    runs = []
    for run in GRAPH:
        folder = tmp_path / run["run_id"]
        folder.mkdir()
        writer = MetricsWriter(folder, after_step=0)
        for step in range(11):
            writer.append({"step": step, "flops": run["flops_inherited"] + STEP * step, "val_loss": 3.0})
        writer.close()
        runs.append(run | {"folder": str(folder)})
    traced = trace(table(*runs))
    course = courses(traced, pl.Series(["leaf", "long"]))
    leaf = course.filter(pl.col("run_id") == "leaf")
    steps = {str(key[0]): rows["step"].to_list() for key, rows in leaf.group_by("part")}
    # The grown run's first row shows the jump; the branch's would repeat the trunk's last.
    assert steps == {"base": [*range(5)], "trunk": [*range(7)], "leaf": [*range(1, 11)]}
    assert leaf.filter("since_growth")["part"].unique().sort().to_list() == ["leaf", "trunk"]
    long = course.filter(pl.col("run_id") == "long")
    assert long["since_growth"].all()
    assert long["part"].unique().sort().to_list() == ["long", "scratch"]


def test_a_speed_up_is_exact_on_a_power_law() -> None:
    flops = np.array([1e12, 2e12, 4e12])
    loss = 100 * flops**-0.1
    for saved in (0.0, 0.5, -0.3):
        value, bound = speed_up(flops, loss, 2e12 / (1 + saved) if saved else 2e12, float(loss[1]))
        assert value == pytest.approx(saved, abs=1e-9)
        assert bound is None
    between = speed_up(flops, loss, 1e12, 100 * 3e12**-0.1)
    assert between[0] == pytest.approx(2.0)


def test_a_speed_up_beyond_what_was_measured_is_a_bound() -> None:
    flops, loss = np.array([4e12, 1e12]), np.array([2.0, 3.0])
    assert speed_up(flops, loss, 2e12, 1.9) == (pytest.approx(1.0), "at least")
    assert speed_up(flops, loss, 2e12, 3.1) == (pytest.approx(-0.5), "at most")


def test_speed_ups_are_paired_by_seed_and_size() -> None:
    second = [run | {"run_id": f"{run['run_id']}2", "seed": 1} for run in GRAPH]
    for run in second:
        run["grow.base"] = run["grow.base"] and f"{run['grow.base']}2"
    alone = branch("alone", "trunk", 6, flops=1000, **{"model.width": 32})
    gains = speed_ups(finals(trace(table(*GRAPH, *second, alone))))
    assert gains["run_id"].to_list() == ["leaf", "leaf2"]  # of width 32 there is nothing from scratch
    assert gains["speedup"].to_list() == pytest.approx([1000 / 980 - 1] * 2)


# --- claims ----------------------------------------------------------------------------------------------


def test_a_claim_without_an_estimate_names_what_broke() -> None:
    states = [("diverged", "stack"), ("diverged", "scratch"), ("diverged", "stack"), ("failed", "zero")]
    runs = pl.DataFrame([*states, ("finished", "zero")], schema=["state", "arm"], orient="row")
    known, unknown = (
        Claim("It gains.", of=Sample.of(values, 3), statistic="gain", accept=above(0)) for values in ([0.1, 0.2], [0.1])
    )
    assert name_broken([known, unknown], runs.tail(1)) == [known, unknown]
    told = name_broken([known, unknown], runs)
    assert told[0] == known
    assert told[1].measured.reason == (
        "1 seed; an interval needs at least 2 (diverged: 1 run from scratch, 2 runs of stack; failed: 1 run of zero)"
    )
