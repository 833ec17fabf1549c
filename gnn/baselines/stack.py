"""Stack: a weighted mean of other baselines, the weights learned where those did not learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np

from domain.errors import DataError
from gnn.baselines.simple import TARGETS, truths
from gnn.inputs import Inputs
from gnn.of_members import OfMembers
from gnn.prediction import Prediction
from gnn.predictor import Array, Kind, Learned, Lesson
from gnn.state import checked
from kg.arrays import Floats

STACKED: Final = (
    *("node-effects", "low-rank", "vivaldi", "nearest-places", "nearest-profiles"),
    *("boosting", "boosting-around"),
)
"""Fits to the levels of all pairs, what mates tell, and both boostings, which have the fibre distance and a pair's past among their columns."""

ROUNDS, STEP = 500, 0.5
"""Of multiplying weights, and how far the first goes."""

LEAST_CELLS = 30
"""With fewer to learn weights from, all members weigh alike."""

LEAST_SAID = 0.9
"""A member that speaks of a smaller share of the cells has no weight but the least."""

LEAST_WEIGHT = 1e-9
"""Where no better member has anything to say, the others speak."""

WEIGHTS = "weights"


class Stack(OfMembers):
    """For each target a weighted mean of the members, the weights being 0 or more and 1 together.

    Members learn on the fitted cells. Weights are learned on the validation cells, out of fold: no member learned from these, though
    each stopped, or chose among its options, by them. Calibration cells are not touched. They are the weights of the least absolute
    error, of probabilities and loss ratios of the least squared one. Where a member has nothing to say, the others speak for it.
    """

    name: ClassVar[str] = "stack"
    kind: ClassVar[Kind] = Kind.BASELINE
    effort: ClassVar[int] = 6
    citation: ClassVar[str] = (
        "Wolpert: Stacked Generalization (Neural Networks 5, 1992); Breiman: Stacked Regressions (Machine Learning 24, 1996), "
        "weights that are not negative; Kivinen, Warmuth: Exponentiated Gradient versus Gradient Descent (Information and "
        "Computation 132, 1997)"
    )
    members: ClassVar[tuple[str, ...]] = STACKED

    def __init__(self) -> None:
        super().__init__()
        self._weights: Floats | None = None

    @property
    def weights(self) -> Floats:
        """(4, M) the weights of the members for each of `TARGETS`.

        Raises:
            DataError: when not fitted.
        """
        if self._weights is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return self._weights

    def learn(self, lesson: Lesson) -> Learned:
        """Weigh the members."""
        question = lesson.split.validation
        inputs = self.inputs(lesson.arrays, question)
        truth = truths(lesson.arrays, question)
        self._weights = np.stack(
            [
                _weights(self._said(inputs, target), truth[target], squared=not target.endswith("_ms"))
                for target in TARGETS
            ]
        )
        return Learned(parameters=self._weights.size)

    def _said(self, inputs: Inputs, value: str) -> Floats:
        """(Q, P, M) what each member says."""
        return np.stack([inputs.column(f"{name} {value}") for name in self.members], axis=-1)

    def answer(self, inputs: Inputs) -> Prediction:
        """The weighted means."""
        found: dict[str, Floats] = {}
        for weights, target in zip(self.weights, TARGETS, strict=True):
            weight = np.where(np.isfinite(self._said(inputs, target)), weights, 0.0)
            total = weight.sum(axis=-1)
            share = weight / np.where(total > 0.0, total, 1.0)[..., None]
            bounds = ("_ms", "_low_ms", "_high_ms") if target.endswith("_ms") else ("",)
            for value in (target.removesuffix("_ms") + bound for bound in bounds):
                mean = (share * np.where(share > 0.0, self._said(inputs, value), 0.0)).sum(axis=-1)
                found[value] = np.where(total > 0.0, mean, np.nan)
        known = np.isfinite(found["rtt_ms"])
        return Prediction(
            **found,
            in_range=known,
            reason=np.where(known, "", "none of the members has anything to say").astype(object),
        )

    def state(self) -> dict[str, Array]:
        """The weights, and what the members learned."""
        return {WEIGHTS: self.weights, **super().state()}

    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        own = {name: values for name, values in state.items() if name == WEIGHTS}
        expected = {WEIGHTS: np.empty((len(TARGETS), len(self.members)))}
        self._weights = checked(own, expected, where=self.name)[WEIGHTS]
        super().take_back({name: values for name, values in state.items() if name != WEIGHTS}, columns)


def _weights(said: Floats, truth: Floats, *, squared: bool) -> Floats:
    """(M,) of what members say, (Q, P, M), of truths, (Q, P), NaN where it is not scored."""
    scored = np.isfinite(truth)
    known = np.isfinite(said[scored])
    weights = np.full(said.shape[-1], 1.0 / said.shape[-1])
    speaks = known.mean(axis=0) >= LEAST_SAID if len(known) > 0 else np.zeros(len(weights), dtype=np.bool_)
    cells = known[:, speaks].all(axis=1)
    if not speaks.any() or int(cells.sum()) < LEAST_CELLS:
        return weights
    weights[:] = 0.0
    weights[speaks] = weighed(said[scored][cells][:, speaks], truth[scored][cells], squared=squared)
    return np.asarray(np.maximum(weights, LEAST_WEIGHT))


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
    return np.asarray(kept / kept.sum())
