"""Stack: a weighted mean of the other baselines, the weights learned where those did not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Self, TypeVar

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn.baselines.boosting import Boosting
from gnn.baselines.boosting_around import BoostingAround
from gnn.baselines.ewma import Ewma
from gnn.baselines.last_value import LastValue
from gnn.baselines.low_rank import LowRank
from gnn.baselines.nearest_places import NearestPlaces
from gnn.baselines.nearest_profiles import NearestProfiles
from gnn.baselines.node_effects import NodeEffects
from gnn.baselines.rolling_median import RollingMedian
from gnn.baselines.simple import TARGETS, truths
from gnn.baselines.vivaldi import Vivaldi
from gnn.inputs import Inputs
from gnn.path_graph import PathGraphConfig, path_graph
from gnn.prediction import Prediction, joined
from gnn.predictor import CELLS_AT_ONCE, Array, Kind, Learned, Lesson, Predictor
from gnn.protocols.protocol import Question, Split
from gnn.state import checked
from kg.arrays import Floats, PathArrays

OF_MET: Final[tuple[type[Predictor], ...]] = (
    LastValue,
    Ewma,
    RollingMedian,
    NearestProfiles,
    Boosting,
    BoostingAround,
)
"""Those that are stacked where every pair asked has a past."""

OF_UNMET: Final[tuple[type[Predictor], ...]] = (
    NodeEffects,
    LowRank,
    Vivaldi,
    NearestPlaces,
    NearestProfiles,
    Boosting,
    BoostingAround,
)
"""Those that are stacked where pairs need not have been met."""

T = TypeVar("T")

SEPARATOR: Final = ": "
"""Between a member's name and that of a column, a value or an array of its."""

ROUNDS, STEP = 500, 0.5
"""Of multiplying weights, and how far the first goes."""

LEAST_WEIGHT = 1e-9
"""Where all better members have nothing to say, the least of them speaks."""

LEAST_CELLS = 30
"""With fewer to learn weights from, all members weigh alike."""


