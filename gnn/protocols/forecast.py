"""Forecast: a window is predicted from the windows before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

import numpy as np

from gnn.protocols.protocol import Protocol, Question, Split, everything, from_window
from gnn.protocols.rolling import divisions
from kg.arrays import Ints, PathArrays

HORIZONS = tuple(timedelta(hours=hours) for hours in (6, 12, 24))
"""How far ahead is predicted, next to the next window."""

NEXT_SHARE = 0.6
"""Of the windows that are learned on: as the next one. The others are as far ahead as is drawn."""


@dataclass(frozen=True, slots=True)
class Forecast(Protocol):
    """Window t is predicted from the windows before t - horizon + 1; everything later is hidden, of every pair.

    Three rolling origins; each test is asked at each horizon. States whose time is in doubt are left out (rule `untimely`):
    they may belong to the window before, or after.
    """

    name: ClassVar[str] = "forecast"
    about: ClassVar[str] = (
        "A window is predicted from the windows before it, up to a day ahead; everything later is hidden, of every pair."
    )
    timely: ClassVar[bool] = True
    by_day: ClassVar[bool] = True
    in_time: ClassVar[bool] = True
    forecasts: ClassVar[bool] = True

    def horizons(self, window_s: int) -> tuple[int, ...]:
        """Horizons in windows, ascending from 1: the next window, and `HORIZONS` as far as windows of that length have them."""
        further = {int(horizon.total_seconds()) // window_s for horizon in HORIZONS}
        return (1, *sorted(horizon for horizon in further if horizon > 1))

    def cases(self, window_s: int) -> tuple[str, ...]:
        """The next window, and the others by how many hours ahead they end."""
        further = self.horizons(window_s)[1:]
        return ("next window", *(f"{horizon * window_s / 3600:g} h ahead" for horizon in further))

    def question(self, arrays: PathArrays, windows: Ints, horizon: Ints | int = 1) -> Question:
        """Ask about these windows, each that many windows ahead; where that is before the first window, nothing is seen."""
        ahead = np.broadcast_to(np.asarray(horizon, dtype=np.int64), windows.shape)
        seen_until = np.clip(windows - ahead + 1, 0, arrays.windows).astype(np.int64)
        every = everything(arrays, len(windows))
        known = np.asarray(self.horizons(arrays.window_s), dtype=np.int64)
        return Question(
            windows=windows.astype(np.int64),
            seen_until=seen_until,
            seen_past=every,
            seen_now=~every,
            asked=every,
            case=np.minimum(np.searchsorted(known, ahead), len(known) - 1).astype(np.int64),
        )

    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:  # noqa: ARG002  nothing is drawn
        """Three rolling origins; validation is of the next window, calibration and test of all horizons."""
        return tuple(
            Split(
                name=part.name,
                fit=self.question(arrays, part.fit),
                validation=self.question(arrays, part.validation),
                calibration=self._at_all_horizons(arrays, part.calibration),
                test=self._at_all_horizons(arrays, part.test),
                sealed=from_window(arrays, int(part.test[0])),
            )
            for part in divisions(arrays)
        )

    def _at_all_horizons(self, arrays: PathArrays, windows: Ints) -> Question:
        horizons = self.horizons(arrays.window_s)
        rows = [(window, horizon) for horizon in horizons for window in windows if window >= horizon]
        asked = np.array(rows, dtype=np.int64).reshape(-1, 2)
        return self.question(arrays, asked[:, 0], asked[:, 1])

    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """The same windows, some of them from further away."""
        most = self.horizons(arrays.window_s)[-1]
        drawn = generator.integers(1, most + 1, size=len(fit))
        ahead = np.where(generator.random(len(fit)) < NEXT_SHARE, 1, drawn)
        return replace(self.question(arrays, fit.windows, ahead), held_out=fit.held_out)

    def furthest(self, window_s: int) -> int:
        """As many as are learned."""
        return self.horizons(window_s)[-1]

    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about these windows from the last one that was measured, or the one before where that is earlier."""
        return self.question(arrays, windows, np.maximum(windows - arrays.windows + 1, 1))
