"""The curve of a run that continues another is that of the run from scratch; one that grew or restarted has none."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.tables import select
from analysis.tables.csv import TableError
from analysis.tables.curves import Curves, trajectories
from analysis.tables.lineage import with_bases
from analysis.tables.run_curves import curves_of_runs
from analysis.tables.runs import read_curves, read_runs
from conf.config import Config
from conf.identity import run_id
from tests.analysis.helpers import write_ladder
from train.record.run import read_run, run_dir, write_run
from train.run import run

Grown = Callable[..., dict[str, Path]]

COMMON = ("schedule.warmup=4steps", "eval.every=4steps", "optim.lr=1e-2")
WSD = (*COMMON, "schedule=wsd", "schedule.cooldown=8steps")
CONTINUED = ("grow.schedule=continue", "grow.optimizer=carry")


def growing(base: Config, step: int, *overrides: str) -> tuple[str, ...]:
    return f"grow.base={run_id(base)}", f"grow.step={step}", *overrides


@pytest.fixture
def grown(tiny: Callable[..., Config]) -> Grown:
    """Makes runs of 20 steps in all under one schedule, from scratch, in two parts and in three; and ones that are not.
    Each name comes after those of its bases."""
    long = "train.duration=8steps"
    trunk = tiny(*COMMON, "schedule=constant", "train.keep='8,12'")
    along = tiny(*COMMON, "schedule=constant", *growing(trunk, 8, *CONTINUED), long, "train.keep='4'")
    configs = {
        "trunk": trunk,
        "scratch": tiny(*WSD),
        "branch": tiny(*WSD, *growing(trunk, 12, *CONTINUED), long),
        "along": along,
        "twig": tiny(*WSD, *growing(along, 4, *CONTINUED), long),
        "restarted": tiny(*WSD, *growing(trunk, 12, "grow.optimizer=carry"), "train.duration=20steps"),
        "deeper": tiny(*WSD, *growing(trunk, 12, "grow.schedule=continue"), long, "model.depth=4"),
        "dropped": tiny(*WSD, *growing(trunk, 12, "grow.schedule=continue"), long),
        "noisy": tiny(*WSD, *growing(trunk, 12, *CONTINUED, "grow.noise=0.1"), long),
        "rebatched": tiny(*WSD, *growing(trunk, 12, *CONTINUED), long, "train.batch_size=16"),
    }

    def make(*names: str) -> dict[str, Path]:
        for name in names:
            run(configs[name])
        return {name: run_dir(configs[name]) for name in names}

    return make


def test_the_curve_of_a_run_in_parts_is_that_of_the_run_from_scratch(grown: Grown) -> None:
    folders = grown("trunk", "scratch", "branch", "along", "twig")
    names = ("scratch", "branch", "twig", "trunk")
    points, schedules, left_out = curves_of_runs([folders[name] for name in names])
    assert left_out == ()
    same = ("step", "lr", "loss", "n_tokens", "flops", "n_params", "batch_tokens", "state")
    rows, rates = (
        {name: table.filter(pl.col("curve") == folders[name].name) for name in names} for table in (points, schedules)
    )
    assert rows["scratch"]["step"].to_list() == [4, 8, 12, 16, 20]
    for name in ("branch", "twig"):
        assert rows[name].select(same).equals(rows["scratch"].select(same))
        assert rates[name].drop("curve").equals(rates["scratch"].drop("curve"))
    assert not rows["trunk"].select(same).equals(rows["scratch"].select(same))
    assert (points["batch_tokens"] * points["step"] == points["n_tokens"]).all()
    parts = [folders[name].name for name in ("trunk", "trunk", "along", "twig", "twig")]
    assert rows["twig"]["measured_by"].to_list() == parts
    one = {curve.curve: curve.lr_T.tolist() for curve in trajectories(Curves(points, schedules))}
    assert one[folders["twig"].name] == one[folders["scratch"].name] != one[folders["trunk"].name]

    # Its own rows alone are another curve.
    alone = read_curves([folders["branch"]]).drop_nulls("val_loss").filter(pl.col("step") > 0)
    assert alone["step"].to_list() == [4, 8]


def test_what_is_no_run_of_one_model_and_schedule_has_no_curve(
    grown: Grown, capsys: pytest.CaptureFixture[str]
) -> None:
    even, odd = ("trunk", "branch"), ("restarted", "deeper", "dropped", "noisy", "rebatched")
    folders = grown(*even, *odd)
    points, schedules, left_out = curves_of_runs(list(folders.values()))
    assert left_out == tuple(folders[name].name for name in odd)
    for table in (points, schedules):
        assert set(table["curve"]) == {folders[name].name for name in even}
    with pytest.raises(TableError, match="no run has a curve from its first step on"):
        curves_of_runs([folders[name] for name in odd])

    main(["fit", "lr_annealing", "--runs", *(str(folders[name]) for name in (*odd, "branch")), "--bootstrap", "0"])
    said = capsys.readouterr().err
    assert "5 runs of 6 left out: grown from another model, or its schedule or moments restarted" in said
    main(["fit", "lr_annealing", "--runs", str(folders["branch"]), "--bootstrap", "0"])
    assert "left out" not in capsys.readouterr().err


def test_a_base_is_found_in_another_study_and_its_lack_is_one_line(grown: Grown) -> None:
    trunk, branch = grown("trunk", "branch").values()
    whole = curves_of_runs([branch])[0]
    study = branch.parent
    for far in (study.parent / "other" / "study" / trunk.name, study.parent.parent / "elsewhere" / trunk.name):
        far.parent.mkdir(parents=True)
        shutil.move(next(folder for folder in (trunk, *study.parent.rglob(trunk.name)) if folder.exists()), far)
        if far.is_relative_to(study.parent):
            assert curves_of_runs([branch])[0].drop("folder").equals(whole.drop("folder"))
            assert [Path(folder).name for folder in with_bases([branch])["folder"]] == [branch.name, trunk.name]
    with pytest.raises(TableError, match=f"^grow.base: {trunk.name}, which .*{branch.name} starts from, is no run"):
        curves_of_runs([branch])


def test_a_run_from_scratch_is_as_its_record_has_it(tmp_path: Path) -> None:
    """Whatever its folder is called."""
    folders = write_ladder(tmp_path, widths=(32,), ratios=(10, 20), steps=20)
    folders[0] = folders[0].rename(folders[0].with_name("best"))
    points, schedules, _ = curves_of_runs(folders)
    rows = read_curves(folders)
    assert schedules.equals(rows.select("curve", "step", "lr"))
    measured = rows.drop_nulls("val_loss")
    names = {"val_loss": "loss", "tokens": "n_tokens"}
    columns = ("curve", "step", "lr", "loss", "n_tokens", "flops")
    assert points.select(columns).equals(measured.rename(names).select(columns))
    assert points["curve"].unique(maintain_order=True).to_list() == ["best", folders[1].name]


def test_the_largest_run_is_told_by_all_the_tokens_of_its_weights(grown: Grown) -> None:
    """A branch's few steps of its own do not make it a short run, not even where it broke."""
    folders = grown("trunk", "scratch", "branch", "rebatched")
    branch = folders["branch"]
    record = read_run(branch) or {}
    lost = ("val_loss", "n_tokens", "n_tokens_own", "n_tokens_inherited", "flops_inherited")
    write_run(branch, {k: v for k, v in record.items() if k not in lost} | {"state": "failed", "error": "x"})
    runs = read_runs([folders[name] for name in ("scratch", "branch", "rebatched")])
    planned = dict(zip(runs["run_id"], runs["n_tokens_planned"], strict=True))
    step = 8 * 16
    assert list(planned.values()) == [20 * step, 20 * step, (12 + 2 * 8) * step]
    assert runs["n_tokens"].to_list() == [20 * step, None, 28 * step]
    others, held = select.hold_out_largest(runs.filter(pl.col("run_id") != folders["rebatched"].name))
    assert (len(others), len(held)) == (0, 2)
    assert (runs["n_steps"] * runs["tokens_per_step"]).to_list() == [20 * step, 8 * step, 16 * step]  # its own alone
