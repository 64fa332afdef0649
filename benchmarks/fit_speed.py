"""The fitter against a naive loop: SciPy's L-BFGS-B with finite differences, one start after the other.

    OMP_NUM_THREADS=1 python benchmarks/fit_speed.py [--data points.csv] [--naive 4500]

Both minimise the same sum of Huber's loss (delta 1e-3 of ln loss) of Chinchilla's law over 240 points from the same
4500 starts (ln A, ln B in 0, 5, …, 25; alpha, beta in 0, 0.5, …, 2; ln E in -1, -0.5, …, 1), in the same process. With
fewer naive starts, a random sample of them is timed and their time scaled up. Then the bootstrap of 4000 resamples, the
peak of memory, and the command line on a small CSV, its imports included.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy.optimize import minimize

from tests.analysis.helpers import fit

DELTA = 1e-3


def simulated() -> pl.DataFrame:
    """240 points like the digitised ones of Hoffmann et al. 2022: 30 sizes, 8 budgets, noise of 0.75 %."""
    rng = np.random.default_rng(0)
    n_params, flops = (v.ravel() for v in np.meshgrid(np.geomspace(6e7, 1.6e10, 30), np.geomspace(6e18, 3e21, 8)))
    n_tokens = flops / 6 / n_params
    loss = (1.82 + 480 * n_params**-0.348 + 2100 * n_tokens**-0.366) * np.exp(0.0075 * rng.standard_normal(240))
    return pl.DataFrame({"n_params": n_params, "n_tokens": n_tokens, "loss": loss})


def grid() -> np.ndarray:
    """ln A, ln B, ln E, alpha, beta (4500, 5)."""
    large, small, exponents = np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5)
    return np.array(list(itertools.product(large, large, small, exponents, exponents)), dtype=float)


def naive(points: pl.DataFrame, starts: np.ndarray) -> tuple[float, float]:
    """(seconds, best objective)."""
    log_n, log_d, log_loss = (np.log(points[name].to_numpy()) for name in ("n_params", "n_tokens", "loss"))

    def objective(theta: np.ndarray) -> float:
        a, b, e, alpha, beta = theta
        r = np.logaddexp(np.logaddexp(a - alpha * log_n, b - beta * log_d), e) - log_loss
        size = np.minimum(np.abs(r), DELTA)
        return float((size * (np.abs(r) - size / 2)).sum())

    begin = time.perf_counter()
    best = min(minimize(objective, start, method="L-BFGS-B").fun for start in starts)
    return time.perf_counter() - begin, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="n_params, n_tokens, loss; simulated points without it")
    parser.add_argument("--naive", type=int, default=450, help="how many of the 4500 starts the naive loop takes")
    options = parser.parse_args()
    points = simulated() if options.data is None else pl.read_csv(options.data)
    if "used_in_fit" in points.columns:
        points = points.filter(pl.col("used_in_fit") == 1)

    starts = grid()
    every = np.random.default_rng(0).permutation(starts)[: options.naive]  # a stride would meet few values of each
    slow, slow_best = naive(points, every)
    slow *= len(starts) / len(every)

    a, b, e, alpha, beta = starts.T
    natural = np.column_stack([np.exp(e), np.exp(a), np.exp(b), alpha, beta])  # in the order of the law's parameters
    begin = time.perf_counter()
    result = fit("chinchilla", points, delta=DELTA, bootstrap=0, starts=natural)
    fast = time.perf_counter() - begin
    print(f"{len(starts)} starts: naive {slow:.1f} s (from {len(every)}), ours {fast:.3f} s, ratio {slow / fast:.0f}")
    print(f"objective: naive {slow_best:.11g}, ours {result.objective['value']:.11g}")

    begin = time.perf_counter()
    fit("chinchilla", points, delta=DELTA, bootstrap=4000)
    print(f"4000 resamples, each from three starts: {time.perf_counter() - begin:.1f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.csv"
        points.head(40).write_csv(small)
        begin = time.perf_counter()
        command = [sys.executable, "-m", "analysis", "fit", "chinchilla", "--data", str(small)]
        subprocess.run(command, check=True, capture_output=True)
        print(f"command line on 40 points: {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
