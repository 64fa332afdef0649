"""`python -m analysis growth` on records of a known truth: a power law from scratch, and growth worth some compute."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import main
from analysis.growth.gain import COLUMNS, compare_with_scratch, loss_at
from analysis.growth.plot import plot_growth
from analysis.growth.speed_up import SCRATCH
from analysis.tables.lineage import trace, with_bases
from analysis.tables.runs import runs_matching
from conf.compose import to_config, to_yaml
from conf.config import Config, resolve
from conf.identity import run_id
from train.record.metrics_file import MetricsWriter
from train.record.run import run_dir, write_run

FULL = 1e12  # FLOPs
BASE = 5e10  # FLOPs of the base when it is left
STEP = 1e8  # FLOPs of a step of the target
N_ROWS = 8
SEEDS = (0, 1, 2)
Settings = dict[str, Any]


def power_law(flops: float, seed: int = 0) -> float:
    """A seed has a level of its own."""
    return float(3 * (1 + 0.02 * seed) * (flops / FULL) ** -0.1)


class Lab:
    """Writes run folders with records as a trainer leaves them."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir

    def write(self, flops: float, loss: float, *, inherited: float = 0.0, record: Settings | None = None,
              **groups: Any) -> str:  # fmt: skip
        """A run that ends at `flops`; returns its id.

        Args:
            inherited: FLOPs of what it starts from.
            groups: settings of a group, such as `optim={"lr": 1e-3}`, or `seed`.
        """
        steps = max(1, round((flops - inherited) / STEP))
        wanted: Settings = {
            "study": "lab",
            "model": {"depth": 8, "width": 32, "heads": 2},
            "schedule": {"shape": "wsd"},
            "train": {"duration": f"{steps}steps"},
            "runtime": {"runs_dir": str(self.runs_dir)},
        }
        for name, value in groups.items():
            wanted[name] = wanted.get(name, {}) | value if isinstance(value, dict) else value
        config: Config = resolve(to_config(wanted), cuda=False)
        folder = run_dir(config)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(to_yaml(config))
        writer = MetricsWriter(folder, after_step=0)
        for share in np.linspace(0, 1, N_ROWS):
            spent = inherited + share * (flops - inherited)
            row = {"step": round(share * steps), "flops": spent, "lr": 1e-3, "train_loss": loss + 1 - share}
            writer.append(row | {"val_loss": loss + 1 - share})
        writer.close()
        grown = config.grow.base is not None
        write_run(
            folder,
            {
                "run_id": run_id(config),
                "study": "lab",
                "seed": config.seed,
                "state": "finished",
                "val_loss": loss,
                "val_loss_se": 0.01,
                "loss_at_init": 5.5,
                "seconds": 1.0,
                "data_fingerprint": "d" * 64,
                "n_steps": steps,
                "n_steps_inherited": (config.grow.step or 0) if grown else 0,
                "n_tokens": round(flops),
                "n_tokens_inherited": round(inherited),
                "flops": round(flops),
                "flops_inherited": round(inherited),
                "flops_per_token": round(STEP),
                "tokens_per_step": 1,
            }
            | (record or {}),
        )
        return run_id(config)

    def scratch(self, *budgets: float, seed: int = 0, worth: float = 1.0, **groups: Any) -> list[str]:
        return [self.write(flops, power_law(worth * flops, seed), seed=seed, **groups) for flops in budgets]

    def base(self, seed: int = 0, depth: int = 2, **groups: Any) -> str:
        model = {"depth": depth}
        return self.write(BASE, 3.9, seed=seed, model=model, **({"schedule": {"shape": "constant"}} | groups))

    def grown(self, base: str, flops: float, *, seed: int = 0, worth: float = 1.3, how: Settings | None = None,
              inherited: float = BASE, **groups: Any) -> str:  # fmt: skip
        """A run grown out of `base` at step 200, with the loss of scratch at `worth` times its FLOPs."""
        grow = {"base": base, "step": 200} | (how or {})
        return self.write(flops, power_law(worth * flops, seed), inherited=inherited, seed=seed, grow=grow, **groups)

    def compared(self) -> pl.DataFrame:
        traced = trace(with_bases(runs_matching([str(self.runs_dir)])))
        return compare_with_scratch(traced, traced)

    def run(self, *options: str) -> int:
        return main(["growth", "--runs", str(self.runs_dir), *options])


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "runs")


