"""Vocabulary laws: published roots, optima and tables, and approach 1 on curves drawn from approach 3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from analysis.fitter.law import FitResult
from analysis.fitter.procedure import Procedure, Steps
from analysis.laws.registry import get_law
from analysis.laws.vocabulary import (
    COMPRESSION,
    compression,
    optimal_vocab_params,
    optimal_vocabulary,
    tokens_per_char,
    vocabulary,
    vocabulary_variables,
)
from analysis.tables.columns import FitError
from tests.analysis.helpers import fit
from tests.analysis.laws.simulated_vocabulary import (
    PAPER_MODELS,
    PAPER_VOCABULARIES,
    SMALL_MODELS,
    SMALL_VOCABULARIES,
    TRUTH,
    grid,
)

OPTIMUM = {name: TRUTH[name] for name in ("A2", "B", "alpha1", "alpha2")}

# Tao et al. 2024: N_nv and d of the models of approach 2, and their roots.
DERIVATIVE_MODELS = (
    (33e6, 512),
    (85e6, 768),
    (151e6, 768),
    (302e6, 1024),
    (631e6, 1536),
    (1130e6, 2048),
    (2.87e9, 3200),
)
DERIVATIVE_ROOTS = (10323, 15939, 24593, 32777, 40942, 49416, 65928)

# Optimal N_v in 10^9 by approaches 1, 2 and 3, by N_nv in 10^9 (Tao et al. 2024, table of predicted vocabularies).
PUBLISHED_OPTIMA = {
    3: (0.126, 0.136, 0.117),
    7: (0.255, 0.276, 0.244),
    13: (0.427, 0.463, 0.416),
    30: (0.857, 0.932, 0.858),
    70: (1.736, 1.891, 1.786),
    130: (2.906, 3.172, 3.050),
    300: (5.831, 6.379, 6.286),
}
APPROACH_1 = {
    "k_non_vocab": np.exp(-2.48465),
    "k_vocab": np.exp(-1.58903),
    "k_chars": np.exp(1.85959),
    "a_non_vocab": 0.5,
    "a_vocab": 0.416362,
    "a_chars": 0.5,
}


def procedure(name: str) -> Procedure:
    found = get_law(name)
    assert isinstance(found, Procedure)
    return found


def estimate(name: str, table: dict[str, Any], target: str, weights: Any = None, **options: Any) -> Steps:
    """A procedure's steps at the points as they are, or in given weightings of them."""
    steps = procedure(name)
    columns = {column.name: np.asarray(table[column.name], float) for column in steps.columns}
    if steps.groups is not None:
        columns["group"] = steps.groups(columns).astype(float)
    values = np.asarray(table[target], float)
    return steps.estimate(columns, values, np.ones((1, len(values))) if weights is None else weights, options)


# --- compression -----------------------------------------------------------------------------------------


def test_the_published_constants_give_the_tokens_per_character() -> None:
    sizes = np.array([1024, 2048, 4096, 8192, 16384, 32768, 64512, 96256])
    expected = [0.4159, 0.3708, 0.3318, 0.2990, 0.2723, 0.2518, 0.2377, 0.2321]
    np.testing.assert_allclose(tokens_per_char(sizes), expected, atol=0.51e-4)


def test_compression_is_level_above_the_largest_vocabulary_measured() -> None:
    assert tokens_per_char(10**7) == tokens_per_char(200_000) < tokens_per_char(190_000)
    assert compression({"vocab_size": np.array([1e7])}, **COMPRESSION)[0] > tokens_per_char(10**7)  # as it stands


# --- approach 2 ------------------------------------------------------------------------------------------


def test_the_published_vocabularies_of_least_compute() -> None:
    n_non_vocab, width = np.array(DERIVATIVE_MODELS).T
    np.testing.assert_allclose(optimal_vocabulary(n_non_vocab, width), DERIVATIVE_ROOTS, atol=0.51)
    small = [(1e6, 128, 1548), (3e6, 192, 2977), (10e6, 256, 6761), (30e6, 512, 9538), (100e6, 768, 18074)]
    for n, d, root in small:
        assert optimal_vocabulary(n, d) == pytest.approx(root, abs=0.51)


def test_the_optimal_vocabulary_is_a_minimum_of_compute() -> None:
    n_non_vocab, width = np.array(SMALL_MODELS).T
    best = optimal_vocabulary(n_non_vocab, width)

    def compute(v: Any) -> Any:
        return (n_non_vocab + v * width) * compression({"vocab_size": v}, **COMPRESSION)

    assert (compute(best) < compute(0.98 * best)).all()
    assert (compute(best) < compute(1.02 * best)).all()
    wider = optimal_vocabulary(n_non_vocab, 2 * width)
    assert (wider < best).all()


