"""The study of annealing: from records to pictures, numbers and verdicts, also where the law does not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.__main__ import main
from analysis.figures.lr_annealing import transfer as figures
from analysis.figures.lr_annealing.transfer import Held
from analysis.laws.annealing import annealing, area, lr_annealing
from analysis.tables.columns import Array
from conf.compose import compose, to_config, to_yaml
from conf.config import resolve
from conf.identity import run_id
from conf.vocab import vocab_size
from sweeps.cells.grid import overrides
from sweeps.studies.lr_annealing import transfer as study
from train.record.manifest import Manifest
from train.record.metrics_file import MetricsWriter
from train.record.run import run_dir, write_run
from train.timetable.cost import run_cost
from train.timetable.schedule import Schedule

STEPS = 400
TRUTH = {"L0": 2.0, "A": 0.6, "alpha": 0.5, "C": 0.6}
Law = Callable[[Array], Array]
DECAYING = np.arange(100) >= np.array([[90], [80]])  # of two schedules of a hundred points


def follows(lr_T: Array) -> Array:
    """Losses of `TRUTH`, with a memory of a twentieth of the run."""
    peak_T = np.maximum(lr_T, np.where(np.arange(STEPS) < 8, lr_T.max(), 0.0))
    return lr_annealing({"area": area(peak_T), "annealing": annealing(peak_T, 1 - 20 / STEPS)}, **TRUTH)


def write_runs(runs_dir: Path, law: Law = follows, *, noise: float = 0.002, **changes: object) -> None:
    """Records of four schedules and two seeds; a seed has its own level, and noise. `changes` are of the first run."""
    rng = np.random.default_rng(5)
    folders = []
    for shape, cooldown in (("constant", "20%"), ("cosine", "20%"), ("wsd", "10%"), ("wsd", "20%")):
        for seed in (0, 1):
            settings = {
                "study": "lr_annealing/transfer",
                "seed": seed,
                "optim": {"lr": 0.02},
                "schedule": {"shape": shape, "cooldown": cooldown, "warmup": "2%"},
                "train": {"duration": f"{STEPS}steps"},
                "runtime": {"runs_dir": str(runs_dir)},
            }
            config = resolve(to_config(settings), cuda=False)
            folder = run_dir(config)
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(to_yaml(config))
            schedule = Schedule(shape, STEPS, STEPS // 50, STEPS * int(cooldown[:-1]) // 100, 0.0)
            lr_T = 0.02 * np.array([schedule(step) for step in range(STEPS)])
            loss_T = law(lr_T) * np.exp(noise * rng.standard_normal(STEPS) + (0.002 if seed else -0.002))
            writer = MetricsWriter(folder, after_step=0)
            writer.append({"step": 0, "tokens": 0, "flops": 0, "val_loss": 5.0, "val_loss_se": 0.1})
            for step in range(1, STEPS + 1):
                row = {"step": step, "tokens": step, "flops": step, "lr": lr_T[step - 1], "train_loss": 2.0}
                if step % (STEPS // 100) == 0:
                    row |= {"val_loss": float(loss_T[step - 1]), "val_loss_se": 0.01}
                writer.append(row)
            writer.close()
            record = {
                "run_id": run_id(config),
                "study": "lr_annealing/transfer",
                "state": "finished",
                "seconds": 1.0,
                "n_params_total": 1000,
                "n_steps": STEPS,
                "n_tokens": STEPS,
                "tokens_per_step": 1,
                "val_loss": float(loss_T[-1]),
                "val_loss_se": 0.01,
            }
            write_run(folder, record | (changes if not folders else {}))
            folders.append(folder)
    Manifest("lr_annealing/transfer", "cpu", tuple(folder.name for folder in folders)).write(runs_dir)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "BOOTSTRAP", 100)


def draw(tmp_path: Path) -> tuple[Path, list[dict[str, object]]]:
    options = ["--runs-dir", str(tmp_path / "runs"), "--results-dir", str(tmp_path / "results")]
    assert main(["figure", "lr_annealing/transfer", "--profile", "cpu", *options]) == 0
    out = tmp_path / "results/lr_annealing/transfer/cpu"
    return out, json.loads((out / "claims.json").read_text())["claims"]


def test_curves_that_follow_the_law(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_runs(tmp_path / "runs")
    out, claims = draw(tmp_path)
    assert [claim["verdict"] for claim in claims] == ["reproduced"] * 3
    assert {(claim["n_seeds"], claim["n_runs"]) for claim in claims} == {(2, 8)}
    assert {path.name for path in out.iterdir()} == {
        "claims.json", "fit_seed_0.json", "fit_seed_1.json", "transfer.csv", "transfer.png", "transfer.svg",
        "memory.csv", "memory.png", "memory.svg",
    }  # fmt: skip
    fitted = json.loads((out / "fit_seed_0.json").read_text())
    assert fitted["options"]["decay"] == pytest.approx(1 - 20 / STEPS)
    assert {name: fitted["params"][name]["value"] for name in TRUTH} == pytest.approx(TRUTH, rel=0.1)
    drawn = pl.read_csv(out / "transfer.csv")
    assert drawn.group_by("kind").len().sort("kind")["len"].to_list() == [4 * 91, 4 * 91]
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("decay 0.95, a memory of 5% of the run", "of the held-out curves 0.1", "two seeds differ by 0.4"):
        assert words in shown


def test_curves_that_do_not_know_of_annealing(tmp_path: Path) -> None:
    """Where the loss follows S1 alone, S2 adds nothing that could be told from nothing."""
    write_runs(tmp_path / "runs", lambda lr_T: 2.0 + 0.6 * area(lr_T) ** -0.5)
    _, claims = draw(tmp_path)
    assert claims[0]["verdict"] == "reproduced"
    assert claims[1]["verdict"] != "reproduced"


def test_held_out_curves_off_the_law_are_a_finding(tmp_path: Path) -> None:
    """A late decay that pays three times what a cosine does."""

    def law(lr_T: Array) -> Array:
        late = lr_T[STEPS // 2] == lr_T.max() != lr_T[-1]
        extra = annealing(np.maximum(lr_T, np.where(np.arange(STEPS) < 8, lr_T.max(), 0.0)), 1 - 20 / STEPS)
        return follows(lr_T) - (2 * TRUTH["C"] * extra if late else 0.0)

    write_runs(tmp_path / "runs", law)
    _, claims = draw(tmp_path)
    assert [claims[0]["verdict"], claims[2]["verdict"]] == ["not reproduced"] * 2


def test_a_run_that_broke_leaves_the_study_open(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs", state="diverged", diverged_at_step=4)
    out, claims = draw(tmp_path)
    assert [claim["verdict"] for claim in claims] == ["inconclusive"] * 3
    assert "7 of 8 runs" in str(claims[0]["reason"])
    assert not list(out.glob("fit*"))


def test_an_error_at_the_end_of_a_curve_is_in_every_interval() -> None:
    """Were points drawn from anywhere, some resamples would hardly see the last tenth."""
    log_loss = 0.001 * np.random.default_rng(0).standard_normal((2, 2, 100))
    log_loss[:, :, 90:] += 0.1
    nothing = np.zeros((501, 2, 2, 100))
    estimate, (low, high) = Held(log_loss, nothing, nothing + 0.02, DECAYING).statistics()["error"]
    assert estimate == pytest.approx(np.abs(log_loss).mean(), rel=1e-12)
    assert 0.95 * estimate < low < estimate < high < 1.05 * estimate


def test_a_fit_that_is_unsure_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    log_loss = 0.001 * rng.standard_normal((2, 2, 100))
    nothing = np.zeros((501, 2, 2, 100))
    unsure = np.concatenate([nothing[:1], nothing[1:] + 0.01 * rng.standard_normal((500, 1, 1, 1))])
    widths = []
    for law in (nothing, unsure):
        low, high = Held(log_loss, law, nothing + 0.02, DECAYING).statistics()["error"][1]
        widths.append(high - low)
    assert widths[1] > 10 * widths[0]


def test_the_fall_is_that_of_the_decay_alone() -> None:
    """A law that is right before the decay and falls twice as far during it."""
    log_loss = np.where(DECAYING, -0.02, 0.0)[:, None] + 1e-4 * np.random.default_rng(0).standard_normal((2, 2, 100))
    law = np.broadcast_to(np.where(DECAYING, -0.04, 0.0)[:, None], (501, 2, 2, 100))
    estimate, (low, high) = Held(log_loss, law, law, DECAYING).statistics()["fall"]
    assert low < estimate < high
    assert estimate == pytest.approx(2, rel=0.02)


def test_the_study_crosses_schedules_and_seeds() -> None:
    for profile in ("smoke", "cpu", "gpu"):
        cells = study.cells(profile)
        assert len(cells) == 2 * len(study.SCHEDULES)
        varied = {key for key in cells[0] if len({cell.get(key) for cell in cells}) > 1}
        assert varied == {"schedule", "seed"}  # all else is the same, so that curves differ by their schedule
        config = resolve(compose(overrides(cells[0])), cuda=profile == "gpu")
        cost = run_cost(config, vocab_size(config.data))
        windows = cost.n_steps * config.train.batch_size
        assert (
            windows <= config.data.n_tokens * (1 - config.data.val_fraction) / config.data.window_tokens
        )  # none seen twice