def of_grown(compared: pl.DataFrame) -> pl.DataFrame:
    return compared.filter(pl.col("arm") != SCRATCH)


def error_of(lab: Lab, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line of a mistake."""
    assert lab.run(*options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


# --- the numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("worth", [1.3, 1.0, 0.8])
def test_growth_worth_so_much_compute_is_found_exactly(
    lab: Lab, worth: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in SEEDS:
        lab.scratch(2e11, 5e11, 1e12, seed=seed)
        lab.grown(lab.base(seed), 5e11, seed=seed, worth=worth)
    assert lab.run("--out", str(tmp_path / "growth.csv")) == 0
    rows = pl.read_csv(tmp_path / "growth.csv", schema_overrides={"run_id": pl.String})
    assert rows.columns == list(COLUMNS)
    assert len(rows) == 12
    grown = of_grown(rows)
    assert grown["arm"].unique().to_list() == ["2x32 -> 8x32 depth stack at step 200"]
    assert grown["base_flops"].to_list() == [BASE] * 3
    assert grown["scratch_seed"].to_list() == ["own"] * 3
    for run in grown.iter_rows(named=True):
        same = power_law(5e11, run["seed"])
        assert run["speedup"] == pytest.approx(worth - 1, abs=1e-9)
        assert run["scratch_loss"] == pytest.approx(same)
        assert run["gap"] == pytest.approx(same - power_law(worth * 5e11, run["seed"]), abs=1e-12)
    printed = capsys.readouterr().out
    assert "3 grown runs against 9 from scratch" in printed
    assert "3 of 15 runs left out: 3 not annealed" in printed
    assert f"{worth - 1:+z.1%} ± 0.0%" in printed  # every seed's level is in both of its runs
    assert "50G (10%)" in printed
    assert "warning" not in printed


def test_scratch_is_interpolated_between_budgets_and_not_beyond() -> None:
    flops, loss = np.array([1e11, 4e11]), np.array([power_law(1e11), power_law(4e11)])
    assert loss_at(flops, loss, 2e11, slack=0) == pytest.approx(power_law(2e11))
    assert loss_at(flops, loss, 4.01e11, slack=0) is None
    assert loss_at(flops, loss, 0.99e11, slack=0) is None
    assert loss_at(flops, loss, 4.01e11, slack=2e9) == pytest.approx(loss[1])


def test_the_interval_is_over_seeds_and_a_single_seed_has_none(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, worth in zip(SEEDS, (1.2, 1.3, 1.4), strict=True):
        lab.scratch(2e11, 1e12, seed=seed)
        lab.grown(lab.base(seed), 5e11, seed=seed, worth=worth)
    assert lab.run() == 0
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert f"+30.0% ± {half:.1%}" in capsys.readouterr().out
    assert lab.run("--where", "seed = 0") == 0
    printed = capsys.readouterr().out
    assert "+20.0%" in printed
    assert "+20.0% ±" not in printed


def test_a_seed_that_scratch_lacks_is_compared_with_the_others(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        lab.scratch(2e11, 1e12, seed=seed)
    lab.grown(lab.base(2), 5e11, seed=2)
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert run["scratch_seed"] == "others"
    assert run["scratch_loss"] == pytest.approx((power_law(5e11, 0) + power_law(5e11, 1)) / 2)
    assert run["speedup"] != pytest.approx(0.3, abs=0.05)  # the levels of seeds do not cancel
    assert lab.run() == 0
    assert "warning: 1 run is compared with other seeds" in capsys.readouterr().out


@pytest.mark.parametrize(("worth", "bound", "end"), [(4.0, "at least", 1.0), (0.2, "at most", -0.6)])
def test_beyond_what_scratch_reached_a_speed_up_is_a_bound(
    lab: Lab, worth: float, bound: str, end: float, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.scratch(2e11, 1e12)
    lab.grown(lab.base(), 5e11, worth=worth)
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert (run["bound"], run["speedup"]) == (bound, pytest.approx(end))
    assert run["gap"] == pytest.approx(power_law(5e11) - power_law(worth * 5e11))  # is measured all the same
    assert lab.run() == 0
    assert f"{bound} {end:+.1%}" in capsys.readouterr().out


def test_seeds_bounded_on_both_sides_have_no_speed_up(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, worth in ((0, 1.3), (1, 0.8)):
        lab.scratch(5e11, seed=seed)
        lab.grown(lab.base(seed), 5e11, seed=seed, worth=worth)
    assert lab.run() == 0
    assert "bounded both ways" in capsys.readouterr().out


# --- what is compared with what --------------------------------------------------------------------------


def test_without_scratch_at_its_flops_a_run_has_a_dash_and_words(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    base = lab.base()
    lab.grown(base, 5e11)
    assert lab.run() == 0
    assert "1 run without a loss from scratch: no run of 8x32 from scratch that has finished" in capsys.readouterr().out
    lab.scratch(1e11, 2e11)
    assert lab.run() == 0
    printed = capsys.readouterr().out
    assert "8x32 from scratch with seed 0 was measured from 100G to 200G FLOPs only" in printed
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert (run["scratch_loss"], run["gap"], run["bound"]) == (None, None, "at least")
    lab.scratch(5e11 - STEP)  # as near as whole steps come
    assert of_grown(lab.compared())["gap"].null_count() == 0


def test_other_data_and_other_sizes_are_never_compared(lab: Lab) -> None:
    lab.scratch(2e11, 1e12, data={"val_fraction": 0.1})
    lab.scratch(2e11, 1e12, model={"depth": 4})
    lab.scratch(2e11, 1e12, record={"data_fingerprint": "e" * 64}, optim={"beta2": 0.99})
    lab.grown(lab.base(), 5e11)
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert run["missing"] == "the runs of 8x32 from scratch have other data or validation windows"
    assert run["against"] is None


def test_scratch_of_the_same_settings_is_preferred_and_other_settings_are_a_warning(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.grown(lab.base(), 5e11, optim={"lr": 1e-2})
    lab.scratch(2e11, 1e12, worth=0.5, optim={"lr": 1e-3, "beta2": 0.99})
    near = lab.scratch(2e11, 5e11, 1e12, worth=0.9, optim={"lr": 1e-3})
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert run["against"].split() == near
    assert lab.run() == 0
    assert "1 run and scratch differ in more than growth: optim.lr 0.01 (scratch 0.001)" in capsys.readouterr().out
    other: Settings = {"schedule": {"shape": "wsd", "warmup": "3steps", "cooldown": "40%"}, "eval": {"every": "50%"}}
    alike = lab.scratch(2e11, 1e12, optim={"lr": 1e-2}, probe={"every": "10%"}, **other)
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert (run["against"].split(), run["differing"]) == (alike, None)
    assert run["speedup"] == pytest.approx(0.3)


def test_of_settings_equally_near_the_best_scratch_counts(lab: Lab) -> None:
    lab.scratch(5e11, worth=0.9, optim={"lr": 1e-3})
    best = lab.scratch(5e11, worth=1.2, optim={"lr": 4e-3})
    lab.grown(lab.base(), 5e11, optim={"lr": 2e-3})
    run = of_grown(lab.compared()).row(0, named=True)
    assert run["against"].split() == best
    assert run["differing"] == "optim.lr 0.002 (scratch 0.004)"


def test_a_decay_that_changed_where_it_branched_off_is_no_run_from_scratch(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trunk at another rate, or moments that were dropped, would pass for a bad run from scratch."""
    honest = lab.scratch(5e11)
    carried = {"schedule": "continue", "optimizer": "carry"}
    for how, lr in ((carried, 1e-4), ({"schedule": "continue"}, 1e-3)):
        trunk = lab.write(4e11, 3.3, schedule={"shape": "constant"}, optim={"lr": lr})
        grow = {"base": trunk, "step": 3000, **how}
        lab.write(5e11, power_law(1e11), inherited=3e11, grow=grow, optim={"lr": 1e-3})
    lab.grown(lab.base(), 5e11)
    assert of_grown(lab.compared())["against"].to_list() == honest
    assert lab.run() == 0
    assert "2 with other moments or settings than their trunk" in capsys.readouterr().out


def test_runs_without_a_loss_after_a_decay_are_counted(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    base = lab.base()
    lab.scratch(2e11, 1e12)
    lab.grown(base, 5e11)
    ends = {
        "diverged": {"state": "diverged", "diverged_at_step": 3},
        "running": {"state": "running"},
        "failed": {"state": "failed", "error": "no memory"},
    }
    for k, end in enumerate(ends.values(), start=1):
        lab.grown(base, 5e11, optim={"lr": k * 1e-4}, record=end)
    assert lab.run() == 0
    assert "4 of 7 runs left out: 1 diverged, 1 failed, 1 not annealed, 1 unfinished" in capsys.readouterr().out


def test_a_decay_that_branches_off_belongs_to_the_growth_of_its_trunk(lab: Lab) -> None:
    trunk = lab.grown(lab.base(), 6e11, schedule={"shape": "constant"})
    goes_on = {"base": trunk, "step": 300, "schedule": "continue", "optimizer": "carry", "depth": "zero"}
    lab.write(5e11, power_law(1.3 * 5e11), inherited=4e11, grow=goes_on)
    lab.scratch(2e11, 1e12)
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert (run["arm"], run["base_flops"]) == ("2x32 -> 8x32 depth stack at step 200", BASE)
    assert run["speedup"] == pytest.approx(0.3)


# --- arms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"depth": "interpolate"}, "depth interpolate at step 200"),
        ({"depth": "random", "ramp": "30steps"}, "depth random at step 200, ramp 30steps"),
        ({"noise": 0.2}, "depth stack at step 200, noise 0.2"),
        ({"optimizer": "carry"}, "depth stack at step 200, optimizer carry"),
        ({"step": 300, "schedule": "continue"}, "depth stack at step 300, schedule continue"),
        ({"depth": "learn", "learn_steps": 7}, "depth learn at step 200, learn_steps 7"),
    ],
)
def test_an_arm_is_told_by_how_it_grew(lab: Lab, how: Settings, words: str) -> None:
    lab.grown(lab.base(), 5e11, how=how)
    assert of_grown(lab.compared())["how"].to_list() == [words]


