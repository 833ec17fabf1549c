"""Compressed files, told by their first bytes and never by their name."""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.bzip2 import MAGIC as BZIP2_MAGIC
from ingest.bzip2 import OTHER, STOPS, Damage, inflate_blocks
from ingest.workers import Workers

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ_BYTES = 1 << 14  # of damaged data, what is inflated together is lost together
_INFLATED_BYTES = 1 << 20
_MAGIC_BYTES = 6
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE_MAGIC = b"\x2a\x4d\x18"  # after a byte 50 to 5f; RFC 8878, 3.1.2
_WINDOW_LOG = 26  # what says that more is needed to inflate it is refused: xz -9 and zstd -19 need less
_Damaged = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)


class _Inflater(Protocol):
    """What is needed of a decompressor; bz2 and lzma offer it as it is."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor for gzip, in the manner of bz2's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        inflated = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(inflated) < max_length
        return inflated


def _inflater(head: bytes) -> _Inflater | None:
    if head.startswith(b"\x1f\x8b"):
        return _Gzip()
    if head.startswith(BZIP2_MAGIC):
        return bz2.BZ2Decompressor()
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=2 << _WINDOW_LOG)
    if head.startswith(_ZSTD_MAGIC) or (
        head[:1] in b"PQRSTUVWXYZ[\\]^_" and head[1:4] == _ZSTD_SKIPPABLE_MAGIC
    ):
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
    return None


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file, inflated if it is gzip, bzip2, xz or zstd (also several streams one after the other).

    Raises:
        NotFoundError: when there is no such file.
        InputError: when it cannot be read.
        TruncatedError: at the end of what could be inflated of a compressed file that is cut or damaged; all that
            came before it has been yielded.
    """
    try:
        with path.open("rb") as stream:
            for chunk in inflate(stream):
                if isinstance(chunk, Damage):
                    raise TruncatedError(
                        "a file that is cut", where=str(path), found=chunk.found, expected="a whole file"
                    )
                yield chunk
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(path)) from error
    except OSError as error:
        raise InputError("a file that cannot be read", where=str(path), found=error.strerror) from error


def inflate(stream: BinaryIO, workers: Workers | None = None) -> Iterator[bytes | Damage]:
    """The content of a stream that need not seek, inflated if it is compressed, one layer of it.

    Args:
        stream: at its beginning.
        workers: inflate the blocks of bzip2 side by side; None: one after the other.

    Yields:
        Its bytes, a few MB at a time at most, and where something is missing of them; mostly that is the end.

    Raises:
        OSError: when the stream cannot be read.
    """
    head = stream.read(_MAGIC_BYTES)
    if head.startswith(BZIP2_MAGIC) and workers is not None:
        yield from inflate_blocks(head, stream.read, workers)
    elif _inflater(head) is not None:
        yield from _inflated(head, stream)
    else:
        while head:
            yield head
            head = stream.read(_INFLATED_BYTES)


def _inflated(head: bytes, stream: BinaryIO) -> Iterator[bytes | Damage]:
    data = head + stream.read(_READ_BYTES)
    while data:
        inflater = _inflater(data[:_MAGIC_BYTES])
        if inflater is None:
            yield Damage(found=OTHER)
            return
        while True:
            try:
                chunk = inflater.decompress(data, _INFLATED_BYTES)
            except _Damaged as error:
                yield Damage(found=f"the compressed data are damaged ({error})")
                return
            if chunk:
                yield chunk
            if inflater.eof:
                break
            data = stream.read(_READ_BYTES) if inflater.needs_input else b""
            if inflater.needs_input and not data and not chunk:  # also what waits inside was given
                yield Damage(found=STOPS)
                return
        data = inflater.unused_data
        while len(data) < _MAGIC_BYTES or not data.strip(b"\0"):  # streams may be padded with zeros
            more = stream.read(_READ_BYTES)
            data = data.lstrip(b"\0") + more
            if not more:
                break
        data = data.lstrip(b"\0")
