"""The threads that a source shares out: how far each of its readers may work ahead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock


@dataclass(slots=True, kw_only=True)
class Workers:
    """Threads that inflate and parse for those who read.

    What readers have ordered and not yet taken is in memory, so all of them together may order about twice as much as
    there are threads: one big file has all of that for itself.

    Attributes:
        pool: runs the work.
        threads: how many run at a time.
    """

    pool: ThreadPoolExecutor
    threads: int
    _readers: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __enter__(self) -> None:
        """A reader begins."""
        with self._lock:
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        """A reader has ended."""
        with self._lock:
            self._readers -= 1

    @property
    def ahead(self) -> int:
        """How many pieces of work a reader may have ordered before it takes the first of them."""
        return max(2, 2 * self.threads // max(1, self._readers))
