"""What a job of the schedule does when it runs: ask for what is missing, land it, and remember how far it came.

A job of Atlas results asks, of each measurement, for `[watermark - look_back, now)`, in slices of time from the earliest on. A
watermark moves only when what was asked for has landed, measurement by measurement: one that is refused stays behind, and is asked for
again, and does not hold up the others. Asking twice costs time only, as each result lands once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from app.config import (
    AtlasResultsTable,
    Config,
    FilesTable,
    ProbesTable,
    SourceTable,
    read_key,
    trigger_of,
)
from app.schedule_state import (
    GRAPH,
    LOCKS_NAME,
    SCHEDULE_NAME,
    Coverage,
    JobState,
    PassedOver,
    ScheduleState,
    held,
    job_lock,
)
from app.settings import CONFIG_NAME, LAKE_NAME, MODELS_NAME, RDF_NAME
from domain.errors import (
    EmptyError,
    InputError,
    NotFoundError,
    QoetwinError,
    SourceError,
    StoreError,
    TruncatedError,
    UnreachableError,
    UntrustedError,
)
from domain.number import many
from domain.progress import Report
from ingest.batch import Parsed
from ingest.files import FileSource, find_files
from ingest.heard import MEMORY_NAME
from ingest.lake import Lake, Landed
from ingest.lake_files import Kind
from ingest.parse import parse_batch
from ingest.source import Source
from ingest.stopping import StoppedError, until_stopped
from kg.sqlite_store import GRAPH_NAME
from kg.store import GraphStore
from qoe.profile import load_profile
from twin.building import Origins, read_origins
from twin.ingestion import ingest, sync_probes
from twin.refresh import BUILT_NAME, memory_file, refresh_graph

if TYPE_CHECKING:
    from ingest.atlas import AtlasSource

SLICE = timedelta(days=1)
"""Atlas is asked for no longer a span at a time, so that a watermark moves also while weeks are caught up with."""

MOST_MEASUREMENTS = 20_000
"""More than a filter may mean to name: Atlas knows more than a hundred million, and may not know a filter that it is given."""

_AT_ONCE = 50
"""Measurements whose results land together: whoever is killed has so many to ask for again."""

_HOPELESS = 3
"""After so many measurements in a row to which the server had no good answer, it is the server."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_FIRST_BACKOFF = timedelta(minutes=1)
_MOST_TOLD = 5


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    """Told to stop before its end; it goes on from there the next time."""
    ELSEWHERE = "elsewhere"
    """It is running in another process."""
    NOT_DUE = "not due"
    """Another process has run it meanwhile."""


def atlas_of(config: Config, key: str | None) -> AtlasSource:
    """The Atlas that a configuration names, asked with a key or without.

    Raises:
        QoetwinError: as `AtlasSource` does.
    """
    from ingest.atlas import AtlasSource  # cousteau is only for those who ask the API

    table = config.atlas
    verify = True if table.certificate is None else config.path(table.certificate)
    return AtlasSource(server=table.server, verify=verify, api_key=key)


def next_run(table: SourceTable, state: JobState | None, now: datetime) -> datetime | None:
    """When a job is due; in the past when it should have run already, None when it is not known yet.

    However many times went by, it is due once. What did not come to its end is due at once, what failed is tried again soon,
    and ever later.
    """
    if state is None:
        return None
    started = state.started_at
    if (
        (started is None and table.cron is None)
        or state.interrupted
        or (started is not None and started > now)
    ):
        return min(now, state.known_at if started is None else started)
    regular = _regular(table, state.known_at if started is None else started)
    if state.failures == 0 or state.ended_at is None:
        return regular
    return min(regular, state.ended_at + backoff(state.failures))


def _regular(table: SourceTable, after: datetime) -> datetime:
    if table.every is not None:
        return after + table.every
    found = trigger_of(table.cron or "").get_next_fire_time(None, after + timedelta(microseconds=1))
    if found is None:
        raise AssertionError("a cron line that is never due is refused where it is read")
    moment: datetime = found
    return moment.astimezone(UTC)


def backoff(failures: int) -> timedelta:
    """How long to wait after so many failures in a row: twice as long each time, so that what always fails keeps to its time."""
    return _FIRST_BACKOFF * (1 << min(failures - 1, 20))


