"""Where the records in a file begin and end, whatever holds them, without reading any of them.

Two ways, and `splitter_for` tells from the first MB which one a file needs:

- a record a line (NDJSON): a line that is no JSON costs itself alone;
- JSON values, one after the other or in arrays, over lines or not: a record ends where its brackets are closed. Should that not
  happen, the records of a file are told by how they begin, which is alike.

Both work on columns of bytes, a MB at a time: no Python object is made for a record, and nothing grows with what is not a
record. A record is bytes between two places; whether it is one is for the parser to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from ingest.json_array import escaped_quotes

RECORD_BYTES = 1 << 24
"""The largest record that is read, 16 MiB. Those of Atlas have at most some 100 kB."""

BLANK = b" \t\r\n\x1e"
"""What may be between records; the last one announces a record (RFC 7464)."""

_SEPARATORS = BLANK + b","
_SLICE = 1 << 18
_FEW = 8
_RESTARTS = 64  # in a few MB: more is no mistake, and would be slow
_SIGNATURE_BYTES = 256  # how far into a record its first key is looked for
_NOWHERE = np.empty(0, dtype=np.int64)

_STRUCTURE = np.zeros(256, dtype=np.bool_)
_STRUCTURE[list(b'"[]{},')] = True

_NESTING = np.zeros(256, dtype=np.int64)
_NESTING[list(b"[{")] = 1
_NESTING[list(b"]}")] = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """N records in bytes.

    Attributes:
        data: bytes that hold them.
        begin, end: (N,) where in `data` each begins and ends; none is empty.
    """

    data: bytes = b""
    begin: NDArray[np.int64] = field(default_factory=_NOWHERE.copy)
    end: NDArray[np.int64] = field(default_factory=_NOWHERE.copy)

    def __len__(self) -> int:
        return int(self.begin.shape[0])


class Splitter(Protocol):
    """Splits bytes into records.

    Attributes:
        rest: bytes of a record whose end was not seen.
        skipped: how many bytes were passed over since `skip`; None: none are being passed over.
    """

    rest: bytes
    skipped: int | None

    def feed(self, chunk: bytes) -> Records:
        """Take more bytes; give the records that are complete with them."""
        ...

    def again(self) -> Iterator[Records]:
        """Give the records in `rest` should it be more than one, told in another way."""
        ...

    def skip(self) -> bytes:
        """Give up `rest`, and pass over what follows up to where a record may begin."""
        ...

    def end(self) -> tuple[Records, str | None]:
        """Give the last record, and in what it ends, if that is the middle of something; `rest` is then what is left of it."""
        ...


def splitter_for(head: bytes) -> Splitter | None:
    r"""The way to split a file, told by how it begins; None: it holds no JSON.

    Args:
        head: its first MB, or all of it; the first byte is no blank.

    >>> type(splitter_for(b'{"a": 1}\n{"b": 2}\n')).__name__, type(splitter_for(b'{"a":\n1}{"b": 2}')).__name__
    ('LineSplitter', 'ValueSplitter')
    >>> splitter_for(b'a,b\n1,2\n') is None
    True
    """
    if head.startswith(b"[") and head[1:].lstrip(BLANK)[:1] in (b"{", b"]", b""):
        return ValueSplitter()
    codes = np.frombuffer(head, dtype=np.uint8)
    begin, end = _trimmed(head, *_line_bounds(head, last=True))
    objects = np.flatnonzero((codes[begin] == ord("{")) & (codes[end - 1] == ord("}")))
    sample = objects[:: max(1, len(objects) // _FEW)][:_FEW]
    lines = any(_is_json(head[begin[line] : end[line]]) for line in sample)
    json = head.startswith((b"{", b"["))
    # Also where values lie over lines there is one that happens to be a line.
    if lines and (4 * len(objects) >= len(begin) or not json):
        return LineSplitter()
    return ValueSplitter() if json else None


class LineSplitter:
    """A record a line. Blank lines are none."""

    def __init__(self) -> None:
        self.rest = b""
        self.skipped: int | None = None

    def feed(self, chunk: bytes) -> Records:
        """Take more bytes; give the records that are complete with them."""
        if self.skipped is not None:
            line = chunk.find(b"\n") + 1
            self.skipped += line if line else len(chunk)
            if not line:
                return Records()
            self.skipped, chunk = None, chunk[line:]
        data = self.rest + chunk
        complete = data.rfind(b"\n") + 1
        self.rest = data[complete:]
        begin, end = _trimmed(data, *_line_bounds(data, last=False))
        return Records(data=data, begin=begin, end=end)

    def again(self) -> Iterator[Records]:
        """Give nothing: a line is a record."""
        return iter(())

    def skip(self) -> bytes:
        """Give up `rest`, and pass over what follows up to the next line."""
        rest, self.rest, self.skipped = self.rest, b"", 0
        return rest

    def end(self) -> tuple[Records, str | None]:
        """Give the last line, if it is whole though no line follows it."""
        whole = self.rest.strip(BLANK)
        if not whole:
            self.rest = b""
            return Records(), None
        if not _is_json(whole):
            return Records(), "it ends in the middle of a record"
        self.rest = b""
        return _one(whole), None


class ValueSplitter:
    r"""JSON values one after the other; an array is not a record, its elements are.

    What lies between values and is none is a record too, so that it is seen.

    >>> splitter = ValueSplitter()
    >>> found = splitter.feed(b' [{"a": "]}"}, {"b"')
    >>> found.data[found.begin[0] : found.end[0]], splitter.rest
    (b'{"a": "]}"}', b' {"b"')
    """

    def __init__(self) -> None:
        self.rest = b""
        self.skipped: int | None = None
        self._signature: bytes | None = None  # how records of this file begin
        self._array = False  # whether the first record is in an array
        self._depth = 0  # of brackets, at the end of what was seen
        self._in_array = False  # whether the outermost of them is, or was, an array's
        self._in_string = False
        self._escaped = False  # whether the next byte follows an odd run of backslashes

    def feed(self, chunk: bytes) -> Records:
        """Take more bytes; give the records that are complete with them."""
        if self.skipped is not None:
            chunk = self.rest + chunk
            self.rest = b""
            record = self._next_record(chunk, 0)
            if record < 0:
                self.rest = chunk[max(0, len(chunk) - len(self._mark) + 1) :]
                self.skipped += len(chunk) - len(self.rest)
                return Records()
            self.skipped, chunk = None, chunk[record:]
        data = self.rest + chunk
        begins, ends = [_NOWHERE], [_NOWHERE]
        at, scanned = 0, len(self.rest)
        for turn in range(_RESTARTS + 1):
            begin, end, at = self._pieces(data, at, scanned)
            whole, record = self._broken(data, begin, end, at) if turn < _RESTARTS else (len(begin), -1)
            begins.append(begin[:whole])
            ends.append(end[:whole])
            if record < 0:
                break
            broken = _trimmed(data, begin[whole : whole + 1], np.array([record]), _SEPARATORS)
            begins.append(broken[0])
            ends.append(broken[1])
            self._restart()
            at = scanned = record
        self.rest = data[at:]
        return Records(data=data, begin=np.concatenate(begins), end=np.concatenate(ends))

    def _pieces(self, data: bytes, at: int, scanned: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """Where pieces begin and end, of which the first begins at `at`, and where the next one begins."""
        codes = np.frombuffer(data, dtype=np.uint8)
        stops, starts = [_NOWHERE], [np.array([at], dtype=np.int64)]
        for first in range(scanned, len(data), _SLICE):
            stop, start = self._cuts(codes[first : first + _SLICE])
            stops.append(stop + first)
            starts.append(start + first)
        start = np.concatenate(starts)
        begin, end = _trimmed(data, start[:-1], np.concatenate(stops))
        if self._signature is None and len(begin):
            self._signature = _signature(data[begin[0] : begin[0] + _SIGNATURE_BYTES])
            self._array = data[: begin[0]].rstrip(BLANK).endswith(b"[")
        return begin, end, int(start[-1])

    def _broken(
        self, data: bytes, begin: NDArray[np.int64], end: NDArray[np.int64], rest: int
    ) -> tuple[int, int]:
        """The first piece that is no JSON and has the beginning of another record in it, and where that is; else -1.

        A quote too many makes text of what is none up to the next such mistake: records that begin alike show it.
        """
        if self._signature is None or not len(begin):
            return len(begin), -1
        wanted = np.frombuffer(self._signature, dtype=np.uint8)
        places = np.minimum(begin[:, None] + np.arange(len(wanted)), len(data) - 1)
        alike = (np.frombuffer(data, dtype=np.uint8)[places] == wanted).all()
        if alike and data.count(self._signature, int(begin[0]), rest) == len(begin):
            return len(begin), -1
        for piece, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
            if not _is_json(data[first:last]):
                record = data.find(self._signature, first + 1)
                if record >= 0 and (piece + 1 == len(begin) or record != begin[piece + 1]):
                    return piece, record
        return len(begin), -1

    def _cuts(self, codes: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where pieces between values end, and where the next ones begin."""
        at = np.flatnonzero(_STRUCTURE[codes])
        marks = codes[at]
        quotes = marks == ord('"')
        if self._escaped or (codes == ord("\\")).any():
            quotes[quotes], self._escaped = escaped_quotes(codes, at[quotes], self._escaped)
        parity = (np.cumsum(quotes, dtype=np.int64) + self._in_string) & 1
        if len(parity):
            self._in_string = bool(parity[-1])
        outside = (parity == 0) & (marks != ord('"'))
        at, marks = at[outside], marks[outside]
        if not len(at):
            return _NOWHERE, _NOWHERE
        nesting = _NESTING[marks]
        sums = self._depth + np.cumsum(nesting)
        depth = sums - np.minimum(np.minimum.accumulate(sums), 0)  # what closes nothing counts for nothing
        before = np.concatenate(([self._depth], depth[:-1]))
        opens = (nesting == 1) & (before == 0)
        last = np.maximum.accumulate(np.where(opens, np.arange(len(at)), -1))
        in_array = np.where(last >= 0, marks[last] == ord("["), self._in_array)
        self._depth, self._in_array = int(depth[-1]), bool(in_array[-1])
        closes = (nesting == -1) & (before == 1)
        cuts = opens | closes | ((marks == ord(",")) & (depth <= in_array))
        place = at[cuts]
        # The brackets of an object belong to its record; those of the array around it, and commas, do not.
        stop = place + (closes & ~in_array)[cuts]
        start = place + 1 - (opens & ~in_array)[cuts]
        return stop, start

    def again(self) -> Iterator[Records]:
        """Give the records in `rest` should it be more than one: they begin as the first one did."""
        for _ in range(_RESTARTS):
            data = self.rest
            record = self._next_record(data, len(data) - len(data.lstrip(_SEPARATORS)) + 1)
            if record < 0:
                return
            begin, end = _trimmed(data, np.zeros(1, dtype=np.int64), np.array([record]), _SEPARATORS)
            yield Records(data=data, begin=begin, end=end)
            self._restart()
            yield self.feed(data[record:])

    def skip(self) -> bytes:
        """Give up `rest`, and pass over what follows up to what looks like the beginning of a record."""
        rest = self.rest
        if self._signature is None:
            self._signature = _signature(rest[:_SIGNATURE_BYTES])
        self._restart()
        self.skipped = 0
        return rest

    def end(self) -> tuple[Records, str | None]:
        """Give the last record, should it be whole though nothing follows it."""
        whole = self.rest.strip(BLANK)
        if not self._depth and not self._in_string:
            self.rest = b""
            return _one(whole) if whole else Records(), None  # no record, most likely: the parser says so
        cut = (
            "the array is not closed"
            if self._in_array and self._depth
            else "it ends in the middle of a record"
        )
        if not whole or not _is_json(whole):
            return Records(), cut
        self.rest = b""
        return _one(whole), cut

    @property
    def _mark(self) -> bytes:
        return b"\n{" if self._signature is None else self._signature

    def _next_record(self, data: bytes, begin: int) -> int:
        """Where, from there on, something begins as records of this file do; -1: nowhere."""
        found = data.find(self._mark, begin)
        return found if self._signature is not None or found < 0 else found + 1

    def _restart(self) -> None:
        self.rest = b""
        self._depth, self._in_array = int(self._array), self._array
        self._in_string, self._escaped = False, False


