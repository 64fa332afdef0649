"""Differences over pairs of runs: what pairs, honest intervals and power, looks that do not add up errors, and one
comparison that adds real seeds until it decides."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.__main__ import main
from analysis.difference.difference import (
    Units,
    detectable_effect,
    difference,
    interval_of,
    judge,
    missing_seeds,
    plan_looks,
    pocock_level,
    power,
    units_of,
)
from analysis.difference.pairs import Pairs, pair_runs, read_side
from analysis.difference.plot import plot_difference
from analysis.difference.top_up import Arms, Budget, decide
from analysis.tables.csv import TableError, where
from analysis.tables.runs import read_runs, runs_matching
from conf.compose import to_config, to_yaml
from conf.config import resolve
from conf.identity import run_id
from train.__main__ import main as train
from train.record.manifest import Manifest
from train.record.run import read_run, run_dir, write_run

SEEDS = range(6)


def write_arm(
    runs_dir: Path,
    study: str,
    *,
    gain: float = 0.0,
    noise: float = 0.002,
    common: float = 0.03,
    seeds: Sequence[int] = SEEDS,
    lrs: Sequence[float] = (0.003,),
    data: str = "d" * 64,
    diverged: Sequence[int] = (),
    failed: Sequence[int] = (),
    record: dict[str, Any] | None = None,
    **model: Any,
) -> list[Path]:
    """Records of runs whose loss is 2 + a draw that both arms of a seed share - gain + a draw of their own.

    Args:
        noise, common: standard deviations of the own and of the shared draw, nats.
        record: changes every record.
        model: settings of the group `model`.
    """
    settings = {"study": study, "model": {"width": 32, "heads": 4, **model}, "runtime": {"runs_dir": str(runs_dir)}}
    base = resolve(to_config(settings), cuda=False)
    folders = []
    for place, lr in enumerate(lrs):
        for seed in seeds:
            draws = [
                np.random.default_rng([seed, place, *key]).standard_normal() for key in ((), tuple(study.encode()))
            ]
            loss = 2 + 0.1 * place + common * draws[0] - gain + noise * draws[1]
            config = dataclasses.replace(base, seed=seed, optim=dataclasses.replace(base.optim, lr=lr))
            folder = run_dir(config)
            folders.append(folder)
            if folder.exists():
                continue
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(to_yaml(config))
            ends: dict[str, Any] = {"state": "finished", "val_loss": loss, "val_loss_se": 0.02, "seconds": 1.0}
            if seed in diverged:
                ends = {"state": "diverged", "diverged_at_step": 7, "seconds": 1.0}
            if seed in failed:
                ends = {"state": "failed", "error": "no memory"}
            same = {"run_id": run_id(config), "study": study, "seed": seed, "data_fingerprint": data}
            write_run(folder, same | {"loss_at_init": 5.5} | ends | (record or {}))
    return folders


def paired(a: Sequence[Path], b: Sequence[Path]) -> Pairs:
    frames = [read_runs(folders) for folders in (a, b)]
    return pair_runs(*(read_side(frame, "val_loss") for frame in frames))


def one_block(d_U: Any, a_U: Any = None) -> Units:
    """Units of one cell with these differences."""
    d_U = np.asarray(d_U, dtype=float)
    a_U = np.full(len(d_U), 2.0) if a_U is None else a_U
    return Units(a_U, a_U + d_U, np.zeros(len(d_U), dtype=np.int64), "one cell")


# --- pairs -----------------------------------------------------------------------------------------------


def test_runs_pair_by_seed_and_all_settings_that_do_not_tell_the_sides_apart(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", lrs=(0.001, 0.003), seeds=range(4), failed=(3,))
    b = write_arm(tmp_path, "b", qk_norm="head", lrs=(0.003, 0.01), seeds=range(1, 5))
    pairs = paired(a, b)
    assert pairs.told_by == {"model.qk_norm": (["none"], ["head"])}
    assert pairs.seeds == [1, 2]  # of A, seed 3 failed; of B, seed 4 has no partner
    for pair in pairs.pairs:
        assert pair.a.seed == pair.b.seed
        assert {k for k, v in pair.a.settings.items() if v != pair.b.settings[k]} == {"model.qk_norm"}
        assert pair.a.settings["optim.lr"] == 0.003
    reasons = [(one.side, one.run.seed, one.reason) for one in pairs.unpaired]
    assert len(reasons) == len(a) + len(b) - 2 * len(pairs.pairs)
    assert ("A", 3, "failed") in reasons
    assert ("B", 4, "no partner") in reasons


def test_settings_without_a_common_value_tell_the_sides_apart_and_may_not_vary_within_one(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", lrs=(0.001,))
    b = write_arm(tmp_path, "b", qk_norm="head", lrs=(0.003, 0.01))
    assert list(paired(a, b[:6]).told_by) == ["model.qk_norm", "optim.lr"]
    with pytest.raises(TableError, match=r"B: runs .* differ in optim\.lr") as error:
        paired(a, b)
    assert "\n" not in str(error.value)


def test_runs_of_other_data_do_not_pair(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none")
    b = write_arm(tmp_path, "b", qk_norm="head", data="e" * 64)
    with pytest.raises(TableError, match="they read other data"):
        paired(a, b)
    assert len(paired(a, write_arm(tmp_path, "c", qk_norm="head")).pairs) == 6


def test_the_same_run_in_two_studies_counts_once(tmp_path: Path) -> None:
    a, b = (write_arm(tmp_path, norm, qk_norm=norm) for norm in ("none", "head"))
    again = write_arm(tmp_path, "again", qk_norm="head", seeds=(0, 1))
    assert len(paired(a, b + again).pairs) == len(paired(a, b).pairs) == 6
    with pytest.raises(TableError, match="is a run of A and of B"):
        paired(a, [*b, a[0]])


def test_a_seed_with_all_cells_is_one_measurement_and_without_two_of_them_cells_are_blocks(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", lrs=(0.001, 0.003))
    b = write_arm(tmp_path, "b", qk_norm="head", lrs=(0.001, 0.003))
    full, holed, few = (units_of(paired(side, b)) for side in (a, a[1:], [*a[:4], *a[9:]]))
    assert (len(full.block_U), full.df) == (6, 5)
    assert (len(holed.block_U), holed.df) == (5, 4)  # one run less may not make eleven measurements of six
    assert holed.a_U == pytest.approx(full.a_U[1:])
    assert (len(few.block_U), few.df) == (7, 5)  # one seed is in both cells
    assert "every seed has all" in full.choice
    assert "5 seeds with all cells; 1 without are left out" in holed.choice
    assert "no two seeds" in few.choice
    assert len(units_of(paired([*a[:4], *a[9:]], b), whole_seeds=True).block_U) == 1
    # The mean over seeds of means over cells is the mean over pairs.
    losses = np.array([pair.values for pair in paired(a, b).pairs])
    assert difference(full).mean == pytest.approx(float((losses[:, 1] - losses[:, 0]).mean()), rel=1e-12)


def test_diverged_runs_count_at_the_loss_at_initialisation(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", diverged=(2, 4))
    b = write_arm(tmp_path, "b", qk_norm="head")
    pairs = paired(a, b)
    assert pairs.diverged == 2
    assert [pair.values[0] for pair in pairs.pairs if pair.a.state == "diverged"] == [5.5, 5.5]
    without = write_arm(tmp_path, "c", qk_norm="none", diverged=(2,), record={"loss_at_init": None})
    with pytest.raises(TableError, match="no loss_at_init") as error:
        paired(without, b)
    assert "\n" not in str(error.value)


# --- the difference --------------------------------------------------------------------------------------


def test_swapping_the_sides_flips_the_sign_and_nothing_else(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none")
    b = write_arm(tmp_path, "b", qk_norm="head", gain=0.01)
    there, back = (difference(units_of(paired(*sides))) for sides in ((a, b), (b, a)))
    assert there.interval is not None
    assert back.interval is not None
    assert back.mean == pytest.approx(-there.mean, rel=1e-9)
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), rel=1e-9)
    assert (there.verdict, back.verdict) == ("B", "A")
    assert back.detectable == pytest.approx(there.detectable, rel=1e-9)


def test_pairs_by_seed_find_what_other_pairs_miss(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none")
    b = write_arm(tmp_path, "b", qk_norm="head", gain=0.01)
    units = units_of(paired(a, b))
    found = difference(units)
    assert found.verdict == "B"
    assert found.gain is not None
    assert found.gain > 10
    mixed = difference(dataclasses.replace(units, b_U=np.roll(units.b_U, 1)))
    assert mixed.verdict == "undecided"
    assert mixed.mean == pytest.approx(found.mean, rel=1e-9)


def covered(make: Callable[[np.random.Generator], Units], factor: float = 1.0, n: int = 3000) -> float:
    """The share of simulated experiments whose interval, times a factor, holds the truth, 0."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(n):
        units = make(rng)
        low, high = interval_of(units) or (np.nan, np.nan)
        middle, half = (low + high) / 2, factor * (high - low) / 2
        inside += abs(middle) <= half
    return inside / n


