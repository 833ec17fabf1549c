"""Imputation: a part of a window's pairs is measured, the others are asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gnn.protocols.protocol import Bools, Protocol, Question, Split, everything, from_window
from gnn.protocols.rolling import divisions
from kg.arrays import Ints, PathArrays

HIDDEN_SHARE = 0.5
HIDDEN_SHARES = (0.35, 0.65)
"""What is hidden while learning, a share a window drawn from here."""


@dataclass(frozen=True, slots=True)
class Imputation(Protocol):
    """Of each window a random half of the pairs is seen, the others are asked; later days than those learned on.

    What is hidden in a window stays hidden when that window is past: nobody ever measured it.
    """

    name: ClassVar[str] = "imputation"
    by_day: ClassVar[bool] = True
    in_time: ClassVar[bool] = True

    def cases(self, window_s: int) -> tuple[str, ...]:  # noqa: ARG002  there is one
        """Half hidden."""
        return ("half hidden",)

    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:
        """Three rolling origins. The masks depend on the seed alone, and no window's on another's."""
        generator = np.random.default_rng([seed, 0x1147])
        hidden = generator.random((arrays.windows, arrays.pairs)) < HIDDEN_SHARE
        found: list[Split] = []
        for part in divisions(arrays):
            later = hidden.copy()
            later[: part.validation[0]] = False
            # What the test hides is hidden from all; what validation and calibration hide, from themselves and what comes after.
            found.append(
                Split(
                    name=part.name,
                    fit=self.question(arrays, part.fit, hidden & ~later),
                    validation=self.question(arrays, part.validation, later),
                    calibration=self.question(arrays, part.calibration, later),
                    test=self.question(arrays, part.test, later),
                    sealed=from_window(arrays, int(part.test[0])),
                )
            )
        return tuple(found)

    def question(self, arrays: PathArrays, windows: Ints, held_out: Bools) -> Question:
        """Ask about the cells of these windows that are held out, given all others of the window and before it."""
        mask = held_out[np.minimum(windows, arrays.windows - 1)]
        return Question(
            windows=windows,
            seen_until=np.minimum(windows, arrays.windows),
            seen_past=everything(arrays, len(windows)),
            seen_now=~mask,
            asked=mask,
            case=np.zeros(len(windows), dtype=np.int64),
            held_out=held_out,
        )

    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """Fresh masks over everything up to the last of these windows, denser in some windows than in others."""
        share = generator.uniform(*HIDDEN_SHARES, size=(arrays.windows, 1))
        hidden = generator.random((arrays.windows, arrays.pairs)) < share
        return self.question(arrays, fit.windows, hidden)

    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about what is not measured in these windows."""
        every = everything(arrays, len(windows))
        there = windows < arrays.windows
        measured = arrays.measured[np.where(there, windows, 0)] & there[:, None]
        return replace(
            self.question(arrays, windows, np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)),
            seen_now=measured,
            asked=every & ~measured,
            held_out=None,
        )
