"""What the baselines share: a point and a loss from the pair's own past, and a conformal interval around the point."""

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
from gnn.settings import require_in_range
from gnn.state import checked
from kg.arrays import Floats, PathArrays

COLUMNS = (
    *("rtt_ms", "rtt_spread_ms", "jitter_ms", "jitter_spread_ms"),
    *("any_loss_probability", "loss_ratio", "windows_sent"),
)

LEAST_SCALE_MS = 1e-6
"""Keeps the scale of an interval from being 0 where nothing ever moved."""


class PastBaseline(Predictor):
    """A value taken from the pair's own past.

    The interval is the point plus and minus a factor times the pair's scale: the median absolute deviation of its last
    windows plus the median of that over all pairs. The factor is split-conformal, from the calibration windows.
    Each says of itself what it takes for loss.

    Args:
        windows: latest windows that a pair's usual is taken over.
    """

    kind: ClassVar[Kind] = Kind.BASELINE

    def __init__(self, windows: int = history.HISTORY_WINDOWS) -> None:
        require_in_range({"history": windows})
        self.windows = windows
        self._state: dict[str, Array] | None = None

    @abstractmethod
    def point(self, values: Floats, question: Question, window_s: int) -> Floats:
        """(Q, P) the value expected, from visible rows of the (W, P) values; NaN where there is none."""

    @abstractmethod
    def loss(self, arrays: PathArrays, question: Question) -> tuple[Floats, Floats]:
        """(Q, P) the probability of any loss and the loss ratio, from visible windows; NaN where no packet was sent in any."""

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """Median of the pairs' spreads, as seen by the last fitted window."""
        inputs = self.inputs(arrays, split.fit.part(slice(len(split.fit) - 1, None)))
        return {f"{name}_floor_ms": _median(inputs.column(f"{name}_spread_ms")) for name in ("rtt", "jitter")}

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The point, the spread and the loss of each pair, and in how many windows it was asked."""
        columns: dict[str, Floats] = {}
        for name, values in (("rtt", arrays.rtt_ms), ("jitter", arrays.jitter_ms)):
            past = history.lagged(values, question.seen_until, self.windows)
            columns[f"{name}_ms"] = self.point(values, question, arrays.window_s)
            columns[f"{name}_spread_ms"] = history.spread(past, history.median(past))
        columns["any_loss_probability"], columns["loss_ratio"] = self.loss(arrays, question)
        columns["windows_sent"] = history.counted(arrays.sent > 0, question.seen_until)
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
        """The point, its interval, and the loss."""
        state = self.state()
        bounds = {name: _interval(inputs, name, state) for name in ("rtt", "jitter")}
        answered = np.isfinite(inputs.column("rtt_ms"))
        return Prediction(
            rtt_ms=inputs.column("rtt_ms"),
            rtt_low_ms=bounds["rtt"][0],
            rtt_high_ms=bounds["rtt"][1],
            jitter_ms=inputs.column("jitter_ms"),
            jitter_low_ms=bounds["jitter"][0],
            jitter_high_ms=bounds["jitter"][1],
            any_loss_probability=inputs.column("any_loss_probability"),
            loss_ratio=inputs.column("loss_ratio"),
            in_range=answered,
            reason=reasons(answered, inputs.column("windows_sent") > 0),
        )

    def config(self) -> dict[str, int | float]:
        """How many windows a pair's usual is taken over."""
        return {"history": self.windows}

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted baseline with these settings."""
        return cls(int(config["history"]))

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


def smoothed(lossy: Floats, counted: Floats) -> Floats:
    """The probability of one more lossy window, when so many of those counted were; it is never 0 and never 1.

    Krichevsky, Trofimov: The performance of universal encoding (IEEE Trans. Inf. Theory 27, 1981), (k + 1/2) / (n + 1): the
    mean of Jeffreys' posterior.
    """
    return (lossy + 0.5) / (counted + 1.0)


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
