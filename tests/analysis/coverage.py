"""How often nominal 95 % intervals hold the truth, for every law.

python -m tests.analysis.coverage --out docs/coverage.md
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import time
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import numpy as np

from tests.analysis import laws as here
from tests.analysis.simulate import Example

EXAMPLES: list[Example] = [
    example
    for module in pkgutil.iter_modules(here.__path__)
    if module.name.startswith("simulated_")
    for example in importlib.import_module(f"{here.__name__}.{module.name}").EXAMPLES
]

RESAMPLES = 400

HEAD = f"""# Coverage of nominal 95 % intervals

Share of {{n}} simulated data sets in which the bootstrap interval ({RESAMPLES} resamples) holds the true constant. The
designs are those of `tests/analysis/laws/simulated_*.py`: so many points, with noise of this standard deviation (of
the logarithm, or of the target where residuals are differences). At a true coverage of 95 % a share has a standard
deviation of {{sd:.1%}}. Made by `python -m tests.analysis.coverage --out docs/coverage.md`.
"""
TITLES = "| law | points | noise | lowest | highest | each constant |"


def name_of(example: Example) -> str:
    """`bnsl[breaks=2]`, with a number behind designs of the same law."""
    options = ",".join(f"{key}={value}" for key, value in example.options.items() if isinstance(value, (int, str)))
    name = f"{example.law}[{options}]" if options else example.law
    same = [other for other in EXAMPLES if other.law == example.law and other.options == example.options]
    return name if len(same) == 1 else f"{name} ({same.index(example) + 1})"


def cover(example: Example, simulations: int, bootstrap: int = RESAMPLES) -> dict[str, float]:
    """The share of simulations in which the interval of each parameter holds the truth."""
    rng = np.random.default_rng(zlib.crc32(name_of(example).encode()))
    held = {name: 0 for name in example.truth if name not in example.fit.get("fixed", {})}
    for k in range(simulations):
        result = example.fitted(example.draw(rng), bootstrap=bootstrap, seed=k)
        for name in held:
            low, high = result.params[name].ci95
            held[name] += low <= example.truth[name] <= high
    return {name: count / simulations for name, count in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="laws")
    parser.add_argument("--out", type=Path, help="write the table here")
    options = parser.parse_args()
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    chosen = [k for k, example in enumerate(EXAMPLES) if not options.only or example.law in options.only]
    lines: dict[int, str] = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(partial(_row, k, options.simulations)): k for k in chosen}
        for job in as_completed(jobs):
            lines[jobs[job]] = job.result()
            print(job.result(), flush=True)
    if options.out is not None:
        table = [TITLES, "| --- | --- | --- | --- | --- | --- |", *(lines[k] for k in chosen)]
        text = "\n".join([HEAD.format(n=options.simulations, sd=np.sqrt(0.05 * 0.95 / options.simulations)), *table])
        options.out.write_text(f"{text}\n", encoding="utf-8")


def _row(k: int, simulations: int) -> str:
    os.environ["OMP_NUM_THREADS"] = "1"
    began = time.perf_counter()
    example = EXAMPLES[k]
    shares = cover(example, simulations)
    n = len(next(iter(example.table(np.random.default_rng(0)).values())))
    each = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    ends = f"{min(shares.values()):.1%} | {max(shares.values()):.1%}"
    row = f"| {name_of(example)} | {n} | {example.noise:g} | {ends} | {each} |"
    print(f"{time.perf_counter() - began:.0f} s", flush=True)
    return row


if __name__ == "__main__":
    main()
