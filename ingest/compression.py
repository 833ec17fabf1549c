"""Compressed files, told by their first bytes and never by their name."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from domain.errors import InputError, NotFoundError, TruncatedError

_READ_BYTES = 1 << 14  # of damaged data, what is inflated together is lost together
_INFLATED_BYTES = 1 << 22
_MAGIC_BYTES = 6


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
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
    return None


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file, inflated if it is gzip, bzip2 or xz (also several streams one after the other).

    Raises:
        NotFoundError: when there is no such file.
        InputError: when it cannot be read.
        TruncatedError: at the end of what could be inflated of a compressed file that is cut or damaged; all that
            came before it has been yielded.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_MAGIC_BYTES)
            stream.seek(0)
            if _inflater(head) is None:
                while chunk := stream.read(_INFLATED_BYTES):
                    yield chunk
            else:
                yield from _inflated(stream, path)
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(path)) from error
    except OSError as error:
        raise InputError("a file that cannot be read", where=str(path), found=error.strerror) from error


def _inflated(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    data = stream.read(_READ_BYTES)
    while data:
        inflater = _inflater(data[:_MAGIC_BYTES])
        if inflater is None:
            raise _cut(path, "something else follows the compressed data")
        while True:
            try:
                chunk = inflater.decompress(data, _INFLATED_BYTES)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise _cut(path, f"the compressed data are damaged ({error})") from error
            if chunk:
                yield chunk
            if inflater.eof:
                break
            data = stream.read(_READ_BYTES) if inflater.needs_input else b""
            if inflater.needs_input and not data:
                raise _cut(path, "the compressed data stop before their end mark")
        data = inflater.unused_data
        while len(data) < _MAGIC_BYTES or not data.strip(b"\0"):  # streams may be padded with zeros
            more = stream.read(_READ_BYTES)
            data = data.lstrip(b"\0") + more
            if not more:
                break
        data = data.lstrip(b"\0")


def _cut(path: Path, found: str) -> TruncatedError:
    return TruncatedError("a file that is cut", where=str(path), found=found, expected="a whole file")
