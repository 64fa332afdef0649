"""The studies of stacking: runs that behave as the paper says, and runs that do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from analysis.figures.gstack import factor, law, operators, timing
from analysis.figures.gstack.valleys import PUBLISHED, find_valleys, fit_rule
from analysis.growth.speed_up import arm_of, finals
from analysis.tables.columns import Array
from analysis.tables.lineage import trace
from sweeps.cells.graph import cost_of
from sweeps.studies.gstack import factor as factor_study
from sweeps.studies.gstack import law as law_study
from sweeps.studies.gstack import operators as operators_study
from sweeps.studies.gstack import spike as spike_study
from sweeps.studies.gstack import timing as timing_study
from sweeps.studies.gstack.recipe import SCALES, target
from tests.analysis.figures.simulate_growth import FULL, Loss, Simulated, diverge, scratch_loss, simulate_growth
from tests.analysis.figures.simulate_runs import NOT_REPRODUCED, REPRODUCED, verdicts

pytestmark = pytest.mark.usefixtures("no_pictures")

# --- operators -------------------------------------------------------------------------------------------

# Nats above scratch at equal FLOPs: the paper's figure 3, its differences tripled, and interpolation.
AS_PUBLISHED = {
    "stack": -0.159, "interpolate": -0.1, "depth/zero": -0.129, "depth/learn": -0.144, "depth/random": 0.162,
    "direct": 0.015, "width/zero": 0.135, "width/learn": 0.087, "width/random": 0.069,
}  # fmt: skip


def of_operator(above: dict[str, float], sign: float = 1.0) -> Loss:
    def loss(run: Simulated) -> float:
        if run.growth is None or run.base is None:
            return scratch_loss(run.flops)
        axis = "depth" if run.base["model.depth"] < run.growth["model.depth"] else "width"
        how = run.growth[f"grow.{axis}"]
        return scratch_loss(run.flops) + sign * above.get(how, above.get(f"{axis}/{how}", math.nan))

    return loss


def test_operators_as_published(tmp_path: Path) -> None:
    loss = of_operator(AS_PUBLISHED)
    runs = simulate_growth(operators_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4, curves=True)
    claims = operators.operators(runs, tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 12
    courses = pl.read_csv(tmp_path / "operators.csv")
    starts = courses.group_by("arm").agg(pl.col("flops").min())
    started = dict(zip(starts["arm"], starts["flops"], strict=True))
    assert started["scratch"] == 0
    assert started["depth/learn"] > started["depth/stack"] > 0  # its tuning is charged
    ranking = pl.read_csv(tmp_path / "ranking.csv").filter(pl.col("arm") != "scratch")
    flops = ranking["flops"].to_numpy()
    assert flops.max() / flops.min() < 1.01
    stack = ranking.filter(pl.col("arm") == "depth/stack")
    level = scratch_loss(float(flops.mean()))
    assert stack["speedup"].mean() == pytest.approx((level / (level - 0.159)) ** 10 - 1, rel=0.05)


def test_operators_the_other_way_round(tmp_path: Path) -> None:
    loss = of_operator(AS_PUBLISHED, sign=-2.0)
    runs = simulate_growth(operators_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4, curves=True)
    assert verdicts(operators.operators(runs, tmp_path)) == [NOT_REPRODUCED] * 12


def test_operators_that_change_nothing_in_width_and_much_in_depth(tmp_path: Path) -> None:
    """No better is what equals scratch; and a stack that is better than scratch ever was is worth a bound."""
    depth = dict.fromkeys(("stack", "interpolate", "depth/zero", "depth/learn", "depth/random"), -0.5)
    width = dict.fromkeys(("direct", "width/zero", "width/learn", "width/random"), 0.0)
    loss = of_operator(depth | width)
    runs = simulate_growth(operators_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4, curves=True)
    claims = operators.operators(runs, tmp_path)
    assert [claim.verdict for claim in claims[7:11]] == [REPRODUCED] * 4
    level = scratch_loss(0.6 * FULL)
    true = (level / (level - 0.5)) ** 10 - 1
    speed_up = claims[11]
    assert speed_up.measured.estimate is not None
    assert speed_up.measured.estimate < 0.7 < true  # scratch was trained for 1 / 0.6 times the FLOPs
    assert speed_up.measured.interval is not None
    assert speed_up.measured.interval[0] < true < speed_up.measured.interval[1]
    assert "at least" in speed_up.measured.note
    assert speed_up.measured.n_runs == 3 + 9  # stacks; and scratch at three budgets


def test_operators_that_diverged_are_named(tmp_path: Path) -> None:
    loss = of_operator(AS_PUBLISHED)
    runs = simulate_growth(operators_study.STUDIES[0], loss, tmp_path / "runs", noise=5e-4, curves=True)
    random = trace(runs).filter(pl.col("annealed") & (pl.col("grow.depth") == "random"))["run_id"]
    claims = operators.operators(diverge(runs, pl.col("run_id").is_in(random.implode())), tmp_path)
    assert claims[4].measured.reason is not None
    assert "diverged: 3 runs of depth/random" in claims[4].measured.reason
    assert claims[0].verdict == REPRODUCED


# --- timing ----------------------------------------------------------------------------------------------


SCALE = SCALES["cpu"]


def weight_of_flops(run: Simulated) -> float:
    """How much a FLOP counts in the loss of a run: the less, the narrower its target is."""
    return float(run.settings["model.width"] / SCALE.width) ** 1.5


def log_tokens(shares: Sequence[float]) -> Array:
    """log10 d of bases that make shares of the target's steps."""
    return np.log10([round(share * SCALE.steps) * SCALE.batch * SCALE.context for share in shares])


