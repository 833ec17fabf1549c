"""Ensemble: the mean of what the graph models say; of loss, of what boosting says too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn.inputs import Inputs
from gnn.prediction import Prediction
from gnn.predictor import Array, Kind, Learned, Lesson, Predictor
from gnn.protocols.protocol import Question, Split
from gnn.registry import predictor_class
from kg.arrays import Floats, PathArrays

MEMBERS = ("graph-transformer", "cheb-net", "res-gated-gcn", "sage")
"""Whose RTT and jitter are averaged."""

OF_LOSS = "boosting-around"
"""Also has a say in loss, as much as all graph models together: the two err in different windows."""

VALUES = (
    *("rtt_ms", "rtt_low_ms", "rtt_high_ms", "jitter_ms", "jitter_low_ms", "jitter_high_ms"),
    *("any_loss_probability", "loss_ratio"),
)
"""What is averaged."""


class Ensemble(Predictor):
    """Mean of the members' quantiles and probabilities. It learns nothing itself: its members are fitted before it."""

    name: ClassVar[str] = "ensemble"
    kind: ClassVar[Kind] = Kind.ENSEMBLE
    citation: ClassVar[str] = (
        "Breiman: Bagging Predictors, Machine Learning 24, 1996; of models in place of samples"
    )
    members: ClassVar[tuple[str, ...]] = (*MEMBERS, OF_LOSS)

    def __init__(self) -> None:
        self._members: dict[str, Predictor] = {}

    def reuse(self, fitted: Mapping[str, Predictor]) -> None:
        """Take the members among these."""
        self._members = {name: fitted[name] for name in self.members if name in fitted}

    def _fitted(self) -> dict[str, Predictor]:
        if len(self._members) < len(self.members):
            missing = ", ".join(name for name in self.members if name not in self._members)
            raise DataError(
                "an ensemble without all of its members", where=self.name, found=f"missing: {missing}"
            )
        return self._members

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """What the members take from the data."""
        return {
            f"{name}.{key}": value
            for name, member in self._fitted().items()
            for key, value in member.prepare(arrays, split).items()
        }

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """What the members say, before their intervals are calibrated."""
        columns: dict[str, Floats] = {}
        for name, member in self._fitted().items():
            told = member.raw(arrays, question)
            columns |= {f"{name} {value}": getattr(told, value) for value in VALUES}
            columns[f"{name} in_range"] = told.in_range.astype(np.float64)
        return Inputs(columns=tuple(columns), numbers=np.stack(list(columns.values()), axis=-1))

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

    def config(self) -> dict[str, int | float]:
        """Settings of the members, with their names before them."""
        return {
            f"{name}.{key}": value
            for name in self.members
            for key, value in (self._members[name] if name in self._members else predictor_class(name)())
            .config()
            .items()
        }

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted ensemble of members with these settings."""
        made = cls()
        for name in cls.members:
            own = {
                key.removeprefix(f"{name}."): value
                for key, value in config.items()
                if key.startswith(f"{name}.")
            }
            made._members[name] = predictor_class(name).configured(own)
        return made

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the members, with their names before them."""
        return tuple(
            f"{name}.{column}" for name, member in self._fitted().items() for column in member.columns
        )

    def state(self) -> dict[str, Array]:
        """What the members learned, with their names before it."""
        return {
            f"{name}.{key}": value
            for name, member in self._fitted().items()
            for key, value in member.state().items()
        }

    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Give the members back what `state` gave."""
        strange = [key for key in state if key.split(".", 1)[0] not in self.members]
        if strange:
            raise ArtefactError(
                "a saved ensemble with arrays of other members", where=self.name, found=", ".join(strange[:3])
            )
        for name, member in self._fitted().items():
            prefix = f"{name}."
            member.restore(
                {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)},
                tuple(one.removeprefix(prefix) for one in columns if one.startswith(prefix)),
            )


def _mean(several: list[Floats]) -> Floats:
    """Mean of the known values; NaN where none is."""
    stacked = np.stack(several)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
