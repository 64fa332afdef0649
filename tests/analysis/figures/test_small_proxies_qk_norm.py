"""The verdicts on QK-norm follow the runs: they turn round where the runs do."""

from __future__ import annotations

import math

import polars as pl
import pytest

from analysis.figures.small_proxies.qk_norm import KEY, LOGIT, QUERY, RISE, draw, parting_lr
from sweeps.studies.small_proxies import qk_norm as study
from tests.analysis.figures.simulate_runs import simulate_runs

CELLS = study.qk_norm("cpu")


def size(run):
    return 12 * run["model.depth"] * run["model.width"] ** 2


def as_published(run):
    """Without the norm a rate fails that falls with size; with it training hardly minds the rate."""
    decades = math.log10(run["optim.lr"] / 1e-3)
    if run["model.qk_norm"] == "head":
        return 1.9 + 0.015 * decades * math.log10(size(run))
    fails = 1.3 - 0.4 * math.log10(size(run) / 24_576)
    return 1.9 + max(0.0, decades - fails)


def the_other_way_round(run):
    swapped = "none" if run["model.qk_norm"] == "head" else "head"
    return as_published(run | {"model.qk_norm": swapped})


def growing_logits(run):
    grows = run["model.qk_norm"] == "none"
    power = 2.5 if grows else 0.2
    highest = 5 * (run["optim.lr"] / 1e-3) ** (power / 2)
    return [measured(k, 1 + (highest - 1) * k / 9) for k in range(10)]


def measured(k, logit):
    """A logit of queries and keys of the same size, which are aligned as ever."""
    return {"step": k + 1, "train_loss": 3.0, LOGIT: logit, QUERY: math.sqrt(logit), KEY: math.sqrt(logit)}


def verdicts(loss, tmp_path, curve=growing_logits):
    runs = simulate_runs(CELLS, loss, curve=curve, runs_dir=tmp_path / "runs", noise=0.003)
    return {claim.sentence: claim.verdict for claim in draw(runs, tmp_path)}


def test_the_published_picture_is_reproduced(tmp_path):
    found = verdicts(as_published, tmp_path)
    assert set(found.values()) == {"reproduced"}
    for name in ("sensitivity", "logits"):
        assert all((tmp_path / f"{name}.{kind}").stat().st_size > 1000 for kind in ("png", "svg", "csv"))


def test_the_opposite_is_not(tmp_path):
    found = verdicts(the_other_way_round, tmp_path, lambda _: [measured(k, 5.0) for k in range(10)])
    assert {sentence: verdict for sentence, verdict in found.items() if verdict != "reproduced"} == {
        "Training is less sensitive to the learning rate with QK-norm.": "not reproduced",
        "Without QK-norm training fails at a lower learning rate.": "not reproduced",
        "Without QK-norm the learning rate at which training fails falls with size.": "inconclusive",
        "With QK-norm the learning rate at which training fails does not fall with size as it does without.": (
            "not reproduced"
        ),
        "The learning rate from which on training suffers for want of QK-norm falls with size.": "inconclusive",
        "Without QK-norm the largest attention logit grows by orders of magnitude with the learning rate.": (
            "not reproduced"
        ),
        "The logits grow because queries and keys do, and not because they align.": "inconclusive",
    }


def test_a_rate_that_falls_with_size_in_both_arms_is_told_by_its_control(tmp_path):
    """A curve's own lowest loss falls with size, and with it the rate at which it is a quarter of a nat above that."""
    found = verdicts(lambda run: as_published(run | {"model.qk_norm": "none"}), tmp_path)
    assert found["Without QK-norm the learning rate at which training fails falls with size."] == "reproduced"
    for sentence in (
        "With QK-norm the learning rate at which training fails does not fall with size as it does without.",
        "The learning rate from which on training suffers for want of QK-norm falls with size.",
    ):
        assert found[sentence] == "inconclusive"


def test_logits_that_grow_because_queries_and_keys_align(tmp_path):
    found = verdicts(as_published, tmp_path, lambda run: [row | {QUERY: 1.0, KEY: 1.0} for row in growing_logits(run)])
    assert found["The logits grow because queries and keys do, and not because they align."] == "not reproduced"


def test_the_rate_at_which_arms_part():
    """At 10^-2 for the small size, and at 10^-2.5 for the large one."""
    rows = [
        {"arm": arm, "size": size, "seed": 0, "lr": lr, "loss": 2.0 + (max(0.0, math.log10(lr) - at) if bare else 0.0)}
        for bare, arm in ((True, "none"), (False, "head"))
        for size, at in ((1.0, -2 - RISE), (10.0, -2.5 - RISE))
        for lr in (1e-3, 1e-2, 1e-1)
    ]
    parting = parting_lr(pl.DataFrame(rows))
    assert parting["lr_part"].to_list() == pytest.approx([-2.0, -2.5], abs=0.3)  # interpolated in a bent line
    assert parting_lr(pl.DataFrame(rows).filter(pl.col("lr") > 1e-3)) is None  # below the grid


def test_runs_that_all_train_say_nothing_of_failing(tmp_path):
    found = verdicts(lambda run: 2.0 - 0.1 * math.log10(run["optim.lr"]), tmp_path)
    assert found["Without QK-norm training fails at a lower learning rate."] == "inconclusive"


@pytest.mark.parametrize("broken", ["diverged", "failed"])
def test_broken_runs_are_counted_or_left_out(tmp_path, broken):
    """A diverged run counts at the loss at initialisation; one that failed has no result."""
    runs = simulate_runs(CELLS, as_published, curve=growing_logits, runs_dir=tmp_path / "runs")
    at_init = pl.col("loss_at_init") if broken == "diverged" else pl.lit(None, dtype=pl.Float64)
    first = pl.int_range(pl.len()) == 0
    runs = runs.with_columns(
        state=pl.when(first).then(pl.lit(broken)).otherwise("state"),
        capped_loss=pl.when(first).then(at_init).otherwise("capped_loss"),
    )
    claims = draw(runs, tmp_path)
    assert claims[0].measured.n_runs == len(runs) - (broken == "failed")
