"""Predictor: the contract of everything that predicts. Physical units outside, normalised inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from domain.errors import DataError
from gnn.adaptation import alphas
from gnn.audit import Verdict, audit, without
from gnn.conformal import COVERAGE, Calibration, calibrate
from gnn.inputs import NOBODY, Inputs
from gnn.prediction import Prediction
from gnn.protocols.protocol import Protocol, Question, Split
from gnn.reach import Reach
from gnn.row_memory import RowMemory
from gnn.shared_work import clock_s
from kg.arrays import PathArrays

Array: TypeAlias = NDArray[Any]
Progress: TypeAlias = Callable[[int, int, float], None]
"""Told after each epoch: epoch, of how many at most, validation loss."""


CALIBRATION, REACH = "calibration.", "reach."
"""What the names of those arrays begin with that are not a predictor's own."""


class Kind(StrEnum):
    """What kind of predictor it is."""

    BASELINE = "baseline"
    GNN = "gnn"
    MLP = "mlp"
    ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What came of learning.

    Attributes:
        epochs: epochs run; None where there are none.
        best_epoch: the one whose weights were kept; None where there are none.
        parameters: learned numbers.
        losses: validation loss of each epoch.
        seconds: how long learning took, the audit left out, before an interrupt too. It says nothing of what was learned.
    """

    epochs: int | None = None
    best_epoch: int | None = None
    parameters: int = 0
    losses: tuple[float, ...] = ()
    seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What is learned from: arrays without what is sealed, how they are divided, and what drew it.

    Attributes:
        arrays: the measurements, without the sealed cells of the split.
        split: what is learned on; its test asks nothing, so that nobody looks there.
        protocol: draws fresh masks.
        seed: of all randomness.
        progress: told after each epoch.
        checkpoint: where an interrupted training goes on from; None keeps nothing.
    """

    arrays: PathArrays
    split: Split
    protocol: Protocol
    seed: int
    progress: Progress | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """How the intervals of a fitted predictor are widened.

    Attributes:
        by_name: of RTT and of jitter.
        learned_until_s: nothing from this time on was learned from, so intervals follow how they did from there; None where they
            do not follow anything.
        reach: what was learned from, so that it can be said when something else is asked.
    """

    by_name: dict[str, Calibration]
    learned_until_s: int | None
    reach: Reach

    def state(self) -> dict[str, Array]:
        """All its arrays by name."""
        calibrations = {
            f"{CALIBRATION}{name}.{key}": values
            for name, calibration in self.by_name.items()
            for key, values in calibration.state().items()
        }
        return calibrations | {f"{REACH}{key}": values for key, values in self.reach.state().items()}


