"""The questions that a plan leads to, and the time that the answers lead to."""

from __future__ import annotations

import subprocess

import pytest

from conf.compose import compose
from conf.schema import GrowConfig
from sweeps import __main__ as command_line
from sweeps import preflight as module
from sweeps.cells.graph import grown
from sweeps.cells.grid import product, zipped
from sweeps.cells.study import Study
from sweeps.plan.plan import make_plan
from sweeps.preflight import alone, questions, study_seconds, timed_runs
from sweeps.studies.registry import STUDIES
from train.timetable.cost import run_cost
from train.timetable.schedule import build_schedule

ONE = {"model.width": 32, "model.heads": 2, "train.duration": "10steps"}


def planned(tmp_path, *cells, profile="smoke"):
    return make_plan(Study("fake/flight", "", lambda _: [ONE | cell for cell in cells]), profile, runs_dir=tmp_path)


def switches(tmp_path, *cells):
    return {q["key"]: q for q in questions(planned(tmp_path, *cells))["switches"]}


def test_every_key_that_varies_is_asked_about_but_seeds_and_lengths(tmp_path):
    cells = product({"optim.lr": [1e-3, 1e-2], "seed": [0, 1], "train.duration": ["5steps", "9steps"]})
    cells += [{"eval.sequences": 8}, {"optim.clip": None}]
    asked = switches(tmp_path, *cells)
    assert asked.keys() == {"optim.lr", "optim.clip"}
    assert asked["optim.lr"]["values"] == ["0.001", "0.01"]
    assert asked["optim.clip"]["values"] == ["null", "the default"]


def test_the_cells_of_a_switch_differ_in_it_alone(tmp_path):
    asked = switches(tmp_path, *product({"optim.lr": [1e-3, 1e-2], "model.norm": ["rmsnorm", "layernorm"]}))
    for key, question in asked.items():
        assert question["bases"]
        for cells in question["bases"]:
            rest = [[text for text in argv if not text.startswith(f"{key}=")] for argv in cells]
            assert all(len(argv) == len(others) + 1 for argv, others in zip(cells, rest, strict=True))
            assert all(others == rest[0] for others in rest)


def test_a_default_that_is_spelt_out_is_no_switch(tmp_path):
    assert switches(tmp_path, {}, {"optim.beta1": 0.9}) == {}
    assert switches(tmp_path, {}, {"optim.beta1": 0.8}).keys() == {"optim.beta1"}


def test_values_that_need_each_other_come_from_the_studys_cells(tmp_path):
    """7 heads do not divide 32, and 32 is no multiple of 14."""
    asked = switches(tmp_path, *zipped({"model.width": [32, 42], "model.heads": [8, 7]}))
    assert asked["model.heads"]["bases"] == []
    assert asked["model.heads"]["together"] == ["model.width"]
    assert len(asked["model.heads"]["nearest"]) == 2


def test_a_default_in_other_words_is_no_switch(tmp_path):
    """A tenth of ten steps is one; of a run of twenty it would be two."""
    warm = {"schedule.warmup": "1steps"}
    other = {"schedule.warmup": "10%"}
    assert switches(tmp_path, other, other | {"seed": 1}) == {}
    default = compose([]).schedule.warmup
    assert default.endswith("%")
    length = {"train.duration": f"{round(100 / float(default[:-1]))}steps"}
    assert switches(tmp_path, length, length | warm) == {}
    assert switches(tmp_path, length, length | {"schedule.warmup": "2steps"}).keys() == {"schedule.warmup"}


def test_a_value_and_the_default_that_no_cell_can_have_both_come_from_the_studys_own(tmp_path):
    """Of ten steps, nine of warm-up leave no room for the default cool-down."""
    late = {"schedule": "wsd", "schedule.warmup": "9steps", "schedule.cooldown": "1steps"}
    asked = switches(tmp_path, {}, late)["schedule.cooldown"]
    assert (asked["values"], asked["bases"]) == (["1steps", "the default"], [])
    assert [compose(argv).schedule.shape for argv in asked["nearest"]] == ["wsd", compose([]).schedule.shape]
    assert asked["together"] == ["schedule", "schedule.warmup"]


def branches(*durations):
    trunk = ONE | {"schedule": "constant"}
    decay = {"schedule": "wsd", "grow.schedule": "continue", "grow.optimizer": "carry"}
    return [grown(trunk, 8, decay | {"schedule.cooldown": one, "train.duration": one}) for one in durations]


def test_a_branch_that_continues_is_asked_about_as_the_whole_run(tmp_path):
    plan = planned(tmp_path, *branches("4steps", "6steps"))
    (base, *others) = plan.runs
    assert [compose(alone(run)).train.duration for run in plan.runs] == ["10steps", "12steps", "14steps"]
    for run in others:
        config = compose(alone(run))
        assert config.grow == GrowConfig()
        whole = run_cost(config, 256)
        schedule = build_schedule(config.schedule, peak=1.0, cost=whole)
        own = build_schedule(run.config.schedule, peak=1.0, cost=run.cost)
        assert [schedule(8 + step) for step in range(run.cost.n_steps)] == [own(s) for s in range(run.cost.n_steps)]
    assert "train.keep=8" in " ".join(base.overrides).replace("'", "")
    assert not [word for run in plan.runs for word in alone(run) if word.startswith(("grow.", "train.keep"))]


