"""The checks before compute is spent: each passes where its promise holds, and fails where it does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.__main__ import main
from sweeps.cells.graph import grown
from sweeps.cells.grid import GridPoint, product
from sweeps.cells.study import Study
from sweeps.plan.plan import Plan, make_plan
from sweeps.preflight import questions
from train import preflight
from train.growth import begin as growth
from train.preflight import answers, check_counts, check_growth, check_memory, check_switch

TINY: GridPoint = {
    "data": "markov",
    "data.vocab_size": 16,
    "data.context": 16,
    "data.n_tokens": 20_000,
    "model.depth": 1,
    "model.width": 16,
    "model.heads": 2,
    "param.base_width": 16,
    "train.batch_size": 8,
    "train.duration": "40steps",
    "eval.sequences": 16,
}


@pytest.fixture
def planned(tmp_path: Path, cache_dir: Path) -> Callable[..., Plan]:
    """`planned(shared, *axes)`: the plan of a study of tiny cells."""

    def make(shared: GridPoint, *cells: GridPoint) -> Plan:
        study = Study(
            name="fake/flight", claim="It flies.", cells=lambda _: [TINY | shared | cell for cell in cells or ({},)]
        )
        return make_plan(study, "smoke", runs_dir=tmp_path / "runs", extra=[f"runtime.cache_dir={cache_dir}"])

    return make


@pytest.fixture
def states(planned: Callable[..., Plan]) -> Callable[..., dict[str, str]]:
    """`states(shared, *cells, of="switch")`: evidence by check, behind its state."""

    def ask(shared: GridPoint, *cells: GridPoint, of: str) -> dict[str, str]:
        asked = questions(planned(shared, *cells))
        kinds = ("coordinates", "switches", "architectures", "growths", "timed")
        asked |= {name: [] for name in kinds if not name.startswith(of)}
        rows = [row for row in answers(asked) if "check" in row]
        return {row["check"]: f"{row['state']} {row['evidence']}" for row in rows if row["check"].startswith(of)}

    return ask


@pytest.mark.parametrize(
    ("shared", "key", "values", "changes"),
    [
        ({}, "optim.lr", (1e-3, 1e-2), "weights after two steps"),
        ({}, "optim.eps", (1e-8, 1e-15), "weights after two steps"),
        ({}, "optim.beta1", (0.9, 0.8), "weights after two steps"),
        ({}, "optim.beta2", (0.95, 0.99), "weights after two steps"),
        ({}, "optim.weight_decay", (0.0, 1e-4), "weights after two steps"),
        ({}, "optim.decay", ("independent", "coupled"), "weights after two steps"),
        ({}, "optim.z_loss", (0.0, 1e-4), "weights after two steps"),
        ({}, "optim.clip", (None, 1.0), "8 times the initial ones"),
        ({}, "optim.name", ("adamw", "stable_adamw"), "weights after two steps"),
        ({}, "schedule", ("cosine", "linear"), "learning rates"),
        ({}, "schedule.warmup", ("5%", "50%"), "learning rates"),
        ({}, "schedule.floor", (0.0, 0.1), "learning rates"),
        ({"schedule": "wsd"}, "schedule.cooldown", ("10%", "20%"), "learning rates"),
        ({}, "data.seed", (0, 1), "batches"),
        ({}, "data.alpha", (0.1, 0.2), "batches"),
        ({}, "data.n_tokens", (20_000, 10**6), "batches"),
        ({"data.shift_for": "2steps"}, "data.shift_every", ("10steps", "8steps"), "batches"),
        ({}, "train.batch_size", (8, 16), "batches"),
        ({}, "model.qk_norm", ("none", "head", "qkv"), "logits"),
        ({}, "model.attention_softcap", (None, 50.0), "logits"),
        ({}, "model.norm_placement", ("pre", "peri"), "logits"),
        ({}, "model.width", (16, 32), "logits"),
        ({"data.shift_every": "20steps"}, "data.shift_for", ("2steps", "5steps"), "batches"),
    ],
)
def test_a_switch_that_does_something_passes(shared, key, values, changes, states):
    (evidence,) = states(shared, *product({key: values}), of="switch").values()
    assert evidence.startswith("pass")
    assert changes in evidence


@pytest.mark.parametrize(
    ("shared", "key", "values"),
    [
        ({"schedule": "cosine"}, "schedule.cooldown", ("10%", "20%")),
        ({"model.position": "learned"}, "model.rope_base", (1e4, 1e5)),
        ({"param": "standard"}, "param.base_width", (16, 32)),
        ({"model.norm_placement": "pre"}, "model.mix_fraction", (0.25, 0.5)),
    ],
)
def test_a_switch_without_effect_fails_and_is_named(shared, key, values, states):
    ((check, evidence),) = states(shared, *product({key: values}), of="switch").items()
    assert check == f"switch {key}"
    assert evidence.startswith(f"FAIL {values[0]} and {values[1]} compute the same")


def test_the_seed_of_a_source_that_is_read_does_nothing(tmp_path, cache_dir):
    """Text is not drawn: `data.seed` is a setting of other sources."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name} wind tunnel " * 300)
    text: GridPoint = {"data": "text", "data.path": f"{tmp_path}/*.txt", "data.val_fraction": 0.3}
    drawn = ("data.vocab_size", "data.n_tokens")
    cells = [{k: v for k, v in (TINY | text | {"data.seed": seed}).items() if k not in drawn} for seed in (0, 1)]
    study = Study(name="fake/text", claim="", cells=lambda _: cells)
    extra = [f"runtime.cache_dir={cache_dir}"]
    (asked,) = questions(make_plan(study, "smoke", runs_dir=tmp_path, extra=extra))["switches"]
    assert check_switch(**asked).state == "FAIL"
    assert asked["key"] == "data.seed"