def test_arms_that_read_alike_are_told_apart_by_their_settings(lab: Lab) -> None:
    base = lab.base()
    for seed in (0, 1):
        lab.grown(base, 5e11, seed=seed)
        lab.grown(base, 5e11, seed=seed, optim={"lr": 1e-4})
    assert of_grown(lab.compared())["how"].unique().sort().to_list() == [
        "depth stack at step 200, optim.lr 0.0001",
        "depth stack at step 200, optim.lr 0.003",
    ]
    lab.grown(lab.base(optim={"beta2": 0.9}), 5e11)
    assert of_grown(lab.compared())["how"].n_unique() == 3


def test_one_arm_may_decay_for_longer_at_a_larger_budget_but_not_for_two_lengths_at_one(lab: Lab) -> None:
    base = lab.base()
    for flops, decay in ((4e11, "10steps"), (5e11, "20steps")):
        lab.grown(base, flops, schedule={"shape": "wsd", "cooldown": decay})
    assert of_grown(lab.compared())["arm"].n_unique() == 1
    lab.grown(base, 5e11, schedule={"shape": "wsd", "cooldown": "90steps"})
    assert of_grown(lab.compared())["arm"].n_unique() == 3


def test_growth_in_stages_names_each_of_them(lab: Lab) -> None:
    middle = lab.grown(lab.base(), 2e11, model={"depth": 4}, schedule={"shape": "constant"})
    lab.grown(middle, 5e11, inherited=1e11, how={"depth": "zero"}, model={"width": 32})
    (run,) = of_grown(lab.compared()).rows(named=True)
    assert run["grown"] == "2x32 -> 4x32 -> 8x32"
    assert run["how"] == "depth stack at step 200, then depth zero at step 200"
    assert run["base_flops"] == 1e11


