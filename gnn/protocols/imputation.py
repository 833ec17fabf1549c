"""Imputation: a part of a window's pairs is measured, the others are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gnn.protocols.hosts import host_pair
from gnn.protocols.protocol import Bools, Protocol, Question, Split, everything, from_window
from gnn.protocols.rolling import divisions
from kg.arrays import Floats, Ints, PathArrays

HIDDEN_SHARE = 0.5
HIDDEN_SHARES = (0.35, 0.65)
"""What is hidden while learning, a share a window drawn from here."""


@dataclass(frozen=True, slots=True)
class Imputation(Protocol):
    """Of each window a random half of the pairs is seen, the others are asked; later days than those learned on.

    Earlier windows are seen whole: what is hidden of a window is known once it is past, as of a measurement that is only late.
    """

    name: ClassVar[str] = "imputation"
    about: ClassVar[str] = (
        "Of each window a random half of the pairs is hidden; the other half, and all earlier windows, are seen."
    )
    in_time: ClassVar[bool] = True

    def cases(self, window_s: int) -> tuple[str, ...]:  # noqa: ARG002  there is one
        """Half hidden."""
        return ("half hidden",)

    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:
        """Three rolling origins. A window's mask depends on the seed alone."""
        generator = np.random.default_rng([seed, 0x1147])
        hidden = _drawn(arrays, np.full(arrays.windows, HIDDEN_SHARE), generator)
        return tuple(
            Split(
                name=part.name,
                fit=self.question(arrays, part.fit, hidden[part.fit]),
                validation=self.question(arrays, part.validation, hidden[part.validation]),
                calibration=self.question(arrays, part.calibration, hidden[part.calibration]),
                test=self.question(arrays, part.test, hidden[part.test]),
                sealed=from_window(arrays, int(part.test[0])),
            )
            for part in divisions(arrays)
        )

    def question(self, arrays: PathArrays, windows: Ints, hidden: Bools) -> Question:
        """Ask about the hidden pairs, (Q, P), of these windows, given the others and all windows before."""
        return Question(
            windows=windows,
            seen_until=np.minimum(windows, arrays.windows),
            seen_past=everything(arrays, len(windows)),
            seen_now=~hidden,
            asked=hidden,
            case=np.zeros(len(windows), dtype=np.int64),
        )

    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """The same windows under fresh masks, denser in some than in others."""
        share = generator.uniform(*HIDDEN_SHARES, size=len(fit))
        return self.question(arrays, fit.windows, _drawn(arrays, share, generator))

    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about what is not measured in these windows."""
        there = windows < arrays.windows
        measured = arrays.measured[np.where(there, windows, 0)] & there[:, None]
        return self.question(arrays, windows, ~measured)


def _drawn(arrays: PathArrays, share: Floats, generator: np.random.Generator) -> Bools:
    """(len(share), P) what is hidden: pairs of hosts, in both directions and over both families, as many as the share of each row."""
    hosts = host_pair(arrays)
    return (generator.random((len(share), int(hosts.max()) + 1)) < share[:, None])[:, hosts]
