"""Claims in words for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from analysis.claims.claim import Claim

_COLOURS = {"reproduced": "green", "not reproduced": "red", "inconclusive": "yellow"}


def print_claims(claims: Sequence[Claim], console: Console | None = None) -> None:
    """Each claim with its verdict and what the verdict follows from."""
    console = console or Console(highlight=False)
    for claim in claims:
        console.print(Text.assemble((claim.verdict, _COLOURS[claim.verdict]), f": {claim.sentence}"))
        measured = claim.measured
        if measured.interval is None:
            console.print(f"  {measured.reason}")
            continue
        low, high = measured.interval
        console.print(
            f"  {claim.statistic}{measured.note}: {measured.estimate:.3g}, 95% interval {low:.3g} to {high:.3g}; "
            f"accepted: {claim.accept.words}"
        )
