"""A random order of n things without a list of n numbers: where position i goes is computed from a key.

A Feistel network permutes 0 … 4^h - 1 >= n, whatever its round function; walking the cycle until the value
falls below n restricts it to n (Black and Rogaway 2002, "Ciphers with arbitrary finite domains", method 2).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 8  # one 64-bit key each, cut from a 64-byte digest


def permute(index: NDArray[np.int64], n: int, key: str) -> NDArray[np.int64]:
    """Map each of `index`, in 0 … n - 1, to its place under the permutation that `key` names.

    A bijection of 0 … n - 1 for every key; costs O(len(index)), since 4^h < 4n bounds the expected walk by four.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    keys = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8 * ROUNDS).digest(), dtype="<u8")
    value = _feistel(index.astype(np.uint64), half, keys)
    while (outside := value >= n).any():
        value[outside] = _feistel(value[outside], half, keys)
    return value.astype(np.int64)


def _feistel(value: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return (left << half) | right


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014): every input bit moves every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
