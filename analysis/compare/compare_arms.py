"""Two methods compared by their scaling laws: one joint model of both arms, where they cross, and what can be said.

One size is not enough: a ranking can turn over with scale (Xiao 2024, arXiv 2409.15156), so both arms are fitted at
once and the answer is an order of curves (Nezhurina et al. 2025, arXiv 2506.04598) with the interval of their
crossing. The floor E belongs to the data and the tokenizer and is one for both arms unless asked otherwise: separate
floors turn noise into differences of slope.

compare_arms(find_law("chinchilla"), table, by="optim.name").sentence      "muon overtakes adamw at …"

Shape letters: N points, R bootstrap replicates, U places on a grid of log10 x, K losses.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from analysis.compare.arms import Trials, curve, hypotheses_of, read_trials, split_law
from analysis.compare.conclusion import Conclusion, conclude, confirmed_by_seeds, weaknesses
from analysis.compare.crossing import Crossing, Lines, Measure, grid, invert, measure, roots, takeover, thinned
from analysis.fitter.law import FitResult, Fittable, Law
from analysis.fitter.options import FEWEST_RESAMPLES, FitOptions
from analysis.fitter.refit import refit
from analysis.tables.columns import Array, FitError

Floors = Literal["shared", "separate"]
FLOORS: tuple[Floors, ...] = ("shared", "separate")
WIDEST = 3.0  # decades beyond the data in which the other arm's equal loss is looked for

# --- the answer --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hypothesis:
    """One joint model.

    Attributes:
        aicc: corrected Akaike criterion of least squares of ln loss, less that of the best hypothesis; None where
            there are too few points for it.
        held_out: root mean square of ln predicted - ln measured at the most expensive scale, by a fit without it; None
            where the rest cannot be fitted.
    """

    name: str
    meaning: str
    n_constants: int
    constants: dict[str, float]
    aicc: float | None
    held_out: float | None


@dataclass(frozen=True)
class AtCost:
    """The loss of the other arm less that of the reference at one x, and the share of replicates where it is lower."""

    x: float
    difference: Measure
    p_better: float


@dataclass(frozen=True)
class ArmsComparison:
    """Two arms, fitted at once.

    Attributes:
        arms: the reference, and the other, whose effects are told.
        chosen: the hypothesis of the lowest AICc; `drawn`: that of the curves and the crossing.
        multiplier: how many times less x the other arm needs for the same loss, under common exponents; above 1 it
            is better. Constant in a power law, otherwise at the middle of the losses that both reached.
        multipliers: `loss` and, at each, `value`, `lo90`, `hi90` under `drawn`.
        curves: of each arm under `drawn`, with 90 % bands.
        draws: log10 of the crossing in each replicate.
        confirmed: whether at least two seeds agree on the order at the largest x.
    """

    law: str
    target: str
    x: str
    by: str
    arms: tuple[str, str]
    n: int
    scales: int
    hypotheses: tuple[Hypothesis, ...]
    chosen: str
    drawn: str
    crossing: Crossing
    at: tuple[AtCost, ...]
    multiplier: Measure
    multipliers: dict[str, list[float]]
    curves: Lines
    confirmed: bool
    verdict: Conclusion
    sentence: str
    warnings: tuple[str, ...]
    bootstrap: dict[str, int]
    draws: tuple[float, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--out`."""
        return dataclasses.asdict(self)


# --- the comparison --------------------------------------------------------------------------------------