def test_each_growth_is_asked_about_once_and_all_decays_together(tmp_path):
    trunk = ONE | {"model.depth": 2}
    deep = {"model.depth": 4}
    cells = [
        *(grown(trunk, 8, {"train.duration": duration}) for duration in ("4steps", "6steps")),
        *(grown(trunk, step, deep | {"optim.lr": lr}) for step in (5, 8) for lr in (1e-3, 1e-2)),
        grown(trunk, 8, deep | {"grow.depth": "zero"}),
        *(grown(trunk, 8, deep | {"grow.noise": noise}) for noise in (0.1, 0.2)),
        grown(trunk, 8, {"model.depth": 6}),
        grown(trunk, 8, {"grow.noise": 0.1}),
    ]
    asked = questions(planned(tmp_path, *cells))["growths"]
    grows = [compose(q["argv"]) for q in asked]
    assert [(one.model.depth, one.grow.depth, one.grow.noise) for one in grows] == [
        (2, "stack", 0.0),
        (4, "stack", 0.0),
        (4, "zero", 0.0),
        (4, "stack", 0.1),
        (6, "stack", 0.0),
        (2, "stack", 0.1),
    ]


def test_the_coordinate_check_widens_the_base_at_the_smallest_depth(tmp_path):
    cells = product({"param": ["mup"], "param.base_width": [64], "model.depth": [3, 2], "model.heads": [2]})
    (asked,) = questions(planned(tmp_path, *cells))["coordinates"]
    configs = [compose(argv) for argv in asked["cells"]]
    assert asked["excuse"] == ""
    assert [c.model.width for c in configs] == asked["sizes"] == [64, 128, 256]
    assert {c.model.depth for c in configs} == {2}
    assert {c.model.head_dim for c in configs} == {16}
    assert len({repr(c.param) for c in configs}) == 1
    assert questions(planned(tmp_path, {"model.depth": 0}))["coordinates"] == []


def test_a_parametrisation_that_scales_depth_is_deepened_at_the_base_width(tmp_path):
    cell = {"param": "completep", "param.base_width": 32, "param.base_depth": 3, "model.width": 64, "model.heads": 4}
    width, depth = questions(planned(tmp_path, cell))["coordinates"]
    assert (width["along"], depth["along"]) == ("width", "depth")
    configs = [compose(argv) for argv in depth["cells"]]
    assert [c.model.depth for c in configs] == depth["sizes"] == [3, 6, 12]
    assert {(c.model.width, c.model.head_dim) for c in configs} == {(32, 16)}


def test_the_coordinate_check_names_each_parametrisation_apart(tmp_path):
    cells = [
        {"param": "mup", "param.base_width": w, "param.without": r} for w in (16, 32) for r in ("none", "hidden_lr")
    ]
    asked = questions(planned(tmp_path, {}, *cells))["coordinates"]
    rules = [f"mup full{without} base_width={w}" for w in (16, 32) for without in ("", " without hidden_lr")]
    assert sorted(q["name"] for q in asked) == sorted(["standard", *rules])


def test_the_time_is_the_plans_where_the_machine_is_as_fast_as_it_assumes(tmp_path):
    plan = planned(tmp_path, *zipped({"model.width": [32, 64, 128], "model.heads": [2, 4, 8]}))
    assert [run.config.model.width for run in timed_runs(plan)] == [32, 64, 128]

    def steps(times):
        pace = plan.capacity.speed
        return [
            (run, times * (run.cost.flops / run.cost.n_steps / pace.flops_per_second + pace.step_seconds))
            for run in timed_runs(plan)
        ]

    once, twice = study_seconds(plan, steps(1)), study_seconds(plan, steps(2))
    trained = [run.seconds - plan.capacity.speed.run_seconds for run in plan.runs]
    assert once == pytest.approx([t + plan.capacity.speed.run_seconds for t in trained], rel=1e-6)
    assert [b - plan.capacity.speed.run_seconds for b in twice] == pytest.approx([2 * t for t in trained], rel=1e-6)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_questions_that_compose(name, tmp_path):
    asked = questions(make_plan(STUDIES[name], "cpu", runs_dir=tmp_path))
    assert asked["architectures"]
    assert 1 <= len(asked["timed"]) <= 3
    every = [argv for q in asked["coordinates"] for argv in q["cells"]]
    every += [argv for q in asked["switches"] for cells in q["bases"] for argv in cells if argv]
    for argv in every:
        compose(argv)


def test_a_process_that_dies_is_a_failed_check(tmp_path, monkeypatch, capsys):
    real = subprocess.Popen
    monkeypatch.setattr(
        module.subprocess, "Popen", lambda _, **how: real(["sh", "-c", "cat >/dev/null; exit 3"], **how)
    )
    study = Study("fake/flight", "", lambda _: [ONE])
    argv = ["preflight", study.name, "--runs-dir", str(tmp_path / "runs")]
    assert command_line.main(argv, studies={study.name: study}) == 1
    assert "FAIL  preflight" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