def test_one_pair_of_three_values_is_enough_to_fail(states):
    cells = product({"optim.lr": (1e-3,), "param.variant": ("simple", "intermediate", "full")})
    wide = {"param": "mup", "param.base_width": 8}
    assert states(wide, *cells, of="switch")["switch param.variant"].startswith("pass")
    standard = states({"param": "standard"}, *cells, of="switch")["switch param.variant"]
    assert standard.startswith("FAIL simple and intermediate")


def test_a_switch_is_tried_on_several_cells(states):
    """At the base width muP changes nothing but what `full` adds; the wider cell tells the others."""
    cells = product({"model.width": (16, 32), "param.variant": ("simple", "intermediate")})
    both = states({"param": "mup"}, *cells, of="switch")
    assert both["switch param.variant"].startswith("pass")
    base_only = states({"param": "mup"}, *[cell for cell in cells if cell["model.width"] == 16], of="switch")
    assert base_only["switch param.variant"].startswith("FAIL")


def test_values_that_no_cell_can_have_both_are_compared_where_they_are(states):
    """`query_init` is no rule of CompleteP, and `residual_multiplier` none of muP; the other pairs share a cell."""
    wide = {"model.width": 32}
    mup = [{"param": "mup", "param.without": rule} | wide for rule in ("none", "hidden_lr", "query_init")]
    shared: GridPoint = {"param.depth_alpha": 0.5, "param.base_depth": 2}
    deep = [{"param": "completep", "param.without": "residual_multiplier"} | wide]
    found = states(shared, *mup, *deep, of="switch")["switch param.without"]
    assert found.startswith("pass none, hidden_lr, query_init, residual_multiplier (with param):")


def test_coordinates_pass_and_a_rule_switched_off_is_caught(states):
    for name, along in (("mup", ["width"]), ("completep", ["width", "depth"])):
        found = states({"param": name, "param.base_depth": 2}, of="coordinates")
        assert [check.split(",")[0] for check in found] == [f"coordinates over {one}" for one in along]
        assert all(evidence.startswith("pass") for evidence in found.values())
    for rule, scale in (("hidden_lr", 0.1), ("readout_lr", 0.1), ("readout_lr", 1.0)):
        broken = {"param": "mup", "param.without": rule, "param.readout_scale": scale}
        ((check, evidence),) = states(broken, of="coordinates").items()
        assert check == f"coordinates over width, mup full without {rule}"
        assert evidence.startswith("FAIL steepest slope")
    broken = {"param": "completep", "param.base_depth": 2, "param.without": "residual_multiplier"}
    width, depth = states(broken, of="coordinates").values()
    assert width.startswith("pass")
    assert depth.startswith("FAIL steepest slope")


def test_what_promises_nothing_is_shown_and_not_judged(states):
    assert states({}, of="coordinates")["coordinates over width, standard"].startswith("note steepest slope")
    arms = product({"param.without": ("none", "hidden_lr")})
    both = states({"param": "mup"}, *arms, of="coordinates")
    assert both["coordinates over width, mup full"].startswith("pass")
    assert "the study itself" in both["coordinates over width, mup full without hidden_lr"]


def test_counts_agree_and_a_wrong_count_is_caught(planned, monkeypatch):
    architectures = product({"model.norm_placement": ("pre", "peri"), "model.width": (16, 32)})
    asked = questions(planned({}, *architectures))["architectures"]
    assert [q["name"] for q in asked] == ["norm_placement=pre", "norm_placement=peri"]
    assert {check_counts(**q).state for q in asked} == {"pass"}
    real = preflight.flops_per_token
    monkeypatch.setattr(preflight, "flops_per_token", lambda *args, **sizes: real(*args, **sizes) * 1.02)
    assert check_counts(**asked[0]).state == "FAIL"
    monkeypatch.undo()
    real_counts = preflight.count_params

    def one_more(*args, **sizes):
        counts = real_counts(*args, **sizes)
        return dataclasses.replace(counts, groups=counts.groups | {"forgotten": 1})

    monkeypatch.setattr(preflight, "count_params", one_more)
    assert check_counts(**asked[0]).state == "FAIL"


