"""What the schedule remembers: what was asked for up to where, what came of it, and what failed.

    <home>/schedule.sqlite    one transaction a step; whoever is killed leaves the last one whole
    <home>/locks/             a file for each job, locked while the job runs, and free at once when its process dies

It can be read while a schedule runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import StoreError
from ingest.lake import Landed
from ingest.sqlite_file import SqliteFile

SCHEDULE_NAME, LOCKS_NAME = "schedule.sqlite", "locks"

_TABLES = """
CREATE TABLE job (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, known_us INTEGER NOT NULL, started_us INTEGER, ended_us INTEGER,
    succeeded_us INTEGER, failed_us INTEGER, error TEXT, failures INTEGER NOT NULL DEFAULT 0,
    last TEXT NOT NULL DEFAULT '{}', total TEXT NOT NULL DEFAULT '{}', probes TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE coverage (
    job TEXT NOT NULL, measurement INTEGER NOT NULL, since_us INTEGER NOT NULL, until_us INTEGER NOT NULL,
    listed_us INTEGER NOT NULL, refused_us INTEGER, PRIMARY KEY (job, measurement)
) STRICT, WITHOUT ROWID;
CREATE TABLE graph (
    one INTEGER PRIMARY KEY CHECK (one = 1), built_us INTEGER, head INTEGER, until_us INTEGER, failed_us INTEGER, error TEXT,
    failures INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO graph (one) VALUES (1);
"""

_PASSED_OVER = """
CREATE TABLE passed_over (
    job TEXT NOT NULL, digest TEXT NOT NULL, why TEXT NOT NULL, reader TEXT NOT NULL, since_us INTEGER NOT NULL, PRIMARY KEY (job, digest)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What is known of a job. Times are aware; None is never.

    Attributes:
        name, kind: which it is.
        known_at: when it was first heard of.
        started_at: of its last run.
        ended_at: of its last run that came to its end, well or not.
        succeeded_at: of its last run in which nothing failed.
        failed_at: of its last run in which something did.
        error: what that was.
        failures: how many runs in a row failed.
        last: what its last run landed.
        total: what all its runs landed.
    """

    name: str
    kind: str
    known_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    failures: int = 0
    last: Landed = field(default_factory=Landed)
    total: Landed = field(default_factory=Landed)

    @property
    def interrupted(self) -> bool:
        """Whether its last run did not come to its end; it may be running still."""
        return self.started_at is not None and (self.ended_at is None or self.ended_at < self.started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was asked for of a measurement: all results that began in `[since, until)`, when last asked.

    Attributes:
        since, until: aware times.
        listed: when the measurement was last one of the source's.
        refused: when it was last refused; None when it was answered since, or never refused.
    """

    since: datetime
    until: datetime
    listed: datetime
    refused: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A file in which a job found no results.

    Attributes:
        why: what is wrong with it, where it lies.
        reader: the version of qoetwin that looked: another one may see more in it.
        since: when that was first found.
    """

    why: str
    reader: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphState:
    """What is known of the graph.

    Attributes:
        built_at: when it was last brought up to the lake, by the schedule or by hand.
        head: the lake's commit that it was brought up to.
        until: end of its last window that was built.
        failed_at, error: when and how that last failed for the schedule.
        failures: how often in a row.
    """

    built_at: datetime | None = None
    head: int | None = None
    until: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None
    failures: int = 0


class ScheduleState:
    """The memory of the schedule in a home, which need not be there yet.

    Raises:
        StoreError: from every method, when it cannot be read or written.
    """

    def __init__(self, home: Path) -> None:
        self._file = SqliteFile(
            path=home / SCHEDULE_NAME,
            tables=_TABLES,
            later=(_PASSED_OVER,),
            name="what the schedule remembers",
            when_other="use the qoetwin that wrote it, or move the file away: sources then begin at their start",
        )

    # Reading

    def jobs(self) -> dict[str, JobState]:
        """All jobs that were ever known, by name."""
        rows = self._file.rows(
            "SELECT name, kind, known_us, started_us, ended_us, succeeded_us, failed_us, error, failures, last, total "
            "FROM job ORDER BY name"
        )
        return {
            row[0]: JobState(
                name=row[0],
                kind=row[1],
                known_at=_known(row[2]),
                started_at=_moment(row[3]),
                ended_at=_moment(row[4]),
                succeeded_at=_moment(row[5]),
                failed_at=_moment(row[6]),
                error=row[7],
                failures=row[8],
                last=_landed(row[9]),
                total=_landed(row[10]),
            )
            for row in rows
        }

    def coverage(self, job: str) -> dict[int, Coverage]:
        """What a job has asked for, by measurement."""
        rows = self._file.rows(
            "SELECT measurement, since_us, until_us, listed_us, refused_us FROM coverage WHERE job = ? ORDER BY measurement",
            (job,),
        )
        return {
            number: Coverage(
                since=_known(since), until=_known(until), listed=_known(listed), refused=_moment(refused)
            )
            for number, since, until, listed, refused in rows
        }

    def probes_asked(self, job: str) -> list[int] | None:
        """The probes whose results the coverage of a job is about, none for all; None when nothing was asked."""
        rows = self._file.rows("SELECT probes FROM job WHERE name = ?", (job,))
        return None if not rows or rows[0][0] is None else json.loads(rows[0][0])

    def passed_over(self, job: str) -> dict[str, PassedOver]:
        """The files in which a job found no results when it last looked, by digest."""
        rows = self._file.rows(
            "SELECT digest, why, reader, since_us FROM passed_over WHERE job = ? ORDER BY since_us, why",
            (job,),
        )
        return {
            digest: PassedOver(why=why, reader=reader, since=_known(since))
            for digest, why, reader, since in rows
        }

    def graph(self) -> GraphState:
        """What is known of the graph."""
        rows = self._file.rows("SELECT built_us, head, until_us, failed_us, error, failures FROM graph")
        if not rows:
            return GraphState()
        ((built, head, until, failed, error, failures),) = rows
        return GraphState(
            built_at=_moment(built),
            head=head,
            until=_moment(until),
            failed_at=_moment(failed),
            error=error,
            failures=failures,
        )

    # Writing

    def know(self, name: str, kind: str, now: datetime) -> None:
        """Hear of a job; of one that is known, only the kind may change."""
        self._write(
            "INSERT INTO job (name, kind, known_us) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET kind = excluded.kind",
            (name, kind, _us(now)),
        )

    def started(self, name: str, now: datetime) -> None:
        """A run of a job begins."""
        self._write("UPDATE job SET started_us = ?, last = '{}' WHERE name = ?", (_us(now), name))

    def asks_for(self, name: str, probes: Iterable[int], *, anew: bool) -> None:
        """Which probes a job asks for from now on; `anew` forgets what was asked before."""
        with self._file.transaction() as database:
            database.execute("UPDATE job SET probes = ? WHERE name = ?", (json.dumps(list(probes)), name))
            if anew:
                database.execute("DELETE FROM coverage WHERE job = ?", (name,))

    def landed(
        self, name: str, landed: Landed, covered: Mapping[int, Coverage], gone: Iterable[int] = ()
    ) -> None:
        """Some results of a run have landed: count them, and move the watermarks, at once.

        Args:
            name: the job.
            landed: what is in the lake now, and was not counted yet.
            covered: measurement -> what has been asked for by now.
            gone: measurements that need not be remembered.
        """
        with self._file.transaction() as database:
            ((last, total),) = database.execute(
                "SELECT last, total FROM job WHERE name = ?", (name,)
            ).fetchall()
            database.execute(
                "UPDATE job SET last = ?, total = ? WHERE name = ?",
                (
                    json.dumps(asdict(_landed(last) + landed)),
                    json.dumps(asdict(_landed(total) + landed)),
                    name,
                ),
            )
            database.executemany(
                "INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        name,
                        number,
                        _us(one.since),
                        _us(one.until),
                        _us(one.listed),
                        None if one.refused is None else _us(one.refused),
                    )
                    for number, one in covered.items()
                ],
            )
            database.executemany(
                "DELETE FROM coverage WHERE job = ? AND measurement = ?", [(name, number) for number in gone]
            )

    def pass_over(self, name: str, files: Mapping[str, PassedOver]) -> None:
        """These files, by digest, and no others, hold no results."""
        with self._file.transaction() as database:
            database.execute("DELETE FROM passed_over WHERE job = ?", (name,))
            database.executemany(
                "INSERT INTO passed_over VALUES (?, ?, ?, ?, ?)",
                [(name, digest, one.why, one.reader, _us(one.since)) for digest, one in files.items()],
            )

    def ended(self, name: str, now: datetime, error: str | None) -> None:
        """A run of a job came to its end, well or with an error."""
        if error is None:
            self._write(
                "UPDATE job SET ended_us = ?1, succeeded_us = ?1, failures = 0 WHERE name = ?2",
                (_us(now), name),
            )
        else:
            self._write(
                "UPDATE job SET ended_us = ?1, failed_us = ?1, error = ?2, failures = failures + 1 WHERE name = ?3",
                (_us(now), error, name),
            )

    def graph_built(self, now: datetime, head: int, until: datetime | None, *, by_hand: bool = False) -> None:
        """The graph is what the lake was at that commit; until None when there was nothing to write.

        One that was built by hand may be another than the schedule is to keep: it mends no failure of the schedule.
        """
        self._write(
            "UPDATE graph SET built_us = ?, head = ?, until_us = coalesce(?, until_us), failures = iif(?, failures, 0)",
            (_us(now), head, None if until is None else _us(until), by_hand),
        )

    def graph_failed(self, now: datetime, error: str) -> None:
        """The graph could not be brought up to the lake."""
        self._write("UPDATE graph SET failed_us = ?, error = ?, failures = failures + 1", (_us(now), error))

    def _write(self, sql: str, parameters: tuple[object, ...]) -> None:
        with self._file.transaction() as database:
            database.execute(sql, parameters)


# Locks

SCHEDULER, GRAPH = "scheduler", "graph"

_PATIENCE_S = 1.0
_PAUSE_S = 0.02


def job_lock(name: str) -> str:
    """The name of a job's lock."""
    return f"job-{name}"


@contextmanager
def held(home: Path, name: str, *, shared: bool = False) -> Iterator[bool]:
    """Hold a lock of the home; gives False when somebody else does.

    Raises:
        StoreError: when the file cannot be made.
    """
    path = home / LOCKS_NAME / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError("a lock cannot be made", where=str(path), found=error.strerror) from error
    try:
        yield _locked(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, how: int) -> bool:
    """Take a lock; wait a moment, as somebody may only be looking (`is_held`)."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_PAUSE_S)
        else:
            return True


def is_held(home: Path, name: str, *, shared: bool = False) -> bool:
    """Whether somebody holds a lock of the home, which is one that several may hold (`shared`), or not."""
    try:
        descriptor = os.open(home / LOCKS_NAME / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # nobody ever did, or it is not for us to know
    try:
        # Of those who only look, nobody must take another for a holder.
        fcntl.flock(descriptor, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def _moment(us: int | None) -> datetime | None:
    return None if us is None else _known(us)


def _known(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1e6, tz=UTC)


def _landed(text: str) -> Landed:
    counts = json.loads(text)
    return Landed(**{one.name: counts.get(one.name, 0) for one in fields(Landed)})