def test_the_interval_covers_as_often_as_it_says() -> None:
    def four_seeds(rng: np.random.Generator) -> Units:
        return one_block(rng.standard_normal(4))

    assert covered(four_seeds) == pytest.approx(0.95, abs=0.012)
    # The normal quantile in place of Student's is too short by 1.96 / 3.18.
    assert covered(four_seeds, stats.norm.ppf(0.975) / stats.t.ppf(0.975, 3)) < 0.9


def test_blocks_cover_with_cells_of_their_own_means() -> None:
    cell_U = np.array([0, 0, 0, 1, 1, 2, 2])

    def uneven(rng: np.random.Generator, *, blocks: bool = True) -> Units:
        d_U = np.array([-1.0, 0.5, 1.0])[cell_U] * 5 + rng.standard_normal(7)
        return Units(np.zeros(7), d_U, cell_U if blocks else 0 * cell_U, "")

    assert covered(uneven) == pytest.approx(0.95, abs=0.012)
    assert covered(lambda rng: uneven(rng, blocks=False)) > 0.99  # the cells' means pass for noise


def test_averaging_within_a_seed_covers_where_its_pairs_hang_together() -> None:
    def draw(rng: np.random.Generator) -> Any:
        return rng.standard_normal((5, 1)) + 0.3 * rng.standard_normal((5, 4))  # seeds, cells

    assert covered(lambda rng: one_block(draw(rng).mean(axis=1))) == pytest.approx(0.95, abs=0.012)
    cell_U = np.tile(np.arange(4), 5)
    assert covered(lambda rng: Units(np.zeros(20), draw(rng).ravel(), cell_U, "")) < 0.8


