"""What may be said of two arms, in words, and what weakens it.

conclude(trials, "slope", crossing, confirmed=True)      ("overtakes", "muon overtakes adamw at flops = 1.00e+18 (…)")
weaknesses(trials, "slope", "slope", places, crossing)   sentences, such as of too few scales
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from analysis.compare.arms import Trials
from analysis.compare.crossing import Crossing
from analysis.tables.columns import Array
from conf.command_line import counted

Conclusion = Literal["overtakes", "better throughout", "extrapolated crossing", "cannot tell"]

FEWEST_SCALES, FEWEST_DECADES = 4, 1.5
FEWEST_UNITS = 8
SURE = 0.95  # share of replicates: the one-sided side of a 90 % interval


def conclude(trials: Trials, chosen: str, crossing: Crossing, confirmed: bool) -> tuple[Conclusion, str]:
    """`conclude(trials, chosen, crossing, confirmed)[0]`: what may be said. A crossing counts as measured only
    if its whole interval is, and two seeds saw its far side."""
    leader = crossing.leader
    behind = trials.arms[1 - trials.arms.index(leader)]
    low, high = (10**end for end in crossing.log10_x.ci90)
    interval = f"90% interval {low:.2e} to {high:.2e}"
    measured = crossing.measured[0] <= low and high <= crossing.measured[1]
    if chosen == "same":
        return "cannot tell", f"the data cannot tell {trials.arms[0]} and {trials.arms[1]} apart: one law fits both"
    if crossing.where == "inside_range" and measured:
        place = f"{trials.x_name} = {crossing.roots[-1]:.2e}"
        if chosen == "factor":
            return "cannot tell", f"the data cannot tell: curves cross at {place}, but common exponents fit as well"
        if not confirmed:
            return "cannot tell", (
                f"the data cannot tell: the curves cross at {place} ({interval}), but no two seeds confirm the order "
                f"at the largest {trials.x_name}"
            )
        return "overtakes", f"{leader} overtakes {behind} at {place} ({interval})"
    later = ""
    if crossing.where == "extrapolated":
        later = f"extrapolated crossing at {crossing.roots[-1]:.2e} ({interval}), P = {crossing.p_exists:.2f}"
    for arm, share in crossing.p_leads.items():
        if share >= SURE:
            sentence = f"{arm} is better throughout the measured range (P = {share:.2f})"
            return "better throughout", f"{sentence}; {later}" if later else sentence
    if later:
        return "extrapolated crossing", later
    if crossing.where == "inside_range":
        return (
            "cannot tell",
            f"the data cannot tell: the curves cross at {crossing.roots[-1]:.2e}, but anywhere in {interval}",
        )
    return "cannot tell", "the data cannot tell which arm is better"


def confirmed_by_seeds(trials: Trials) -> bool:
    """Whether the order at the most expensive scale of both arms is that of at least two seeds: of each pair of equal
    seed, or, without seeds, of every trial of one arm against every trial of the other."""
    shared = [s for s in range(trials.n_scales) if len(np.unique(trials.arm[trials.scale == s])) == 2]
    if not shared:
        return False
    most_expensive = max(shared, key=lambda s: float(trials.cost[trials.scale == s].max()))
    there = trials.scale == most_expensive
    first, second = (trials.loss[there & (trials.arm == k)] for k in (0, 1))
    if trials.seed is None:
        signs = np.sign(second[:, None] - first[None, :]).ravel()
        enough = min(len(first), len(second)) >= 2
    else:
        seeds = [trials.seed[there & (trials.arm == k)] for k in (0, 1)]
        common = np.intersect1d(*seeds)
        signs = np.sign([second[seeds[1] == s].mean() - first[seeds[0] == s].mean() for s in common])
        enough = len(common) >= 2
    return bool(enough and len(np.unique(signs)) == 1)


def weaknesses(trials: Trials, chosen: str, drawn: str, places: Array, crossing: Crossing) -> list[str]:
    """What weakens the comparison."""
    warnings = []
    counts = np.zeros((trials.n_scales, 2), dtype=int)
    np.add.at(counts, (trials.scale, trials.arm.astype(int)), 1)
    odd = int((counts[:, 0] != counts[:, 1]).sum())
    if odd:
        warnings.append(
            f"at {odd} of {trials.n_scales} scales the arms have different numbers of trials "
            f"({trials.arms[0]} {counts[:, 0].sum()}, {trials.arms[1]} {counts[:, 1].sum()} in all); "
            "the best of more trials is lower by luck alone"
        )
    if trials.seed is None and trials.most_trials() > 1:
        warnings.append("no column seed: trials of both arms are not paired, which may widen the intervals")
    n_units = len(np.unique(trials.units()))
    if n_units < FEWEST_UNITS:
        warnings.append(
            f"{counted(n_units, 'pair')} of scale and seed to draw from; with fewer than {FEWEST_UNITS} the intervals "
            "are too narrow (nominal 90% held the truth in 78% of simulations with 5)"
        )
    decades = math.log10(crossing.measured[1] / crossing.measured[0])
    if trials.n_scales < FEWEST_SCALES or decades < FEWEST_DECADES:
        warnings.append(
            f"{trials.n_scales} scales over {decades:.2g} decades; fewer than {FEWEST_SCALES} over {FEWEST_DECADES} "
            "carry no comparison of slopes"
        )
    if chosen == "floor" and drawn != "floor":
        warnings.append(
            "separate floors fit better: are data and tokenizer the same? (--floors separate draws them apart)"
        )
    for place in places:
        if not crossing.bracket[0] <= place <= crossing.bracket[1]:
            warnings.append(f"--at {place:.3g}: more than a decade beyond the data; the law may bend before it")
    return warnings
