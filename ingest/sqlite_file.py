"""A small SQLite file that remembers something: made when it is first written, one transaction a step, whole under `kill -9`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain.errors import StoreError

_BUSY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteFile:
    """The file, which need not be there yet.

    Attributes:
        path: where it is.
        tables: statements that make its tables, as they were in version 1.
        later: statements that make of each version the next one.
        name: what it is, as errors call it.
        when_other: what to do when it is of another version.

    Raises:
        StoreError: from every method, when the file cannot be read or written, or is none of this version.
    """

    path: Path
    tables: str
    name: str
    when_other: str
    later: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Of its tables."""
        return 1 + len(self.later)

    @property
    def exists(self) -> bool:
        """Whether anything was ever written. A file of no length is what a killed run, or a full disk, leaves of making it."""
        try:
            return self.path.stat().st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._trouble(error) from error

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """What a question is answered; nothing where nothing was ever written."""
        if not self.exists:
            return []
        with self._open() as database:
            return database.execute(sql, parameters).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside happens, or nothing."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            try:
                ((version,),) = database.execute("PRAGMA user_version").fetchall()
                if version < self.version:
                    self._bring_up(database)
                elif version > self.version:
                    raise StoreError(
                        f"{self.name} of another version",
                        where=str(self.path),
                        found=f"version {version}",
                        expected=f"version {self.version}",
                        next_step=self.when_other,
                    )
                yield database
            finally:
                database.close()  # rolls back what was not committed
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def _bring_up(self, database: sqlite3.Connection) -> None:
        """Make its tables, or what they lack of this version."""
        database.execute("BEGIN IMMEDIATE")
        ((version,),) = database.execute("PRAGMA user_version").fetchall()  # somebody may have been quicker
        for number, statements in enumerate((self.tables, *self.later)[version:], version + 1):
            for statement in statements.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number}")
        database.execute("COMMIT")

    def _trouble(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self.name} cannot be used",
            where=str(self.path),
            found=str(error),
            next_step="free some space, or look who else writes there; if it is damaged, put it back from a backup",
        )