SWEEP = log_tokens(timing_study.SHARES["cpu"])


def middle_of_the_sweep() -> float:
    """log10 d in the middle of those bases that every budget of either size has room for."""
    sizes = [timing_study.size_of("cpu", narrower) for narrower in timing_study.NARROWER["cpu"]]
    levels = timing_study.LEVELS["cpu"]
    shared = [
        share
        for share in timing_study.SHARES["cpu"]
        if all(len(timing_study.stacked("cpu", 0, share, levels, size)) == len(levels) for size in sizes)
    ]
    return float(log_tokens(shared).mean())


def of_timing(best: float, *, bend: float = 0.1, gain: float = 0.3, untrained: float = 0.0) -> Loss:
    """A parabola in log10 d around `best`, `gain` below scratch."""

    def loss(run: Simulated) -> float:
        scratch = scratch_loss(run.flops * weight_of_flops(run))
        if run.growth is None or run.base is None:
            return scratch
        d = run.growth["grow.step"] * run.settings["train.batch_size"] * run.settings["data.context"]
        return scratch + (bend * (math.log10(d) - best) ** 2 - gain if d else untrained)

    return loss


def test_timing_as_published(tmp_path: Path) -> None:
    runs = simulate_growth(timing_study.STUDIES[0], of_timing(middle_of_the_sweep()), tmp_path / "runs")
    claims = timing.timing(runs, tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 4
    drawn = pl.read_csv(tmp_path / "timing.csv")
    assert drawn["size"].n_unique() == 2
    assert set(drawn.filter(pl.col("d") == 0)["size"]) == {drawn["size"].max()}
    spent = drawn.filter(pl.col("d") > 0)
    assert [claim.measured.n_runs for claim in claims] == [2 * 16, len(spent), len(spent), 3 * 3 * 3]
    assert (spent["base_flops"] <= 0.5 * spent["flops"]).all()


def test_timing_that_does_not_matter_the_paper_s_way(tmp_path: Path) -> None:
    """A hill in place of the valley, no gain from the shortest base, and one from an untrained base."""
    hill = of_timing(middle_of_the_sweep(), bend=-0.1, gain=-0.05, untrained=-0.3)
    claims = timing.timing(simulate_growth(timing_study.STUDIES[0], hill, tmp_path / "runs"), tmp_path)
    assert verdicts(claims)[:3] == [NOT_REPRODUCED] * 3

    later = of_timing(float(SWEEP.max()) + 0.8)  # than any base
    runs = simulate_growth(timing_study.STUDIES[0], later, tmp_path / "more")
    assert verdicts(timing.timing(runs, tmp_path))[1:] == [REPRODUCED, NOT_REPRODUCED, NOT_REPRODUCED]


# --- factor ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, REPRODUCED), (-1.0, NOT_REPRODUCED)])
def test_factor(tmp_path: Path, sign: float, verdict: str) -> None:
    above = {4: -0.05, 2: -0.08, 1: 0.04}

    def loss(run: Simulated) -> float:
        extra = 0.0 if run.base is None else sign * above[run.base["model.depth"]]
        return scratch_loss(run.flops) + extra

    runs = simulate_growth(factor_study.STUDIES[0], loss, tmp_path / "runs")
    assert verdicts(factor.factor(runs, tmp_path)) == [verdict] * 4
    assert pl.read_csv(tmp_path / "factor.csv")["factor"].unique().sort().to_list() == [1, 2, 4, 8]


# --- law -------------------------------------------------------------------------------------------------


def log_size(width: int) -> float:
    return math.log10(12 * SCALE.depth * width**2)


def through_the_sweep(a: float, b: float) -> dict[str, float]:
    """The rule with its best d, at the middle of all sizes and budgets, in the middle of the sweep."""
    sizes = [timing_study.size_of("cpu", narrower) for narrower in timing_study.NARROWER["cpu"]]
    fulls = [cost_of(target("cpu", 0) | size).flops for size in sizes]
    budgets = np.log10([level * full for full in fulls for level in timing_study.LEVELS["cpu"]])
    log_n = np.mean([log_size(size["model.width"]) for size in sizes])
    return {"a": a, "b": b, "c": middle_of_the_sweep() - a * float(log_n) - b * float((1 / budgets).mean())}


RULE = through_the_sweep(a=0.2, b=50.0)
AGAINST = through_the_sweep(a=-0.2, b=-50.0)


def of_law(rule: dict[str, float], *, saved: float, decay: float, bend: float = 0.5) -> Loss:
    """Stacks save a share of the compute, the less so the larger the budget, and have their best d by a rule: a
    parabola, of such a height that the base whose stack goes on to the full budget, which the laws are about, costs
    nothing by its d."""
    (usual,) = log_tokens([spike_study.GROWN_AT])

    def loss(run: Simulated) -> float:
        if run.growth is None or run.base is None:
            return scratch_loss(run.flops * weight_of_flops(run))
        flops = run.flops * (1 + saved * (run.flops / FULL) ** -decay) * weight_of_flops(run)
        d = run.growth["grow.step"] * run.settings["train.batch_size"] * run.settings["data.context"]
        best = rule["a"] * log_size(run.settings["model.width"]) + rule["b"] / math.log10(run.flops) + rule["c"]
        return scratch_loss(flops) + bend * float((math.log10(d) - best) ** 2 - (usual - best) ** 2)

    return loss


def simulated_law(tmp_path: Path, rule: dict[str, float], *, noise: float = 5e-4, **gain: float) -> pl.DataFrame:
    return simulate_growth(law_study.STUDIES[0], of_law(rule, **gain), tmp_path / "runs", noise=noise)


def test_law_as_published(tmp_path: Path) -> None:
    claims = law.law(simulated_law(tmp_path, RULE, saved=0.2, decay=-0.15), tmp_path)
    assert verdicts(claims) == [REPRODUCED] * 6
    drawn = pl.read_csv(tmp_path / "law.csv")
    largest = drawn.filter((pl.col("size") == drawn["size"].max()) & (pl.col("arm") == "stack"))
    assert largest["bound"].null_count() == len(largest)  # scratch goes on far enough
    assert claims[2].measured.estimate == pytest.approx(0.2, abs=0.02)
    slope = drawn.filter(pl.col("arm") == "scratch")["alpha"]
    assert slope.to_numpy() == pytest.approx(np.full(len(slope), 0.1), abs=0.01)


def test_law_against_the_paper(tmp_path: Path) -> None:
    claims = law.law(simulated_law(tmp_path, AGAINST, saved=-0.3, decay=-0.2), tmp_path)
    assert verdicts(claims) == [NOT_REPRODUCED] * 6


def test_a_speed_up_that_stays_has_not_shrunk(tmp_path: Path) -> None:
    steady = law.law(simulated_law(tmp_path, RULE, saved=0.2, decay=0.0), tmp_path)
    assert verdicts(steady) == [REPRODUCED] * 6
    assert steady[2].measured.estimate == pytest.approx(0.2, abs=0.02)
    assert steady[3].measured.estimate == pytest.approx(0.0, abs=0.05)
    shrinking = law.law(simulated_law(tmp_path / "more", RULE, saved=0.1, decay=1.0), tmp_path)
    assert shrinking[3].verdict == NOT_REPRODUCED


def test_a_speed_up_beyond_scratch_is_bounded_and_not_measured(tmp_path: Path) -> None:
    """A stack worth twice the compute, while scratch goes on to 1.3 times the largest budget."""
    claims = law.law(simulated_law(tmp_path, RULE, saved=1.0, decay=0.0), tmp_path)
    largest, slope = claims[2], claims[3]
    assert largest.measured.interval is not None
    assert largest.measured.interval[0] == pytest.approx(0.3, abs=0.01)
    assert largest.measured.interval[1] == math.inf
    assert "at least that in 3 of 3 seeds" in largest.measured.note
    assert "over the 3 of 4 budgets where it is not only bounded" in slope.statistic
    assert slope.measured.estimate == pytest.approx(0.0, abs=0.05)  # and not the fall to the bound


def test_arms_of_one_bent_law_have_one_height(tmp_path: Path) -> None:
    """Scratch goes on to a budget that the stack lacks, which tilts a straight line through a bent law."""

    def bent(run: Simulated) -> float:
        return 1.2 + 1.8 * float((run.flops / FULL) ** -0.35)

    runs = simulate_growth(law_study.STUDIES[0], bent, tmp_path / "runs", noise=1e-4)
    height = law.law(runs, tmp_path)[0]
    assert height.measured.estimate == pytest.approx(0.0, abs=2e-4)
    assert height.verdict != REPRODUCED

    table = law._read(finals(trace(runs).with_columns(arm_of(pl.lit("stack")))))
    table = table.filter(pl.col("size") == pl.col("size").max())
    middle = law._fit_laws(table)["middle"][0]
    apart = law._fit_laws(table.with_columns(pl.lit(value=True).alias("shared")))  # of all budgets that an arm has
    apart = apart.with_columns((pl.col("A").log() - pl.col("alpha") * math.log(middle)).alias("height"))
    scratch, stack = (apart.filter(pl.col("arm") == arm)["height"] for arm in ("scratch", "stack"))
    assert min(scratch - stack) > 1e-3  # the same runs, and five times what the noise explains


EXACT = {"a": 0.2, "b": 50.0, "c": -0.72}


def exact_sweep(rng: np.random.Generator, noise: float) -> pl.DataFrame:
    """Parabolas around the rule's d at two sizes and three budgets of each, three seeds with levels of their own."""
    rows = []
    for size, full in ((393216.0, 1.2e12), (98304.0, 3.8e11)):
        for budget in (0.2 * full, 0.35 * full, 0.6 * full):
            best = EXACT["a"] * math.log10(size) + EXACT["b"] / math.log10(budget) + EXACT["c"]
            for seed, level in enumerate(0.01 * rng.standard_normal(3)):
                for d in (1e4, 2e4, 4e4, 8e4, 16e4):
                    loss = 2 + level + 0.1 * (math.log10(d) - best) ** 2 + noise * rng.standard_normal()
                    rows.append((size, budget, d, seed, loss))
    return pl.DataFrame(rows, schema=["size", "budget", "d", "seed", "loss"], orient="row")


def test_the_rule_is_recovered_with_honest_intervals() -> None:
    rng = np.random.default_rng(0)
    exact = fit_rule(*find_valleys(exact_sweep(rng, noise=0.0)))
    assert exact.values == pytest.approx(EXACT, rel=1e-6)

    held, shifted = [], []
    for _ in range(40):
        rule = fit_rule(*find_valleys(exact_sweep(rng, noise=0.002)))
        assert rule.intervals is not None
        low, high = rule.intervals["b"]
        held.append(low < EXACT["b"] < high)
        shifted.append(low < EXACT["b"] + 60 < high)
    assert np.mean(held) >= 0.85  # 95 % of them up to the chance of 40 draws
    assert np.mean(shifted) < 0.5  # and the intervals are not so wide as to hold anything


def test_valleys_at_an_end_make_no_rule(tmp_path: Path) -> None:
    outside = RULE | {"c": RULE["c"] + float(np.ptp(SWEEP))}  # beyond the longest base
    runs = simulated_law(tmp_path, outside, saved=0.4, decay=0.0)
    valleys, draws = find_valleys(timing.read_sweep(finals(trace(runs))))
    assert valleys["found"].max() < 0.95  # type: ignore[operator]  # a number
    rule = fit_rule(valleys, draws)
    assert rule.values is None
    assert rule.measured.reason is not None
    assert rule.measured.reason.startswith(f"0 of {len(valleys)} curves")
    claims = law.law(runs, tmp_path)
    assert [claim.measured.estimate for claim in claims[-len(PUBLISHED) + 1 :]] == [None, None]