def test_memory_is_compared_with_the_machines(planned, monkeypatch):
    argv = questions(planned({}))["largest"]
    assert check_memory(argv, 2, there=True).state == "pass"
    assert check_memory(argv, 2, there=False).state == "note"
    monkeypatch.setattr(preflight.hardware, "memory_bytes", lambda _: 10**5)
    assert check_memory(argv, 2, there=True).state == "FAIL"


def test_activations_are_counted_per_sequence(planned):
    """Twice the depth keeps about twice as much, and what is counted is no less than one block's own streams."""

    def kept(depth: int) -> float:
        evidence = check_memory(questions(planned({"model.depth": depth}))["largest"], 1, there=True).evidence
        return float(evidence.split("activations ")[1].split(" GB")[0]) * 1e9 / 8

    two, four = kept(2), kept(4)
    assert 1.5 < four / two < 2.5
    assert two > 2 * 16 * 16 * 4 * 8


def test_growth_is_tried_before_anything_is_trained(states, planned):
    base = TINY | {"model.depth": 2}
    deeper = grown(base, 3, {"model.depth": 4})
    wider = grown(base, 3, {"model.width": 32, "model.heads": 4, "grow.width": "learn"})
    found = list(states({}, deeper, deeper | {"optim.lr": 0.1}, wider, of="growth").values())
    assert len(found) == 2  # another learning rate is no other growth
    assert found[0].startswith("pass 2 blocks of width 16 to 4 blocks of width 16: depth stack")
    assert found[1].startswith("pass 2 blocks of width 16 to 2 blocks of width 32: width learn")

    asked = questions(planned({}, deeper))
    asked |= {kind: [] for kind in ("coordinates", "switches", "architectures", "timed")}
    (growth,) = asked["growths"]  # a plan refuses the impossible ones
    growth["argv"] = [word.replace("model.depth=4", "model.depth=5") for word in growth["argv"]]
    row = next(row for row in answers(asked) if row.get("check", "").startswith("growth"))
    assert (row["state"], row["evidence"][:30]) == ("FAIL", "model.depth: 5 is no multiple ")


def growing() -> list[GridPoint]:
    """A trunk with two decay branches, and a growth of each kind, one of a chain."""
    trunk = TINY | {"model.depth": 2, "schedule": "constant", "schedule.warmup": "30steps"}
    token = trunk | {"model.param_tokens": 16, "model.mlp_hidden": 32}
    going_on: GridPoint = {"grow.schedule": "continue", "grow.optimizer": "carry"}
    deeper = grown(trunk, 40, {"model.depth": 4, "train.duration": "50steps"})
    stacked = [
        grown(cell, step, going_on | {"schedule": "wsd", "schedule.cooldown": cooldown, "train.duration": cooldown})
        for cell, step, cooldown in ((trunk, 35, "20steps"), (trunk, 40, "40steps"), (deeper, 50, "9steps"))
    ]
    return [
        *stacked,
        grown(trunk, 40, {"model.depth": 4, "grow.depth": "learn"}),
        grown(trunk, 40, {"model.width": 32, "model.heads": 4, "grow.width": "learn"}),
        grown(trunk, 40, {"model.depth": 4, "grow.depth": "random", "grow.ramp": "5steps"}),
        grown(trunk, 40, {"model.depth": 4, "grow.depth": "pattern", "grow.pattern": "0,0,1,1"}),
        grown(token, 40, {"model.param_tokens": 32, "model.mlp_hidden": 64, "grow.width": "zero"}),
    ]


def flown(plan: Plan) -> dict[str, list[str]]:
    """What a preflight answers, all but coordinates, by state."""
    found: dict[str, list[str]] = {}
    for row in answers(questions(plan) | {"coordinates": []}):
        if "check" in row:
            found.setdefault(row["state"], []).append(f"{row['check']}: {row['evidence']}")
        elif "timed" in row:
            found.setdefault("timed", []).append(str(row["seconds"]))
    return found


