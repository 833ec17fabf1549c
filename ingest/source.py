"""What every source of measurements is to the rest: something that is read, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from domain.errors import InputError
from domain.progress import Report
from ingest.batch import Parsed


class Source(Protocol):
    """Where measurements come from. It is read once.

    Attributes:
        failures: what was wrong with parts of it (a file that is cut, a record that is none), known when it was read. What
            was whole was given.
    """

    failures: list[InputError]

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give its records, parsed, in bounded memory; batches of one file keep their order.

        Raises:
            SourceError: when it does not answer as it should; what was given before is good.
        """
        ...
