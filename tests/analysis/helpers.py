"""Points drawn from a known law, and run folders that look like those of a trainer."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from analysis.fitter.law import FitResult, Fittable
from analysis.fitter.options import FitOptions
from analysis.laws.registry import find_law
from conf.compose import to_config, to_yaml
from conf.config import resolve
from conf.identity import run_id
from train.record.manifest import Manifest
from train.record.metrics_file import MetricsWriter
from train.record.run import run_dir, write_run

TRUTH = {"E": 1.82, "A": 480.0, "B": 2100.0, "alpha": 0.348, "beta": 0.366}


def fit(law: str | Fittable, table: Any, **options: Any) -> FitResult:
    """`fit("chinchilla", table, bootstrap=0)`: a law, or that of a name, fitted to a table."""
    return (find_law(law) if isinstance(law, str) else law).fit(table, FitOptions(**options))


def chinchilla_points(noise: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    """7 sizes from 1e6 to 1e8, 6 ratios D/N from 2 to 200: losses of `TRUTH`, with noise in ln loss."""
    sizes, ratios = np.meshgrid(np.geomspace(1e6, 1e8, 7), np.geomspace(2, 200, 6))
    n_params = sizes.ravel()
    n_tokens = n_params * ratios.ravel()
    loss = TRUTH["E"] + TRUTH["A"] * n_params ** -TRUTH["alpha"] + TRUTH["B"] * n_tokens ** -TRUTH["beta"]
    loss *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))
    return {"n_params": n_params, "n_tokens": n_tokens, "loss": loss}


def write_ladder(
    runs_dir: Path,
    *,
    widths: Sequence[int] = (32, 48, 64, 96, 128),
    ratios: Sequence[int] = (10, 20, 40),
    noise: float = 0.002,
    steps: int = 200,
    profile: str = "cpu",
    **changes: Any,
) -> list[Path]:
    """Records of a ladder `demo/ladder` whose losses follow L = 1.1 + 18 N^-0.25 + 30 D^-0.27, with its manifest.

    `changes` replace values in the record of the first run.
    """
    rng = np.random.default_rng(7)
    folders = []
    for width in widths:
        n_total = 12 * 4 * width**2 + 2 * 257 * width
        for ratio in ratios:
            config = to_config(
                {
                    "study": "demo/ladder",
                    "model": {"width": width, "depth": 4},
                    "train": {"duration": f"{ratio}tok/param"},
                    "runtime": {"runs_dir": str(runs_dir)},
                }
            )
            config = resolve(config, cuda=False)
            folder = run_dir(config)
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(to_yaml(config))
            n_tokens = ratio * n_total
            final = (1.1 + 18 * n_total**-0.25 + 30 * n_tokens**-0.27) * np.exp(noise * rng.standard_normal())
            writer = MetricsWriter(folder, after_step=0)
            for step in range(1, steps + 1):
                seen = n_tokens * step / steps
                anneal = 1 + 0.04 * (1 - step / steps)
                level = (1.1 + 18 * n_total**-0.25 + 30 * seen**-0.27) * final * anneal / 2.2
                level = min(5.55, level * 2.2 / (1.1 + 18 * n_total**-0.25 + 30 * n_tokens**-0.27))
                row = {
                    "step": step,
                    "tokens": int(seen),
                    "flops": 6.0 * n_total * seen,
                    "lr": 3e-3 * (1.01 - step / steps),
                }
                row["train_loss"] = level + 0.06 * rng.standard_normal()
                if step % (steps // 10) == 0:
                    row |= {"val_loss": level, "val_loss_se": 0.02}
                writer.append(row)
            writer.close()
            write_run(
                folder,
                {
                    "run_id": run_id(config),
                    "study": "demo/ladder",
                    "state": "finished",
                    "seconds": 1.0,
                    "hardware": {"device": "cpu"},
                    "n_params_total": n_total,
                    "n_params_non_embedding": 12 * 4 * width**2,
                    "n_params_non_vocab": 12 * 4 * width**2,
                    "n_params_groups": {"embedding": 257 * width},
                    "flops": 6.0 * n_total * n_tokens,
                    "n_steps": steps,
                    "n_tokens": n_tokens,
                    "tokens_per_step": n_tokens // steps,
                    "val_loss": final,
                    "val_loss_se": 0.02,
                }
                | (changes if not folders else {}),
            )
            folders.append(folder)
    Manifest("demo/ladder", profile, tuple(folder.name for folder in folders)).write(runs_dir)
    return folders


def points_as_rows(points: dict[str, np.ndarray], order: np.ndarray) -> dict[str, np.ndarray]:
    """The points in another order."""
    return {name: values[order] for name, values in points.items()}


def said(print_words: Callable[..., None], *arguments: Any, **keywords: Any) -> str:
    """`said(print_claims, claims)`: what one of the functions of a `words.py` writes to a terminal, without colours."""
    console = Console(width=500, record=True, quiet=False, highlight=False, file=io.StringIO())
    print_words(*arguments, **keywords, console=console)
    return console.export_text()
