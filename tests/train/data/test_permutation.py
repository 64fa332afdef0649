"""A stateless permutation is a permutation, and looks drawn at random."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.data import permutation
from train.data.permutation import permute


def order(n: int, key: str) -> NDArray[np.int64]:
    return permute(np.arange(n), n, key)


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 3000), key=st.text(max_size=5))
def test_it_is_a_bijection(n: int, key: str) -> None:
    assert np.array_equal(np.sort(order(n, key)), np.arange(n))


def test_a_part_of_it_is_the_same_as_the_whole() -> None:
    whole = order(1000, "k")
    some = np.array([3, 999, 3, 0])
    assert np.array_equal(permute(some, 1000, "k"), whole[some])
    assert not np.array_equal(permute(some, 1000, "other"), whole[some])


def test_it_needs_no_memory_of_the_size() -> None:
    n = 10**15 + 7
    index = np.array([0, 1, n - 1])
    found = permute(index, n, "k")
    assert len(set(found.tolist())) == 3
    assert ((found >= 0) & (found < n)).all()


def chi_square(n: int, keys: int) -> float:
    """Of where index 0 lands over many keys, against the uniform; its expectation is n - 1."""
    counts = np.bincount([int(permute(np.zeros(1, dtype=np.int64), n, str(k))[0]) for k in range(keys)], minlength=n)
    return float(((counts - keys / n) ** 2 / (keys / n)).sum())


def test_every_place_is_as_likely(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    # The 99.99% quantiles of chi-square with 4 and 36 degrees of freedom are 23.5 and 77.
    assert chi_square(5, 2000) < 23.5
    assert chi_square(37, 2000) < 77
    # One round leaves half of the bits where they were.
    monkeypatch.setattr(permutation, "ROUNDS", 1)
    assert chi_square(37, 2000) > 500


def test_neighbours_do_not_stay_neighbours() -> None:
    def together(places: NDArray[np.int64]) -> float:
        return float(np.mean(np.abs(np.diff(places)) == 1))

    assert together(order(5000, "k")) < 0.005
    assert together(np.arange(5000)) == 1  # the order on disk
