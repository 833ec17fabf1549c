"""Faults on order: which request, or which message of a stream, is answered badly, and how."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domain.errors import InputError
from testbed.chance import Purpose, draw, uniform


class Place(StrEnum):
    """What is asked. Each place counts its requests by itself, from 0."""

    RESULTS = "results"
    LATEST = "latest"
    LISTING = "listing"
    """Probes, anchors, measurements, and single ones of them."""
    CONNECTION = "connection"
    """Somebody connects to the stream."""
    MESSAGE = "message"
    """A result is about to be sent on a stream."""


class FaultKind(StrEnum):
    """What goes wrong."""

    BUSY = "busy"
    """429, with `Retry-After` or without."""
    ERROR = "error"
    """500."""
    BAD_GATEWAY = "bad-gateway"
    """502."""
    HANG = "hang"
    """Nothing comes for `seconds`, then the connection ends."""
    DRIP = "drip"
    """A byte comes every `seconds`."""
    CUT = "cut"
    """The body ends in its middle."""
    WRONG_JSON = "wrong-json"
    """The body is JSON that was broken off, and says that it is whole."""
    PAGE_TWICE = "page-twice"
    """A page of a listing begins with the objects of the page before."""
    SHUFFLED = "shuffled"
    """Results are in no order."""
    TWICE = "twice"
    """Every third result is there twice."""
    DROP = "drop"
    """The stream's connection breaks; what it was about to send is not sent to it."""
    HUSH = "hush"
    """The stream falls silent for `seconds`, its connection open; what is stored meanwhile is not sent to it."""
    GARBAGE = "garbage"
    """A message that is none."""


_OF_ANSWERS = frozenset(
    {
        FaultKind.BUSY,
        FaultKind.ERROR,
        FaultKind.BAD_GATEWAY,
        FaultKind.HANG,
        FaultKind.DRIP,
        FaultKind.CUT,
        FaultKind.WRONG_JSON,
    }
)
_OF_ARRAYS = frozenset({FaultKind.SHUFFLED, FaultKind.TWICE})
_MAY_BE = {
    Place.RESULTS: _OF_ANSWERS | _OF_ARRAYS,
    Place.LATEST: _OF_ANSWERS | _OF_ARRAYS,
    Place.LISTING: _OF_ANSWERS | {FaultKind.PAGE_TWICE},
    Place.CONNECTION: frozenset({FaultKind.BUSY, FaultKind.ERROR, FaultKind.BAD_GATEWAY, FaultKind.HANG}),
    Place.MESSAGE: frozenset({FaultKind.DROP, FaultKind.HUSH, FaultKind.GARBAGE}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        kind: what goes wrong.
        retry_after: what `Retry-After` says, as it stands in the header; None leaves it out.
        seconds: how long, of the kinds that take time.
    """

    kind: FaultKind
    retry_after: str | None = None
    seconds: float = 0.05


class Faults:
    """A plan of faults, and what became of it; safe to be asked from any thread.

    Args:
        plan: the fault of the nth request at a place, if any.

    Attributes:
        met: the faults that happened, in order.
    """

    def __init__(self, plan: Callable[[Place, int], Fault | None]) -> None:
        self.met: list[tuple[Place, int, Fault]] = []
        self._plan = plan
        self._asked = dict.fromkeys(Place, 0)
        self._lock = threading.Lock()

    @classmethod
    def none(cls) -> Faults:
        """All is well."""
        return cls(lambda _place, _number: None)

    @classmethod
    def listed(cls, faults: Mapping[tuple[Place, int], Fault]) -> Faults:
        """Exactly these.

        Raises:
            InputError: when a fault cannot be at its place.
        """
        for (place, number), fault in faults.items():
            if fault.kind not in _MAY_BE[place]:
                raise InputError(
                    "a fault that cannot be there",
                    where=f"{place} {number}",
                    found=fault.kind,
                    expected=", ".join(sorted(_MAY_BE[place])),
                )
        chosen = dict(faults)
        return cls(lambda place, number: chosen.get((place, number)))

    @classmethod
    def seeded(
        cls, seed: int, ratio: float, faults: Sequence[Fault], places: Sequence[Place] = tuple(Place)
    ) -> Faults:
        """Some requests, in that ratio, meet one of these faults that can be at their place."""
        at = list(Place)

        def plan(place: Place, number: int) -> Fault | None:
            possible = [fault for fault in faults if fault.kind in _MAY_BE[place]]
            key = (at.index(place), np.array([number], dtype=np.int64))
            if place not in places or not possible or uniform(draw(seed, Purpose.FAULT, *key))[0] >= ratio:
                return None
            which = uniform(draw(seed, Purpose.WHICH_FAULT, *key))[0]
            return possible[int(which * len(possible))]

        return cls(plan)

    def next(self, place: Place) -> Fault | None:
        """Count a request; say what goes wrong with it."""
        with self._lock:
            number = self._asked[place]
            self._asked[place] += 1
            fault = self._plan(place, number)
            if fault is not None:
                self.met.append((place, number, fault))
            return fault

    def asked(self, place: Place) -> int:
        """How many requests there were."""
        with self._lock:
            return self._asked[place]
