"""`python -m analysis claims`: the verdicts of all studies, as they lie under `results/`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from rich.table import Table

from analysis.claims.claim import Verdict
from analysis.tables.csv import TableError
from conf.command_line import wide_console
from train.record.manifest import PROFILES

Content = dict[str, Any]
"""What `claims.json` holds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("studies", nargs="*", metavar="STUDY", help="only these")
    parser.add_argument("--profile", default="cpu", choices=PROFILES, help="(default: cpu)")
    parser.add_argument("--results-dir", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--markdown", action="store_true", help="as a page that links to the pictures' folders")


def run(options: argparse.Namespace) -> None:
    """Carry out the command; raises `UserError`."""
    results = read_results(options.results_dir, options.profile, options.studies)
    if options.markdown:
        print("\n".join(as_markdown(results, options.results_dir)))
    else:
        _print(results)


def read_results(results_dir: Path, profile: str, studies: Sequence[str] = ()) -> list[Content]:
    """The `claims.json` of every study, or of those that are named, sorted by name.

    Raises:
        TableError: there is none, or one cannot be read.
    """
    if studies:
        paths = [results_dir / study / profile / "claims.json" for study in studies]
    else:
        paths = sorted(results_dir.glob(f"*/*/{profile}/claims.json"))
    if not paths:
        raise TableError(f"{results_dir}: no study has results at profile {profile}; allowed: `figure` first")
    results = []
    for path in paths:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            results.append({"study": content["study"], "profile": content["profile"], "claims": content["claims"]})
        except FileNotFoundError:
            raise TableError(f"{path}: there is no such file; `figure` writes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise TableError(f"{path}: not the claims of a study ({error})") from None
    return results


def as_markdown(results: Sequence[Content], results_dir: Path) -> Iterator[str]:
    """A page with a table for each study."""
    counts = dict.fromkeys(get_args(Verdict), 0)
    for study in results:
        for claim in study["claims"]:
            counts[claim["verdict"]] += 1
    yield f"# What the studies found at profile {results[0]['profile']}"
    yield ""
    yield (
        f"{sum(counts.values())} claims of {len(results)} studies: "
        + ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        + ". A verdict follows from the 95 % interval: inside the accepted region, apart from it, or neither."
    )
    for profile in PROFILES:
        without = [study["study"] for study in results if not (results_dir / study["study"] / profile).is_dir()]
        if without and profile != "smoke":  # which takes seconds, and says nothing about a claim
            yield ""
            which = "all of them" if len(without) == len(results) else ", ".join(without)
            yield f"Not run at profile {profile}: {which}."
    for study in results:
        folder = Path("..") / results_dir / study["study"] / study["profile"]
        yield ""
        yield f"## [{study['study']}]({folder.as_posix()})"
        yield ""
        yield "| verdict | claim | statistic | estimate | 95 % interval | accepted | seeds, runs |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for claim in study["claims"]:
            scale = f" *Needs {claim['scale']}*" if claim.get("scale") else ""
            cells = (
                f"**{claim['verdict']}**" if claim["verdict"] == "reproduced" else claim["verdict"],
                claim["sentence"] + scale,
                claim["statistic"],
                *_numbers(claim),
                claim["threshold"],
                f"{claim['n_seeds']}, {claim['n_runs']}",
            )
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _numbers(claim: Content) -> tuple[str, str]:
    if claim["interval"] is None:
        return "none", str(claim["reason"])
    low, high = (end if end is None else f"{end:.3g}" for end in claim["interval"])
    between = f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} or less"
    return f"{claim['estimate']:.3g}", between


def _print(results: Sequence[Content]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("study", "verdict", "claim", "estimate", "95 % interval"):
        table.add_column(column, overflow="fold")
    for study in results:
        for k, claim in enumerate(study["claims"]):
            table.add_row("" if k else study["study"], claim["verdict"], claim["sentence"], *_numbers(claim))
    wide_console(markup=False).print(table)
