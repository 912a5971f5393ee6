"""SplitMix64 of Steele, Lea and Flood ("Fast splittable pseudorandom number generators", 2014), on NumPy's arrays."""

from __future__ import annotations

import numpy as np


def splitmix64(seed: int, index: np.ndarray) -> np.ndarray:
    """Output number ``index`` (from 0) of the generator started at ``seed``.

    With all arithmetic modulo 2**64::

        z = seed + (index + 1) * 0x9E3779B97F4A7C15
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB
        z =  z ^ (z >> 31)

    Each step can be undone, so for one seed no two indices share a number.

    Args:
        seed: Any integer; taken modulo 2**64.
        index: integer [n], not negative.

    Returns:
        uint64 [n].
    """
    z = (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(seed % 2**64)
    return mix(z)


def mix(z: np.ndarray) -> np.ndarray:
    """The last three steps of the generator, in place: uint64 [n]."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    return z
