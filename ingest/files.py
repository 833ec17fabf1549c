"""Files of Atlas results: NDJSON or a JSON array, plain or compressed, told by their content.

A file that ends in the middle of a record gives all its whole records; what is left is given as the cut tail, and
goes into quarantine under that name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import orjson

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.batch import BATCH_BYTES, Batch, Parsed, bounds_of
from ingest.compression import read_chunks
from ingest.json_array import ArraySplitter
from ingest.parse import parse_batch

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_FORMS = "NDJSON or a JSON array, plain or as gzip, bzip2 or xz"


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
    """Read and parse a file of Atlas results, batch by batch.

    The last batch says in `cut` when the file ends in the middle of itself.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut before the end of its first record.
        InputError: when it cannot be read, is empty, is not JSON, or when no record of its first batch is an
            Atlas result of any type; nothing has been yielded then.
    """
    for number, batch in enumerate(read_file(path)):
        parsed = parse_batch(batch)
        if number == 0 and parsed.observations + parsed.other_types == 0:
            reason = parsed.quarantined.column("reason")[0].as_py()
            raise InputError(
                "not Atlas results",
                where=str(path),
                found=f"{parsed.records} records of which none is one; the first: {reason}",
                expected="ping or traceroute results as RIPE Atlas gives them",
            )
        yield parsed


def read_file(path: Path) -> Iterator[Batch]:
    """Read the raw records of a file, about `BATCH_BYTES` at a time.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut before the end of its first record.
        InputError: when it cannot be read, is empty, or is not JSON.
    """
    reader = _Reader(path)
    position = size = 0
    records: list[bytes] = []
    for record in reader:
        records.append(record)
        size += len(record)
        if size >= BATCH_BYTES:
            yield _batch(path, position, records)
            position += len(records)
            records, size = [], 0
    if reader.cut is not None and position + len(records) == 0:
        raise TruncatedError(
            "a file that is cut before the end of its first record",
            where=str(path),
            found=reader.cut,
            expected="at least one whole record",
        )
    if position + len(records) == 0:
        raise InputError("a file without records", where=str(path), expected="Atlas results")
    if records or reader.cut is not None:
        yield _batch(path, position, records, cut=reader.cut, tail=reader.tail)


def _batch(
    path: Path, position: int, records: list[bytes], cut: str | None = None, tail: bytes = b""
) -> Batch:
    data, begin, end = bounds_of(records)
    return Batch(
        source=path.name,
        first_position=position,
        data=data,
        begin=begin,
        end=end,
        read_at=datetime.now(UTC),
        cut=cut,
        tail=tail,
    )


class _Reader:
    """Iterates over the raw records of a file; afterwards `cut` and `tail` say how it ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cut: str | None = None
        self.tail = b""

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._chunks()
        head = b""
        for chunk in chunks:
            head = (head + chunk).removeprefix(_BOM).lstrip(_BLANK)
            if head:
                break
        if not head:
            if self.cut is None:
                raise InputError("an empty file", where=str(self._path), expected=_FORMS)
            return
        content = chain([head], chunks)
        if head.startswith(b"["):
            yield from self._array(content)
        elif head.startswith(b"{"):
            yield from self._lines(content)
        else:
            raise InputError("not JSON", where=str(self._path), found=repr(head[:20]), expected=_FORMS)

    def _chunks(self) -> Iterator[bytes]:
        try:
            yield from read_chunks(self._path)
        except TruncatedError as error:
            self.cut = f"the file is cut: {error.found}"

    def _lines(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        rest = b""
        for chunk in chunks:
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            for line in lines:
                if line and not line.isspace():
                    yield line
        if not rest.strip(_BLANK):
            return
        try:
            orjson.loads(rest)
        except orjson.JSONDecodeError:
            self.tail = rest
            if self.cut is None:
                self.cut = "the file is cut: it ends in the middle of a record"
        else:
            yield rest

    def _array(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        splitter = ArraySplitter()
        for chunk in chunks:
            yield from splitter.feed(chunk)
        rest = splitter.rest.strip(_BLANK)
        if splitter.closed:
            if rest:
                yield rest  # not a record: it is for the parser to say so
            return
        if self.cut is None:
            self.cut = "the file is cut: the array is not closed"
        if rest:
            try:
                orjson.loads(rest)
            except orjson.JSONDecodeError:
                self.tail = rest
            else:
                yield rest  # the last record is whole, only the bracket after it is gone