class Runner:
    """Runs jobs, one at a time each, in one process or several.

    Args:
        config: which jobs there are.
        home: where everything is kept.
        open_graph: opens the graph, and makes it if it is not there.
        now: the clock, aware.
        say: hears, in a line, of what landed and of what failed.
        stop: when it is set, runs end soon, and well.
        open_atlas: how Atlas is asked, with which key if any.

    Raises:
        InputError: when a source reads what we write in the home.
    """

    def __init__(
        self,
        config: Config,
        home: Path,
        open_graph: Callable[[], GraphStore],
        *,
        now: Callable[[], datetime],
        say: Callable[[str], None],
        stop: threading.Event,
        open_atlas: Callable[[Config, str | None], AtlasSource] = atlas_of,
    ) -> None:
        for table in config.source:
            if isinstance(table, FilesTable):
                _check_outside(table, config.path(table.path), home)
        self.config = config
        self.state = ScheduleState(home)
        self.stop = stop
        self._home = home
        self._open_graph = open_graph
        self._open_atlas = open_atlas
        self._now = now
        self._say = say
        self._lake = Lake(home / LAKE_NAME)
        self._origins: tuple[tuple[int, int], Origins] | None = None
        self._refreshed: int | None = None
        self._left: set[str] = set()
        for table in config.source:
            self.state.know(table.name, table.kind, now())

    def next_run(self, name: str) -> datetime:
        """When a job is due; in the past when it should have run already."""
        now = self._now()
        return next_run(self.config.source_named(name), self.state.jobs().get(name), now) or now

    def run_due(self) -> list[Outcome]:
        """Run each job that is due now, one after the other, and, if any was, bring the graph up to the lake.

        Returns:
            How each ended, and last, how the graph came out.
        """
        now = self._now()
        due = [table.name for table in self.config.source if self.next_run(table.name) <= now]
        return [*(self.run(name, only_due=True) for name in due), self.refresh()] if due else []

    def run_all(self, names: Sequence[str] = ()) -> list[Outcome]:
        """Run each job (of these only) once, due or not, and then bring the graph up to the lake; gives what `run_due` does."""
        chosen = names or [table.name for table in self.config.source]
        return [*(self.run(name, only_due=False) for name in chosen), self.refresh()]

    # One run

    def run(self, name: str, *, only_due: bool) -> Outcome:
        """Run a job, unless it is running elsewhere (or, with `only_due`, has run elsewhere meanwhile). Failures are told, not raised."""
        table = self.config.source_named(name)
        if self.stop.is_set():
            return Outcome.STOPPED
        try:
            with held(self._home, job_lock(name)) as ours:
                if not ours:
                    if name not in self._left:
                        self._say(f"{name}: is running in another process; left to it")
                    self._left.add(name)
                    return Outcome.ELSEWHERE
                self._left.discard(name)
                if only_due and self.next_run(name) > self._now():
                    return Outcome.NOT_DUE
                began = self._now()
                self._say(f"{name}: begins")
                self.state.started(name, began)
                failures = self._failures_of(table)
                ended = self._now()
                self.state.ended(name, ended, _together(failures))
                landed = self.state.jobs()[name].last
                planned = f"; next {self.next_run(name):{_TIME}}" if only_due else ""
        except StoppedError:
            self._say(f"{name}: stopped; the next run goes on from there")
            return Outcome.STOPPED
        except StoreError as error:  # the schedule's own memory; what landed has landed
            self._say(f"{name}: {error.line()}")
            return Outcome.FAILED
        for line in failures[:_MOST_TOLD]:
            self._say(f"{name}: {line}")
        if len(failures) > _MOST_TOLD:
            self._say(f"{name}: and {many(len(failures) - _MOST_TOLD, 'failure')} more")
        how = "failed" if failures else "done"
        self._say(f"{name}: {how} in {_seconds(ended - began)}: {_words(table, landed)}{planned}")
        return Outcome.FAILED if failures else Outcome.DONE

    def _failures_of(self, table: SourceTable) -> list[str]:
        """Do what a source is there for, and say what failed of it. The key is in no line, whoever repeats it."""
        failures: list[str] = []
        key: str | None = None
        with _telling(failures, table.name):
            key = None if isinstance(table, FilesTable) else read_key(self.config)
            failures += [error.line() for error in self._work(table, key)]
        return failures if key is None else [line.replace(key, "***") for line in failures]

    def _work(self, table: SourceTable, key: str | None) -> Sequence[QoetwinError]:
        """Do what a source is there for; return what failed while the rest went well."""
        match table:
            case AtlasResultsTable():
                return self._results(table, self._open_atlas(self.config, key))
            case FilesTable():
                return self._files(table)
            case ProbesTable():
                atlas = self._open_atlas(self.config, key)
                synced = (sync_probes(self._lake, atlas, report=self._report) for _ in range(1))
                for probes in until_stopped(synced, self.stop):
                    self.state.landed(table.name, Landed(results_read=probes.read), {})
                return ()
            case _:
                assert_never(table)

    # Files

    def _files(self, table: FilesTable) -> Sequence[QoetwinError]:
        """Read what is new in a folder.

        A file without results is told once, and again when it has changed: somebody put it there, or is still writing it, and it
        holds up nothing. That one is cut fails the run, so that it is soon looked at again; its rest may be on its way.
        """
        reader = version("qoetwin")
        before = self.state.passed_over(table.name)
        dull = {digest for digest, one in before.items() if one.reader == reader}
        files = FileSource(
            _files_in(self.config.path(table.path)),
            is_known=lambda digest: digest in dull or self._lake.was_read(digest) is not None,
        )
        source = _Stoppable(files, self.stop)
        ingested = ingest(self._lake, source, report=self._report)
        self.state.landed(table.name, ingested.landed, {})
        source.raise_ended()
        there = {file.digest: before[file.digest] for file in files.known if file.digest in dull}
        told: list[QoetwinError] = []
        for file in files.refused:
            why = file.failures[0].line()
            there[file.digest] = PassedOver(why=why, reader=reader, since=self._now())
            if not any(isinstance(failure, TruncatedError) for failure in file.failures):
                if len(told) < _MOST_TOLD:
                    self._say(f"{table.name}: passed over: {why}")
                told += file.failures
        if len(told) > _MOST_TOLD:
            self._say(f"{table.name}: passed over: {many(len(told) - _MOST_TOLD, 'file')} more")
        if there != before:
            self.state.pass_over(table.name, there)
        return [failure for failure in files.failures if failure not in told]

    def _report(self, what: str, done: int, total: int | None) -> None:  # noqa: ARG002 - what a `Report` hears
        """The place where long work ends when it is told to."""
        if self.stop.is_set():
            raise StoppedError

    # Results of Atlas

    def _results(self, table: AtlasResultsTable, atlas: AtlasSource) -> Sequence[QoetwinError]:
        """Ask for what is missing up to now.

        Measurements that were refused the last time come last, and before them those that have a long past to catch up with, so
        that neither delays the others.
        """
        now = self._now()
        found = until_stopped(_found(atlas, table), self.stop)
        covered = self._covered(table, {*table.measurements, *found}, now)
        first = {number: max(one.since, one.until - table.look_back) for number, one in covered.items()}
        in_turn: dict[tuple[bool, datetime], list[int]] = {}
        for number, one in sorted(covered.items(), key=lambda entry: entry[1].refused or now):
            if first[number] < now:
                in_turn.setdefault((one.refused is None, first[number]), []).append(number)
        refused: dict[int, QoetwinError] = {}
        in_a_row: list[QoetwinError] = []
        for (_, begin), together in sorted(in_turn.items(), reverse=True):
            numbers = together
            for start, end in slices(begin, now):
                for some in _in_parts(numbers):
                    asked = _Asked(atlas, some, start, end, table.probes, refused, in_a_row)
                    source = _Stoppable(asked, self.stop)
                    landed = ingest(self._lake, source, report=self._report).landed
                    moved = {
                        number: replace(covered[number], until=max(covered[number].until, end), refused=None)
                        for number in tuple(asked.answered)
                    } | {
                        number: replace(covered[number], refused=now) for number in some if number in refused
                    }
                    covered |= moved
                    self.state.landed(table.name, landed, moved)
                    source.raise_ended()
                numbers = [number for number in numbers if number not in refused]
        return [*refused.values()]

    def _covered(self, table: AtlasResultsTable, listed: set[int], now: datetime) -> dict[int, Coverage]:
        """What was asked for so far of each measurement that is to be asked for."""
        known, asked = self.state.coverage(table.name), self.state.probes_asked(table.name)
        more = bool(asked) and (not table.probes or not set(table.probes) <= set(asked or ()))
        anew = more and table.start is not None  # of the probes that are new the past is wanted too
        self.state.asks_for(table.name, table.probes, anew=anew)
        begin = now - table.look_back if table.start is None else table.start
        fresh = Coverage(since=begin, until=begin, listed=now)
        covered: dict[int, Coverage] = {}
        for number in sorted(listed):
            one = None if anew else known.get(number)
            earlier = one is not None and table.start is not None and table.start < one.since
            covered[number] = fresh if one is None or earlier else replace(one, listed=now)
        # What a filter names no longer has ended; its last results may have come since it was asked for, or may yet.
        ended = {
            number: one
            for number, one in known.items()
            if number not in listed and table.filter is not None and one.until < one.listed + table.look_back
        }
        gone = known.keys() - covered.keys() - ended.keys()
        self.state.landed(table.name, Landed(), covered, gone)
        return covered | ended

    # The graph

    def refresh(self) -> Outcome:
        """Bring the graph up to the lake; only one process at a time does. A failure is told, and tried again the next time."""
        try:
            while not self.stop.is_set():
                with held(self._home, GRAPH) as ours:
                    if ours:
                        return self._refresh()
        except StoppedError:
            self._say("graph: stopped; the next run builds it")
        except StoreError as error:
            self._say(f"graph: {error.line()}")
            return Outcome.FAILED
        return Outcome.STOPPED

    def _refresh(self) -> Outcome:
        if not any(self._lake.files(kind) for kind in (Kind.PING, Kind.SAMPLE)):
            return Outcome.DONE  # there is nothing that a graph could be made of
        head = self._lake.manifest.head()
        failures: list[str] = []
        until: datetime | None = None
        began = self._now()
        told = False

        def report(what: str, done: int, total: int | None) -> None:
            nonlocal told
            if not told:  # which nobody does who finds nothing new
                self._say("graph: begins")
            told = True
            self._report(what, done, total)

        with _telling(failures, "graph"):
            table = self.config.graph
            before = self._origins
            origins = None if table.prefixes is None else self._read_origins(self.config.path(table.prefixes))
            if head == self._refreshed and self._origins is before:
                return Outcome.DONE
            with self._open_graph() as store:
                try:
                    built = refresh_graph(
                        self._lake,
                        store,
                        load_profile(),
                        table.window,
                        memory_file(self._home, table.window),
                        origins=origins,
                        keep=table.keep,
                        report=report,
                    )
                except EmptyError:
                    built = None  # pings, but none of a known pair
            if built is not None:
                until = built.windows_until
                self._say(
                    f"graph: done in {_seconds(self._now() - began)}: {many(built.states, 'state')} of windows "
                    f"from {built.windows_from:{_TIME}} to {until:{_TIME}}"
                )
        if failures:
            self.state.graph_failed(self._now(), failures[0])
            self._say(f"graph: {failures[0]}")
            return Outcome.FAILED
        self.state.graph_built(self._now(), head, until)
        self._refreshed = head
        return Outcome.DONE

    def _read_origins(self, path: Path) -> Origins:
        """The list of prefixes; one that has not changed is read once."""
        try:
            status = path.stat()
        except OSError as error:
            raise NotFoundError("no such list of prefixes", where=str(path), found=error.strerror) from error
        mark = (status.st_mtime_ns, status.st_size)
        if self._origins is None or self._origins[0] != mark:
            self._origins = (mark, read_origins(path))
        return self._origins[1]


