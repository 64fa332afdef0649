"""Shared by the tests of figures."""

from __future__ import annotations

import pytest

from analysis.drawing import style


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn, but neither laid out nor written, which takes a second each; `tests/test_studies.py` does that."""
    monkeypatch.setattr(style, "save", lambda *_: [])
