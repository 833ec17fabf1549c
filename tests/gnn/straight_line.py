"""A small predictor that learns, stops, tunes and calibrates, and whose inputs are easily made to leak."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import ClassVar

import numpy as np

from gnn import history
from gnn.inputs import columns_only
from gnn.path_graph import PathGraphConfig, path_graph
from gnn.prediction import Prediction
from gnn.predictor import Kind, Learned, Predictor

SMALL = PathGraphConfig(neighbours=3, lags=2, moves=1, history=8, buckets=8)


def with_column(inputs, name, values):
    shape = inputs.numbers.shape[:2]
    values = np.broadcast_to(np.asarray(values, dtype=np.float64), shape)
    return replace(
        inputs,
        columns=(*inputs.columns, name),
        numbers=np.concatenate([inputs.numbers, values[..., None]], axis=-1),
    )


def _scored(arrays, question):
    """Targets of a question: the row and pair of each, and its RTT."""
    row, pair = np.nonzero(question.cells(arrays).rtt)
    return row, pair, arrays.rtt_ms[question.windows[row], pair]


class Straight(Predictor):
    """A straight line from the base and a few columns: least squares, a penalty chosen by validation, and a calibrated width."""

    name: ClassVar[str] = "straight"
    kind: ClassVar[Kind] = Kind.BASELINE
    citation: ClassVar[str] = "Gauss"
    penalties: ClassVar[tuple[float, ...]] = (1e-3, 1.0, 1e3)

    def __init__(self):
        self._state = {}

    def inputs(self, arrays, question):
        past = history.lagged(arrays.rtt_ms, question, 4)
        usual = history.median(past)
        around = history.median(np.where(question.seen_now, question.now(arrays.rtt_ms), np.nan))[:, None]
        base = np.where(np.isfinite(usual), history.last_known(arrays.rtt_ms, question), around)
        return columns_only(
            {
                "base_ms": base,
                "usual_ms": usual,
                "around_ms": np.broadcast_to(around, usual.shape),
                "latitude": np.broadcast_to(arrays.probe_end.latitude, usual.shape),
            }
        )

    def prepare(self, arrays, split):
        inputs = self.inputs(arrays, split.fit)
        scored = split.fit.cells(arrays).rtt
        numbers = inputs.numbers[scored] if scored.any() else np.zeros((1, len(inputs.columns)))
        return {"centre": history.median(numbers.T)}

    def _features(self, inputs):
        numbers = np.nan_to_num(inputs.numbers - np.nan_to_num(self._state["centre"]))
        return np.concatenate([numbers, np.isfinite(inputs.numbers), np.ones_like(numbers[..., :1])], axis=-1)

    def learn(self, lesson):
        self._state = dict(self.prepare(lesson.arrays, lesson.split))
        drawn = lesson.protocol.redraw(lesson.split.fit, lesson.arrays, np.random.default_rng(lesson.seed))
        told = {}
        for part, question in (
            ("fit", drawn),
            ("stop", lesson.split.validation),
            ("width", lesson.split.calibration),
        ):
            row, pair, truth = _scored(lesson.arrays, question)
            told[part] = (self._features(self.inputs(lesson.arrays, question))[row, pair], truth)
        x, y = told["fit"]
        lines = [
            np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y) for penalty in self.penalties
        ]
        losses = [float(np.abs(told["stop"][0] @ line - told["stop"][1]).mean()) for line in lines]
        self._state["line"] = lines[int(np.argmin(losses))]
        missed = np.abs(told["width"][0] @ self._state["line"] - told["width"][1])
        self._state["width"] = np.array(np.quantile(missed, 0.9))
        return Learned(parameters=x.shape[1], losses=tuple(losses))

    def answer(self, inputs):
        point = self._features(inputs) @ self._state["line"]
        none = np.full_like(point, np.nan)
        values = {field.name: none for field in fields(Prediction)}
        values |= {
            "rtt_ms": point,
            "rtt_low_ms": point - self._state["width"],
            "rtt_high_ms": point + self._state["width"],
            "in_range": np.isfinite(point),
            "reason": np.full(point.shape, "", dtype=object),
        }
        return Prediction(**values)

    def config(self):
        return {}

    @classmethod
    def configured(cls, config):
        return cls()

    def state(self):
        return dict(self._state)

    @property
    def columns(self):
        return ("base_ms", "usual_ms", "around_ms", "latitude")

    def take_back(self, state, columns):
        self._state = dict(state)


class OnGraph(Straight):
    """The same line from the path graph."""

    def inputs(self, arrays, question):
        return path_graph(arrays, question, SMALL)


class OwnRtt(Straight):
    """Sees the RTT that it is asked for."""

    def inputs(self, arrays, question):
        return with_column(super().inputs(arrays, question), "own_rtt_ms", arrays.rtt_ms[question.windows])
