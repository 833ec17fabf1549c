"""What a protocol is: a rule that says what may be seen when a cell is predicted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataError
from kg.arrays import Floats, Ints, PathArrays

Bools: TypeAlias = NDArray[np.bool_]

SILENT_LOSS = 0.95
"""A pair that lost this share of its packets before is silent: that it will lose one again is no prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Which of Q x P asked cells can be scored. A cell that was not measured is scored by nobody.

    Attributes:
        rtt: (Q, P) a packet was answered in the window.
        jitter: (Q, P) jitter has a value in the window.
        loss: (Q, P) packets were sent in the window. A window in which every packet was lost is here, and not in `rtt`:
            its RTT is undefined (RFC 2681, section 2.4).
    """

    rtt: Bools
    jitter: Bools
    loss: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What pairs are like in Q windows, given what may be seen.

    A row asks about one window; a window may be asked about in several rows, with other things seen. For row q a cell (w, p)
    is seen when it is not `held_out` and either

        w < seen_until[q], and `seen_past[q, p]`        the past, or
        w = windows[q], and `seen_now[q, p]`            the window itself.

    The windows are indexes into the arrays; one past the last asks for a window that has not been yet.

    Attributes:
        windows: (Q,) asked windows.
        seen_until: (Q,) windows before this one may be seen; at most `windows`.
        seen_past: (Q, P) pairs whose past may be seen.
        seen_now: (Q, P) pairs that may be seen in the asked window itself.
        asked: (Q, P) pairs that are asked about; none of them is in `seen_now`.
        case: (Q,) which of the protocol's cases a row is (`Protocol.cases`): what is known of rows of one case is alike, so
            their intervals are calibrated together.
        held_out: (W, P) cells that no row sees; None where there are none.
        unmet: asked pairs may have no past that is seen: they are scored all the same.
    """

    windows: Ints
    seen_until: Ints
    seen_past: Bools
    seen_now: Bools
    asked: Bools
    case: Ints
    held_out: Bools | None = None
    unmet: bool = False

    def __post_init__(self) -> None:
        if bool((self.asked & self.seen_now).any()):
            raise DataError("a question that shows what it asks", expected="no pair both asked and seen now")
        if bool((self.seen_until > self.windows).any()):
            raise DataError("a question that sees the window it asks about as past")

    def __len__(self) -> int:
        return int(self.windows.shape[0])

    def part(self, rows: slice | Ints) -> Question:
        """The same question about some of its rows."""
        return replace(
            self,
            windows=self.windows[rows],
            seen_until=self.seen_until[rows],
            seen_past=self.seen_past[rows],
            seen_now=self.seen_now[rows],
            asked=self.asked[rows],
            case=self.case[rows],
        )

    def parts(self, rows: int) -> Iterator[Question]:
        """The question, so many rows at a time."""
        for start in range(0, len(self), rows):
            yield self.part(slice(start, start + rows))

    def hidden(self, arrays: PathArrays, row: int) -> Bools:
        """(W, P) True where a value is hidden from the prediction of row number `row`."""
        seen = np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)
        seen[: self.seen_until[row]] = self.seen_past[row]
        if self.windows[row] < arrays.windows:
            seen[self.windows[row]] = self.seen_now[row]
        if self.held_out is not None:
            seen &= ~self.held_out
        return ~seen

    def shown(self, values: Floats) -> Floats:
        """(W, P) the values that are not held out from every row, NaN elsewhere."""
        return values if self.held_out is None else np.where(self.held_out, np.nan, values)

    def now(self, values: Floats) -> Floats:
        """(Q, P) the values of the asked windows that are seen, NaN elsewhere.

        Args:
            values: (W, P).
        """
        there = self.windows < values.shape[0]
        rows = self.shown(values)[np.where(there, self.windows, 0)]
        return np.where(self.seen_now & there[:, None], rows, np.nan)

    def seen_before(self, known: Bools) -> Bools:
        """(Q, P) True where the pair is known in a window of the past that is seen.

        Args:
            known: (W, P) where a value exists.
        """
        if self.held_out is not None:
            known = known & ~self.held_out
        first = np.where(known.any(axis=0), known.argmax(axis=0), known.shape[0])
        return np.asarray((first[None, :] < self.seen_until[:, None]) & self.seen_past)

    def cells(self, arrays: PathArrays) -> Cells:
        """The asked cells that can be scored; only for windows that are in the arrays.

        Unless the question is about unmet pairs, a cell counts from the second value of its pair on: one must have been seen
        before. Silent pairs (`SILENT_LOSS`) are in no cell of loss.
        """
        answered, sent = np.isfinite(arrays.rtt_ms), arrays.sent > 0
        rtt, loss = answered[self.windows] & self.asked, sent[self.windows] & self.asked
        if not self.unmet:
            rtt, loss = rtt & self.seen_before(answered), loss & self.seen_before(sent)
        return Cells(
            rtt=rtt,
            jitter=rtt & np.isfinite(arrays.jitter_ms)[self.windows],
            loss=loss & ~self._silent(arrays),
        )

    def _silent(self, arrays: PathArrays) -> Bools:
        """(Q, P) pairs that lost nearly all that was seen sent before."""
        shown = np.zeros_like(arrays.sent, dtype=np.bool_) if self.held_out is None else self.held_out
        sent = np.where(shown, 0, arrays.sent)
        lost = np.where(shown, 0, arrays.sent - arrays.received)
        so_far = [
            np.concatenate([np.zeros((1, arrays.pairs)), np.cumsum(one, axis=0)]) for one in (sent, lost)
        ]
        before, gone = (one[self.seen_until] for one in so_far)
        return np.asarray(self.seen_past & (before > 0) & (gone >= SILENT_LOSS * before))


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Who learns from what, and what is asked in the end.

    Attributes:
        name: which of the protocol's splits, in words.
        fit: weights are learned on these.
        validation: training stops when these no longer improve.
        calibration: intervals are calibrated on these.
        test: scored, and touched by nothing else.
        sealed: (W, P) cells that are not there at all while anything is learned, stopped or calibrated.
    """

    name: str
    fit: Question
    validation: Question
    calibration: Question
    test: Question
    sealed: Bools


class Protocol(ABC):
    """Who is hidden from whom.

    Attributes:
        name, about: of the protocol, and what it hides, in a sentence.
        timely: states whose time is in doubt are left out, neither seen nor asked (rule `untimely` of `domain.observation`).
        by_day: errors are taken as independent between the days of a probe; else only between probes.
        in_time: what is hidden lies later than what is learned on, so intervals follow the latest windows that are seen.
        pairs_seen: a host is hidden in both roles, but for so many of its pairs of hosts, in each case; None where hosts are not
            hidden. The audit holds the questions to it.
        forecasts: windows that have not been yet may be asked about.
        cases: names of the cases, the protocol's own first; `Question.case` counts them.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    timely: ClassVar[bool] = False
    by_day: ClassVar[bool] = False
    in_time: ClassVar[bool] = False
    pairs_seen: ClassVar[tuple[int, ...] | None] = None
    forecasts: ClassVar[bool] = False

    @abstractmethod
    def cases(self, window_s: int) -> tuple[str, ...]:
        """Names of the cases in windows of that length."""

    def view(self, arrays: PathArrays) -> PathArrays:
        """The arrays as the protocol looks at them."""
        return arrays

    def columns_of(self, arrays: PathArrays) -> Ints:
        """(P,) which pair of the view each pair of the arrays is."""
        return np.arange(arrays.pairs, dtype=np.int64)

    @abstractmethod
    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:
        """Divide what was measured, in one way or several.

        Args:
            arrays: the measurements, as `view` gives them.
            seed: of what is drawn; the same seed and arrays give the same splits.

        Raises:
            DataError: when there is too little for the protocol.
        """

    @abstractmethod
    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """The question of one epoch of training: rows of `fit`, with fresh masks where the protocol draws any."""

    def furthest(self, window_s: int) -> int:  # noqa: ARG002
        """How many windows after the last measured one may be asked about."""
        return 0

    @abstractmethod
    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about all pairs in these windows that are not measured there, given all that is.

        Args:
            arrays: the measurements, as `view` gives them.
            windows: (Q,) indexes of windows, ascending; past the last ones are those that have not been yet.
        """


def from_window(arrays: PathArrays, window: int) -> Bools:
    """(W, P) True from this window on."""
    later = np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)
    later[window:] = True
    return later


def everything(arrays: PathArrays, rows: int) -> Bools:
    """(rows, P) True."""
    return np.ones((rows, arrays.pairs), dtype=np.bool_)
