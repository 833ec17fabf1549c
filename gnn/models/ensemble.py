"""Ensemble: the mean of what the graph models say; of loss, of what boosting says too."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn.inputs import Inputs
from gnn.of_members import VALUES, OfMembers
from gnn.prediction import Prediction
from gnn.predictor import Kind, Learned, Lesson
from kg.arrays import Floats

MEMBERS = ("graph-transformer", "cheb-net", "res-gated-gcn", "sage")
"""Whose RTT and jitter are averaged."""

OF_LOSS = "boosting-around"
"""Also has a say in loss, as much as all graph models together: the two err in different windows."""


class Ensemble(OfMembers):
    """Mean of the members' quantiles and probabilities. It learns nothing itself: its members are fitted before it."""

    name: ClassVar[str] = "ensemble"
    kind: ClassVar[Kind] = Kind.ENSEMBLE
    effort: ClassVar[int] = 4
    citation: ClassVar[str] = (
        "Breiman: Bagging Predictors, Machine Learning 24, 1996; of models in place of samples"
    )
    members: ClassVar[tuple[str, ...]] = (*MEMBERS, OF_LOSS)

    def learn(self, lesson: Lesson) -> Learned:  # noqa: ARG002  the members have
        """Nothing."""
        return Learned(parameters=0)

    def answer(self, inputs: Inputs) -> Prediction:
        """Means, over the members that say something; None does where none does."""
        mean: dict[str, Floats] = {}
        for value in VALUES:
            graph = _mean([inputs.column(f"{name} {value}") for name in MEMBERS])
            if value in ("any_loss_probability", "loss_ratio"):
                graph = _mean([graph, inputs.column(f"{OF_LOSS} {value}")])
            mean[value] = graph
        in_range = np.stack([inputs.column(f"{name} in_range") for name in MEMBERS]).min(axis=0) > 0.0
        reason = np.where(in_range, "", "a member is out of its range").astype(object)
        return Prediction(**mean, in_range=in_range, reason=reason)


def _mean(several: list[Floats]) -> Floats:
    """Mean of the known values; NaN where none is."""
    stacked = np.stack(several)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