def test_a_study_of_growth_has_no_failed_check(planned, monkeypatch):
    plan = planned({}, *growing())
    found = flown(plan)
    assert "FAIL" not in found
    assert len(found["timed"]) == 3
    assert [line.split(": ", 1)[1] for line in found["pass"] if line.startswith("growth")] == [
        "2 blocks of width 16 to 2 blocks of width 16: moments carried",
        "2 blocks of width 16 to 4 blocks of width 16: depth stack",
        "2 blocks of width 16 to 4 blocks of width 16: depth learn",
        "2 blocks of width 16 to 2 blocks of width 32: width learn",
        "2 blocks of width 16 to 4 blocks of width 16: depth random, faded in",
        "2 blocks of width 16 to 4 blocks of width 16: depth 0,0,1,1",
        "2 blocks of width 16 to 2 blocks of width 16: width zero",
    ]
    # A branch whose schedule is taken for that of a run from nothing cannot be built.
    monkeypatch.setattr("sweeps.preflight.alone", lambda run: list(run.overrides))
    failed = flown(planned({}, *growing()[:2]))["FAIL"]
    assert any(line.startswith("growth") and "'30steps' is 30 of 20 steps" in line for line in failed)
    assert any(line.startswith("throughput") and "after 30 of warm-up" in line for line in failed)


def test_growth_that_breaks_the_weights_or_the_moments_fails(planned, monkeypatch):
    asked = questions(planned({}, *growing()))["growths"]
    carried, deeper = asked[:2]
    assert {check_growth(**carried).state, check_growth(**deeper).state} == {"pass"}
    for part, broken in (("grow_state", deeper), ("grow_moments", carried)):
        real = getattr(growth, part)
        with monkeypatch.context() as patch:
            patch.setattr(growth, part, lambda *args, real=real, **how: _spoilt(real(*args, **how)))
            assert check_growth(**broken).state == "FAIL"


def _spoilt(tensors):
    return {k: _spoilt(v) if isinstance(v, dict) else v * float("nan") for k, v in tensors.items()}


def test_one_check_that_breaks_leaves_the_others(planned, monkeypatch):
    plan = planned({})
    whole = flown(plan)

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("no room\nat all")

    for name, line in (("check_counts", "counts "), ("seconds_per_step", f"throughput {plan.runs[0].run_id[:8]}")):
        with monkeypatch.context() as patch:
            patch.setattr(preflight, name, breaks)
            found = flown(plan)
            assert found["FAIL"] == [f"{line}: RuntimeError: no room"]
            assert sum(map(len, found.values())) == sum(map(len, whole.values()))


def test_a_cell_that_cannot_run_is_a_failed_check(planned):
    impossible = [*questions(planned({}))["largest"], "schedule.warmup=1000steps"]
    asked = questions(planned({}))
    asked |= {"architectures": [], "coordinates": [], "timed": []}
    asked["switches"] = [
        {"key": "x", "values": ["1", "2"], "bases": [], "nearest": [impossible, impossible], "together": ["y"]},
    ]
    row = next(row for row in answers(asked) if "check" in row)
    assert (row["check"], row["state"]) == ("switch x", "FAIL")


@pytest.mark.parametrize("without", ["none", pytest.param("hidden_lr", marks=pytest.mark.slow)])
def test_the_command_prints_a_table_and_its_status_says_what_failed(
    without: str, tmp_path: Path, cache_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [TINY | {"param": "mup", "param.without": without, "optim.lr": lr} for lr in (1e-3, 1e-2)]
    study = Study(name="fake/flight", claim="It flies.", cells=lambda _: cells)
    cache = ["--set", f"runtime.cache_dir={cache_dir}"]
    argv = ["preflight", study.name, "--profile", "smoke", "--runs-dir", str(tmp_path / "runs"), *cache]
    assert main(argv, studies={study.name: study}) == (0 if without == "none" else 1)
    lines = capsys.readouterr().out.splitlines()
    checks = [line.split()[:2] for line in lines[1:]]
    judged = "pass" if without == "none" else "FAIL"
    expected = ["coordinates", "switch", "counts", "memory", "throughput", "time"]
    assert checks == [[s, c] for s, c in zip([judged, "pass", "pass", "pass", "note", "note"], expected, strict=True)]
    assert not (tmp_path / "runs").exists()


def test_a_switch_is_tried_where_it_is_possible_and_else_in_the_studys_own_cells(states):
    shifts = [{"data.shift_every": "10steps", "data.shift_for": "8steps"}]
    shifts += [{"data.shift_every": "4steps", "data.shift_for": "2steps"}]
    found = states({}, *shifts, of="switch")
    assert found["switch data.shift_every"] == "pass 10steps, 4steps: the batches differ"
    sizes = [{"model.width": 32, "model.heads": 8}, {"model.width": 42, "model.heads": 7}]
    found = states({}, *sizes, of="switch")
    assert found["switch model.heads"] == "pass 8, 7 (with model.width): the logits at the start differ"


def test_questions_and_answers_are_json(planned):
    asked = json.loads(json.dumps(questions(planned({}, *product({"optim.lr": (1e-3, 1e-2)})))))
    rows = list(answers(asked))
    assert json.loads(json.dumps(rows)) == rows
    assert sum("timed" in row for row in rows) == len(asked["timed"]) == 1