# --- options and mistakes --------------------------------------------------------------------------------


def test_where_keeps_runs_but_never_loses_a_base(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.scratch(2e11, 1e12)
    base = lab.base()
    lab.grown(base, 5e11)
    lab.grown(base, 5e11, how={"depth": "zero"})
    assert lab.run("--where", "growth is null or grow.depth = 'zero'", "--where", "model.depth = 8") == 0
    printed = capsys.readouterr().out
    assert "1 grown run against 2" in printed
    assert "depth zero" in printed
    assert "stack" not in printed


def test_the_picture_draws_each_arm_and_a_shared_trunk_once(lab: Lab, tmp_path: Path) -> None:
    for seed in SEEDS:
        (trunk,) = lab.scratch(9e11, seed=seed, schedule={"shape": "constant"})
        for flops in (5e11, 1e12):
            start = round((flops - 1e11) / STEP)
            goes_on = {"base": trunk, "step": start, "schedule": "continue", "optimizer": "carry"}
            lab.write(flops, power_law(flops, seed), inherited=flops - 1e11, seed=seed, grow=goes_on)
        lab.grown(lab.base(seed), 6e11, seed=seed)
    assert lab.run("--plot", str(tmp_path / "growth.png")) == 0
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")

    traced = trace(with_bases(runs_matching([str(lab.runs_dir)])))
    (axes,) = plot_growth(traced, compare_with_scratch(traced, traced)).axes
    named = [text.get_text() for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert named[-2:] == [SCRATCH, "depth stack at step 200"]
    assert axes.get_title() == "2×32 → 8×32"
    black = [line for line in axes.get_lines() if line.get_color() == "#000000" and line.get_linestyle() == "-"]
    drawn = [float(x) for line in black for x in np.asarray(line.get_xdata())]
    assert len(drawn) > 2 * N_ROWS
    (left_at,) = {x for x in drawn if drawn.count(x) > 1}  # the trunk's last row before the short decay
    assert 4e11 - 9e11 / N_ROWS < left_at <= 4e11


def test_mistakes_are_one_line_and_lose_nothing(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.scratch(2e11, 1e12)
    out = tmp_path / "growth.csv"
    out.write_text("old")
    assert "none of 2 runs has grown out of another one" in error_of(lab, capsys, "--out", str(out))
    base = lab.base()
    lab.grown(base, 5e11, schedule={"shape": "constant"})
    lab.grown(base, 5e11, record={"state": "diverged", "diverged_at_step": 3})
    error = error_of(lab, capsys, "--out", str(out))
    assert "none of 2 grown runs has finished with a decay" in error
    assert "1 diverged, 1 not annealed" in error
    assert "ends in .png" in error_of(lab, capsys, "--plot", str(tmp_path / "growth.txt"))
    assert "no folder" in error_of(lab, capsys, "--out", str(tmp_path / "none" / "growth.csv"))
    assert "--where" in error_of(lab, capsys, "--where", "no_column = 1")
    assert out.read_text() == "old"
    assert main(["growth", "--runs", str(tmp_path / "nothing")]) == 2
    assert main(["growth"]) == 2
    assert main(["growth", "--study", "never/planned", "--runs-dir", str(tmp_path)]) == 2


def test_a_base_that_is_gone_is_one_line(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    base = lab.base()
    lab.grown(base, 5e11)
    folder = lab.runs_dir / "lab" / base
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert re.search(rf"grow\.base: {base}, which .* is no run under", error_of(lab, capsys))