def test_the_power_law_through_the_roots_grows_like_the_published_one() -> None:
    """By least squares 0.8331; the authors' 0.8354 is Huber's."""
    n_non_vocab, width = np.array(DERIVATIVE_MODELS).T
    table = {"n_params_non_vocab": n_non_vocab, "width": width}
    steps = estimate("vocabulary_derivative", table, "width")
    gamma = steps.params["gamma"][0]
    assert gamma == pytest.approx(0.8331, abs=0.51e-4)
    np.testing.assert_allclose(steps.points["vocab_size"], DERIVATIVE_ROOTS, atol=0.51)
    line = procedure("vocabulary_derivative").predict(table, k=steps.params["k"][0], gamma=gamma)
    predicted = line["n_params_vocab_opt"]
    np.testing.assert_allclose(np.log(predicted / steps.points["n_params_vocab"]), steps.residuals, atol=1e-12)
    assert steps.residuals[0] == 0
    assert steps.residuals.std() < 0.1


def test_the_options_of_approach_2_are_heard() -> None:
    n_non_vocab, width = np.array(DERIVATIVE_MODELS).T
    table = {"n_params_non_vocab": n_non_vocab, "width": width}
    steps = estimate("vocabulary_derivative", table, "width")
    coarser = estimate("vocabulary_derivative", table, "width", a="0.007")
    assert (coarser.points["vocab_size"] < steps.points["vocab_size"]).all()
    anchored = estimate("vocabulary_derivative", table, "width", anchor=3145728)
    assert anchored.params["gamma"][0] == steps.params["gamma"][0]
    assert anchored.params["k"][0] * 33e6 ** anchored.params["gamma"][0] == pytest.approx(3145728)


def test_weights_count_models_in_the_line_through_the_roots() -> None:
    n_non_vocab, width = np.array(DERIVATIVE_MODELS).T
    weights = np.array([[1, 1, 1, 1, 1, 1, 1], [1, 0, 2, 0, 0, 1, 3], [7, 0, 0, 0, 0, 0, 0]], float)
    steps = estimate("vocabulary_derivative", {"n_params_non_vocab": n_non_vocab, "width": width}, "width", weights)
    chosen = np.repeat(np.arange(7), weights[1].astype(int))
    again = estimate(
        "vocabulary_derivative", {"n_params_non_vocab": n_non_vocab[chosen], "width": width[chosen]}, "width"
    )
    assert steps.params["gamma"][1] == pytest.approx(again.params["gamma"][0], rel=1e-12)
    assert steps.params["k"][1] == pytest.approx(again.params["k"][0], rel=1e-9)
    assert np.isnan(steps.params["gamma"][2])  # one model is no line


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_vocabulary(1e8, 768, a=-0.006), "f\\(V\\): a = -0.006 and b = -0.158111 are not allowed"),
        (lambda: optimal_vocabulary([1e8, 1e2], 768), "n_params_non_vocab: so few parameters"),
        (
            lambda: estimate("vocabulary_derivative", {"n_params_non_vocab": [1e8], "width": [768]}, "width", a="x"),
            "a: 'x' is not allowed; allowed: a number",
        ),
        (
            lambda: estimate("vocabulary_derivative", {"n_params_non_vocab": [1e8], "width": [768]}, "width", anchor=0),
            "anchor: 0 is not allowed; allowed: a positive number",
        ),
        (
            lambda: estimate("vocabulary_derivative", {"n_params_non_vocab": [1e8] * 2, "width": [768] * 2}, "width"),
            "n_params_non_vocab: is 1e\\+08 in every row",
        ),
    ],
)
def test_what_has_no_best_vocabulary_is_refused(call: Any, message: str) -> None:
    with pytest.raises(FitError, match=message):
        call()


# --- the published table, by all three -------------------------------------------------------------------


