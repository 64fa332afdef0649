"""Kaplan's laws: published numbers, limits, and what follows from the constants."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.laws.kaplan import (
    LAWS,
    critical_batch,
    critical_batch_loss,
    earliest_stop,
    frontier,
    kaplan,
    kaplan_data,
    kaplan_size,
    kaplan_steps,
    min_flops,
    min_steps,
    overfitting,
    overhead_batch,
    scale,
)
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit

BY_NAME = {law.name: law for law in LAWS}

# Kaplan et al. 2020 (arXiv 2001.08361), tables 2 and 3.
JOINT = {"A_N": 6.4e13**0.076, "A_D": 1.8e13**0.103, "alpha_N": 0.076, "alpha_D": 0.103}
STEPS = {"A_N": 6.5e13**0.077, "A_S": 2.1e3**0.76, "alpha_N": 0.077, "alpha_S": 0.76}

# Zhang et al. 2024 (arXiv 2410.21676): steps to a target loss by batch of 512-token sequences, for five sizes in
# millions. `fewest` and `critical` are a and b/a of their fit S = a + b/B; `published` is their critical batch size.
BATCHES = 2.0 ** np.arange(6, 15)
STEPS_TO_TARGET = {
    85: [46000, 23000, 13282, 7000, 3840, 2528, 1917, 1600, 1600],
    151: [96000, 49000, 24000, 12000, 7128, 4350, 2940, 2400, 2300],
    302: [196000, 90000, 46000, 23400, 13300, 7224, 4980, 3400, 2879],
    604: [311000, 166000, 81000, 37440, 21320, 11400, 7199, 4700, 3800],
    1200: [642000, 331000, 176000, 94000, 46500, 25000, 15360, 8900, 6500],
}
FITTED = {
    85: (1293.8, 2.834e6, 745),
    151: (1752.4, 5.677e6, 955),
    302: (2095.3, 1.1383e7, 1394),
    604: (2459.9, 1.945e7, 1889),
    1200: (3897.3, 4.338e7, 2533),
}


# --- loss ------------------------------------------------------------------------------------------------


def test_size_law_has_the_published_losses() -> None:
    sizes = {"n_params": np.array([1e6, 1e7, 1e8, 1e9])}
    loss = kaplan_size(sizes, A_N=8.8e13**0.076, alpha_N=0.076)
    assert loss == pytest.approx([4.016, 3.371, 2.830, 2.376], rel=2e-4)
    assert kaplan_size(sizes, A_N=8.8e13**0.077, alpha_N=0.077) != pytest.approx(loss, rel=2e-4)


def test_joint_law_is_a_smooth_maximum_of_its_limits() -> None:
    n_params, n_tokens = np.meshgrid(np.geomspace(1e5, 1e10, 21), np.geomspace(1e7, 1e12, 21))
    table = {"n_params": n_params.ravel(), "n_tokens": n_tokens.ravel()}
    loss = kaplan(table, **JOINT)
    size = kaplan_size(table, A_N=JOINT["A_N"], alpha_N=0.076)
    data = kaplan_data(table, A_D=JOINT["A_D"], alpha_D=0.103)
    assert (loss > np.maximum(size, data)).all()
    assert (loss <= np.maximum(size, data) * 2**0.103 * (1 + 1e-12)).all()
    endless = table | {"n_tokens": np.full(441, 1e40)}
    assert kaplan(endless, **JOINT) == pytest.approx(size, rel=1e-9)
    assert kaplan(table | {"n_params": np.full(441, 1e60)}, **JOINT) == pytest.approx(data, rel=1e-9)


def test_joint_law_keeps_its_shape_along_matched_growth_only() -> None:
    """L(z N, z^(alpha_N / alpha_D) D) = z^-alpha_N L(N, D), equation 4.1's symmetry; with D growing as N it is not."""
    base = {"n_params": np.array([1e6, 1e8]), "n_tokens": np.array([1e9, 1e8])}

    def grown(power: float) -> np.ndarray:
        return kaplan({"n_params": base["n_params"] * 100, "n_tokens": base["n_tokens"] * 100**power}, **JOINT)

    expected = 100**-0.076 * kaplan(base, **JOINT)
    assert grown(0.076 / 0.103) == pytest.approx(expected, rel=1e-12)
    assert np.abs(grown(1.0) / expected - 1).max() > 0.01


def test_scale_undoes_the_coefficient_and_stays_finite() -> None:
    assert scale(np.array(8.8e13**0.076), np.array(0.076)) == pytest.approx(8.8e13, rel=1e-9)
    assert np.isfinite(scale(np.array([3.0, 0.3]), np.array(1e-3))).all()


# --- critical batch size ---------------------------------------------------------------------------------


def test_critical_batch_by_loss_has_the_published_values() -> None:
    levels = {"loss": np.array([6.0, 5.0, 4.0, 3.0])}
    found = critical_batch_loss(levels, B_star=2e8, inv_alpha_B=1 / 0.21)
    assert found == pytest.approx([3.94e4, 9.39e4, 2.72e5, 1.07e6], rel=3e-3)
    # Figure 10 of Kaplan et al. 2020: the critical batch doubles for every 13 % decrease in loss.
    assert critical_batch_loss({"loss": 1 - 0.13}, B_star=1.0, inv_alpha_B=1 / 0.21) == pytest.approx(2.0, rel=0.04)


