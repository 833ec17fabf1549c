"""What the baselines share: a point from the pair's own past, loss by past frequency, a conformal interval around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn import history
from gnn.conformal import conformal_factor, scores
from gnn.inputs import Inputs, without_graph
from gnn.prediction import Prediction, reasons
from gnn.predictor import Array, Kind, Learned, Predictor, Progress
from gnn.protocols.protocol import Question, Split
from gnn.state import checked
from kg.arrays import Floats, PathArrays

HISTORY_WINDOWS = 56
"""Latest windows that a pair's usual spread is taken over."""

COLUMNS = (
    *("rtt_ms", "rtt_spread_ms", "jitter_ms", "jitter_spread_ms"),
    *("packets_sent", "packets_lost", "windows_sent", "windows_lossy"),
)

LEAST_SCALE_MS = 1e-6
"""Keeps the scale of an interval from being 0 where nothing ever moved."""


class PastBaseline(Predictor):
    """A value taken from the pair's own past.

    The interval is the point plus and minus a factor times the pair's scale: the median absolute deviation of its last
    windows plus the median of that over all pairs. The factor is split-conformal, from the calibration windows.
    The probability of any loss is the Krichevsky-Trofimov estimate (k + 1/2) / (n + 1), the mean of Jeffreys' posterior, of
    lossy windows among those seen; the loss ratio is lost packets over sent packets.
    """

    kind: ClassVar[Kind] = Kind.BASELINE

    def __init__(self) -> None:
        self._state: dict[str, Array] | None = None

    @abstractmethod
    def point(self, values: Floats, question: Question, window_s: int) -> Floats:
        """(Q, P) the value expected, from visible rows of the (W, P) values; NaN where there is none."""

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """Median of the pairs' spreads, as seen by the last fitted window."""
        inputs = self.inputs(arrays, split.fit.part(slice(len(split.fit) - 1, None)))
        return {f"{name}_floor_ms": _median(inputs.column(f"{name}_spread_ms")) for name in ("rtt", "jitter")}

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The point, the spread and the counts of each pair."""
        columns: dict[str, Floats] = {}
        for name, values in (("rtt", arrays.rtt_ms), ("jitter", arrays.jitter_ms)):
            past = history.lagged(values, question.seen_until, HISTORY_WINDOWS)
            columns[f"{name}_ms"] = self.point(values, question, arrays.window_s)
            columns[f"{name}_spread_ms"] = history.spread(past, history.median(past))
        sent, lost = arrays.sent, arrays.sent - arrays.received
        columns["packets_sent"] = history.counted(sent, question.seen_until)
        columns["packets_lost"] = history.counted(lost, question.seen_until)
        columns["windows_sent"] = history.counted(sent > 0, question.seen_until)
        columns["windows_lossy"] = history.counted(lost > 0, question.seen_until)
        return without_graph(columns)

    def learn(
        self,
        arrays: PathArrays,
        split: Split,
        *,
        seed: int,  # noqa: ARG002  nothing is drawn
        progress: Progress | None,  # noqa: ARG002  there are no epochs
    ) -> Learned:
        """Calibrate the intervals; there is nothing else to learn."""
        state = self.prepare(arrays, split)
        inputs = self.inputs(arrays, split.calibration)
        cells = split.calibration.cells(arrays)
        for name, values, asked in (
            ("rtt", arrays.rtt_ms, cells.rtt),
            ("jitter", arrays.jitter_ms, cells.jitter),
        ):
            point = inputs.column(f"{name}_ms")
            scored = asked & np.isfinite(point)
            middle = point[scored]
            scale = _scale(inputs, name, state)[scored]
            outside = scores(values[split.calibration.windows][scored], middle, middle, scale)
            state[f"{name}_factor"] = np.array(conformal_factor(outside))
        self._state = state
        return Learned(epochs=None, parameters=len(state), losses=())

    def answer(self, inputs: Inputs) -> Prediction:
        """The point, its interval, and the past frequencies of loss."""
        state = self.state()
        bounds = {name: _interval(inputs, name, state) for name in ("rtt", "jitter")}
        sent, lossy = inputs.column("windows_sent"), inputs.column("windows_lossy")
        packets = inputs.column("packets_sent")
        with np.errstate(invalid="ignore", divide="ignore"):
            loss_ratio = np.where(packets > 0, inputs.column("packets_lost") / packets, np.nan)
        answered = np.isfinite(inputs.column("rtt_ms"))
        return Prediction(
            rtt_ms=inputs.column("rtt_ms"),
            rtt_low_ms=bounds["rtt"][0],
            rtt_high_ms=bounds["rtt"][1],
            jitter_ms=inputs.column("jitter_ms"),
            jitter_low_ms=bounds["jitter"][0],
            jitter_high_ms=bounds["jitter"][1],
            any_loss_probability=np.where(sent > 0, (lossy + 0.5) / (sent + 1.0), np.nan),
            loss_ratio=loss_ratio,
            in_range=answered,
            reason=reasons(answered, sent > 0),
        )

    def config(self) -> dict[str, int | float]:
        """A baseline has no settings."""
        return {}

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:  # noqa: ARG003  it has none
        """A new, unfitted baseline."""
        return cls()

    def state(self) -> dict[str, Array]:
        """Floors (ms) and conformal factors of RTT and jitter."""
        if self._state is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return dict(self._state)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers that it looks at."""
        return COLUMNS

    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        if columns != COLUMNS:
            raise ArtefactError(
                "a saved model with other inputs than its kind has",
                where=self.name,
                found=", ".join(columns),
                expected=", ".join(COLUMNS),
            )
        names = ("rtt_floor_ms", "jitter_floor_ms", "rtt_factor", "jitter_factor")
        self._state = checked(state, {name: np.zeros(()) for name in names}, where=self.name)


def _scale(inputs: Inputs, name: str, state: Mapping[str, Array]) -> Floats:
    spread = inputs.column(f"{name}_spread_ms")
    return np.maximum(
        np.where(np.isfinite(spread), spread, 0.0) + float(state[f"{name}_floor_ms"]), LEAST_SCALE_MS
    )


def _interval(inputs: Inputs, name: str, state: Mapping[str, Array]) -> tuple[Floats, Floats]:
    half = float(state[f"{name}_factor"]) * _scale(inputs, name, state)
    point = inputs.column(f"{name}_ms")
    return np.maximum(point - half, 0.0), point + half


def _median(values: Floats) -> Array:
    known = values[np.isfinite(values)]
    return np.array(np.median(known)) if len(known) > 0 else np.array(0.0)
