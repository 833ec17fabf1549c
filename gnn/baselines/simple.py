"""What the simple baselines share: a point, a spread and a loss of each pair are their inputs, and nearly their answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final, Self

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn import history
from gnn.inputs import Inputs, columns_only
from gnn.prediction import Prediction
from gnn.predictor import Array, Kind, Learned, Lesson, Predictor
from gnn.protocols.protocol import Bools, Question, Split
from gnn.scoring import Target, truth
from gnn.settings import require_in_range
from gnn.state import checked
from kg.arrays import Floats, PathArrays, Strings

TARGETS: Final = ("rtt_ms", "jitter_ms", "any_loss_probability", "loss_ratio")
"""What is predicted, and the columns it is read from."""

DEVIATIONS: Final = 2.439
"""Median absolute deviations that 90 % of a normal distribution lie within: 1.645 / 0.6745."""


class SimpleBaseline(Predictor):
    """A point from what is seen, in closed form or by a seeded iteration, all of it within `inputs`.

    A baseline may compute its point in several ways, its `options`; which is taken is learned for each target: the one with the
    least error on the validation cells, the absolute one of a median, the squared one of a probability or a mean.

    The interval, before it is calibrated, is the point plus and minus so many of the pair's deviations as hold 90 % of a normal
    distribution; to each deviation the median one of all pairs is added, so that none is 0.

    Args:
        windows: latest windows that a pair's usual is taken over; None leaves it to the baseline.
    """

    kind: ClassVar[Kind] = Kind.BASELINE
    options: ClassVar[tuple[str, ...]] = ("",)
    default_windows: ClassVar[int] = history.HISTORY_WINDOWS

    def __init__(self, windows: int | None = None) -> None:
        self.windows = self.default_windows if windows is None else windows
        require_in_range({"history": self.windows})
        self._state: dict[str, Array] | None = None

    @abstractmethod
    def measures(self, arrays: PathArrays, question: Question) -> dict[str, Floats]:
        """(Q, P) for each name in `columns`, from what is seen; NaN where nothing is known."""

    @abstractmethod
    def reasons(self, known: Bools, inputs: Inputs) -> Strings:
        """(Q, P) why there is no point, "" where there is."""

    @classmethod
    def named(cls, target: str, option: str) -> str:
        """The column of a target in one of the ways it is computed."""
        return f"{target}_{option}" if option else target

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers that it looks at."""
        points = tuple(self.named(target, option) for target in TARGETS for option in self.options)
        return (*points, "rtt_spread_ms", "jitter_spread_ms", "windows_sent")

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """Median of the pairs' deviations, as seen from the last fitted row."""
        inputs = self.inputs(arrays, split.fit.part(slice(len(split.fit) - 1, None)))
        return {f"{name}_floor_ms": _median(inputs.column(f"{name}_spread_ms")) for name in ("rtt", "jitter")}

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The points, the spread and the loss of each pair, and in how many windows it was asked."""
        measures = self.measures(arrays, question)
        return columns_only({name: measures[name] for name in self.columns})

    def learn(self, lesson: Lesson) -> Learned:
        """Choose among the options; there is nothing else to learn."""
        state = self.prepare(lesson.arrays, lesson.split)
        question = lesson.split.validation
        errors = np.zeros((len(TARGETS), len(self.options)))
        if len(self.options) > 1:
            inputs = self.inputs(lesson.arrays, question)
            truth = truths(lesson.arrays, question)
            for row, target in enumerate(TARGETS):
                told = np.stack([inputs.column(self.named(target, option)) for option in self.options])
                both = np.isfinite(truth[target]) & np.isfinite(told).all(axis=0)
                wrong = np.abs(told[:, both] - truth[target][both])
                errors[row] = (wrong if target.endswith("_ms") else wrong**2).sum(axis=1)
        self._state = {**state, "option": errors.argmin(axis=1).astype(np.int64)}
        return Learned(parameters=len(state) + (len(TARGETS) if len(self.options) > 1 else 0))

    def answer(self, inputs: Inputs) -> Prediction:
        """The points that were chosen, their intervals, and why there is none."""
        state = self.state()
        told = {
            target: inputs.column(self.named(target, self.options[int(option)]))
            for target, option in zip(TARGETS, state["option"], strict=True)
        }
        known = np.isfinite(told["rtt_ms"])
        bounds: dict[str, Floats] = {}
        for name in ("rtt", "jitter"):
            spread = inputs.column(f"{name}_spread_ms")
            half = DEVIATIONS * (
                np.where(np.isfinite(spread), spread, 0.0) + float(state[f"{name}_floor_ms"])
            )
            bounds[f"{name}_low_ms"] = np.maximum(told[f"{name}_ms"] - half, 0.0)
            bounds[f"{name}_high_ms"] = told[f"{name}_ms"] + half
        return Prediction(**told, **bounds, in_range=known, reason=self.reasons(known, inputs))

    def config(self) -> dict[str, int | float]:
        """How many windows a pair's usual is taken over."""
        return {"history": self.windows}

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted baseline with these settings."""
        return cls(int(config["history"]))

    def state(self) -> dict[str, Array]:
        """Floors of the spreads in ms, and which option was chosen for each of `TARGETS`."""
        if self._state is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return dict(self._state)

    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        if columns != self.columns:
            raise ArtefactError(
                "a saved model with other inputs than its kind has",
                where=self.name,
                found=", ".join(columns),
                expected=", ".join(self.columns),
            )
        expected = {
            "rtt_floor_ms": np.zeros(()),
            "jitter_floor_ms": np.zeros(()),
            "option": np.zeros(len(TARGETS), dtype=np.int64),
        }
        taken = checked(state, expected, where=self.name)
        option = taken["option"]
        if bool(((option < 0) | (option >= len(self.options))).any()):
            raise ArtefactError("a saved model with an option that its kind has not", where=self.name)
        self._state = taken


def truths(arrays: PathArrays, question: Question) -> dict[str, Floats]:
    """(Q, P) what was measured of each target, NaN where it is not scored."""
    of = zip(TARGETS, (Target.RTT, Target.JITTER, Target.ANY_LOSS, Target.LOSS), strict=True)
    measured = {name: truth(arrays, question, target) for name, target in of}
    return {name: np.where(scored, values, np.nan) for name, (values, scored) in measured.items()}


def _median(values: Floats) -> Array:
    known = values[np.isfinite(values)]
    return np.array(np.median(known)) if len(known) > 0 else np.array(0.0)