@pytest.mark.parametrize("billions", PUBLISHED_OPTIMA)
def test_the_published_optima_of_the_three_approaches(billions: int) -> None:
    n_non_vocab = billions * 1e9
    flops = np.array([(n_non_vocab / APPROACH_1["k_non_vocab"]) ** 2])
    lines = procedure("vocabulary_isoflop").predict({"flops": flops}, **APPROACH_1)
    assert lines["n_params_non_vocab_opt"][0] == pytest.approx(n_non_vocab)
    anchored = {"k": 3145728 / 33e6**0.8354, "gamma": 0.8354}  # the best vocabulary measured at 33 million
    derivative = procedure("vocabulary_derivative").predict({"n_params_non_vocab": np.array([n_non_vocab])}, **anchored)
    loss = optimal_vocab_params(n_non_vocab, flops, **OPTIMUM)
    found = np.array([lines["n_params_vocab_opt"][0], derivative["n_params_vocab_opt"][0], loss[0]]) / 1e9
    np.testing.assert_allclose(found, PUBLISHED_OPTIMA[billions], atol=0.0011)  # whole vocabularies, cut off


def test_the_optimal_vocabulary_parameters_are_a_minimum_of_the_loss() -> None:
    n_non_vocab, flops = np.array([1e7, 1e9, 1e11]), np.array([1e16, 1e20, 1e24])
    best = optimal_vocab_params(n_non_vocab, flops, **OPTIMUM)

    def loss(n_vocab: Any) -> Any:
        n_tokens = flops / 6 / (n_non_vocab + n_vocab)
        return vocabulary({"n_params_non_vocab": n_non_vocab, "n_params_vocab": n_vocab, "n_tokens": n_tokens}, **TRUTH)

    assert (loss(best) < loss(0.9 * best)).all()
    assert (loss(best) < loss(1.1 * best)).all()
    more = optimal_vocab_params(n_non_vocab, 10 * flops, **OPTIMUM)
    assert (more > best).all()  # more text carries a larger vocabulary


# --- approach 3 ------------------------------------------------------------------------------------------


def test_characters_become_tokens_where_tokens_are_missing() -> None:
    table = grid(PAPER_MODELS, PAPER_VOCABULARIES, (1e9, 1e10))
    by_chars = vocabulary_variables(table, {})
    n_tokens = table["n_chars"] * tokens_per_char(table["vocab_size"])
    np.testing.assert_array_equal(by_chars["n_tokens"], n_tokens)
    np.testing.assert_array_equal(
        vocabulary_variables(table | {"n_tokens": 2 * n_tokens}, {})["n_tokens"], 2 * n_tokens
    )
    with pytest.raises(FitError, match="vocab_size: no such column"):
        vocabulary_variables({name: values for name, values in table.items() if name != "vocab_size"}, {})
    with pytest.raises(FitError, match="n_tokens: no such column"):
        vocabulary_variables({name: values for name, values in table.items() if name != "n_chars"}, {})


def measured(table: dict[str, Any], noise: float, seed: int = 0) -> dict[str, Any]:
    exact = vocabulary(vocabulary_variables(table, {}), **TRUTH)
    return table | {"loss_u": exact + noise * np.random.default_rng(seed).standard_normal(exact.shape)}


def test_points_of_the_published_law_give_the_published_constants_back() -> None:
    result = fit("vocabulary", measured(grid(PAPER_MODELS, PAPER_VOCABULARIES, (5e9, 2e10, 1e11)), 0.0), bootstrap=0)
    for name, value in TRUTH.items():
        assert result.values[name] == pytest.approx(value, rel=1e-4), name


def test_the_papers_vocabularies_do_not_determine_alpha2_and_the_fit_says_so() -> None:
    """Residuals of 0.07 are those of the published points. The negative control has vocabularies from 256 on."""
    chars = tuple(np.geomspace(4e9, 1.2e11, 5))
    narrow = measured(grid(PAPER_MODELS, PAPER_VOCABULARIES, chars), 0.07)
    wide = measured(grid(SMALL_MODELS, SMALL_VOCABULARIES, chars), 0.07)
    unsure, sure = (fit("vocabulary", table, delta=0.1, bootstrap=50) for table in (narrow, wide))

    def width(result: FitResult) -> float:
        """Of the interval of alpha2, by its value."""
        found = result.params["alpha2"]
        assert found.ci95 is not None
        return (found.ci95[1] - found.ci95[0]) / found.value

    assert width(unsure) > 1
    assert width(sure) < 0.2
    assert any("alpha2" in warning for warning in unsure.warnings), unsure.warnings
    assert not any("alpha2" in warning for warning in sure.warnings), sure.warnings


# --- approach 1 ------------------------------------------------------------------------------------------

SIZES = np.geomspace(3e6, 3e10, 33)
VOCABS = np.geomspace(2e5, 2e9, 33)
COMPUTE = (1e18, 1e21)


