"""A clock that stands still until it is moved, so that an hour is played in seconds."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from domain.errors import InputError


class Clock:
    """The time of a testbed, moved by whoever plays with it; safe to be read from any thread.

    >>> from datetime import UTC
    >>> clock = Clock(datetime(2026, 1, 5, tzinfo=UTC))
    >>> clock.sleep(90)
    >>> clock.now().isoformat()
    '2026-01-05T00:01:30+00:00'

    Raises:
        InputError: when the time is naive.
    """

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise InputError("a clock without a time zone", found=str(start), expected="an aware time")
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """What it shows."""
        with self._lock:
            return self._now

    def advance(self, by: timedelta) -> None:
        """Move it on.

        Raises:
            InputError: when it would go back.
        """
        if by < timedelta(0):
            raise InputError("a clock cannot go back", found=str(by), expected="a length of time")
        with self._lock:
            self._now += by

    def sleep(self, seconds: float) -> None:
        """Move it on by so many seconds: what waits by this clock has waited at once."""
        self.advance(timedelta(seconds=seconds))
