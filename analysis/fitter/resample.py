"""What a bootstrap draws, as weights: how often each point counts in each resample. No law is known here.

draw_rows(42, 1000, seed=0)                (1000, 42): how often each of 42 rows counts
draw_clusters(codes(labels), 1000, 0)      the same, whole clusters being drawn
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.tables.columns import Array

Codes = NDArray[np.int64]

FEWEST_CLUSTERS = 8  # below it, drawing clusters says next to nothing about their spread


def codes(labels: Any) -> Codes:
    """0, 1, … for each distinct label, in sorted order."""
    numbers: Codes = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    return numbers


def draw_rows(n: int, count: int, seed: int) -> Array:
    """Cases with replacement, (count, n)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(float)


def draw_clusters(cluster_N: Codes, count: int, seed: int) -> Array:
    """Whole clusters (curves, runs, cells) with replacement, (count, N)."""
    return draw_rows(int(cluster_N.max()) + 1, count, seed)[:, cluster_N]


def draw_within(stratum_N: Codes, count: int, seed: int, cluster_N: Codes | None = None) -> Array:
    """Cases, or clusters, drawn anew within each stratum, (count, N)."""
    weights = np.empty((count, len(stratum_N)))
    for stratum in range(int(stratum_N.max()) + 1):
        rows = np.flatnonzero(stratum_N == stratum)
        drawn = seed + 7919 * (stratum + 1)  # another stream for each stratum
        if cluster_N is None:
            weights[:, rows] = draw_rows(len(rows), count, drawn)
        else:
            weights[:, rows] = draw_clusters(codes(cluster_N[rows]), count, drawn)
    return weights


def blocks(curve_N: Codes, position_N: Array) -> Codes:
    """Runs of consecutive points of each curve: their residuals hang together, so that single points would count as
    more than they are. A curve of n points has n^(2/3) blocks, the rate that is best for a variance (Künsch 1989)."""
    block = np.zeros(len(curve_N), dtype=np.int64)
    begun = 0
    for curve in range(int(curve_N.max()) + 1):
        rows = np.flatnonzero(curve_N == curve)
        rank = np.argsort(np.argsort(position_N[rows], kind="stable"), kind="stable")
        count = max(1, round(len(rows) ** (2 / 3)))
        block[rows] = begun + rank * count // len(rows)
        begun += count
    return block
