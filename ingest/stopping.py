"""Work that waits on others, and ends when it is told to all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

_PAUSE_S = 0.1

Item = TypeVar("Item")


class StoppedError(Exception):
    """We were told to stop."""


def until_stopped(items: Iterator[Item], stop: threading.Event) -> Iterator[Item]:
    """Give items until we are told to stop, also while the next one is waited for: a server may take minutes to answer.

    They are made in a thread of their own, each only when it is asked for, so that whoever makes them and comes back for the
    next may take the one before as received. A thread that is still waiting when we stop is left behind.

    Raises:
        StoppedError: when told to stop.
        Exception: what the making of an item raises.
    """
    wanted: SimpleQueue[bool] = SimpleQueue()
    given: SimpleQueue[tuple[Item] | Exception | None] = SimpleQueue()

    def make() -> None:
        while wanted.get():
            try:
                given.put((next(items),))
            except StopIteration:
                given.put(None)
            except Exception as error:  # noqa: BLE001 - it is raised where the items are asked for
                given.put(error)

    def next_given() -> tuple[Item] | Exception | None:
        while not stop.is_set():
            try:
                return given.get(timeout=_PAUSE_S)
            except Empty:
                continue
        return StoppedError()

    threading.Thread(target=make, name="qoetwin-source", daemon=True).start()
    try:
        while True:
            wanted.put(True)
            one = next_given()
            if one is None:
                return
            if isinstance(one, Exception):
                raise one
            yield one[0]
    finally:
        wanted.put(False)
