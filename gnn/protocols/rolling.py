"""Rolling origins: windows in time order, divided several times, each time learning on all before the test."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from domain.errors import DataError
from kg.arrays import Ints, PathArrays

ORIGINS = (0.425, 0.59, 0.755)
"""Where the tests begin, as a share of the measured windows. Each ends where the next begins."""

CALIBRATION_SHARE = 0.10
VALIDATION_SHARE = 0.10
LEAST_BEFORE = 8
"""Windows with a past that must lie before a test: fewer leave fewer than two for validation or calibration."""

WARM_UP_S = 2 * 86400
"""The first two days are the past of what is learned on, and not learned on themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Windows of one split, each part in time order after the one before it."""

    name: str
    fit: Ints
    validation: Ints
    calibration: Ints
    test: Ints


def divisions(arrays: PathArrays) -> tuple[Division, ...]:
    """Divide the measured windows at each origin that has enough before it. What was measured in no window is asked of nobody.

    Raises:
        DataError: when there is too little before every origin.
    """
    measured = np.flatnonzero(arrays.measured.any(axis=1)).astype(np.int64)
    bounds = [*(round(origin * len(measured)) for origin in ORIGINS), len(measured)]
    warm_up = max(1, min(WARM_UP_S // arrays.window_s, bounds[0] // 4))
    found: list[Division] = []
    for start, end in pairwise(bounds):
        before, test = measured[warm_up:start], measured[start:end]
        if len(before) < LEAST_BEFORE or len(test) == 0:
            continue
        calibration = max(2, round(len(before) * CALIBRATION_SHARE))
        validation = max(2, round(len(before) * VALIDATION_SHARE))
        parts = np.split(before, [len(before) - calibration - validation, len(before) - calibration])
        day = np.datetime64(int(arrays.window_start_s[test[0]]), "s")
        found.append(
            Division(
                name=f"from {str(day)[:16]}Z",
                fit=parts[0],
                validation=parts[1],
                calibration=parts[2],
                test=test,
            )
        )
    if not found:
        least = next(n for n in range(1, 10_000) if _before(n) >= LEAST_BEFORE)
        raise DataError(
            "too few windows to learn from and to test on",
            found=f"{len(measured)} measured windows of {arrays.window_s} s",
            expected=f"at least {least}",
            next_step="ingest a longer span, or build the graph with shorter windows",
        )
    return tuple(found)


def _before(windows: int) -> int:
    """Windows before the last origin, at the least."""
    return round(ORIGINS[-1] * windows) - max(1, round(ORIGINS[0] * windows) // 4)
