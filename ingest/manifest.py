"""The manifest: which files the lake is made of, what was read to fill them, and which hours changed when.

    <lake>/manifest.sqlite    one transaction a commit
    <lake>/.staging/          files on their way: written whole, then committed, then moved to their place

A commit is one transaction of SQLite: it happens or it does not, also under `kill -9`. Files are written before it, under
`.staging`, and moved after it; who dies before the commit leaves files that nobody names, who dies after it leaves files that
are named and not yet moved: `recover` deletes the first and moves the second. Only who holds the lake's lock commits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import StoreError
from ingest.sqlite_file import SqliteFile

_TABLES = """
CREATE TABLE head (number INTEGER NOT NULL) STRICT;
INSERT INTO head VALUES (0);
CREATE TABLE file (
    path TEXT PRIMARY KEY, kind TEXT NOT NULL, day TEXT, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    first_us INTEGER, last_us INTEGER, added_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX file_of_day ON file (kind, day);
CREATE TABLE to_publish (path TEXT PRIMARY KEY, staged TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE to_delete (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE touched (kind TEXT, hour INTEGER, number INTEGER NOT NULL, PRIMARY KEY (kind, hour)) STRICT, WITHOUT ROWID;
CREATE TABLE read_file (digest TEXT PRIMARY KEY, name TEXT NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A Parquet file of the lake.

    Attributes:
        path: below the lake's folder, with slashes.
        kind: the table that it is a part of.
        day: of its results, as `2019-05-12`; None where a table has no days.
        rows, bytes: how large it is.
        first_us, last_us: the earliest and the latest time in it, in microseconds since 1970; None where rows have no time.
    """

    path: str
    kind: str
    day: str | None
    rows: int
    bytes: int
    first_us: int | None
    last_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A file that was written, and is not yet in the lake; `name` is its name under `.staging`."""

    name: str
    entry: Entry


class Manifest:
    """The manifest of the lake in a folder, which need not be there yet.

    Raises:
        StoreError: from every method, when the manifest cannot be read or written, or is none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = SqliteFile(
            path=folder / "manifest.sqlite",
            tables=_TABLES,
            name="the lake's manifest",
            when_other="use the qoetwin that wrote it, or ingest into another home",
        )
        self.staging = folder / ".staging"

    @property
    def exists(self) -> bool:
        """Whether anything was ever committed: a run that is killed may leave the tables, and nothing in them."""
        return self.head() > 0

    def head(self) -> int:
        """The number of the last commit; 0 before the first."""
        ((number,),) = self._file.rows("SELECT number FROM head") or ((0,),)
        return int(number)

    def files(self, kind: str, first_us: int | None = None, last_us: int | None = None) -> list[Entry]:
        """The files of a table that may hold rows from `first_us` to `last_us`, both included, sorted by path."""
        rows = self._file.rows(
            "SELECT path, kind, day, rows, bytes, first_us, last_us FROM file WHERE kind = ? "
            "AND (?2 IS NULL OR last_us >= ?2) AND (?3 IS NULL OR first_us <= ?3) ORDER BY path",
            (kind, first_us, last_us),
        )
        return [
            Entry(path=path, kind=kind, day=day, rows=count, bytes=size, first_us=first, last_us=last)
            for path, kind, day, count, size, first, last in rows
        ]

    def places(self, entries: Iterable[Entry]) -> list[Path]:
        """Where committed files lie just now: those of a commit that is not finished are still on their way."""
        moving = dict(self._file.rows("SELECT path, staged FROM to_publish"))
        found = []
        for entry in entries:
            staged = self.staging / moving[entry.path] if entry.path in moving else None
            found.append(staged if staged is not None and staged.exists() else self._folder / entry.path)
        return found

    def landed_at(self, kind: str) -> datetime | None:
        """When the newest file of a table was added; None when it has none."""
        ((moment_us,),) = self._file.rows("SELECT max(added_at_us) FROM file WHERE kind = ?", (kind,)) or (
            (None,),
        )
        return None if moment_us is None else datetime.fromtimestamp(moment_us / 1e6, tz=UTC)

    def touched_since(self, number: int) -> dict[str, list[int]]:
        """Hours since 1970 in which commits after that one added or removed rows, sorted, by table."""
        found: dict[str, list[int]] = {}
        for kind, hour in self._file.rows(
            "SELECT kind, hour FROM touched WHERE number > ? ORDER BY kind, hour", (number,)
        ):
            found.setdefault(kind, []).append(hour)
        return found

    def note_of(self, digest: str) -> tuple[str, str] | None:
        """Name of a file that was read to its end, and what was noted of it; None when it was not."""
        rows = self._file.rows("SELECT name, note FROM read_file WHERE digest = ?", (digest,))
        return (rows[0][0], rows[0][1]) if rows else None

    def commit(
        self,
        added: Sequence[Staged],
        *,
        removed: Sequence[str] = (),
        touched: Mapping[str, Iterable[int]],
        read: Mapping[str, tuple[str, str]],
        forget_read: bool = False,
    ) -> int:
        """Make files part of the lake, and others no longer, at once; then move them.

        The caller holds the lake's lock, and called `recover` after it got it. When moving them fails they are part of the lake
        all the same, and `recover` moves them.

        Args:
            added: what was written under `staging`.
            removed: paths of files that are part of the lake no longer.
            touched: by table, hours since 1970 in which rows came or went.
            read: digest -> name and note of files that were read to their end, all of which is in the lake with this commit.
            forget_read: no file counts as read any longer.

        Returns:
            The number of the commit.
        """
        now_us = int(datetime.now(UTC).timestamp() * 1e6)
        if added:
            sync_folder(self.staging)  # names last before the manifest says them
        with self._file.transaction() as database:
            # The files of the commit before are in their places by now.
            database.execute("DELETE FROM to_publish")
            database.execute("DELETE FROM to_delete")
            database.execute("UPDATE head SET number = number + 1")
            ((number,),) = database.execute("SELECT number FROM head").fetchall()
            database.executemany("DELETE FROM file WHERE path = ?", [(path,) for path in removed])
            # The same content has the same name: it is replaced, and not deleted.
            renewed = {staged.entry.path for staged in added}
            database.executemany(
                "INSERT OR IGNORE INTO to_delete VALUES (?)",
                [(path,) for path in removed if path not in renewed],
            )
            for staged in added:
                entry = staged.entry
                database.execute(
                    "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        entry.path,
                        entry.kind,
                        entry.day,
                        entry.rows,
                        entry.bytes,
                        entry.first_us,
                        entry.last_us,
                        now_us,
                    ),
                )
                database.execute("INSERT INTO to_publish VALUES (?, ?)", (entry.path, staged.name))
            database.executemany(
                "INSERT OR REPLACE INTO touched VALUES (?, ?, ?)",
                [(kind, hour, number) for kind, hours in touched.items() for hour in hours],
            )
            if forget_read:
                database.execute("DELETE FROM read_file")
            database.executemany(
                "INSERT OR REPLACE INTO read_file VALUES (?, ?, ?)",
                [(digest, name, note) for digest, (name, note) in read.items()],
            )
        self._move()
        return int(number)

    def recover(self) -> None:
        """Finish what a run that died had begun. The caller holds the lake's lock."""
        self._move()
        named = {staged for (staged,) in self._file.rows("SELECT staged FROM to_publish")}
        try:
            for orphan in self.staging.iterdir() if self.staging.exists() else ():
                if orphan.name not in named:
                    orphan.unlink()
        except OSError as error:
            raise unwritable(self.staging, error) from error

    def _move(self) -> None:
        """Bring the files of the last commit to their places, and delete what it made no longer part of the lake."""
        published = self._file.rows("SELECT path, staged FROM to_publish")
        deleted = self._file.rows("SELECT path FROM to_delete")
        at = self._folder
        changed: set[Path] = set()
        try:
            for path, staged in published:
                at = self._folder / path
                if (self.staging / staged).exists():
                    at.parent.mkdir(parents=True, exist_ok=True)
                    (self.staging / staged).replace(at)
                    changed.add(at.parent)
            for (path,) in deleted:
                at = self._folder / path
                if at.exists():
                    at.unlink()
                    changed.add(at.parent)
            for folder in changed:
                at = folder
                sync_folder(folder)
        except OSError as error:
            raise unwritable(at, error) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error for what of the lake cannot be written."""
    return StoreError(
        "the lake cannot be written",
        where=str(path),
        found=error.strerror,
        next_step="free some space, or give a folder that may be written",
    )