def compare_arms(
    law: Fittable,
    table: Any,
    *,
    by: str,
    x: str | None = None,
    reference: str | None = None,
    floors: Floors = "shared",
    at: Sequence[float] = (),
    bootstrap: int = FitOptions.bootstrap,
    seed: int = FitOptions.seed,
) -> ArmsComparison:
    """`compare_arms(law, table, by="optim.name").sentence`: both arms of a table fitted at once, and which is better
    where.

    Args:
        table: a polars frame, or a mapping of arrays: `by`, the law's columns, its target, and `seed` if known.
        by: the column of two arms.
        x: the column that a law of one free variable reads.
        reference: the arm that the other is compared with; the first by name when None.
        floors: whether the curves of the answer share E.
        at: places of x at which losses are compared, besides the largest that both arms reached.
        bootstrap: resamples, at least 20.

    Raises:
        FitError: see `read_trials` and `analysis.fitter.law.Law.fit`.
    """
    compared = law_to_compare(law, table)
    if bootstrap < FEWEST_RESAMPLES or seed < 0:
        raise FitError(
            f"bootstrap {bootstrap}, seed {seed}: is not allowed; allowed: at least {FEWEST_RESAMPLES} resamples, "
            "a seed >= 0"
        )
    for place in at:
        if not (math.isfinite(place) and place > 0):
            raise FitError(f"--at {place:g}: is not allowed; allowed: positive numbers")
    trials = read_trials(compared, table, by, x, reference)
    known = hypotheses_of(compared)
    joint = {name: split_law(compared, apart, trials.arms) for name, (_, apart) in known.items()}
    fits = {name: trials.fit(split) for name, split in joint.items()}
    hypotheses = _judge(known, joint, fits, trials)
    chosen = min(hypotheses, key=lambda h: math.inf if h.aicc is None else h.aicc).name
    drawn = "floor" if floors == "separate" and "floor" in known else "slope"

    weights = trials.draw(bootstrap, seed, len(joint[drawn].names))
    replicates = {
        name: refit(joint[name], trials.columns, trials.loss, weights, fits[name].values) for name in (drawn, "factor")
    }

    def losses(name: str, at_log_x: Array) -> tuple[Array, Array]:
        """Of both arms, the fit first and then the replicates (1 + R, U) each."""
        apart, values = known[name][1], fits[name].values
        constants = {k: np.concatenate([[[values[k]]], draws]) for k, draws in replicates[name].items()}
        first, second = (
            curve(compared, {k: constants[f"{k}[{arm}]" if k in apart else k] for k in compared.names}, at_log_x)
            for arm in trials.arms
        )
        return first, second

    low, high = trials.shared_range()
    n_lost = 0
    for name, draws in replicates.items():
        sound = np.all([np.isfinite(loss).all(axis=1) for loss in losses(name, grid(low, high, WIDEST))], axis=0)
        if not sound[0] or sound[1:].sum() < FEWEST_RESAMPLES:
            raise FitError(
                f"{compared.name}: a term of the fit vanishes, so that no allocation of compute is best; allowed: "
                "points that vary n_params and n_tokens apart, or a law of x"
            )
        n_lost = max(n_lost, int((~sound).sum()))
        replicates[name] = {constant: values[sound[1:]] for constant, values in draws.items()}
    log_x = grid(low, high)
    both = losses(drawn, log_x)
    crossing, crossings = _cross(both, log_x, trials)
    places = np.array(sorted({*at, high}))
    confirmed = confirmed_by_seeds(trials)
    verdict, sentence = conclude(trials, chosen, crossing, confirmed)
    multiplier, multipliers = _multipliers(losses, drawn, trials)
    warnings = weaknesses(trials, chosen, drawn, places, crossing)
    if n_lost:
        warnings.append(f"{n_lost} of {bootstrap} resamples have no best allocation; intervals leave them out")
    return ArmsComparison(
        law=compared.name,
        target=compared.target.name,
        x=trials.x_name,
        by=by,
        arms=trials.arms,
        n=len(trials.loss),
        scales=trials.n_scales,
        hypotheses=hypotheses,
        chosen=chosen,
        drawn=drawn,
        crossing=crossing,
        at=_differences(places, losses(drawn, np.log10(places))),
        multiplier=multiplier,
        multipliers=multipliers,
        curves=_lines(trials.arms, both, log_x),
        confirmed=confirmed,
        verdict=verdict,
        sentence=sentence,
        warnings=(*warnings, *_of_fit(fits[drawn])),
        bootstrap={"n": bootstrap, "seed": seed},
        draws=tuple(crossings.tolist()),
    )


def law_to_compare(law: Fittable, table: Any) -> Law:
    """`law_to_compare(find_law("chinchilla"), table)`: the law itself, of a family the member with default options;
    raises `FitError` for what is no formula of runs."""
    chosen = law.choose(table, {})
    if chosen.single is None or not chosen.parameters:
        raise FitError(f"{chosen.name}: has no one formula to compare; allowed: a law that has")
    if chosen.of_curves:
        raise FitError(f"{chosen.name}: reads training curves; allowed: a law of runs")
    return chosen.single


def aicc(rss: float, n: int, n_constants: int) -> float:
    """`aicc(rss=0.01, n=20, n_constants=5)`: Akaike's criterion for normal errors, corrected for small samples
    (Hurvich and Tsai 1989), up to a constant; the variance counts as one more constant. Infinite where it does not
    exist."""
    k = n_constants + 1
    if n <= k + 1:
        return math.inf
    exact = n * 1e-24  # residuals of rounding only
    return n * math.log(max(rss, exact) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)