class Stack(Predictor):
    """For each target a weighted mean of the members, the weights being 0 or more and 1 together.

    Members learn on the fitted cells. Weights are learned on the validation cells, out of fold: no member learned from these, though
    each stopped, or chose among its options, by them. Calibration cells are not touched. They are the weights of the least absolute
    error, of probabilities and loss ratios of the least squared one. Where a member has nothing to say, the others speak for it.

    Args:
        members: in place of those with default settings. Those that are fitted, on the same split, are taken as they are; the
            others are fitted with the stack.
    """

    name: ClassVar[str] = "stack"
    kind: ClassVar[Kind] = Kind.BASELINE
    citation: ClassVar[str] = (
        "Wolpert: Stacked Generalization (Neural Networks 5, 1992); Breiman: Stacked Regressions (Machine Learning 24, 1996), "
        "weights that are not negative; Kivinen, Warmuth: Exponentiated Gradient versus Gradient Descent (Information and "
        "Computation 132, 1997)"
    )

    def __init__(self, members: Sequence[Predictor] = ()) -> None:
        every = {kind.name: kind() for kind in (*OF_MET, *OF_UNMET)}
        self._every: dict[str, Predictor] = {**every, **{member.name: member for member in members}}
        self._members: dict[str, Predictor] | None = None
        self._weights: Floats | None = None

    def reuse(self, fitted: Mapping[str, Predictor]) -> None:
        """Take the members among these as they are."""
        self._every |= {name: fitted[name] for name in self._every if name in fitted}

    @property
    def fitted(self) -> Mapping[str, Predictor]:
        """The fitted members by name.

        Raises:
            DataError: when not fitted.
        """
        if self._members is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return dict(self._members)

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """What the members prepare."""
        return {
            f"{name}{SEPARATOR}{constant}": values
            for name, member in self._asked(split.fit).items()
            for constant, values in member.prepare(arrays, split).items()
        }

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The inputs of all members, side by side; the path graph is made once for those that look at it."""
        graph = path_graph(arrays, question, PathGraphConfig())
        several = {
            name: member.from_graph(arrays, question, graph)
            if isinstance(member, Boosting | NearestProfiles)
            else member.inputs(arrays, question)
            for name, member in self._asked(question).items()
        }
        return Inputs(
            columns=tuple(
                f"{name}{SEPARATOR}{column}" for name, inputs in several.items() for column in inputs.columns
            ),
            numbers=np.concatenate([inputs.numbers for inputs in several.values()], axis=-1),
            values={
                f"{name}{SEPARATOR}{key}": values
                for name, inputs in several.items()
                for key, values in inputs.values.items()
            },
        )

    def _asked(self, question: Question) -> dict[str, Predictor]:
        """The members, fitted or not, that the question is for."""
        if self._members is not None:
            return self._members
        return {kind.name: self._every[kind.name] for kind in (OF_UNMET if question.unmet else OF_MET)}

    def learn(self, lesson: Lesson) -> Learned:
        """Fit the members that are not, then weigh all."""
        self._members = None
        members = self._asked(lesson.split.fit)
        parameters = 0
        for number, member in enumerate(members.values(), start=1):
            if not _is_fitted(member):
                parameters += member.learn(lesson).parameters
            if lesson.progress is not None:
                lesson.progress(number, len(members), np.nan)
        self._members = members
        question = lesson.split.validation
        told = self._told(lesson.arrays, question)
        truth = truths(lesson.arrays, question)
        weights = np.full((len(TARGETS), len(members)), 1.0 / len(members))
        for row, target in enumerate(TARGETS):
            points = np.stack([getattr(one, target) for one in told], axis=-1)
            scored = np.isfinite(truth[target]) & np.isfinite(points).all(axis=-1)
            if scored.sum() >= LEAST_CELLS:
                weights[row] = weighed(
                    points[scored], truth[target][scored], squared=not target.endswith("_ms")
                )
        self._weights = weights
        return Learned(parameters=parameters + weights.size)

    def _told(self, arrays: PathArrays, question: Question) -> list[Prediction]:
        """What each member says, a few rows at a time."""
        rows = max(1, CELLS_AT_ONCE // arrays.pairs)
        parts = [self._answers(self.inputs(arrays, part)) for part in question.parts(rows)]
        return [joined(several) for several in zip(*parts, strict=True)]

    def _answers(self, inputs: Inputs) -> list[Prediction]:
        """What each member says of its share of the inputs."""
        return [member.answer(_share(inputs, name)) for name, member in self.fitted.items()]

    def answer(self, inputs: Inputs) -> Prediction:
        """The weighted means."""
        told = self._answers(inputs)
        found: dict[str, Floats] = {}
        for weights, target in zip(self.weights, TARGETS, strict=True):
            points = np.stack([getattr(one, target) for one in told], axis=-1)
            weight = np.where(np.isfinite(points), weights, 0.0)
            total = weight.sum(axis=-1)
            share = weight / np.where(total > 0.0, total, 1.0)[..., None]
            bounds = ("_ms", "_low_ms", "_high_ms") if target.endswith("_ms") else ("",)
            for name in (target.removesuffix("_ms") + bound for bound in bounds):
                values = np.stack([getattr(one, name) for one in told], axis=-1)
                mean = (share * np.where(share > 0.0, values, 0.0)).sum(axis=-1)
                found[name] = np.where(total > 0.0, mean, np.nan)
        known = np.isfinite(found["rtt_ms"])
        reason = told[int(self.weights[0].argmax())].reason
        return Prediction(**found, in_range=known, reason=np.where(known, "", reason).astype(object))

    @property
    def weights(self) -> Floats:
        """(4, M) the weights of the members for each of `TARGETS`.

        Raises:
            DataError: when not fitted.
        """
        if self._weights is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return self._weights

    def config(self) -> dict[str, int | float]:
        """The settings of all that may be members."""
        return {
            f"{name}{SEPARATOR}{setting}": value
            for name, member in self._every.items()
            for setting, value in member.config().items()
        }

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted stack of members with these settings."""
        return cls([kind.configured(_part(config, kind.name)) for kind in {*OF_MET, *OF_UNMET}])

    def state(self) -> dict[str, Array]:
        """The weights, whether the members are those of pairs not met, and what these learned."""
        of_unmet = tuple(self.fitted) == tuple(kind.name for kind in OF_UNMET)
        learned: dict[str, Array] = {"weights": self.weights, "of_unmet": np.array(of_unmet)}
        return learned | {
            f"{name}{SEPARATOR}{key}": values
            for name, member in self.fitted.items()
            for key, values in member.state().items()
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of all members."""
        return tuple(
            f"{name}{SEPARATOR}{column}" for name, member in self.fitted.items() for column in member.columns
        )

    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        own = {key: values for key, values in state.items() if SEPARATOR not in key}
        kinds = OF_UNMET if bool(own.get("of_unmet", False)) else OF_MET
        expected = {"weights": np.empty((len(TARGETS), len(kinds))), "of_unmet": np.array(False)}
        self._weights = checked(own, expected, where=self.name)["weights"]
        members = {kind.name: self._every[kind.name] for kind in kinds}
        strangers = {key.partition(SEPARATOR)[0] for key in (*state, *columns)} - members.keys() - own.keys()
        if strangers:
            raise ArtefactError(
                "a saved stack of other members than its kind has",
                where=self.name,
                found=", ".join(sorted(strangers)),
                expected=", ".join(members),
            )
        for name, member in members.items():
            mine = tuple(
                column.partition(SEPARATOR)[2] for column in columns if column.startswith(name + SEPARATOR)
            )
            member.restore(_part(state, name), mine)
        self._members = members


def _part(whole: Mapping[str, T], name: str) -> dict[str, T]:
    """What is one member's, by the names that the member gives."""
    return {
        key.partition(SEPARATOR)[2]: value for key, value in whole.items() if key.startswith(name + SEPARATOR)
    }


def _share(inputs: Inputs, name: str) -> Inputs:
    """The inputs of one member."""
    mine = [place for place, column in enumerate(inputs.columns) if column.startswith(name + SEPARATOR)]
    return Inputs(
        columns=tuple(inputs.columns[place].partition(SEPARATOR)[2] for place in mine),
        numbers=inputs.numbers[:, :, mine],
        values=_part(inputs.values, name),
    )


def _is_fitted(member: Predictor) -> bool:
    try:
        member.state()
    except DataError:
        return False
    return True


def weighed(points: Floats, truth: Floats, *, squared: bool) -> Floats:
    """(M,) the weights, 0 or more and 1 together, of the mean with the least absolute, or squared, errors.

    Exponentiated gradient: weights are multiplied, so that none becomes negative, and steps get shorter. What is returned is the mean
    over the second half of the steps.

    Args:
        points: (n, M).
        truth: (n,).
        squared: errors count by their square.
    """
    weights = np.full(points.shape[1], 1.0 / points.shape[1])
    wrong = (
        points - truth[:, None]
    )  # as weights are 1 together, the error of the mean is the mean of the errors
    size = float(np.abs(wrong).mean() if not squared else (wrong**2).mean())
    if size == 0.0:
        return weights
    kept = np.zeros_like(weights)
    for step in range(ROUNDS):
        error = wrong @ weights
        gradient = (2.0 * error if squared else np.sign(error)) @ wrong / len(truth) / size
        weights = weights * np.exp(-STEP / np.sqrt(1.0 + step) * (gradient - gradient.min()))
        weights /= weights.sum()
        kept += weights if 2 * step >= ROUNDS else 0.0
    return np.asarray(np.maximum(kept / kept.sum(), LEAST_WEIGHT))