def test_adjustments_obey_the_hyperbola() -> None:
    batch = np.geomspace(1e3, 1e8, 11)
    S_min, B_crit = 2e3, 3e5
    step = critical_batch({"batch_tokens": batch}, S_min=S_min, B_crit=B_crit)
    tokens = batch * step
    assert (step / S_min - 1) * (tokens / (S_min * B_crit) - 1) == pytest.approx(np.ones(11), rel=1e-9)
    assert min_steps(step, batch, B_crit) == pytest.approx(np.full(11, S_min))
    assert min_flops(tokens, batch, B_crit) == pytest.approx(np.full(11, S_min * B_crit))
    assert np.ptp(min_steps(step, batch, B_crit / 2)) > 0.3 * S_min  # a wrong B_crit does not


def test_critical_batches_of_a_published_table() -> None:
    """Zhang et al. 2024: steps to target of five sizes, their fits, and the law of the critical batch size."""
    published, found = [], []
    for size, steps in STEPS_TO_TARGET.items():
        table = {"batch_tokens": BATCHES * 512, "step": np.array(steps, dtype=float)}
        a, b, overhead = FITTED[size]
        result = fit(BY_NAME["critical_batch"], table, bootstrap=0)
        assert result.values["S_min"] == pytest.approx(a, rel=2e-3)
        assert result.values["B_crit"] / 512 == pytest.approx(b / a, rel=2e-3)
        published.append(overhead)
        found.append(float(overhead_batch(result.values["B_crit"] / 512, 256)))
    assert found == pytest.approx(published, rel=2e-3)
    slope, intercept = np.polyfit(np.log(list(FITTED)), np.log(found), 1)
    assert (np.exp(intercept), slope) == pytest.approx((93.20, 0.468), rel=5e-3)

    absolute = fit(BY_NAME["critical_batch"], table, bootstrap=0, objective="lsq")
    assert absolute.values["B_crit"] / 512 != pytest.approx(b / a, rel=0.05)  # the many steps of small batches win


def test_steps_below_one_have_no_logarithm() -> None:
    table = {"batch_tokens": BATCHES, "step": np.r_[0.0, STEPS_TO_TARGET[85][1:]]}
    with pytest.raises(FitError, match="step: 0 in row 1"):
        fit(BY_NAME["critical_batch"], table, bootstrap=0)


# --- what follows from the constants ---------------------------------------------------------------------


def test_overfitting_is_the_joint_law_against_endless_data() -> None:
    constants = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    table = {"n_params": np.geomspace(1e6, 1e9, 7), "n_tokens": np.geomspace(1e8, 1e9, 7)}
    ratio = kaplan(table, **JOINT) / kaplan_size(table, A_N=JOINT["A_N"], alpha_N=0.076) - 1
    assert overfitting(**table, **constants) == pytest.approx(ratio, rel=1e-9)
    # Equation 4.4: D = 5e3 N^0.74 keeps it near 0.02, the scatter among seeds; a tenth of the data does not.
    enough = overfitting(table["n_params"], 5e3 * table["n_params"] ** 0.74, **constants)
    assert enough == pytest.approx(np.full(7, 0.02), rel=0.15)
    assert (overfitting(table["n_params"], 5e2 * table["n_params"] ** 0.74, **constants) > 0.1).all()


def test_earliest_stop_inverts_the_law_of_steps() -> None:
    table = {"n_params": np.full(3, 1e7), "min_steps": np.array([1e3, 1e4, 1e5])}
    excess = kaplan_steps(table, **STEPS) - kaplan_size(table, A_N=STEPS["A_N"], alpha_N=0.077)
    assert earliest_stop(excess, S_c=2.1e3, alpha_S=0.76) == pytest.approx(table["min_steps"], rel=1e-9)


def test_frontier_is_where_compute_is_least() -> None:
    """For each loss the size that reaches it at the least C_min = 6 N B_crit S_min, found on a fine grid of sizes."""
    losses = np.geomspace(2.0, 4.0, 9)
    sizes = np.geomspace(1e5, 1e13, 800_001)
    floor = kaplan_size({"n_params": sizes}, A_N=STEPS["A_N"], alpha_N=0.077)
    best = {"C": [], "N": [], "B": [], "S": [], "ratio": []}
    for loss in losses:
        steps = earliest_stop(np.where(floor < loss, loss - floor, 1e-9), S_c=2.1e3, alpha_S=0.76)
        k = int(np.argmin(np.where(floor < loss, np.log(sizes) + np.log(steps), np.inf)))
        batch = critical_batch_loss({"loss": loss}, B_star=2e8, inv_alpha_B=1 / 0.21)
        for name, value in zip(best, (6 * sizes[k] * batch * steps[k], sizes[k], batch, steps[k], 0), strict=True):
            best[name].append(value)
        best["ratio"][-1] = loss / floor[k]
    expected = frontier(alpha_N=0.077, alpha_S=0.76, alpha_B=0.21)

    def slope(values: object) -> float:
        return float(np.polyfit(np.log(best["C"]), np.log(values), 1)[0])

    assert slope(losses) == pytest.approx(-expected["alpha_C"], rel=1e-3)
    for name in ("N", "B", "S"):
        assert slope(best[name]) == pytest.approx(expected[name], rel=1e-3)
    assert best["ratio"] == pytest.approx(np.full(9, expected["loss_ratio"]), rel=1e-3)
    assert expected["N"] + expected["D"] == pytest.approx(1.0)
    assert (expected["alpha_C"], expected["loss_ratio"]) == pytest.approx((0.0525, 1.101), rel=2e-3)
