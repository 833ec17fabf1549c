"""bzip2 on all cores: the blocks of one file, each inflated by itself.

A bzip2 stream is a header (`BZh1` … `BZh9`), blocks, and an end mark; streams may follow one another. A block begins with 48 bits
(`314159265359`, the digits of pi) anywhere in a byte, holds at most 900,000 bytes before the last stage of inflating, and has a
checksum of its own. So blocks are found without inflating anything, and each is inflated by itself: by `ingest.ordinary`, or, where
that gives one back, as a stream of one block by libbz2. Both leave Python free meanwhile. Source: J. Tsai, "bzip2 Format Specification", 2016.

The same 48 bits may lie in a block by chance (once in some 20 TB): a block that does not inflate is tried again together with what
follows it. A block that is damaged costs itself alone.
"""

from __future__ import annotations

import bz2
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ingest import ordinary
from ingest.workers import Workers

MAGIC = b"BZh"

_READ_BYTES = 1 << 20
_INFLATED_BYTES = 1 << 22  # what a block gives at once: mostly all of it, but 45 MB may be in one
_LONGEST_BLOCK_BYTES = 5 << 19  # 900,002 symbols of at most 20 bits, and its tables
_BLOCK = 0x314159265359
_END = 0x177245385090
_MARK_BITS, _CHECKSUM_BITS, _HEADER_BYTES = 48, 32, 4
_AFTER_MARK_BYTES = 32  # enough to see what follows an end mark