def test_one_pair_decides_nothing() -> None:
    found = difference(one_block([-0.3]), margin=1.0)
    assert (found.interval, found.detectable, found.missing_seeds, found.verdict) == (None, None, None, "undecided")
    assert difference(one_block([-0.3, -0.31, -0.29]), margin=1.0).verdict == "B"


@pytest.mark.parametrize(
    ("interval", "margin", "verdict"),
    [
        ((0.001, 0.02), None, "A"),
        ((-0.02, -0.001), 0.1, "B"),
        ((-0.008, 0.009), 0.01, "equal"),
        ((-0.008, 0.011), 0.01, "undecided"),
        ((-0.008, 0.009), None, "undecided"),
    ],
)
def test_the_verdict_follows_from_the_interval(
    interval: tuple[float, float], margin: float | None, verdict: str
) -> None:
    assert judge(interval, margin) == verdict


# --- power -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("df", "level", "shift"), [(1, 0.05, 16), (3, 0.012, 4), (7, 0.05, 0), (30, 0.05, 2.5)])
def test_power_is_that_of_the_noncentral_t(df: int, level: float, shift: float) -> None:
    bound = stats.t.ppf(1 - level / 2, df)
    expected = stats.nct.sf(bound, df, shift) + stats.nct.cdf(-bound, df, shift)
    assert power(shift * 0.1, 0.1, df, level=level) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("n", [2, 4, 12])
def test_the_detectable_effect_is_found_in_four_of_five_simulated_experiments(n: int) -> None:
    effect = detectable_effect(1 / np.sqrt(n), n - 1)
    z_RN = np.random.default_rng(2).standard_normal((20_000, n))

    def found(true: float) -> float:
        return float((stats.ttest_1samp(z_RN + true, 0, axis=1).pvalue < 0.05).mean())

    assert found(effect) == pytest.approx(0.8, abs=0.01)
    assert found(effect / 2) < 0.5


