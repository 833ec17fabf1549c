"""Until when what streams brought is in the lake, kept in the home so that the next run knows what it has to ask for.

    <home>/stream.sqlite    a row for each subscription

A time is written only when all that it speaks of is in the lake, and an earlier one than the truth costs time only: it is asked
for again, and each result lands once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ingest.sqlite_file import SqliteFile

MEMORY_NAME = "stream.sqlite"

_ALL = 0  # no probe has this id

Subscription = tuple[int, int | None]
"""A measurement, and one of its probes; None is all of them."""


class Heard:
    """The memory of streams in a home, which need not be there yet.

    Raises:
        StoreError: from every method, when it cannot be read or written.
    """

    def __init__(self, home: Path) -> None:
        self._file = SqliteFile(
            path=home / MEMORY_NAME,
            tables="CREATE TABLE heard (server TEXT NOT NULL, measurement INTEGER NOT NULL, probe INTEGER NOT NULL, "
            "until_us INTEGER NOT NULL, PRIMARY KEY (server, measurement, probe)) STRICT, WITHOUT ROWID",
            name="what streams remember",
            when_other="use the qoetwin that wrote it, or move the file away and say --since",
        )

    def until(self, server: str) -> dict[Subscription, datetime]:
        """Until when all that a server streams was heard, by subscription."""
        rows = self._file.rows("SELECT measurement, probe, until_us FROM heard WHERE server = ?", (server,))
        return {
            (measurement, None if probe == _ALL else probe): datetime.fromtimestamp(until_us / 1e6, tz=UTC)
            for measurement, probe, until_us in rows
        }

    def keep(self, server: str, until: Mapping[Subscription, datetime]) -> None:
        """From now on, these times are right; others stay as they are."""
        if not until:
            return
        with self._file.transaction() as database:
            database.executemany(
                "INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?)",
                [
                    (server, measurement, _ALL if probe is None else probe, round(moment.timestamp() * 1e6))
                    for (measurement, probe), moment in until.items()
                ],
            )
