"""Files of Atlas results: in any container, compression and archive, told by their content, on all cores.

A file that ends in the middle of a record, or of itself, gives all its whole records; what is left of the cut record goes into
quarantine under that name. So does the beginning of a record that is too large to read.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from threading import Event, Lock
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from domain.cores import usable_cores
from domain.errors import InputError, NotFoundError, TruncatedError
from domain.number import many
from domain.progress import Report, unheard
from ingest.archives import (
    TAR_BLOCK_BYTES,
    DamagedZipError,
    Member,
    Section,
    Tar,
    ZipMember,
    is_tar,
    is_zip,
    open_zip,
)
from ingest.batch import BATCH_BYTES, Batch, Counts, Parsed, SourceFile
from ingest.bzip2 import Damage
from ingest.compression import inflate
from ingest.json_records import BLANK, RECORD_BYTES, Records, Splitter, splitter_for
from ingest.parse import parse_batch
from ingest.workers import Workers

STDIN = Path("-")
"""The path that stands for the stream that is given as standard input."""

_BOM = b"\xef\xbb\xbf"
_FORMS = "NDJSON, a JSON array or JSON objects, plain or as gzip, bzip2, xz or zstd"
_READ_BYTES = 1 << 20
_IN_FLIGHT_BYTES = 1 << 23  # of records that wait for being parsed, shared among threads
_SMALLEST_BATCH_BYTES = 1 << 20
_BATCH_RECORDS = 1 << 16  # also where records are a few bytes each
_HEAD_BYTES = 1 << 10  # what is kept of a record that is too large
_PUT_S = 0.2


def find_files(path: Path) -> list[Path]:
    """The file itself, or all files below a directory, sorted, without hidden ones.

    Raises:
        NotFoundError: when there is nothing at the path, or no file in the directory.
        InputError: when it cannot be read.
    """
    try:
        if not path.exists():
            raise NotFoundError("no such file or directory", where=str(path))
        if not path.is_dir():
            return [path]
        files = sorted(_below(path))
    except OSError as error:
        raise InputError("a path that cannot be read", where=str(path), found=error.strerror) from error
    if not files:
        raise NotFoundError("no files in the directory", where=str(path), expected=f"files of {_FORMS}")
    return files


def _below(folder: Path) -> Iterator[Path]:
    """All regular files below a folder, without hidden ones. A folder that cannot be read is an error, and is not passed over."""

    def fail(error: OSError) -> None:
        raise error

    for above, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files = (Path(above) / name for name in names if not name.startswith("."))
        yield from (
            file for file in files if file.is_file()
        )  # no pipes, which would be waited for, and no broken links


def parse_file(path: Path) -> Iterator[Parsed]:
    """Read and parse one file of Atlas results that is no archive, batch by batch, on one core.

    The last batch says in `cut` when the file ends in the middle of itself.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut before the end of its first record.
        InputError: when it cannot be read, is empty, is not JSON, or when no record of its first batch is an
            Atlas result of any type; nothing has been yielded then.
    """
    return _results(map(parse_batch, read_file(path)), str(path))


def read_file(path: Path) -> Iterator[Batch]:
    """Read the raw records of one file that is no archive, about `BATCH_BYTES` at a time.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut before the end of its first record.
        InputError: when it cannot be read, is empty, or is not JSON.
    """
    try:
        with _open(path) as stream:
            yield from _Content(name=path.name, where=str(path)).batches(inflate(stream), BATCH_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


class FileSource:
    """Many files of Atlas results, and archives of such files, read on all cores in bounded memory.

    Files are read side by side, and one big file of bzip2 blocks too. Memory is about 100 MB on two cores, and grows with the
    threads and never with the files. A file is told by what is in it, so one whose bytes were read before, under
    whatever name, is not read again.

    Args:
        paths: the files, as `find_files` gives them; `-` is `stdin`.
        is_known: whether a file of this digest was read to its end before. It is asked once for each file, by one thread at a
            time, which need not be the caller's.
        threads: how many to read with; None: one for each core that may be used.
        stdin: what `-` stands for; None: a file of that name.

    Attributes:
        failures: one for each file, or file in an archive, that is not wholly what it should be, in the order of the paths. What
            was whole in it was given.
        refused: the files that were read to their end and gave nothing, and why: the same bytes will give nothing again.
        known: the files that were not read, for `is_known` knew them or an equal one was read in this call.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        is_known: Callable[[str], bool] = lambda _: False,
        threads: int | None = None,
        stdin: BinaryIO | None = None,
    ) -> None:
        self.failures: list[InputError] = []
        self.refused: list[SourceFile] = []
        self.known: list[SourceFile] = []
        self._paths = list(paths)
        self._is_known = is_known
        self._threads = usable_cores() if threads is None else threads
        self._stdin = stdin

    def read(self, report: Report = unheard) -> Iterator[Parsed]:
        """Give their records, parsed. Batches of one file keep their order; files come as they are read.

        After the last batch of a file that was read to its end, also of one that is cut, there comes an empty one that says so
        (`finished`).
        """
        with closing(_Reading(self._threads, self._is_known, self._stdin)) as reading:
            total = _megabytes_of(self._paths, self._stdin)
            report("reading MB of files", 0, total)
            for one in reading.read(dict(enumerate(self._paths))):
                if one is not None:
                    yield one
                report("reading MB of files", min(reading.bytes_read >> 20, total or sys.maxsize), total)
            if total is not None:
                report("reading MB of files", total, total)
        self.failures = [failure for _, failure in sorted(reading.failures.items(), key=lambda item: item[0])]
        self.refused = [file for _, file in sorted(reading.refused.items())]
        self.known = [file for _, file in sorted(reading.known.items())]


