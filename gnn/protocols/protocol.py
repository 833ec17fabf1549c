"""What a protocol is: a rule that says what may be seen when a cell is predicted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kg.arrays import Ints, PathArrays

Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Which of Q x P asked cells can be scored. A cell that was not measured is scored by nobody.

    Attributes:
        rtt: (Q, P) a packet was answered in the window, and one was seen before it.
        jitter: (Q, P) jitter has a value in the window, and RTT was seen before it.
        loss: (Q, P) packets were sent in the window, and packets were seen sent before it. A window in which every
            packet was lost is here, and not in `rtt`: its RTT is undefined (RFC 2681, section 2.4).
    """

    rtt: Bools
    jitter: Bools
    loss: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What all P pairs are like in Q windows, given what may be seen.

    The windows are indexes into the arrays; one past the last asks for a window that has not been yet.

    Attributes:
        windows: (Q,) asked windows, ascending.
        seen_until: (Q,) for each, windows before this one may be seen; this one and all later are hidden.
    """

    windows: Ints
    seen_until: Ints

    def __len__(self) -> int:
        return int(self.windows.shape[0])

    def part(self, rows: slice) -> Question:
        """The same question about some of the windows."""
        return Question(windows=self.windows[rows], seen_until=self.seen_until[rows])

    def hidden(self, arrays: PathArrays, row: int) -> Bools:
        """(W, P) True where a value is hidden from the prediction of asked window number `row`."""
        hidden = np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)
        hidden[self.seen_until[row] :] = True
        return hidden

    def seen_before(self, measured: Bools) -> Bools:
        """(Q, P) True where the pair is measured in a visible window.

        Args:
            measured: (W, P) where a value exists.
        """
        first = np.where(measured.any(axis=0), measured.argmax(axis=0), measured.shape[0])
        return np.asarray(first[None, :] < self.seen_until[:, None])

    def cells(self, arrays: PathArrays) -> Cells:
        """The cells that can be scored; only for windows that are in the arrays."""
        answered = np.isfinite(arrays.rtt_ms)
        sent = arrays.sent > 0
        known = self.seen_before(answered)
        return Cells(
            rtt=answered[self.windows] & known,
            jitter=np.isfinite(arrays.jitter_ms)[self.windows] & known,
            loss=sent[self.windows] & self.seen_before(sent),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Four questions about disjoint windows, in time order.

    Attributes:
        fit: weights are learned on these.
        validation: training stops when these no longer improve.
        calibration: intervals are calibrated on these.
        test: scored, and touched by nothing else.
    """

    fit: Question
    validation: Question
    calibration: Question
    test: Question


class Protocol(ABC):
    """Who is hidden from whom.

    Attributes:
        name: of the protocol.
        horizon: how many windows ahead is predicted; None where time hides nothing.
        timely: states whose time is in doubt are left out, neither seen nor asked (rule `untimely` of `domain.observation`).
    """

    name: ClassVar[str]
    timely: ClassVar[bool] = False
    horizon: int | None

    @abstractmethod
    def question(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about these windows under this protocol.

        Args:
            arrays: the measurements.
            windows: (Q,) indexes of windows, ascending.
        """

    @abstractmethod
    def split(self, arrays: PathArrays) -> Split:
        """Divide the windows into fit, validation, calibration and test.

        Raises:
            DataError: when there are too few windows.
        """