def _line_bounds(data: bytes, *, last: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where lines that are not empty begin and end; the last one may have no end."""
    codes = np.frombuffer(data, dtype=np.uint8)
    begins, ends, begin = [], [], 0
    for at in range(0, len(data), _SLICE):
        end = np.flatnonzero(codes[at : at + _SLICE] == ord("\n")) + at
        if len(end):
            start = np.concatenate(([begin], end[:-1] + 1))
            begins.append(start[end > start])
            ends.append(end[end > start])
            begin = int(end[-1]) + 1
    if last and begin < len(data):
        begins.append(np.array([begin]))
        ends.append(np.array([len(data)]))
    return np.concatenate([_NOWHERE, *begins]), np.concatenate([_NOWHERE, *ends])


def _trimmed(
    data: bytes, begin: NDArray[np.int64], end: NDArray[np.int64], blank: bytes = BLANK
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same pieces without blanks around them, and without those that hold nothing else."""
    codes = np.frombuffer(data, dtype=np.uint8)
    is_blank = np.zeros(256, dtype=np.bool_)
    is_blank[list(blank)] = True
    some = end > begin
    begin, end = begin[some], end[some]
    for _ in range(_FEW):
        before, after = is_blank[codes[begin]], is_blank[codes[end - 1]]
        if not (before.any() or after.any()):
            return begin, end
        begin, end = begin + before, end - after
        some = end > begin
        begin, end = begin[some], end[some]
    for piece in np.flatnonzero(is_blank[codes[begin]] | is_blank[codes[end - 1]]).tolist():
        text = data[begin[piece] : end[piece]]
        begin[piece] += len(text) - len(text.lstrip(blank))
        end[piece] = begin[piece] + len(text.strip(blank))
    some = end > begin
    return begin[some], end[some]


def _signature(record: bytes) -> bytes | None:
    """How a record begins: up to its first key, which records of one file share; None when it has none."""
    head, colon, _ = record.partition(b":")
    return head + colon if colon and head.startswith(b"{") else None


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _one(record: bytes) -> Records:
    return Records(
        data=record, begin=np.zeros(1, dtype=np.int64), end=np.array([len(record)], dtype=np.int64)
    )