@dataclass(slots=True)
class _File:
    """A file while it is read, possibly by several threads.

    Attributes:
        number: of its path.
        path: where it is.
        digest: what is known of its bytes; None while it is not known.
        parts: how many of its parts are being read.
        mark: what its file was when it was hashed; what is another file by its end has another digest.
        counts: what it gave so far.
        close: to be called when it was read.
        hashing: what makes its digest, where it can be read only once.
    """

    number: int
    path: Path
    digest: str | None = None
    parts: int = 1
    mark: tuple[int, ...] | None = None
    counts: Counts = field(default_factory=Counts)
    close: Callable[[], None] = lambda: None
    hashing: _Hashing | None = None

    @property
    def name(self) -> str:
        """As it is shown."""
        name = "<stdin>" if self.hashing is not None and self.path == STDIN else self.path.name
        return name.encode("utf-8", "backslashreplace").decode()


class _Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """Nobody reads any more."""


class _Reading:
    """The threads of a `FileSource`, and what they found.

    Readers, one a file, read, inflate what is not bzip2, and split; workers inflate blocks of bzip2 and parse. All that is made
    goes through one short queue to who asks.
    """

    def __init__(self, threads: int, is_known: Callable[[str], bool], stdin: BinaryIO | None) -> None:
        self.failures: dict[tuple[int, int], InputError] = {}
        self.refused: dict[int, SourceFile] = {}
        self.known: dict[int, SourceFile] = {}
        self._is_known = is_known
        self._stdin = stdin
        self._readers = ThreadPoolExecutor(threads, "read")
        self._pool = ThreadPoolExecutor(threads, "parse")
        self._workers = Workers(pool=self._pool, threads=threads)
        self._batch_bytes = min(BATCH_BYTES, max(_SMALLEST_BATCH_BYTES, _IN_FLIGHT_BYTES // threads))
        self._made: Queue[Parsed | BaseException | None] = Queue(threads)
        self._stopped = Event()
        self._lock = Lock()
        self.bytes_read = 0  # of files; not of zips, which are read by others, and not of what is known
        self._reading: set[str] = set()  # digests of this call
        self._finished: set[str] = set()
        self._copies: dict[int, _File] = {}

    def close(self) -> None:
        """Stop and wait for all threads."""
        self._stopped.set()
        self._readers.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def read(self, paths: dict[int, Path]) -> Iterator[Parsed | None]:
        """Read files; yield what is in them, and None whenever one is done."""
        yield from self._each([_File(number, path) for number, path in paths.items()])
        again = []
        for number, copy in self._copies.items():
            if copy.digest in self._finished:
                self.known[number] = SourceFile(name=copy.name, digest=copy.digest)
            else:  # the other one failed, and so will this
                again.append(_File(number, copy.path, digest=copy.digest))
        yield from (made for made in self._each(again) if made is not None)

    def _each(self, files: Sequence[_File]) -> Iterator[Parsed | None]:
        for file in files:
            self._submit(file, 0, partial(self._read_file, file))
        left = len(files)
        while left:
            made = self._made.get()
            if isinstance(made, BaseException):
                raise made
            left -= made is None
            yield made

    def _submit(self, file: _File, part: int, work: Callable[[], None]) -> None:
        self._readers.submit(self._run, file, part, work)

    def _run(self, file: _File, part: int, work: Callable[[], None]) -> None:
        """Do a part of the work of a file; whoever does the last says that the file is done."""
        where = str(file.path)
        try:
            try:
                with self._workers:
                    work()
            except InputError as error:
                self._fail(file, part, error)
            except OSError as error:
                file.digest = None
                self._fail(file, part, _unreadable(where, error))
            with self._lock:
                file.parts -= 1
                last = not file.parts
            if last:
                file.close()
                if file.hashing is not None:
                    file.digest = file.hashing.digest()
                if file.mark is not None and not _is_still(file.path, file.mark):
                    file.digest = None  # somebody has changed it meanwhile, or moved it away
                if file.digest is not None:
                    whole = self._source_file(file, file.digest)
                    if whole.counts.results_read > 0:
                        self._put(Parsed(finished=whole))
                        self._finished.add(file.digest)
                    elif whole.failures:
                        self.refused[file.number] = whole
                self._put(None)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 (it is raised where somebody waits for it)
            with suppress(_Stopped):
                self._put(error)

    def _source_file(self, file: _File, digest: str) -> SourceFile:
        with self._lock:
            failures = sorted(
                (part, one) for (number, part), one in self.failures.items() if number == file.number
            )
        return SourceFile(
            name=file.name,
            digest=digest,
            counts=file.counts,
            failures=tuple(failure for _, failure in failures),
        )

    def _fail(self, file: _File, part: int, error: InputError) -> None:
        with self._lock:
            self.failures[file.number, part] = error

    def _put(self, made: Parsed | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._made.put(made, timeout=_PUT_S)
            except Full:
                continue
            return
        raise _Stopped

    def _read_file(self, file: _File) -> None:
        path = file.path
        if path == STDIN and self._stdin is not None:
            self._read_stream(file, self._stdin, "<stdin>")
            return
        with _open(path) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                self._read_stream(file, stream, path.name)
                return
            if file.digest is None and not self._is_new(file, stream):
                return
            stream.seek(0)
            head = stream.read(TAR_BLOCK_BYTES)
            stream.seek(0)
            if is_zip(head):
                self._read_zip(file)
            elif is_tar(head):
                self._read_tar(file, stream)
            else:
                self._read_content(file, stream, path.name)

    def _is_new(self, file: _File, stream: BinaryIO) -> bool:
        """Whether the bytes of a file are to be read; its digest is known then."""
        file.mark = _mark(os.fstat(stream.fileno()))
        digest = sha256()
        while chunk := stream.read(_READ_BYTES):
            digest.update(chunk)
            if self._stopped.is_set():
                raise _Stopped
        file.digest = digest.hexdigest()
        with self._lock:
            if self._is_known(file.digest):
                self.known[file.number] = SourceFile(name=file.name, digest=file.digest)
            elif file.digest in self._reading:
                self._copies[file.number] = file
            else:
                self._reading.add(file.digest)
                return True
        return False

    def _read_stream(self, file: _File, stream: BinaryIO, name: str) -> None:
        """Read what cannot be read twice."""
        file.hashing = _Hashing(stream)
        self._read_content(file, cast(BinaryIO, file.hashing), name)
        while file.hashing.read(_READ_BYTES):  # its digest is of all of it
            pass

    def _count(self, more: int) -> None:
        with self._lock:
            self.bytes_read += more

    def _read_content(self, file: _File, stream: BinaryIO, name: str) -> None:
        """Read one file of results, or a tar of them that is compressed."""
        events = inflate(cast(BinaryIO, _Counting(stream, self._count)), self._workers)
        head, events = _peeked(events, TAR_BLOCK_BYTES)
        if is_zip(head):
            raise InputError(
                "a zip that cannot be read from its end", where=name, next_step="save it and ingest the file"
            )
        if not is_tar(head):
            self._parse(file, 0, name, name if file.hashing else str(file.path), events)
            return
        inflated = _Inflated(events)
        where, part = str(file.path), 0
        for part, (member, section) in enumerate(Tar(cast(BinaryIO, inflated), where).members(), 1):
            if _is_hidden(member.name):
                continue
            try:
                self._parse(
                    file,
                    part,
                    f"{name}:{member.name}",
                    f"{where}:{member.name}",
                    inflate(cast(BinaryIO, section), self._workers),
                )
            except InputError as error:
                self._fail(file, part, error)
        if not part:
            raise _no_members(where)
        if inflated.damage is not None:
            raise _cut(where, inflated.damage.found)

    def _read_tar(self, file: _File, stream: BinaryIO) -> None:
        """Have each file in a tar read by itself."""
        where, part = str(file.path), 0
        for part, (member, _) in enumerate(Tar(stream, where).members(), 1):
            if not _is_hidden(member.name):
                with self._lock:
                    file.parts += 1
                self._submit(file, part, partial(self._read_tar_member, file, part, member))
        if not part:
            raise _no_members(where)

    def _read_tar_member(self, file: _File, part: int, member: Member) -> None:
        with _open(file.path) as stream:
            stream.seek(member.at)
            section = _Counting(cast(BinaryIO, Section(stream, member.size)), self._count)
            events = inflate(cast(BinaryIO, section), self._workers)
            self._parse(file, part, f"{file.path.name}:{member.name}", f"{file.path}:{member.name}", events)

    def _read_zip(self, file: _File) -> None:
        """Have each file in a zip read by itself."""
        archive, members = open_zip(file.path)
        file.close = archive.close
        if not members:
            raise _no_members(str(file.path))
        for part, info in enumerate(members, 1):
            if not _is_hidden(info.filename):
                with self._lock:
                    file.parts += 1
                where = f"{file.path}:{info.filename}"
                member = partial(ZipMember, archive, info, where)
                self._submit(file, part, partial(self._read_zip_member, file, part, info.filename, member))

    def _read_zip_member(self, file: _File, part: int, name: str, member: Callable[[], ZipMember]) -> None:
        def events() -> Iterator[bytes | Damage]:
            try:
                with member() as stream:
                    yield from inflate(cast(BinaryIO, stream), self._workers)
            except DamagedZipError as error:
                yield Damage(found=f"the zip is damaged ({error})")

        self._parse(file, part, f"{file.path.name}:{name}", f"{file.path}:{name}", events())

    def _parse(self, file: _File, part: int, name: str, where: str, events: Iterator[bytes | Damage]) -> None:
        content = _Content(name=name, where=where)
        for parsed in _results(self._parsed(content.batches(events, self._batch_bytes)), where):
            with self._lock:
                file.counts += parsed.counts
            self._put(parsed)
        if content.failure is not None:
            self._fail(file, part, content.failure)

    def _parsed(self, batches: Iterator[Batch]) -> Iterator[Parsed]:
        """Batches parsed side by side, in their order."""
        ordered: deque[Future[Parsed]] = deque()
        for batch in batches:
            ordered.append(self._pool.submit(parse_batch, batch))
            if len(ordered) > self._workers.ahead // 2:
                yield ordered.popleft().result()
        while ordered:
            yield ordered.popleft().result()


def _results(all_parsed: Iterable[Parsed], where: str) -> Iterator[Parsed]:
    """The same, if any record of the first batch is an Atlas result of any type.

    Raises:
        InputError: when none is; nothing has been yielded then.
    """
    held: list[Parsed] | None = []  # None: they are results
    for parsed in all_parsed:
        if held is not None:
            held.append(parsed)
            if parsed.records == (parsed.cut is not None):
                continue  # only a record that is too large
            if parsed.observations + parsed.other_types == 0:
                raise _no_results(held, where)
            yield from held
            held = None
        else:
            yield parsed
    if held:
        raise _no_results(held, where)


def _no_results(held: Sequence[Parsed], where: str) -> InputError:
    reason = held[0].quarantined.column("reason")[0].as_py()
    return InputError(
        "not Atlas results",
        where=where,
        found=f"none among {many(sum(parsed.records for parsed in held), 'record')}; the first: {reason}",
        expected="ping or traceroute results as RIPE Atlas gives them",
    )


@dataclass(slots=True, kw_only=True)
class _Content:
    """The records of one file.

    Attributes:
        name: as it is kept in quarantine.
        where: as it is shown in errors.
        failure: what is wrong with it, once it was read.
    """

    name: str
    where: str
    failure: InputError | None = None
    _position: int = 0
    _records: int = 0
    _held: Batch | None = None  # the next to be given: only what follows tells whether it is the last
    _large: bytes | None = None  # the beginning of a record that is too large, while its end is looked for
    _large_bytes: int = 0

    def batches(self, events: Iterator[bytes | Damage], batch_bytes: int) -> Iterator[Batch]:
        """The records, in batches of about so many bytes.

        A batch that says `cut` is followed by another one where something is missing in the middle.

        Raises:
            TruncatedError: when it is cut before the end of its first record.
            InputError: when there is no record in it.
        """
        splitter: Splitter | None = None
        damage: Damage | None = None
        for block in _joined(events, batch_bytes):
            if isinstance(block, Damage):
                damage = block
                if splitter is not None:
                    yield from self._missing(splitter, damage)
                continue
            if splitter is None:
                block = block.removeprefix(_BOM).lstrip(BLANK)
                if not block:
                    continue
                splitter = splitter_for(block)
                if splitter is None:
                    raise InputError(
                        "not JSON",
                        where=self.where,
                        found=repr(block[:20].decode("utf-8", "backslashreplace")),
                        expected=_FORMS,
                        next_step="a list of probes is for qoetwin probes load, a table of RTTs for qoetwin ingest table",
                    )
            found = splitter.feed(block)
            if self._large is not None:
                self._large_bytes += len(block)
                if splitter.skipped is not None:
                    continue
                yield from self._too_large(splitter)
            yield from self._add(found)
            if len(splitter.rest) > RECORD_BYTES:
                for more in splitter.again():
                    yield from self._add(more)
            if len(splitter.rest) > RECORD_BYTES:
                self._large_bytes = len(splitter.rest)
                self._large = splitter.skip()[:_HEAD_BYTES]
        if splitter is not None and self._large is not None:
            yield from self._too_large(splitter)
        elif splitter is not None and splitter.skipped is None:
            cut = yield from self._last(splitter)
            if cut is not None:
                yield from self._gap(f"the file is cut: {cut}", splitter.rest)
                self._fail(_cut(self.where, f"the file is cut: {cut}"))
        if self._records == 0:
            raise self._nothing(damage, anything=splitter is not None)
        if self._held is not None:
            yield self._held

    def _add(self, found: Records) -> Iterator[Batch]:
        for at in range(0, len(found), _BATCH_RECORDS):
            if self._held is not None:
                yield self._held
            begin = found.begin[at : at + _BATCH_RECORDS]
            self._held = self._batch(found.data, begin, found.end[at : at + _BATCH_RECORDS])
            self._position += len(begin)
            self._records += len(begin)

    def _batch(self, data: bytes, begin: NDArray[np.int64], end: NDArray[np.int64]) -> Batch:
        return Batch(
            source=self.name,
            first_position=self._position,
            data=data,
            begin=begin,
            end=end,
            read_at=datetime.now(UTC),
        )

    def _gap(self, reason: str, tail: bytes) -> Iterator[Batch]:
        """Say that something is missing after the records so far; it counts as a record."""
        if self._held is None or self._held.cut is not None:
            if self._held is not None:
                yield self._held
            none = Records()
            self._held = self._batch(none.data, none.begin, none.end)
        self._held = replace(self._held, cut=reason, tail=tail)
        self._position += 1

    def _last(self, splitter: Splitter) -> Generator[Batch, None, str | None]:
        """The last records before the end, or before something is missing; returns in what it ends."""
        last, cut = splitter.end()
        yield from self._add(last)
        if cut is not None and splitter.rest:
            for more in splitter.again():
                yield from self._add(more)
            last, cut = splitter.end()
            yield from self._add(last)
        return cut

    def _missing(self, splitter: Splitter, damage: Damage) -> Iterator[Batch]:
        if self._large is not None:
            yield from self._too_large(splitter)
        if splitter.skipped is None:
            yield from self._last(splitter)
            yield from self._gap(f"the file is cut: {damage.found}", splitter.skip())
        self._fail(_cut(self.where, f"the file is cut: {damage.found}"))

    def _too_large(self, splitter: Splitter) -> Iterator[Batch]:
        size = self._large_bytes - len(splitter.rest)
        head, self._large = self._large or b"", None
        self._fail(
            InputError(
                "a record that is too large",
                where=self.where,
                found=f"about {size} bytes as record {self._position}",
                expected=f"at most {RECORD_BYTES}",
                next_step="it is left out, and its beginning is in quarantine; all others were read",
            )
        )
        yield from self._gap(
            f"a record that is too large; found about {size} bytes; expected at most {RECORD_BYTES}; "
            f"only the first {len(head)} are kept",
            head,
        )

    def _fail(self, error: InputError) -> None:
        if self.failure is None:
            self.failure = error

    def _nothing(self, damage: Damage | None, *, anything: bool) -> InputError:
        if self.failure is not None and not isinstance(self.failure, TruncatedError):  # it is too large
            return InputError(
                "no record but one that is too large",
                where=self.where,
                found=self.failure.found,
                expected=self.failure.expected,
            )
        if damage is not None or self.failure is not None:
            return TruncatedError(
                "a file that is cut before the end of its first record",
                where=self.where,
                found=damage.found if damage is not None else "no end of it",
                expected="at least one whole record",
            )
        if anything:
            return InputError("a file without records", where=self.where, expected="Atlas results")
        return InputError("an empty file", where=self.where, expected=_FORMS)


def _joined(events: Iterator[bytes | Damage], block_bytes: int) -> Iterator[bytes | Damage]:
    """The same bytes, about so many at a time."""
    waiting: list[bytes] = []
    size = 0
    for event in events:
        if isinstance(event, Damage) or size >= block_bytes:
            if waiting:
                yield b"".join(waiting)
            waiting, size = [], 0
        if isinstance(event, Damage):
            yield event
        else:
            waiting.append(event)
            size += len(event)
    if waiting:
        yield b"".join(waiting)


def _peeked(events: Iterator[bytes | Damage], count: int) -> tuple[bytes, Iterator[bytes | Damage]]:
    """The first bytes, as many as that if there are, and all events."""
    seen: list[bytes | Damage] = []
    head = b""
    for event in events:
        seen.append(event)
        if isinstance(event, Damage):
            break
        head += event
        if len(head) >= count:
            break
    return head, chain(seen, events)


class _Inflated(io.RawIOBase):
    """What was inflated, as a stream that ends where something is missing."""

    def __init__(self, events: Iterator[bytes | Damage]) -> None:
        self._events = events
        self._rest = memoryview(b"")
        self.damage: Damage | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes; fewer at the end alone."""
        parts: list[memoryview] = []
        while size != 0:
            if not self._rest:
                event = None if self.damage is not None else next(self._events, None)
                if event is None:
                    break
                if isinstance(event, Damage):
                    self.damage = event
                    break
                self._rest = memoryview(event)
            part = self._rest if size < 0 else self._rest[:size]
            self._rest = self._rest[len(part) :]
            size -= len(part) if size > 0 else 0
            parts.append(part)
        return b"".join(parts)


class _Hashing(io.RawIOBase):
    """A stream, and the digest of what was read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def digest(self) -> str:
        return self._digest.hexdigest()


class _Counting(io.RawIOBase):
    """A stream, of which it is told how much is read."""

    def __init__(self, stream: BinaryIO, count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._count(len(data))
        return data


def _megabytes_of(paths: Sequence[Path], stdin: BinaryIO | None) -> int | None:
    """How large files are, in MB, at least one; None where that shows only when they were read."""
    total = 0
    for path in paths:
        if path == STDIN and stdin is not None:
            return None
        try:
            status = path.stat()
        except OSError:
            continue  # reading it says what is wrong
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return max(1, total >> 20)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _is_still(path: Path, mark: tuple[int, ...]) -> bool:
    """Whether the file that had a mark is there, and has not changed."""
    try:
        return _mark(path.stat()) == mark
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    """Open a file for reading, without waiting for somebody to write a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(descriptor, True)
    return os.fdopen(descriptor, "rb", buffering=_READ_BYTES)


def _no_members(where: str) -> InputError:
    return InputError("an archive without files", where=where, expected=f"files of {_FORMS}")


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _unreadable(where: object, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return NotFoundError("no such file", where=str(where))
    return InputError("a file that cannot be read", where=str(where), found=error.strerror or str(error))


def _cut(where: str, found: str) -> TruncatedError:
    return TruncatedError(
        "a file ends in the middle of itself",
        where=where,
        found=found,
        expected="a whole file",
        next_step="its whole records have landed and the rest is in quarantine; fetch it again and ingest it again",
    )