def curves(vocabs: Any = VOCABS) -> dict[str, Any]:
    """Loss curves of the published law on a dense grid of both sizes, with one f(V) = 0.25 tokens per character."""
    size, vocab, flops = (x.ravel() for x in np.meshgrid(SIZES, vocabs, np.geomspace(*COMPUTE, 9), indexing="ij"))
    n_tokens = flops / 6 / (size + vocab)
    columns = {"n_params_non_vocab": size, "n_params_vocab": vocab, "n_tokens": n_tokens}
    loss_u = vocabulary(columns, **TRUTH)
    return columns | {"flops": flops, "n_chars": n_tokens / 0.25, "loss_u": loss_u}


def true_optimum(flops: float) -> tuple[float, float]:
    """N_nv and N_v of the least loss of the published law at C, by search."""
    sizes = np.geomspace(SIZES[0], SIZES[-1], 4001)
    vocab = optimal_vocab_params(sizes, flops, **OPTIMUM)
    n_tokens = flops / 6 / (sizes + vocab)
    columns = {"n_params_non_vocab": sizes, "n_params_vocab": vocab, "n_tokens": n_tokens}
    best = int(np.argmin(vocabulary(columns, **TRUTH)))
    return float(sizes[best]), float(vocab[best])


def test_the_envelope_finds_the_optimum_that_the_loss_implies() -> None:
    table = curves()
    free = estimate("vocabulary_isoflop", table, "loss_u", exponents="free")
    fixed = estimate("vocabulary_isoflop", table, "loss_u")
    assert free.warnings == fixed.warnings == ()
    flops = np.array([3e18, 3e20])
    truth = np.array([true_optimum(c) for c in flops])
    values = {name: value[0] for name, value in free.params.items()}
    lines = procedure("vocabulary_isoflop").predict({"flops": flops}, **values)
    np.testing.assert_allclose(lines["n_params_non_vocab_opt"], truth[:, 0], rtol=0.05)
    np.testing.assert_allclose(lines["n_params_vocab_opt"], truth[:, 1], rtol=0.05)
    np.testing.assert_allclose(lines["n_chars_opt"], flops / 6 / truth.sum(1) / 0.25, rtol=0.05)
    slopes = np.diff(np.log(truth), axis=0)[0] / np.diff(np.log(flops))
    assert values["a_non_vocab"] == pytest.approx(slopes[0], abs=0.01)
    assert values["a_vocab"] == pytest.approx(slopes[1], abs=0.01)
    assert values["a_vocab"] < values["a_non_vocab"] - 0.05  # the vocabulary grows slower than the rest
    assert fixed.params["a_non_vocab"][0] == fixed.params["a_chars"][0] == 0.5
    assert fixed.params["a_vocab"][0] == values["a_vocab"]


def test_an_envelope_at_the_edge_of_its_vocabularies_warns() -> None:
    steps = estimate("vocabulary_isoflop", curves(VOCABS[:14]), "loss_u")
    assert any("best vocabulary is the smallest or largest" in warning for warning in steps.warnings)
    assert not any("best model is" in warning for warning in steps.warnings)


def test_runs_without_weight_are_not_on_the_envelope() -> None:
    table = curves(VOCABS[::4])
    kept = np.isin(table["n_params_vocab"], VOCABS[::8])
    weights = np.stack([np.ones(len(kept)), kept.astype(float), np.zeros(len(kept))])
    steps = estimate("vocabulary_isoflop", table, "loss_u", weights, exponents="free")
    again = estimate(
        "vocabulary_isoflop", {name: values[kept] for name, values in table.items()}, "loss_u", exponents="free"
    )
    for name, values in steps.params.items():
        assert values[1] == pytest.approx(again.params[name][0], rel=1e-9), name
        assert np.isnan(values[2])
    assert steps.params["a_vocab"][0] != steps.params["a_vocab"][1]


@pytest.mark.parametrize(
    ("keep", "options", "message"),
    [
        (slice(None), {"exponents": "half"}, "exponents: 'half' is unknown; allowed: fixed, free"),
        (slice(0, 9), {}, "the envelope needs two or more runs"),
        (slice(0, None, 9), {}, "the envelope needs two or more runs"),
    ],
)
def test_what_has_no_envelope_is_refused(keep: slice, options: dict[str, Any], message: str) -> None:
    table = {name: values[keep] for name, values in curves().items()}
    with pytest.raises(FitError, match=message):
        estimate("vocabulary_isoflop", table, "loss_u", **options)