@pytest.mark.parametrize("cells", [1, 3])
def test_the_missing_seeds_are_just_enough(cells: int) -> None:
    block_U = np.repeat(np.arange(cells), 3)
    units = Units(np.zeros(3 * cells), np.tile([-1.0, 0.0, 1.0], cells), block_U, "")
    more = missing_seeds(units, 1.0, 0.6)
    assert more is not None
    assert more > 1

    def with_more(m: int) -> float:
        n = cells * (3 + m)
        return power(0.6, 1 / np.sqrt(n), n - cells)

    assert with_more(more) >= 0.8 > with_more(more - 1)
    assert missing_seeds(units, 1.0, 100.0) == 0
    assert missing_seeds(units, 1.0, 1e-4) is None


# --- several looks ---------------------------------------------------------------------------------------


def false_positives(have: int, plan: Sequence[int], level: float, n: int = 20_000) -> float:
    """The share of experiments without a difference in which some look finds one; not the draws of `pocock_level`."""
    rng = np.random.default_rng(99)
    z_RN = rng.standard_normal((n, have + plan[-1]))
    found_R = np.zeros(n, dtype=bool)
    for new in plan:
        found_R |= stats.ttest_1samp(z_RN[:, : have + new], 0, axis=1).pvalue < level
    return float(found_R.mean())


@pytest.mark.parametrize(("have", "plan"), [(3, [0, 3, 6, 9, 13]), (2, [1, 2, 3, 4]), (4, [0, 1])])
def test_repeated_looks_together_err_no_more_than_one(have: int, plan: list[int]) -> None:
    level = pocock_level(have, plan)
    assert false_positives(have, plan, level) == pytest.approx(0.05, abs=0.006)
    assert false_positives(have, plan, 0.05) > 0.05 + 0.02 * min(2, len(plan) - 1)  # each look at 5%
    assert pocock_level(have, plan[-1:]) == 0.05


def test_the_level_is_pococks_where_the_spread_is_known() -> None:
    # Pocock 1977, table 1: two-sided 5%, five equally spaced looks.
    assert pocock_level(150, [0, 150, 300, 450, 600], draws=20_000) == pytest.approx(0.0158, rel=0.08)


def test_looks_are_few_even_and_end_with_the_budget() -> None:
    assert plan_looks(3, 13) == [0, 3, 6, 10, 13]
    assert plan_looks(3, 0) == [0]
    assert plan_looks(1, 5)[0] == 2  # one pair shows no spread, two hardly any


# --- the command -----------------------------------------------------------------------------------------


