"""Reach: what a predictor has learned from, so that it can say when it is asked about something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain.errors import ArtefactError
from gnn.neighbours import chord_km, on_sphere
from gnn.protocols.protocol import Bools, Question
from kg.arrays import UNKNOWN_ASN, Ints, PathArrays, Strings

FURTHER = 1.05
"""Distances this much beyond the longest that was learned from are still within reach."""

NEW_PROBE_AS = "the AS of the probe is none of those that were learned from"
NEW_TARGET_AS = "the AS of the target is none of those that were learned from"
TOO_FAR = "further apart than any pair that was learned from"
ALONE = "nothing is seen of it, nor of any other path of its probe or of its target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What the pairs that were learned from were like.

    Attributes:
        probe_asns, target_asns: (N,) their known AS numbers, ascending.
        most_km: the longest known distance; infinite where none is known.
    """

    probe_asns: Ints
    target_asns: Ints
    most_km: float

    @classmethod
    def of(cls, arrays: PathArrays, fit: Question) -> Self:
        """Of the pairs that a question asks about or sees."""
        learned = (fit.asked | fit.seen_now | fit.seen_past).any(axis=0) & np.isfinite(arrays.rtt_ms).any(
            axis=0
        )
        kilometres = _kilometres(arrays)[learned]
        known = kilometres[np.isfinite(kilometres)]
        return cls(
            probe_asns=_known(arrays.probe_end.asn[learned]),
            target_asns=_known(arrays.target_end.asn[learned]),
            most_km=float(known.max()) if len(known) > 0 else np.inf,
        )

    def beyond(self, arrays: PathArrays, question: Question) -> Strings:
        """(Q, P) why a pair is out of reach, "" where it is not. What is not known of a pair puts it out of none."""
        reason = np.full((len(question), arrays.pairs), "", dtype=np.object_)
        seen = question.seen_before(arrays.measured) | (question.now(arrays.measured.astype(float)) == 1.0)
        for words, where in (
            (ALONE, ~seen & ~_heard_of(arrays, seen)),
            (TOO_FAR, np.asarray(_kilometres(arrays) > FURTHER * self.most_km)[None, :]),
            (NEW_TARGET_AS, _new(arrays.target_end.asn, self.target_asns)[None, :]),
            (NEW_PROBE_AS, _new(arrays.probe_end.asn, self.probe_asns)[None, :]),
        ):
            reason[np.broadcast_to(where, reason.shape)] = words
        return reason

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it as arrays."""
        return {
            "probe_asns": self.probe_asns,
            "target_asns": self.target_asns,
            "most_km": np.array(self.most_km),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]], *, where: str) -> Self:
        """Take back what `state` gave.

        Raises:
            ArtefactError: when an array is missing, too many, or of another shape or type.
        """
        found = {name: (values.dtype.str, values.ndim) for name, values in sorted(state.items())}
        wanted = {"most_km": ("<f8", 0), "probe_asns": ("<i8", 1), "target_asns": ("<i8", 1)}
        if found != wanted or np.isnan(state["most_km"]):
            raise ArtefactError(
                "a saved reach with other arrays than it has",
                where=where,
                found=str(found),
                expected=str(wanted),
            )
        return cls(
            probe_asns=state["probe_asns"], target_asns=state["target_asns"], most_km=float(state["most_km"])
        )


def _kilometres(arrays: PathArrays) -> NDArray[np.float64]:
    return chord_km(on_sphere(arrays.probe_end), on_sphere(arrays.target_end))


def _known(asns: Ints) -> Ints:
    return np.unique(asns[asns != UNKNOWN_ASN])


def _new(asns: Ints, known: Ints) -> Bools:
    return np.asarray((asns != UNKNOWN_ASN) & ~np.isin(asns, known))


def _heard_of(arrays: PathArrays, seen: Bools) -> Bools:
    """(Q, P) where something is seen of another pair with one of the pair's hosts."""
    ends = np.concatenate([arrays.probe_end.host, arrays.target_end.host])
    number = np.unique(ends, return_inverse=True)[1].reshape(2, -1)
    heard = np.zeros_like(seen)
    for row in range(len(seen)):
        of = number[:, seen[row]]
        known = np.bincount(of.reshape(-1), minlength=int(number.max()) + 1) > 0
        heard[row] = known[number].any(axis=0)
    return heard
