"""The verdicts on QK-norm follow the runs: they turn round where the runs do."""

from __future__ import annotations

import math

import pytest

from analysis.figures.small_proxies.qk_norm import LOGIT, qk_norm
from sweeps.studies.small_proxies import qk_norm as study
from tests.analysis.figures.simulate_runs import simulate_runs

CELLS = study.qk_norm("cpu")


def size(run):
    return 12 * run["model.depth"] * run["model.width"] ** 2


def as_published(run):
    """Without the norm a rate fails that falls with size; with it training hardly minds the rate."""
    decades = math.log10(run["optim.lr"] / 1e-3)
    if run["model.qk_norm"] == "head":
        return 1.9 + 0.03 * decades * math.log10(size(run))
    fails = 1.3 - 0.4 * math.log10(size(run) / 24_576)
    return 1.9 + max(0.0, decades - fails)


def the_other_way_round(run):
    swapped = "none" if run["model.qk_norm"] == "head" else "head"
    return as_published(run | {"model.qk_norm": swapped})


def growing_logits(run):
    grows = run["model.qk_norm"] == "none"
    power = 2.5 if grows else 0.2
    highest = 5 * (run["optim.lr"] / 1e-3) ** (power / 2)
    return [{"step": k + 1, "train_loss": 3.0, LOGIT: 1 + (highest - 1) * k / 9} for k in range(10)]


def verdicts(loss, tmp_path, curve=growing_logits):
    runs = simulate_runs(CELLS, loss, curve=curve, runs_dir=tmp_path / "runs", noise=0.003)
    return {claim.sentence: claim.verdict for claim in qk_norm(runs, tmp_path)}


def test_the_published_picture_is_reproduced(tmp_path):
    found = verdicts(as_published, tmp_path)
    assert set(found.values()) == {"reproduced"}
    for name in ("sensitivity", "logits"):
        assert all((tmp_path / f"{name}.{kind}").stat().st_size > 1000 for kind in ("png", "svg", "csv"))


def test_the_opposite_is_not(tmp_path):
    found = verdicts(the_other_way_round, tmp_path, lambda run: [r | {LOGIT: 5.0} for r in growing_logits(run)])
    assert {sentence for sentence, verdict in found.items() if verdict != "reproduced"} == {
        "Training is less sensitive to the learning rate with QK-norm.",
        "Without QK-norm training fails at a lower learning rate.",
        "Without QK-norm the largest attention logit grows by orders of magnitude with the learning rate.",
    }


def test_runs_that_all_train_say_nothing_of_failing(tmp_path):
    found = verdicts(lambda run: 2.0 - 0.1 * math.log10(run["optim.lr"]), tmp_path)
    assert found["Without QK-norm training fails at a lower learning rate."] == "inconclusive"


@pytest.mark.parametrize("broken", ["diverged", "failed"])
def test_broken_runs_are_counted_or_left_out(tmp_path, broken):
    """A diverged run counts at the loss at initialisation; one that failed has no result."""
    import polars as pl

    runs = simulate_runs(CELLS, as_published, curve=growing_logits, runs_dir=tmp_path / "runs")
    at_init = pl.col("loss_at_init") if broken == "diverged" else pl.lit(None, dtype=pl.Float64)
    first = pl.int_range(pl.len()) == 0
    runs = runs.with_columns(
        state=pl.when(first).then(pl.lit(broken)).otherwise("state"),
        capped_loss=pl.when(first).then(at_init).otherwise("capped_loss"),
    )
    claims = qk_norm(runs, tmp_path)
    assert claims[0].n_runs == len(runs) - (broken == "failed")
