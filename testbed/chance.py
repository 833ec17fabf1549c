"""Random numbers that are functions of what they are for, not of the order they were asked in.

A draw is a hash of its key: (seed, purpose, link, time, ...). So any slice of any measurement can be made
alone, and comes out the same. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014, figure 19), applied once for each part of the key.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]


class Purpose(IntEnum):
    """What a draw is for. Two purposes never share a draw."""

    FLUCTUATION = 1
    BURST = 2
    BURST_SIZE = 3
    PHASE = 4
    LATENESS = 5
    LOST = 6
    NETWORK_WAIT = 7
    LINE_WAIT = 8
    SEND_ERROR = 9
    DUPLICATE = 10
    DUPLICATE_LAG = 11
    STORING = 12
    CLOCK = 13
    HOP_LOST = 14
    HOP_WAIT = 15
    DEAF_TARGET = 16
    GATEWAY = 17
    EVENT = 18
    FIRMWARE = 19
    WHICH_FIRMWARE = 20
    BAD_CLOCK = 21
    SKEW = 22
    SKEW_SIGN = 23
    NEVER_IN_STEP = 24
    LATE = 25
    LATE_BY = 26
    ODD = 27
    WHICH_ODDITY = 28
    FAULT = 29
    WHICH_FAULT = 30


def _mixed(value: Hashes) -> Hashes:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def draw(seed: int, purpose: Purpose, *key: int | Ints) -> Hashes:
    """64 random bits for each key; the parts of the key are broadcast against each other, at least (1,)."""
    bits = _mixed(np.array([(seed * 64 + purpose) % 2**64], dtype=np.uint64))
    for part in key:
        numbers = np.atleast_1d(np.asarray(part, dtype=np.int64)).astype(np.uint64)
        bits = _mixed((bits ^ numbers) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0xD1B54A32D192ED03))
    return bits


def uniform(bits: Hashes) -> Floats:
    """Uniform on [0, 1) from the upper 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def exponential(bits: Hashes) -> Floats:
    """Exponential with mean 1."""
    return -np.log1p(-uniform(bits))


def bell(bits: Hashes) -> Floats:
    """Mean 0, variance 1, near normal, within +-3.47: the sum of four uniform 16-bit numbers.

    Sums and products only, so that it is the same to the last bit on every machine.
    """
    low = np.uint64(0xFFFF)
    total = (
        (bits & low)
        + ((bits >> np.uint64(16)) & low)
        + ((bits >> np.uint64(32)) & low)
        + (bits >> np.uint64(48))
    )
    sd = np.sqrt(4.0 * (2.0**32 - 1.0) / 12.0)
    centred: Floats = (total.astype(np.float64) - 4.0 * 65535.0 / 2.0) / sd
    return centred


_OCTAVES = ((600, 0.45), (3_600, 0.60), (21_600, 0.66))
"""Cell in seconds and weight; the squares of the weights sum to about 1."""


def fluctuation(seed: int, of: Ints, at_s: Ints) -> Floats:
    """A process for each thing `of` over time, mean 0, variance 1, autocorrelated over minutes to hours, without memory.

    Lattice noise: `bell` draws on the points of three lattices in time, blended between neighbouring points with
    weights whose squares sum to 1.

    Args:
        seed: of the world.
        of: numbers of the things (links), any shape.
        at_s: seconds since the epoch, broadcast against `of`.

    Returns:
        Values, shape of `of` broadcast with `at_s`.
    """
    total = np.zeros(np.broadcast_shapes(of.shape, at_s.shape))
    for octave, (cell_s, weight) in enumerate(_OCTAVES):
        # Each thing's lattice is shifted by its number, so that not everything turns at the same second.
        shifted = at_s + of * 7_919
        cell = shifted // cell_s
        along = (shifted - cell * cell_s) / cell_s
        before = bell(draw(seed, Purpose.FLUCTUATION, of, octave, cell))
        after = bell(draw(seed, Purpose.FLUCTUATION, of, octave, cell + 1))
        total += weight * (before * (1.0 - along) + after * along) / np.sqrt((1.0 - along) ** 2 + along**2)
    return total
