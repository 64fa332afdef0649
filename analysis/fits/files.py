"""What `fit --out` wrote, read again; a law is found by its name here.

read_fit(Path("fit.json")).values["alpha"]       one fit
read_fits(Path("fit.json"))                      (None, {None: fit}), or ("optim.name", {"adamw": fit, "muon": fit})
"""

from __future__ import annotations

import json
from pathlib import Path

from analysis.fitter.fit_json import from_json
from analysis.fitter.law import FitResult
from analysis.laws.registry import get_law
from analysis.tables.columns import FitError


def read_fit(path: Path) -> FitResult:
    """`read_fit(Path("fit.json"))`: the fit that `--out` wrote; raises `FitError`."""
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")), get_law)
    except OSError as error:
        raise FitError(f"{path}: {error.strerror}") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise FitError(f"{path}: {error}") from None


def read_fits(path: Path) -> tuple[str | None, dict[str | None, FitResult]]:
    """`read_fits(Path("fit.json"))`: one fit, or the column of `--group` and a fit for each of its values; raises
    `FitError`."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        written = None  # `read_fit` says what is wrong
    if not (isinstance(written, dict) and isinstance(written.get("fits"), dict)):
        return None, {None: read_fit(path)}
    if not isinstance(written.get("group"), str):
        raise FitError(f"{path}: not fits of groups (no group)")
    try:
        return written["group"], {name: from_json(fit, get_law) for name, fit in written["fits"].items()}
    except FitError as error:
        raise FitError(f"{path}: {error}") from None
