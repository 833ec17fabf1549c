"""Predictor: the contract of everything that predicts. Physical units outside, normalised inside."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Self, TypeAlias, final

from numpy.typing import NDArray

from domain.errors import DataError
from gnn.audit import Verdict, audit, without
from gnn.inputs import Inputs
from gnn.prediction import Prediction
from gnn.protocols.protocol import Question, Split
from kg.arrays import PathArrays

Array: TypeAlias = NDArray[Any]
Progress: TypeAlias = Callable[[int, int, float], None]
"""Told after each epoch: epoch, of how many at most, validation loss."""


class Kind(StrEnum):
    """What kind of predictor it is."""

    BASELINE = "baseline"
    GNN = "gnn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What came of learning.

    Attributes:
        epochs: epochs run; None where there are none.
        parameters: learned numbers.
        losses: validation loss of each epoch.
        seconds: how long learning took, the audit left out; `fit` says so.
    """

    epochs: int | None
    parameters: int
    losses: tuple[float, ...]
    seconds: float | None = None


class Predictor(ABC):
    """Predicts RTT, loss and jitter of pairs in windows.

    A predictor sees of a question only what `inputs` gives, and knows of the rest only what `learn` left in it.
    Subclasses write `prepare`, `inputs`, `learn`, `answer`, and what it takes to be saved.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    citation: ClassVar[str]

    @final
    def fit(
        self, arrays: PathArrays, split: Split, *, seed: int, progress: Progress | None = None
    ) -> tuple[Learned, Verdict]:
        """Audit, then learn from the windows before the test; those of the test are taken away first.

        Args:
            arrays: the measurements.
            split: what is learned on, and what is kept for the test.
            seed: of all randomness.
            progress: told after each epoch.

        Returns:
            What was learned, and the audit's verdict, which is passed.

        Raises:
            LeakError: when the inputs depend on hidden values; nothing is learned.
            DataError: when there is nothing to learn from.
        """
        verdict = audit(self, arrays, split)
        verdict.require(self.name)
        before_test = without(arrays, split.test.hidden(arrays, 0))
        if not split.fit.cells(before_test).rtt.any():
            raise DataError(
                "nothing to learn from",
                found="no pair with an RTT in a fitted window and in one before it",
                expected="pairs measured more than once",
            )
        started = time.perf_counter()
        learned = self.learn(before_test, split, seed=seed, progress=progress)
        return replace(learned, seconds=time.perf_counter() - started), verdict

    @final
    def predict(self, arrays: PathArrays, question: Question) -> Prediction:
        """Answer a question from its inputs alone.

        Raises:
            DataError: when the predictor is not fitted, or the arrays have other columns than those it was fitted on.
        """
        return self.answer(self.inputs(arrays, question))

    @abstractmethod
    def prepare(self, arrays: PathArrays, split: Split) -> Mapping[str, Array]:
        """The constants that are taken from the data before learning (means, spreads), by name; from fitted windows only."""

    @abstractmethod
    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """Everything that the predictor may look at to answer the question."""

    @abstractmethod
    def learn(self, arrays: PathArrays, split: Split, *, seed: int, progress: Progress | None) -> Learned:
        """Learn from the fitted windows, stop by the validation windows, calibrate on the calibration windows."""

    @abstractmethod
    def answer(self, inputs: Inputs) -> Prediction:
        """Predict from the inputs, and from nothing else."""

    @abstractmethod
    def config(self) -> Mapping[str, int | float]:
        """Its settings by name."""

    @classmethod
    @abstractmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted predictor with the settings that `config` gave."""

    @abstractmethod
    def state(self) -> Mapping[str, Array]:
        """Everything learned, by name.

        Raises:
            DataError: when not fitted.
        """

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Names of the input columns that it was fitted on."""

    @abstractmethod
    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` and `columns` gave.

        Raises:
            ArtefactError: when an array is missing, too many, or of another shape or type, or a column is not known.
        """


def counted(predictor: Predictor, arrays: PathArrays, question: Question) -> tuple[int, dict[str, int]]:
    """What a predictor sees of a question, counted from its own inputs.

    Returns:
        Over all asked windows: the pairs that were seen measured before their window, and the edges by type; no type where
        the predictor looks at one pair at a time.
    """
    inputs = predictor.inputs(arrays, question)
    edges: dict[str, int] = {}
    for graph in inputs.graph_of:
        for relation, ends in inputs.graphs[int(graph)].items():
            edges[relation] = edges.get(relation, 0) + ends.shape[1]
    return int(question.seen_before(arrays.measured).sum()), edges
