"""Forecast: a window is predicted from the windows before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from domain.errors import DataError
from gnn.protocols.protocol import Protocol, Question, Split
from kg.arrays import Ints, PathArrays

TEST_SHARE = 0.25
CALIBRATION_SHARE = 0.10
VALIDATION_SHARE = 0.10
LEAST_WINDOWS = 12
"""Fewer measured windows leave fewer than two for validation or calibration."""


@dataclass(frozen=True, slots=True)
class Forecast(Protocol):
    """Window t is predicted from the windows before t - horizon + 1; everything later is hidden, of every pair.

    The measured windows are divided in time order: the last quarter is the test, the tenth before it calibrates, the
    tenth before that validates, the rest is fitted on. Windows in which nothing was measured are asked of nobody. States whose time is in doubt are left out
    (rule `untimely`): they may belong to the window before, or after.

    Args:
        horizon: how many windows ahead is predicted; 1 is the next one.
    """

    name: ClassVar[str] = "forecast"
    timely: ClassVar[bool] = True
    horizon: int = 1

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise DataError("a forecast of the past", found=f"horizon {self.horizon}", expected="1 or more")

    def question(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about these windows; each sees what lies at least `horizon` windows before it.

        Raises:
            DataError: when a window lies so far ahead, or so near the start, that the horizon does not reach it.
        """
        seen_until = np.asarray(windows, dtype=np.int64) - self.horizon + 1
        if len(windows) > 0 and (seen_until.min() < 1 or seen_until.max() > arrays.windows):
            raise DataError(
                "a window out of the forecast's reach",
                found=f"windows {windows.min()} to {windows.max()}",
                expected=f"{self.horizon} to {arrays.windows - 1 + self.horizon}, at horizon {self.horizon}",
            )
        return Question(windows=np.asarray(windows, dtype=np.int64), seen_until=seen_until)

    def split(self, arrays: PathArrays) -> Split:
        """Divide the measured windows that the horizon reaches.

        Raises:
            DataError: when fewer than `LEAST_WINDOWS` can be asked.
        """
        measured = np.flatnonzero(arrays.measured.any(axis=1))
        first = int(measured[0]) if len(measured) > 0 else 0
        windows = measured[measured >= first + self.horizon].astype(np.int64)
        if len(windows) < LEAST_WINDOWS:
            raise DataError(
                "too few windows to learn a forecast",
                found=f"{len(windows)} measured windows of {arrays.window_s} s with a past",
                expected=f"at least {LEAST_WINDOWS}",
                next_step="ingest a longer span, or build the graph with shorter windows",
            )
        test = round(len(windows) * TEST_SHARE)
        calibration = max(2, round(len(windows) * CALIBRATION_SHARE))
        validation = max(2, round(len(windows) * VALIDATION_SHARE))
        bounds = np.cumsum([len(windows) - test - calibration - validation, validation, calibration])
        parts = [self.question(arrays, part) for part in np.split(windows, bounds)]
        return Split(fit=parts[0], validation=parts[1], calibration=parts[2], test=parts[3])
