"""Laws of models that lose weights: averages over schedules, published gains, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.laws.chinchilla import chinchilla
from analysis.laws.sparsity import LAWS, average_params, linear_pruning, sparse, sparse_gain, sparse_variables
from analysis.tables.columns import FitError
from tests.analysis.laws.simulated_sparsity import AVERAGE_TRUTH, T5, VIT, sparse_truth

GAIN = ("a_S", "c_S", "b_S", "b_N")


# --- the average-parameter law ---------------------------------------------------------------------------


@pytest.mark.parametrize("density", [1.0, 0.5, 0.125])
def test_a_line_over_the_middle_half_averages_half_way(density: float) -> None:
    average = average_params(1e8, *linear_pruning(0.25, 0.75, density))
    assert average == pytest.approx(1e8 * (1 + density) / 2)
    if density < 1:
        late = average_params(1e8, *linear_pruning(0.5, 0.9, density))
        assert late > 1.01 * average  # the identity is one of schedules around the middle


@pytest.mark.parametrize("axis", ["tokens", "compute"])
def test_the_average_is_that_of_a_schedule_stepped_through_numerically(axis: Any) -> None:
    progress, density = (0.0, 0.2, 0.2, 0.6, 0.9, 1.0), (1.0, 1.0, 0.7, 0.3, 0.3, 0.1)
    fine = np.concatenate([np.linspace(0, 0.2, 100_001)[:-1], np.linspace(0.2, 1, 400_001)])
    middle, step = (fine[1:] + fine[:-1]) / 2, np.diff(fine)
    active = np.where(middle < 0.2, 1.0, np.interp(middle, progress[2:], density[2:]))
    tokens = step if axis == "tokens" else step / active
    expected = 1e8 * (active * tokens).sum() / tokens.sum()
    assert average_params(1e8, progress, density, axis=axis) == pytest.approx(expected, rel=1e-8)


def test_the_average_counts_compute_once() -> None:
    """The same training, told by tokens and by compute, has the same average: C = 6 N D."""
    density = np.array([1.0, 0.4])  # two steps: half of the tokens at each
    compute = np.array([0.0, 1.0, 1.0, 1.4]) / 1.4
    by_tokens = average_params(1e8, (0, 0.5, 0.5, 1), density.repeat(2))
    assert average_params(1e8, compute, density.repeat(2), axis="compute") == pytest.approx(by_tokens)
    assert average_params(1e8, compute, density.repeat(2)) > 1.1 * by_tokens


def test_sparse_and_dense_runs_lie_on_one_curve_of_the_average_and_not_of_the_final_size() -> None:
    sizes, n_tokens = np.array([1e7, 3e7, 1e8, 3e8]), np.full(4, 2e9)
    law = LAWS[0]
    assert law.read is not None
    shrunk = 2 / (1 + 0.25) * sizes  # dense sizes whose average is `sizes`
    average = [average_params(n, *linear_pruning(0.25, 0.75, 0.25)) for n in shrunk]
    pruned = law.function(law.read({"n_params_average": average, "n_tokens": n_tokens}, {}), **AVERAGE_TRUTH)
    dense = {"n_params": sizes, "n_tokens": n_tokens}
    np.testing.assert_allclose(pruned, chinchilla(dense, **AVERAGE_TRUTH), rtol=1e-12)
    by_final_size = chinchilla(dense | {"n_params": 0.25 * shrunk}, **AVERAGE_TRUTH)
    assert (by_final_size > pruned + 0.01).all()


@pytest.mark.parametrize(
    ("progress", "density", "axis"),
    [
        ((0.1, 1), (1, 0.5), "tokens"),
        ((0, 0.9), (1, 0.5), "tokens"),
        ((0, 0.6, 0.5, 1), (1, 1, 0.5, 0.5), "tokens"),
        ((0, 1), (1, 0.5, 0.5), "tokens"),
        ((0, 1), (1, 0), "tokens"),
        ((0, 1), (1.1, 1), "tokens"),
        ((0, 1), (1, np.nan), "compute"),
        ((0, 1), (1, 0.5), "steps"),
    ],
)
def test_what_is_no_schedule_is_refused(progress: Any, density: Any, axis: Any) -> None:
    with pytest.raises(FitError, match=r"^schedule: .* allowed: [^\n]*$"):
        average_params(1e8, progress, density, axis=axis)


# --- the joint law ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("published", "gain"), [(T5, 2.16), (VIT, 2.17)])
def test_three_quarters_of_zeros_are_worth_the_published_gain(published: dict[str, float], gain: float) -> None:
    found = float(sparse_gain(0.75, **{name: published[name] for name in GAIN}))
    assert found == pytest.approx(gain, abs=0.0051)
    truth = sparse_truth(published)
    columns = {"n_tokens": np.full(3, 1e10), "n_params": 1e8 * np.array([1, found, found])}
    losses = sparse(columns | {"sparsity": np.array([0.75, 0.0, 0.1])}, **truth)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)  # a dense model that much larger has the same loss
    assert losses[2] < losses[1]


def test_at_equal_weights_left_more_sparsity_is_a_lower_loss() -> None:
    sparsity = np.linspace(0, 0.99, 12)
    columns = {"sparsity": sparsity, "n_params": np.full(12, 1e8), "n_tokens": np.full(12, 1e10)}
    assert (np.diff(sparse(columns, **sparse_truth(T5))) < 0).all()
    assert (np.diff(sparse(columns, **(sparse_truth(T5) | {"a_S": 0.0}))) == 0).all()


def test_the_published_scale_of_tokens_comes_back_from_b() -> None:
    derived = LAWS[1].derived
    assert derived is not None
    truth = sparse_truth(T5)
    found = derived({name: np.array([truth[name], edge]) for name, edge in (("B", 0.0), ("b_D", 0.0))})["a_D"]
    assert found[0] == pytest.approx(T5["a_D"])


def test_a_model_without_weights_is_refused() -> None:
    table = {"sparsity": [0.0, 1.0], "n_params": [1e7, 1e7], "n_tokens": [1e9, 1e9]}
    with pytest.raises(FitError, match="sparsity: 1 is not allowed; allowed: shares below 1"):
        sparse_variables(table, {})
    assert sparse_variables(table | {"sparsity": [0.0, 0.99]}, {})["sparsity"][1] == 0.99
