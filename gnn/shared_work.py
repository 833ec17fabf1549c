"""Shared work: what several models need alike is worked out once, and its time is counted for each of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from kg.arrays import Floats

_lock = Lock()
_spared_s = 0.0


def clock_s() -> float:
    """Seconds for measuring how long a model takes, as if nothing had been worked out for another one: only differences mean something."""
    return time.perf_counter() + _spared_s


class SharedWork:
    """Arrays that were worked out, by what they follow from; those that came first are let go of first.

    Args:
        most_bytes: of arrays that are remembered.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._known: OrderedDict[str, tuple[Floats, float]] = OrderedDict()
        self._bytes = 0

    def once(self, key: str, work: Callable[[], Floats]) -> Floats:
        """What the work gives, not to be written to.

        Args:
            key: of everything that it follows from.
            work: is done unless it was done under this key before.
        """
        global _spared_s
        with _lock:
            known = self._known.get(key)
            if known is not None:
                _spared_s += known[1]
                return known[0]
        began = time.perf_counter()
        came = work()
        came.flags.writeable = False
        with _lock:
            if key not in self._known:
                self._known[key] = came, time.perf_counter() - began
                self._bytes += came.nbytes
            while self._bytes > self._most_bytes:
                self._bytes -= self._known.popitem(last=False)[1][0].nbytes
        return came