class Predictor(ABC):
    """Predicts RTT, loss and jitter of pairs in windows.

    A predictor sees of a question only what `inputs` gives, and knows of the rest only what `learn` left in it.
    Subclasses write `prepare`, `inputs`, `learn`, `answer`, and what it takes to be saved.

    Attributes:
        name, kind, citation: what it is, and who says so.
        needs_past: it has nothing to say of a pair that was never seen.
        members: predictors that must be fitted before it, and are given to it by `reuse`.
        effort: how long it takes to fit and to ask, against the simplest: to say how long is left of many.
        calibrated: how its intervals are widened; None before it was fitted.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    citation: ClassVar[str]
    needs_past: ClassVar[bool] = False
    members: ClassVar[tuple[str, ...]] = ()
    effort: ClassVar[int] = 1
    calibrated: Calibrated | None = None
    _memory: RowMemory | None = None

    @final
    def fit(
        self,
        arrays: PathArrays,
        split: Split,
        protocol: Protocol,
        *,
        seed: int,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
    ) -> tuple[Learned, Verdict]:
        """Audit, then learn; what is sealed for the test is taken away first.

        Args:
            arrays: the measurements, as the protocol views them.
            split: what is learned on, and what is kept for the test.
            protocol: who is hidden from whom.
            seed: of all randomness.
            progress: told after each epoch.
            checkpoint: folder from which an interrupted training goes on. It is the caller's to discard, as what is fitted next may be
                interrupted too.

        Returns:
            What was learned, and the audit's verdict, which is passed.

        Raises:
            LeakError: when the split shows, or the inputs depend on, what is hidden; nothing is learned.
            DataError: when there is nothing to learn from.
            ArtefactError: when the checkpoint is of another training, or damaged.
        """
        verdict = audit(self, arrays, split, protocol)
        verdict.require(self.name)
        unsealed = without(arrays, split.sealed)
        if not split.fit.cells(unsealed).rtt.any():
            raise DataError(
                "nothing to learn from",
                found="no pair with an RTT in a fitted window and in one before it",
                expected="pairs measured more than once",
            )
        started = clock_s()
        lesson = Lesson(
            arrays=unsealed,
            split=replace(split, test=split.test.part(slice(0, 0))),
            protocol=protocol,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
        )
        learned = self.learn(lesson)
        self._memory = None
        self.calibrated = self._calibrate(unsealed, split, protocol)
        took = clock_s() - started
        return replace(learned, seconds=took + (learned.seconds or 0.0)), verdict

    def _calibrate(self, arrays: PathArrays, split: Split, protocol: Protocol) -> Calibrated:
        """Calibrate intervals on the cells that are kept for it."""
        told, cells = self.raw(arrays, split.calibration), split.calibration.cells(arrays)
        case = np.broadcast_to(split.calibration.case[:, None], cells.rtt.shape)
        rows = split.calibration.windows
        found: dict[str, Calibration] = {}
        for name, values, asked in (
            ("rtt", arrays.rtt_ms, cells.rtt),
            ("jitter", arrays.jitter_ms, cells.jitter),
        ):
            low, middle, high = (getattr(told, f"{name}{bound}_ms")[asked] for bound in ("_low", "", "_high"))
            found[name] = calibrate(values[rows][asked], low, middle, high, case[asked])
        until = int(arrays.window_start_s[int(split.validation.windows.max())]) + arrays.window_s
        return Calibrated(
            by_name=found,
            learned_until_s=until if protocol.in_time else None,
            reach=Reach.of(arrays, split.fit),
        )

    @final
    def raw(self, arrays: PathArrays, question: Question) -> Prediction:
        """Answer a question from its inputs alone, with intervals as they are before they are calibrated.

        Raises:
            DataError: when the predictor is not fitted, or the arrays have other columns than those it was fitted on.
        """
        if self._memory is None:
            self._memory = RowMemory(lambda given, part: self.answer(self.inputs(given, part)))
        return self._memory.ask(arrays, question)

    @final
    def predict(self, arrays: PathArrays, question: Question) -> Prediction:
        """Answer a question, with intervals that cover what they say; see `gnn.conformal` and `gnn.adaptation`.

        What is out of reach (`gnn.reach`) is answered all the same where it can be, and said to be so.

        Raises:
            DataError: when the predictor is not fitted, or the arrays have other columns than those it was fitted on.
        """
        if self.calibrated is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        told = self.raw(arrays, question)
        alpha: dict[str, Array] = {}
        if self.calibrated.learned_until_s is not None:
            first = int(np.searchsorted(arrays.window_start_s, self.calibrated.learned_until_s))
            alpha = alphas(
                lambda asked: self.raw(arrays, asked), arrays, question, self.calibrated.by_name, first
            )
        bounds: dict[str, Array] = {}
        for name, calibration in self.calibrated.by_name.items():
            low, middle, high = (getattr(told, f"{name}{bound}_ms") for bound in ("_low", "", "_high"))
            wanted = alpha[name][:, None] if name in alpha else 1.0 - COVERAGE
            bounds[f"{name}_low_ms"], bounds[f"{name}_high_ms"] = calibration.widen(
                low, middle, high, question.case[:, None], wanted
            )
        beyond = self.calibrated.reach.beyond(arrays, question)
        return replace(
            told,
            **bounds,
            in_range=told.in_range & (beyond == ""),
            reason=np.where(told.reason == "", beyond, told.reason),
        )

    @abstractmethod
    def prepare(self, arrays: PathArrays, split: Split) -> Mapping[str, Array]:
        """The constants that are taken from the data before learning (means, spreads), by name; from fitted cells only."""

    @abstractmethod
    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """Everything that the predictor may look at to answer the question."""

    @classmethod
    def settings_under(cls, protocol: str | None) -> Mapping[str, int | float]:  # noqa: ARG003
        """Settings that differ from the usual ones under a protocol."""
        return {}

    def reuse(self, fitted: Mapping[str, Predictor]) -> None:  # noqa: B027  most are made of nothing else
        """Take predictors that were fitted on the same split already, by name; what is made of others need not fit them again."""

    @abstractmethod
    def learn(self, lesson: Lesson) -> Learned:
        """Learn from the fitted cells, and stop by the validation cells."""

    @abstractmethod
    def answer(self, inputs: Inputs) -> Prediction:
        """Predict from the inputs, and from nothing else. Intervals are its own, before they are calibrated."""

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

    @final
    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` and `columns` gave, and forget what was said before.

        Raises:
            ArtefactError: when an array is missing, too many, or of another shape or type, or a column is not known.
        """
        self._memory = None
        self.take_back(state, columns)

    @abstractmethod
    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """The predictor's own part of `restore`.

        Raises:
            ArtefactError: when an array is missing, too many, or of another shape or type, or a column is not known.
        """


def counted(predictor: Predictor, arrays: PathArrays, question: Question) -> tuple[int, dict[str, int]]:
    """What a predictor sees of a question, counted from its own inputs.

    Returns:
        Over all rows: the pairs of which something is seen, and the edges by type; no type where
        the predictor looks at one pair at a time.
    """
    inputs = predictor.inputs(arrays, question)
    edges: dict[str, int] = {}
    for graph in inputs.graph_of:
        for relation, heard in inputs.graphs[int(graph)].items():
            edges[relation] = edges.get(relation, 0) + int((heard != NOBODY).sum())
    seen = question.seen_before(arrays.measured) | (question.now(arrays.measured.astype(float)) == 1.0)
    return int(seen.sum()), edges
