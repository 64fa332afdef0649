"""Laws of few bits: published values, signs, optima, and what they refuse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from analysis.laws.chinchilla import chinchilla
from analysis.laws.precision import (
    LAWS,
    critical_tokens,
    effective_precision,
    fp_precision,
    fp_variables,
    optimal_split,
    qat_precision,
    qat_variables,
    retention,
)
from analysis.tables.columns import FitError
from tests.analysis.laws.simulated_precision import EFFECTIVE_TRUTH, FP_TRUTH, QAT_TRUTH

FORMATS = {"E8M7": (8, 7), "E4M3": (4, 3), "E2M1": (2, 1)}
CHINCHILLA = {name: FP_TRUTH[name] for name in ("E", "A", "B", "alpha", "beta")}
ERROR = {name: FP_TRUTH[name] for name in ("B", "alpha", "beta", "k", "delta", "nu")}
BITS = {name: FP_TRUTH[name] for name in ("delta", "nu")}


def fp_loss(n: Any, d: Any, e: Any, m: Any, block: Any) -> Any:
    names = ("n_params", "n_tokens", "exponent_bits", "mantissa_bits", "block_size")
    values = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for x in (n, d, e, m, block)))
    return fp_precision(fp_variables(dict(zip(names, values, strict=True)), {}), **FP_TRUTH)


def qat_error(setting: str, n: Any, d: Any, group: Any) -> Any:
    values = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for x in (n, d, group)))
    table = dict(zip(("n_params", "n_tokens", "group_size"), values, strict=True))
    return qat_precision(qat_variables(table, {}), **QAT_TRUTH[setting])


# --- floating-point formats ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "block", "expected", "digits"),
    [("E8M7", 1, 3.47156, 5), ("E8M7", 128, 3.4716, 4), ("E4M3", 128, 3.4718, 4), ("E2M1", 128, 3.4944, 4)],
)
def test_the_published_constants_give_the_losses_of_formats(
    name: str, block: int, expected: float, digits: int
) -> None:
    assert fp_loss(41e6, 1e10, *FORMATS[name], block)[0] == pytest.approx(expected, abs=0.51 * 10**-digits)


def test_a_block_of_one_element_is_a_run_without_quantisation() -> None:
    columns = {"n_params": np.array([41e6]), "n_tokens": np.array([1e10])}
    unquantised = chinchilla(columns, **CHINCHILLA)
    np.testing.assert_array_equal(fp_loss(41e6, 1e10, 1, 0, 1), unquantised)
    assert fp_loss(41e6, 1e10, 1, 0, 2)[0] > unquantised[0] + 0.01


@pytest.mark.parametrize(("bits", "mantissa", "name"), [(4, 1.42, "E2M1"), (8, 3.34, "E4M3"), (16, 7.19, "E8M7")])
def test_the_optimal_split_is_the_published_one_and_the_best_of_whole_bits(
    bits: int, mantissa: float, name: str
) -> None:
    e, m = optimal_split(bits, **BITS)
    assert m == pytest.approx(mantissa, abs=0.0051)
    assert e + m + 1 == pytest.approx(bits)
    whole = [(k, bits - 1 - k) for k in range(bits)]
    losses = [fp_loss(41e6, 1e10, *split, 128)[0] for split in whole]
    assert whole[int(np.argmin(losses))] == FORMATS[name] == (round(e), round(m))


@pytest.mark.parametrize(("name", "trillions"), [("E8M7", 1730.0), ("E4M3", 27.3), ("E2M1", 0.393)])
def test_the_critical_data_size_is_published_and_the_minimum_of_the_loss(name: str, trillions: float) -> None:
    critical = critical_tokens(1e9, *FORMATS[name], 128, **ERROR)
    assert critical == pytest.approx(trillions * 1e12, rel=2e-3)
    before, at, after = fp_loss(1e9, critical * np.array([0.9, 1.0, 1.1]), *FORMATS[name], 128)
    assert at < before
    assert at < after
    unquantised = fp_loss(1e9, critical * np.array([1.0, 1.1]), *FORMATS[name], 1)
    assert unquantised[1] < unquantised[0]  # where there is no error, more data never harm


def test_the_error_rises_with_data_and_block_and_falls_with_size_and_bits() -> None:
    def error(n: Any = 41e6, d: Any = 1e10, e: Any = 2, m: Any = 1, block: Any = 128) -> Any:
        return fp_loss(n, d, e, m, block) - fp_loss(n, d, e, m, 1)

    many = np.geomspace(1, 100, 9)
    assert (np.diff(error(d=1e9 * many)) > 0).all()
    assert (np.diff(error(block=2 * many)) > 0).all()
    assert (np.diff(error(n=1e6 * many)) < 0).all()
    assert (np.diff(error(e=np.arange(9))) < 0).all()
    assert (np.diff(error(m=np.arange(9))) < 0).all()
    assert error(e=4, m=3)[0] < error(e=3, m=4)[0]  # a bit of exponent is worth slightly more


def test_the_best_precision_rises_from_four_to_eight_bits_over_ten_decades_of_compute() -> None:
    """At C = (6/16) N P D, over sizes and over formats split at their best."""
    bits = np.arange(2, 17)
    e, m = optimal_split(bits, **BITS)
    sizes = np.geomspace(1e7, 1e18, 401)
    for flops, block in itertools.product((1e21, 1e26, 1e31), (128, 1)):
        best = [
            fp_loss(sizes, flops / (6 / 16) / sizes / p, e_best, m_best, block).min()
            for p, e_best, m_best in zip(bits, e, m, strict=True)
        ]
        chosen = bits[int(np.argmin(best))]
        assert 4 <= chosen <= 8 if block == 128 else chosen == 2  # for free, the fewest bits are best


def test_gamma_is_reported_as_the_inverse_of_k() -> None:
    derived = LAWS[0].derived
    assert derived is not None
    gamma = derived({"k": np.array([FP_TRUTH["k"], 0.0])})["gamma"]
    assert gamma[0] == pytest.approx(11334.5197)
    assert np.isposinf(gamma[1])


# --- quantisation-aware training -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "group", "expected"),
    [
        (74e6, 10e9, 32, (0.0586, 0.0272, 0.0389)),
        (74e6, 10e9, 256, (0.0844, 0.0321, 0.0616)),
        (595e6, 100e9, 128, (0.0573, 0.0210, 0.0400)),
    ],
)
def test_the_published_constants_give_the_errors_of_qat(
    n: float, d: float, group: float, expected: tuple[float, ...]
) -> None:
    found = [qat_error(setting, n, d, group)[0] for setting in QAT_TRUTH]
    np.testing.assert_allclose(found, expected, atol=0.51e-4)


@pytest.mark.parametrize(("n", "d", "expected"), [(74e6, 10e9, 3.4900), (595e6, 100e9, 2.7407)])
def test_the_unquantised_twin_is_chinchilla_with_one_exponent(n: float, d: float, expected: float) -> None:
    columns = {"n_params": np.array([n]), "n_tokens": np.array([d])}
    loss = chinchilla(columns, E=1.9279, A=237.7042, B=596.2490, alpha=0.3022, beta=0.3022)
    assert loss[0] == pytest.approx(expected, abs=0.51e-4)


@pytest.mark.parametrize("setting", QAT_TRUTH)
def test_the_error_of_qat_rises_with_data_and_group_and_falls_with_size(setting: str) -> None:
    many = np.geomspace(1, 100, 9)
    assert (np.diff(qat_error(setting, 74e6 * many, 1e10, 128)) < 0).all()
    assert (np.diff(qat_error(setting, 74e6, 1e10 * many, 128)) > 0).all()
    assert (np.diff(qat_error(setting, 74e6, 1e10, 32 * many)) > 0).all()


def test_the_signs_of_the_exponents_are_left_to_the_data() -> None:
    """An experiment asks whether the error rises with D, so the law must be able to say that it falls."""
    exponents = [p for p in LAWS[1].parameters if p.name != "k"]
    assert [(p.lower, p.upper) for p in exponents] == [(-4.0, 4.0)] * 3


def test_errors_of_weights_and_activations_add_up_to_nearly_that_of_both() -> None:
    weights, activations, both = (qat_error(s, 145e6, 2e10, 128)[0] for s in ("W4A16", "W16A4", "W4A4"))
    assert both / (weights + activations) == pytest.approx(0.906, abs=0.05)


# --- precision as size -----------------------------------------------------------------------------------


def test_the_published_gamma_gives_the_parameters_that_weight_bits_leave() -> None:
    left = retention(np.array([2, 3, 4, 6, 8, 16]), EFFECTIVE_TRUTH["gamma_w"])
    np.testing.assert_allclose(left, [0.527, 0.674, 0.776, 0.894, 0.950, 0.997], atol=0.00051)


def test_fewer_bits_are_fewer_parameters_and_many_bits_are_all_of_them() -> None:
    def loss(n: float, w: float, a: float, kv: float) -> float:
        table = {"n_params": n, "n_tokens": 2e9, "weight_bits": w, "activation_bits": a, "kv_bits": kv}
        return float(effective_precision({k: np.array([v]) for k, v in table.items()}, **EFFECTIVE_TRUTH)[0])

    n_left = 1e8 * float(np.prod([retention(4, EFFECTIVE_TRUTH[f"gamma_{x}"]) for x in ("w", "a", "kv")]))
    assert loss(1e8, 4, 4, 4) == pytest.approx(loss(n_left, 1e3, 1e3, 1e3), rel=1e-12)
    assert loss(1e8, 4, 4, 4) > loss(1e8, 4, 4, 8) > loss(1e8, 4, 8, 8) > loss(1e8, 8, 8, 8) > loss(1e8, 1e3, 1e3, 1e3)
    base = {name: EFFECTIVE_TRUTH[name] for name in ("E", "A", "B", "alpha", "beta")}
    whole = chinchilla({"n_params": np.array([1e8]), "n_tokens": np.array([2e9])}, **base)
    assert loss(1e8, 1e3, 1e3, 1e3) == pytest.approx(whole[0], rel=1e-12)


# --- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": [0.5, 128.0]}, "block_size: 0.5 is not allowed; allowed: 1"),
        ({"mantissa_bits": [-1.0, 1.0]}, "mantissa_bits: -1 in row 1 is not allowed; allowed: numbers >= 0"),
        ({"n_tokens": [1e9, np.nan]}, "n_tokens: nan in row 2 is missing"),
        ({"block_size": None}, "block_size: no such column"),
    ],
)
def test_what_is_no_format_is_refused_in_one_line(change: dict[str, Any], message: str) -> None:
    table: dict[str, Any] = {
        "n_params": [1e7, 1e8],
        "n_tokens": [1e9, 1e9],
        "exponent_bits": [2, 2],
        "mantissa_bits": [1, 1],
        "block_size": [1, 128],
    }
    fp_variables(table, {})
    table = {name: values for name, values in (table | change).items() if values is not None}
    with pytest.raises(FitError, match=message):
        fp_variables(table, {})


def test_a_group_of_one_element_is_refused() -> None:
    with pytest.raises(FitError, match="group_size: 1 is not allowed; allowed: more than 1"):
        qat_variables({"n_params": [1e7], "n_tokens": [1e9], "group_size": [1]}, {})
