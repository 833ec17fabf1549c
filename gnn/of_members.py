"""Predictors that are made of others: these are fitted before, and what they say is all that is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn.inputs import Inputs
from gnn.predictor import Array, Predictor
from gnn.protocols.protocol import Question, Split
from gnn.registry import predictor_class
from kg.arrays import Floats, PathArrays

VALUES: Final = (
    *("rtt_ms", "rtt_low_ms", "rtt_high_ms", "jitter_ms", "jitter_low_ms", "jitter_high_ms"),
    *("any_loss_probability", "loss_ratio"),
)
"""What members say."""


class OfMembers(Predictor):
    """Holds the fitted predictors that `members` names, and is saved with them."""

    def __init__(self) -> None:
        self._members: dict[str, Predictor] = {}

    def reuse(self, fitted: Mapping[str, Predictor]) -> None:
        """Take the members among these."""
        self._members = {name: fitted[name] for name in self.members if name in fitted}

    def _fitted(self) -> dict[str, Predictor]:
        if len(self._members) < len(self.members):
            missing = ", ".join(name for name in self.members if name not in self._members)
            raise DataError(
                "a predictor that was not fitted with all of its members",
                where=self.name,
                found=f"missing: {missing}",
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
        """A new, unfitted one, of members with these settings."""
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

    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Give the members back what `state` gave."""
        strange = [key for key in (*state, *columns) if key.split(".", 1)[0] not in self.members]
        if strange:
            raise ArtefactError(
                "a saved model with arrays of other members", where=self.name, found=", ".join(strange[:3])
            )
        for name, member in self._fitted().items():
            prefix = f"{name}."
            member.restore(
                {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)},
                tuple(one.removeprefix(prefix) for one in columns if one.startswith(prefix)),
            )