STOPS = "the compressed data stop before their end mark"
OTHER = "something else follows the compressed data"
DAMAGED = "a block of the compressed data is damaged"
CHECKSUM = "the checksum of the compressed data is another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Here something is missing of what is inflated.

    Attributes:
        found: what was found, in words.
    """

    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A block as it lies in the file.

    Attributes:
        data: the bytes that it touches.
        begin: where in the file it begins, in bits.
        end: where it ends, in bits.
        whole: whether something that follows it was seen; else the file ends in it.
    """

    data: bytes
    begin: int
    end: int
    whole: bool = True

    @property
    def checksum(self) -> int:
        return _bits(self.data, self.begin % 8 + _MARK_BITS, _CHECKSUM_BITS)

    def with_next(self, following: _Block) -> _Block:
        kept = self.data[: (following.begin >> 3) - (self.begin >> 3)]
        return _Block(data=kept + following.data, begin=self.begin, end=following.end, whole=following.whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """The end mark of a stream, and the checksum that it states of all its blocks."""

    checksum: int


_Part: TypeAlias = _Block | _End | Damage
_Inflated: TypeAlias = tuple[bytes, bz2.BZ2Decompressor | None]


def inflate_blocks(head: bytes, read: Callable[[int], bytes], workers: Workers) -> Iterator[bytes | Damage]:
    """Inflate a bzip2 file.

    Args:
        head: its first bytes.
        read: gives the bytes that follow, at most so many; none at the end.
        workers: inflate the blocks.

    Yields:
        What is in it, in its order, a few MB at a time at most, and where something is missing.
    """
    parts = _Parts(head, read)
    ordered: deque[tuple[_Part, Future[_Inflated] | None]] = deque()
    checksum, checked = 0, True
    try:
        while True:
            while len(ordered) < workers.ahead and (part := next(parts, None)) is not None:
                work = workers.pool.submit(_inflate, part) if isinstance(part, _Block) else None
                ordered.append((part, work))
            if not ordered:
                return
            part, work = ordered.popleft()
            if isinstance(part, Damage):
                checked = False
                yield part
            elif isinstance(part, _End):
                if checked and checksum != part.checksum:
                    yield Damage(found=CHECKSUM)
                checksum, checked = 0, True
            elif work is not None:
                checksum = _with_block(checksum, part.checksum)
                try:
                    inflated, rest = _inflated_or_with_next(part, work, ordered)
                    yield inflated
                    while rest is not None and not rest.eof:
                        if not (inflated := rest.decompress(b"", _INFLATED_BYTES)) and not rest.eof:
                            break
                        yield inflated
                except (OSError, EOFError):
                    checked = False
                    yield Damage(found=DAMAGED if part.whole else STOPS)
                else:
                    if not part.whole:
                        yield Damage(found=STOPS)
    finally:
        for _, work in ordered:
            if work is not None:
                work.cancel()


def _inflated_or_with_next(
    block: _Block, work: Future[_Inflated], ordered: deque[tuple[_Part, Future[_Inflated] | None]]
) -> _Inflated:
    try:
        return work.result()
    except (OSError, EOFError):
        following = ordered[0][0] if ordered else None
        if not isinstance(following, _Block) or following.begin != block.end:
            raise
        inflated = _inflate(block.with_next(following))
        ordered.popleft()
        return inflated


def _inflate(block: _Block) -> _Inflated:
    """The first few MB of a block, and what gives the rest of it, if there is more.

    Raises:
        OSError: when it is damaged.
        EOFError: when it is not whole.
    """
    shift, length = block.begin % 8, block.end - block.begin
    if block.whole and (content := ordinary.inflate(block.data, shift, shift + length)) is not None:
        return content, None
    bits = np.frombuffer(block.data, dtype=np.uint8)
    if shift:
        shifted = np.left_shift(bits, shift, dtype=np.uint8)
        shifted[:-1] |= bits[1:] >> (8 - shift)
        bits = shifted
    body = bits[: length >> 3].tobytes()
    inflater = bz2.BZ2Decompressor()
    if not block.whole:  # where it would end is not known: what comes out was checked, if anything does
        inflated = inflater.decompress(b"BZh9" + body, _INFLATED_BYTES)
        if not inflated:
            raise EOFError(STOPS)
        return inflated, inflater
    used = length % 8
    tail = (_END << _CHECKSUM_BITS | block.checksum) << (8 - used)
    if used:
        tail |= (int(bits[length >> 3]) >> (8 - used) << (8 - used)) << (_MARK_BITS + _CHECKSUM_BITS)
    end = tail.to_bytes((_MARK_BITS + _CHECKSUM_BITS) // 8 + 1, "big")
    inflated = inflater.decompress(b"BZh9" + body + end, _INFLATED_BYTES)
    if inflater.eof:
        return inflated, None
    if inflater.needs_input:
        raise EOFError(DAMAGED)
    return inflated, inflater


class _Parts:
    """Iterates over the parts of a bzip2 file, holding little more than one block of it."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._window = head
        self._at = 0  # of the window's first byte in the file
        self._scanned = 0  # marks that begin before this byte of the window are known
        self._open: int | None = None  # where in the window a block begins, in bits
        self._stream_at = 0  # where in the window a stream should begin
        self._checksum = 0  # of the blocks of this stream, as far as they were seen
        self._lost = False  # in the middle of what is not understood, which was said
        self._parts = self._all()

    def __iter__(self) -> Iterator[_Part]:
        return self._parts

    def __next__(self) -> _Part:
        return next(self._parts)

    def _all(self) -> Iterator[_Part]:
        while chunk := self._read(_READ_BYTES):
            self._window += chunk
            yield from self._understood(final=False)
            self._forget()
        yield from self._understood(final=True)
        if self._open is not None:
            yield self._block(len(self._window) * 8, whole=False)
        elif not self._lost and (rest := self._window[self._stream_at :].strip(b"\0")):
            yield Damage(found=STOPS if MAGIC.startswith(rest[:3]) else OTHER)

    def _understood(self, *, final: bool) -> Iterator[_Part]:
        until = len(self._window) if final else len(self._window) - _AFTER_MARK_BYTES
        for bit, is_end in _marks(self._window, self._scanned, until):
            if self._open is None and not self._lost and not self._stream_begins(bit):
                yield Damage(found=OTHER)
                self._lost = True
            stated = _bits(self._window, bit + _MARK_BITS, _CHECKSUM_BITS)
            if is_end and stated != self._checksum and not self._may_end(bit):
                continue
            if self._open is not None:
                yield self._block(bit, whole=True)
            self._open, self._lost = None if is_end else bit, False
            if not is_end:
                self._checksum = _with_block(self._checksum, stated)
                continue
            self._checksum = 0
            self._stream_at = (bit + _MARK_BITS + _CHECKSUM_BITS + 7) // 8
            if self._stream_at <= len(self._window):
                yield _End(checksum=stated)
            else:
                yield Damage(found=STOPS)
        self._scanned = max(self._scanned, until)
        waiting = self._stream_at if self._open is None else self._open >> 3
        if len(self._window) - waiting > _LONGEST_BLOCK_BYTES and not final:
            if not self._lost and (self._open is not None or self._window[waiting:].strip(b"\0")):
                yield Damage(found=OTHER if self._open is None else DAMAGED)
                self._lost = True
            self._open, self._stream_at = None, self._scanned

    def _block(self, end: int, *, whole: bool) -> _Block:
        begin = 0 if self._open is None else self._open
        return _Block(
            data=self._window[begin >> 3 : (end + 7) // 8],
            begin=self._at * 8 + begin,
            end=self._at * 8 + end,
            whole=whole,
        )

    def _stream_begins(self, bit: int) -> bool:
        """Whether the mark comes directly after the header of a stream; zeros may be before that."""
        header = self._window[self._stream_at : bit >> 3].lstrip(b"\0")
        return bit % 8 == 0 and len(header) == _HEADER_BYTES and header.startswith(MAGIC)

    def _may_end(self, bit: int) -> bool:
        """Whether what follows an end mark may follow one: nothing, zeros, or a stream."""
        following = self._window[(bit + _MARK_BITS + _CHECKSUM_BITS + 7) // 8 :][: len(MAGIC)]
        return following.startswith((MAGIC[: len(following)], b"\0"))

    def _forget(self) -> None:
        """Forget the beginning of the window that nothing is needed of."""
        keep = min(self._scanned, self._stream_at if self._open is None else self._open >> 3)
        self._window = self._window[keep:]
        self._at += keep
        self._scanned -= keep
        self._stream_at = max(0, self._stream_at - keep)
        if self._open is not None:
            self._open -= keep * 8


def _with_block(checksum: int, block: int) -> int:
    """The checksum of a stream after one more block."""
    return (checksum << 1 & 0xFFFFFFFF | checksum >> 31) ^ block


def _patterns(mark: int) -> Iterator[tuple[int, int, bytes, int, int]]:
    """For each of the eight places in a byte: the place, whole bytes of the mark and which of its bytes they are, and all bits."""
    for shift in range(8):
        bits, mask = mark << (8 - shift), ((1 << _MARK_BITS) - 1) << (8 - shift)
        first, last = (1, 6) if shift else (0, 6)
        yield shift, first, bits.to_bytes(7, "big")[first:last], bits, mask


_PATTERNS = [
    (is_end, *pattern) for is_end, mark in ((False, _BLOCK), (True, _END)) for pattern in _patterns(mark)
]


def _marks(data: bytes, begin: int, end: int) -> list[tuple[int, bool]]:
    """Marks that begin in these bytes, in order: at which bit, and whether it is an end mark."""
    found = []
    for is_end, shift, first, pattern, bits, mask in _PATTERNS:
        at = data.find(pattern, begin + first)
        while at >= 0 and at - first < end:
            seen = data[at - first : at - first + 7]
            if int.from_bytes(seen.ljust(7, b"\0"), "big") & mask == bits:
                found.append(((at - first) * 8 + shift, is_end))
            at = data.find(pattern, at + 1)
    return sorted(found)


def _bits(data: bytes, begin: int, count: int) -> int:
    """So many bits of the data as a number; zeros where the data end."""
    touched = data[begin >> 3 : (begin + count + 7) // 8].ljust((begin % 8 + count + 7) // 8, b"\0")
    return int.from_bytes(touched, "big") >> (-(begin + count) % 8) & ((1 << count) - 1)
