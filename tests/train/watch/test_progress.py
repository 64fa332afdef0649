"""The bar is drawn where somebody watches, and nowhere else."""

from __future__ import annotations

import pytest

from train.watch import progress
from train.watch.progress import RunProgress, wants_progress


@pytest.mark.parametrize(
    ("setting", "terminal", "wanted"),
    [("on", False, True), ("on", True, True), ("off", True, False), ("auto", True, True), ("auto", False, False)],
)
def test_who_gets_a_bar(setting: str, terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal)
    assert wants_progress(setting) == wanted


@pytest.mark.parametrize("shown", [True, False])
def test_what_a_bar_says_goes_to_standard_error(shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(shown=shown, title="a run", n_steps=8) as bar:
        bar.update(5, loss=2.34567, tokens_per_second=12345.6, utilisation=0.256)
    out, err = capsys.readouterr()
    assert out == ""
    words = " ".join(err.split())
    assert ("a run" in words and "5/8" in words) == shown
    assert (err == "") != shown