@contextmanager
def _telling(failures: list[str], what: str) -> Iterator[None]:
    """What fails inside is told in a line: whatever a job meets, it must not stop the others."""
    try:
        yield
    except StoppedError:
        raise
    except QoetwinError as error:
        failures.append(error.line())
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        failures.append(
            QoetwinError(
                "this is a defect of qoetwin",
                where=what,
                found=f"{type(error).__name__}: {error}",
                next_step="please report it",
            ).line()
        )


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():.1f} s"


def _words(table: SourceTable, landed: Landed) -> str:
    """What a run landed, in words."""
    if landed == Landed():
        return "nothing new"
    if isinstance(table, ProbesTable):
        return f"{many(landed.results_read, 'probe')} read"
    return (
        f"{many(landed.results_read, 'result')} read, {landed.observations} new, "
        f"{landed.duplicates} known, {landed.quarantined} not understood"
    )


def _together(failures: Sequence[str]) -> str | None:
    """Failures in one line; None where there are none."""
    if not failures:
        return None
    return failures[0] if len(failures) == 1 else f"{failures[0]} (and {len(failures) - 1} more)"


def slices(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """`[begin, end)` in order, in parts of at most `SLICE`."""
    while begin < end:
        yield begin, min(begin + SLICE, end)
        begin += SLICE


def _in_parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    for begin in range(0, len(numbers), _AT_ONCE):
        yield numbers[begin : begin + _AT_ONCE]


def _found(atlas: AtlasSource, table: AtlasResultsTable) -> Iterator[int]:
    """The ping and traceroute measurements that a filter names."""
    if table.filter is None:
        return
    for count, number in enumerate(atlas.find_measurements(filters=table.filter)):
        if count == MOST_MEASUREMENTS:
            raise InputError(
                "a filter that names too many measurements",
                where=f"[[source]] {table.name} filter",
                found=f"more than {MOST_MEASUREMENTS}",
                next_step="choose fewer; Atlas takes no notice of filters that it does not know",
            )
        yield number


# Sources


class _Asked:
    """The results of measurements that began in `[start, end)`, measurement by measurement.

    Args:
        atlas: who is asked.
        numbers: the measurements.
        start, end: aware times.
        probes: only these; empty means all.
        refused: gets the measurements that are not answered, and why. The others are asked for all the same.
        in_a_row: gets the troubles of the server since it last gave an answer.

    Attributes:
        answered: the measurements whose results were all taken by the reader.
    """

    def __init__(
        self,
        atlas: AtlasSource,
        numbers: Sequence[int],
        start: datetime,
        end: datetime,
        probes: Sequence[int],
        refused: dict[int, QoetwinError],
        in_a_row: list[QoetwinError],
    ) -> None:
        self.failures: list[InputError] = []
        self.answered: list[int] = []
        self._atlas = atlas
        self._numbers = numbers
        self._span = (start, end)
        self._probes = probes
        self._refused = refused
        self._in_a_row = in_a_row

    def read(self, report: Report) -> Iterator[Parsed]:
        """See `ingest.source.Source`."""
        for number in self._numbers:
            report("asking for results", len(self.answered), len(self._numbers))
            try:
                for batch in self._atlas.results(number, *self._span, self._probes):
                    yield parse_batch(batch)
            except (UnreachableError, UntrustedError):
                raise
            except (SourceError, InputError) as error:
                self._refused[number] = error
                if isinstance(error, SourceError):
                    self._in_a_row.append(error)
                if len(self._in_a_row) >= _HOPELESS:
                    raise
            else:
                self._in_a_row.clear()
                self.answered.append(number)


_OURS = (
    LAKE_NAME,
    LOCKS_NAME,
    BUILT_NAME,
    RDF_NAME,
    MODELS_NAME,
    GRAPH_NAME,
    SCHEDULE_NAME,
    MEMORY_NAME,
    CONFIG_NAME,
)
"""What is ours in a home; a folder of somebody's files may lie beside it."""


def _check_outside(table: FilesTable, path: Path, home: Path) -> None:
    read, own = (Path(os.path.realpath(one)) for one in (path, home))
    if own.is_relative_to(read) or any(read.is_relative_to(own / name) for name in _OURS):
        raise InputError(
            "a source that reads our own files",
            where=f"[[source]] {table.name!r} path",
            found=str(path),
            expected=f"a folder of its own, which may be in the home ({home})",
        )


def _files_in(path: Path) -> list[Path]:
    """The file, or the files in the folder, which may be empty."""
    try:
        return find_files(path)
    except NotFoundError:
        if path.is_dir():
            return []
        raise


class _Stoppable:
    """A source that ends early when we are told to stop, or when it fails; what it gave before lands all the same."""

    def __init__(self, source: Source, stop: threading.Event) -> None:
        self.failures = source.failures
        self._source = source
        self._stop = stop
        self._ended: Exception | None = None

    def read(self, report: Report) -> Iterator[Parsed]:
        """See `ingest.source.Source`."""
        try:
            yield from until_stopped(self._source.read(report), self._stop)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - `raise_ended` raises it
            self._ended = error

    def raise_ended(self) -> None:
        """Raise what it ended by, if it did not end by itself."""
        if self._ended is not None:
            raise self._ended