def test_a_study_is_split_by_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = write_arm(tmp_path, "s", qk_norm="none") + write_arm(tmp_path, "s", qk_norm="head", gain=0.01)
    Manifest("s", "cpu", tuple(folder.name for folder in folders)).write(tmp_path)
    out, plot = tmp_path / "d.json", tmp_path / "d.png"
    sides = ["model.qk_norm == 'none'", "model.qk_norm == 'head'"]
    given = ["difference", *sides, "--study", "s", "--runs-dir", str(tmp_path)]
    assert main([*given, "--out", str(out), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    for words in ("model.qk_norm none -> head", "6 pairs: 6 seeds", "B is better", "smallest detectable"):
        assert words in printed
    content = json.loads(out.read_text())
    assert len(content["pairs"]) == content["n_units"] == 6
    # Both sides share a seed's noise and differ by the gain and their own.
    assert content["mean"] == pytest.approx(-0.01, abs=0.004)
    assert content["interval"][0] < content["mean"] < content["interval"][1] < 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main([*given, "--metric", "loss_at_init"]) == 0
    assert "equal to the last digit" in capsys.readouterr().out


def test_the_picture_has_a_line_for_each_pair(tmp_path: Path) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", lrs=(0.001, 0.003), diverged=(2,))
    b = write_arm(tmp_path, "b", qk_norm="head", lrs=(0.001, 0.003))
    pairs = paired(a, b)
    both, apart = plot_difference(pairs, difference(units_of(pairs), margin=0.1), "val_loss").axes
    lines = [line for line in both.lines if line.get_linestyle() == "-"]
    drawn = sorted(tuple(map(float, line.get_ydata())) for line in lines)  # type: ignore[arg-type]
    assert drawn == sorted(pair.values for pair in pairs.pairs)
    assert [label.get_text() for label in apart.get_yticklabels()] == ["lr=0.001", "lr=0.003", "all"]


def test_unpaired_and_diverged_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_arm(tmp_path, "a", qk_norm="none", diverged=(1,))
    write_arm(tmp_path, "b", qk_norm="head", seeds=range(5), failed=(0,))
    assert main(["difference", f"{tmp_path}/a", f"{tmp_path}/b/*"]) == 0
    printed = capsys.readouterr().out
    assert "3 runs unpaired: " in printed
    assert "(seed 0, failed)" in printed
    assert "1 of 8 runs diverged, counted at the loss at initialisation" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "nothing"], "no such column"),
        (["--metric", "model.qk_norm"], "a column of numbers"),
        (["--where", "seed > 100"], "leaves none of 6 rows"),
        (["--until", "0"], "a number above 0"),
        (["--until", "nan"], "a number above 0"),
        (["--max-seeds", "8"], "allowed: with --until"),
        (["--until", "0.1", "--max-seeds", "1"], "at least 2"),
        (["--until", "0.1", "--max-seeds", "4"], "6 are there"),
        (["--plot", "d.txt"], "not a picture"),
        (["--out", "/no/such/folder/d.json"], "there is no folder"),
        (["--study", "nothing"], "no such study"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_arm(tmp_path, "a", qk_norm="none")
    write_arm(tmp_path, "b", qk_norm="head")
    assert main(["difference", f"{tmp_path}/a", f"{tmp_path}/b", "--runs-dir", str(tmp_path), *options]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


# --- more seeds ------------------------------------------------------------------------------------------


GAIN = 0.012


def write_both(runs_dir: Path, studies: Sequence[str], seeds: Sequence[int]) -> None:
    """Runs of two arms that differ by `GAIN`, a little more than their noise."""
    for study, norm, gain in zip(studies, ("none", "head"), (0.0, GAIN), strict=True):
        write_arm(runs_dir, study, qk_norm=norm, gain=gain, noise=0.01, seeds=seeds)


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """In place of a sweep, records like those of `write_arm`; the seeds of each call."""
    calls: list[list[int]] = []

    def run(arms: Arms, seeds: Sequence[int], **_: Any) -> bool:
        calls.append(list(seeds))
        write_both(arms.runs_dir, [arms.study] * 2, seeds)
        return True

    monkeypatch.setattr(Arms, "run", run)
    return calls


@pytest.fixture
def three_seeds(tmp_path: Path) -> list[str]:
    write_both(tmp_path, ("none", "head"), range(3))
    return ["difference", f"{tmp_path}/none", f"{tmp_path}/head", "--runs-dir", str(tmp_path)]


def test_seeds_are_added_to_both_arms_until_the_test_decides(
    tmp_path: Path, sweep: list[list[int]], three_seeds: list[str]
) -> None:
    out = tmp_path / "d.json"
    given = [*three_seeds, "--until", "0.004", "--max-seeds", "40", "--out", str(out)]
    assert main(given) == 0
    first = json.loads(out.read_text())
    assert (first["verdict"], first["until"]["ended_by"]) == ("B", "verdict")
    looks = first["until"]["looks"]
    assert [look["verdict"] for look in looks] == ["undecided"] * len(sweep) + ["B"]
    assert len(sweep) > 0
    assert first["level"] < 0.05
    assert not first["unpaired"]
    assert sorted(pair["seed"] for pair in first["pairs"]) == [0, 1, 2, *sweep[-1]]
    assert main(given) == 0
    assert json.loads(out.read_text()) == first

    # With the added runs among those at hand they are still looked at in their turn, and not all at the first look.
    frame = read_runs(runs_matching([str(tmp_path)]))
    sides = [read_side(where(frame, f"model.qk_norm = '{norm}'"), "val_loss") for norm in ("none", "head")]
    assert len(sides[0]) == len(first["pairs"])
    budget = Budget(seeds=40)
    decision = decide(*sides, metric="val_loss", margin=0.004, budget=budget, runs_dir=tmp_path, say=lambda _: None)
    assert [dataclasses.asdict(look) | {"interval": [*(look.interval or ())]} for look in decision.looks] == looks
    # Without --until they are all of one look, and the interval says so.
    assert difference(units_of(pair_runs(*sides))).level == 0.05


@pytest.mark.parametrize("budget", [["--max-seeds", "5"], ["--max-minutes", "0"]])
def test_the_budget_ends_it_undecided(
    three_seeds: list[str], sweep: list[list[int]], budget: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*three_seeds, "--until", "0.001", *budget]) == 1
    printed = capsys.readouterr().out
    assert "verdict: undecided" in printed
    assert "more seeds are missing" in printed
    if budget[0] == "--max-seeds":
        assert sweep == [[3], [3, 4]]
        assert "ended by the last planned look after 3 looks of 3" in printed
    else:
        assert sweep == []
        assert "ended by the time limit after 1 look of 5" in printed


def test_nothing_is_judged_before_the_first_look(tmp_path: Path) -> None:
    """Two pairs that differ by a hundred times their spread, and no time for the third."""
    a = write_arm(tmp_path, "a", qk_norm="none", noise=1e-7, seeds=(0, 1))
    b = write_arm(tmp_path, "b", qk_norm="head", noise=1e-7, seeds=(0, 1), gain=0.1)
    sides = [read_side(read_runs(folders), "val_loss") for folders in (a, b)]
    budget = Budget(seeds=8, minutes=0)
    decision = decide(*sides, metric="val_loss", margin=0.01, budget=budget, runs_dir=tmp_path, say=lambda _: None)
    assert (decision.looks, decision.result.verdict, decision.ended_by) == ((), "undecided", "minutes")
    assert difference(decision.units, level=decision.result.level).verdict == "B"


def test_only_seeds_with_all_cells_are_looked_at(tmp_path: Path) -> None:
    """Three seeds that lack a run of one arm each, so that one seed has both cells."""
    a = write_arm(tmp_path, "a", qk_norm="none", seeds=range(4), lrs=(0.001, 0.003))
    b = write_arm(tmp_path, "b", qk_norm="head", seeds=range(4), lrs=(0.001, 0.003))
    budget = Budget(seeds=8, minutes=0)

    def look(left_out: set[int]) -> Units:
        kept = [folder for place, folder in enumerate(a) if place not in left_out]
        sides = [read_side(read_runs(folders), "val_loss") for folders in (kept, b)]
        return decide(*sides, metric="val_loss", margin=0.1, budget=budget, runs_dir=tmp_path, say=lambda _: None).units

    assert look({0, 1, 6}).df == 0
    with pytest.raises(TableError, match="no seed has all 2 cells"):
        look({0, 1, 6, 7})


def test_a_sweep_hears_of_the_signal_that_ends_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = write_arm(tmp_path, "a", qk_norm="none", seeds=(0, 1))
    b = write_arm(tmp_path, "b", qk_norm="head", seeds=(0, 1))
    arms = Arms(paired(a, b), tmp_path)
    begun: list[subprocess.Popen[bytes]] = []
    usual, start = signal.getsignal(signal.SIGTERM), subprocess.Popen

    def sleeper(command: list[str]) -> subprocess.Popen[bytes]:
        sleep = "import signal, time; signal.signal(15, lambda *_: exit(143)); print(flush=True); time.sleep(60)"
        process = start([command[0], "-c", sleep], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as printed:
            printed.readline()
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        begun.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", sleeper)
    with pytest.raises(KeyboardInterrupt):
        arms.run([2], seconds=None, jobs=None)
    assert begun[0].returncode == 143
    assert signal.getsignal(signal.SIGTERM) is usual


def test_arms_that_a_sweep_cannot_repeat_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_arm(tmp_path, "none", qk_norm="none", seeds=(0, 1))
    for folder in write_arm(tmp_path, "bf16", qk_norm="head", seeds=(0, 1)):
        config = (folder / "config.yaml").read_text().replace("precision: fp32", "precision: bf16")
        (folder / "config.yaml").write_text(config)
    write_arm(other, "same", qk_norm="none", seeds=(0, 1))
    runs = {
        name: read_side(read_runs(runs_matching([str(folder)])), "val_loss")
        for name, folder in (("none", tmp_path / "none"), ("bf16", tmp_path / "bf16"), ("same", other))
    }
    with pytest.raises(TableError, match="no setting tells A from B"):
        Arms(pair_runs(runs["none"], runs["same"]), tmp_path)
    with pytest.raises(TableError, match="precision=bf16"):
        Arms(pair_runs(runs["none"], runs["bf16"]), tmp_path)


def test_real_seeds_are_added_until_the_test_decides(
    tmp_path: Path, settings: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """The arms are tiny, and differ by less than a nat."""
    for norm in ("none", "head"):
        for seed in (0, 1):
            given = settings(f"model.qk_norm={norm}", f"seed={seed}", f"study={norm}", "train.checkpoint_every=20steps")
            assert train(given) == 0
    runs, out = tmp_path / "runs", tmp_path / "d.json"
    given = ["difference", f"{runs}/none", f"{runs}/head", "--runs-dir", str(runs), "--until", "1", "--max-seeds", "4"]
    assert main([*given, "--jobs", "1", "--out", str(out)]) == 0
    assert "verdict: no difference larger than 1 nats" in capfd.readouterr().out
    found = json.loads(out.read_text())
    assert found["verdict"] == "equal"
    assert [look["seeds"] for look in found["until"]["looks"]] == [3]
    added = [pair for pair in found["pairs"] if pair["seed"] == 2]
    assert len(added) == 1
    records = {side: read_run(Path(added[0][side]["folder"])) or {} for side in ("A", "B")}
    assert {record["state"] for record in records.values()} == {"finished"}
    # An added run is what the trainer alone makes of the same settings and that seed.
    assert train(settings("model.qk_norm=head", "seed=2", "study=alone", "train.checkpoint_every=20steps")) == 0
    alone = read_run(next((runs / "alone").glob("*")))
    assert alone is not None
    assert records["B"]["run_id"] == alone["run_id"]
    assert records["B"]["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-9)


def test_grown_arms_pair_by_what_their_bases_are_and_not_by_their_names(
    tmp_path: Path, settings: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    """Two operators on a common base, and two bases under one operator; seeds that are added bring their own bases."""
    fixed = ("schedule=constant", "train.checkpoint_every=100%", "train.duration=6steps")

    def train_arms(seed: int) -> None:
        for depth in (1, 2):
            small = settings(*fixed, "train.keep='4'", f"model.depth={depth}", f"seed={seed}", f"study=base{depth}")
            assert train(small) == 0
            base = next(run for run in (runs / f"base{depth}").glob("*") if (read_run(run) or {})["seed"] == seed)
            for how in ("stack", "interpolate"):
                grow = (f"grow.base={base.name}", "grow.step=4", f"grow.depth={how}", "model.depth=4", f"seed={seed}")
                assert train(settings(*fixed, *grow, f"study={how}{depth}")) == 0
            assert train(settings(*fixed, *grow, "optim.lr=1e-4", "study=slow")) == 0

    runs, out = tmp_path / "runs", tmp_path / "d.json"
    for seed in (0, 1):
        train_arms(seed)

    def told_by(a: str, b: str, *more: str) -> dict[str, Any]:
        assert main(["difference", f"{runs}/{a}", f"{runs}/{b}", "--out", str(out), *more]) == 0
        found = json.loads(out.read_text())
        assert len({pair["seed"] for pair in found["pairs"]}) == len(found["pairs"]) >= 2
        told: dict[str, Any] = found["told_by"]
        return told

    # One rate against another over bases that both share: these are cells, and tell nothing apart.
    rates = ["difference", f"{runs}/interpolate*", f"{runs}/slow", "--out", str(out)]
    assert main(rates) == 0
    found = json.loads(out.read_text())
    assert (list(found["told_by"]), len(found["pairs"])) == (["optim.lr"], 4)
    assert {pair["cell"]["base.model.depth"] for pair in found["pairs"]} == {1, 2}
    assert told_by("stack2", "interpolate2") == {"grow.depth": {"A": ["stack"], "B": ["interpolate"]}}
    between = told_by("stack1", "stack2", "--runs-dir", str(runs), "--until", "9", "--max-seeds", "3", "--jobs", "1")
    assert between == {"base.model.depth": {"A": [1], "B": [2]}}
    added = {pair["seed"]: pair for pair in json.loads(out.read_text())["pairs"]}[2]
    train_arms(2)
    alone = [run for run in (runs / "stack2").glob("*") if (read_run(run) or {})["seed"] == 2]
    assert [run.name for run in alone] == [added["B"]["run_id"]], "what the trainer alone makes of that seed"
    capfd.readouterr()
    assert main(["difference", f"{runs}/base2", f"{runs}/stack2", "--metric", "capped_loss"]) == 0
    said = capfd.readouterr().out
    assert "grow.base null -> another run" in said
    assert "base.model" not in said