def _judge(known: Any, joint: dict[str, Law], fits: dict[str, FitResult], trials: Trials) -> tuple[Hypothesis, ...]:
    n = len(trials.loss)
    scores = {name: aicc(2 * fits[name].objective["value"], n, len(split.names)) for name, split in joint.items()}
    best = min(scores.values())
    last = trials.scale == trials.scale[np.argmax(trials.cost)]
    cheap, expensive = trials.rows(~last), trials.rows(last)

    def held_out(split: Law) -> float | None:
        try:
            values = cheap.fit(split).values
        except FitError:
            return None
        return float(np.sqrt(np.mean(np.log(split.function(expensive.columns, **values) / expensive.loss) ** 2)))

    return tuple(
        Hypothesis(
            name=name,
            meaning=meaning,
            n_constants=len(joint[name].names),
            constants=fits[name].values,
            aicc=scores[name] - best if math.isfinite(scores[name]) else None,
            held_out=held_out(joint[name]),
        )
        for name, (meaning, _) in known.items()
    )


def _cross(both: tuple[Array, Array], log_x: Array, trials: Trials) -> tuple[Crossing, Array]:
    difference = both[1] - both[0]  # the first row is the fit
    ahead = 1 if difference[0, -1] < 0 else 0
    lead = difference if ahead == 0 else -difference
    draws = takeover(lead[1:], log_x)
    places = roots(difference[0], log_x)
    low, high = np.log10(trials.shared_range())
    inside = (log_x >= low - 1e-9) & (log_x <= high + 1e-9)
    where: Any = "none"
    if len(places):
        where = "inside_range" if low <= places[-1] <= high else "extrapolated"
    turns = np.diff(lead[1:] > 0, axis=1)
    crossing = Crossing(
        leader=trials.arms[ahead],
        bracket=(float(10 ** log_x[0]), float(10 ** log_x[-1])),
        measured=trials.shared_range(),
        roots=tuple(float(10**root) for root in places),
        where=where,
        log10_x=measure(float(np.median(draws)), draws),
        p_exists=float(turns.any(axis=1).mean()),
        p_inside=float(turns[:, inside[1:] & inside[:-1]].any(axis=1).mean()),
        p_censored=(float((draws <= log_x[0]).mean()), float((draws >= log_x[-1]).mean())),
        p_leads={
            trials.arms[0]: float((difference[1:, inside] > 0).all(axis=1).mean()),
            trials.arms[1]: float((difference[1:, inside] < 0).all(axis=1).mean()),
        },
    )
    return crossing, draws


# --- effects ---------------------------------------------------------------------------------------------


def _differences(places: Array, both: tuple[Array, Array]) -> tuple[AtCost, ...]:
    difference = both[1] - both[0]
    return tuple(
        AtCost(float(place), measure(column[0], column[1:]), float((column[1:] < 0).mean()))
        for place, column in zip(places, difference.T, strict=True)
    )


def _multipliers(losses: Any, drawn: str, trials: Trials) -> tuple[Measure, dict[str, list[float]]]:
    """CM = x of the reference over x of the other at equal loss (both arms' curves inverted)."""
    low, high = trials.shared_range()
    log_x = grid(low, high, WIDEST)
    ends = [loss[0] for loss in losses(drawn, np.log10([low, high]))]
    upper, lower = min(e[0] for e in ends), max(e[1] for e in ends)
    middle = np.array([math.sqrt(upper * lower)])

    def ratio(name: str, loss_K: Array) -> Array:
        first, second = losses(name, log_x)
        return 10 ** (invert(first, log_x, loss_K) - invert(second, log_x, loss_K))

    constant = ratio("factor", middle)[:, 0]
    ratios: dict[str, list[float]] = {"loss": [], "value": [], "lo90": [], "hi90": []}
    if lower < upper:
        loss_K = np.geomspace(upper, lower, 41)
        many = ratio(drawn, loss_K)
        ends90 = np.quantile(many[1:], [0.05, 0.95], axis=0)
        ratios = {
            "loss": loss_K.tolist(),
            "value": many[0].tolist(),
            "lo90": ends90[0].tolist(),
            "hi90": ends90[1].tolist(),
        }
    return measure(constant[0], constant[1:]), ratios


def _lines(arms: tuple[str, str], both: tuple[Array, Array], log_x: Array) -> Lines:
    thin = thinned(log_x)
    lines = {}
    for arm, loss in zip(arms, both, strict=True):
        low, high = np.quantile(loss[1:, thin], [0.05, 0.95], axis=0)
        lines[arm] = {"loss": loss[0, thin].tolist(), "low": low.tolist(), "high": high.tolist()}
    return Lines(90, (10 ** log_x[thin]).tolist(), lines)


def _of_fit(result: FitResult) -> list[str]:
    """Warnings of the joint fit. Constants that trade off are none here: curves, not constants, are compared."""
    return [warning for warning in result.warnings if "trade off" not in warning]
