"""Archives of many files: what is in a tar or a zip, told by content. Nothing is unpacked, and a member's name is only a name."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from domain.errors import InputError, TruncatedError

TAR_BLOCK_BYTES = 512
"""A tar is told by its first block, and a zip by less."""

_SKIP_BYTES = 1 << 20
_LONGEST_HEADER_BYTES = 1 << 20  # of the headers that hold long names; what says to be longer is passed over
_LARGEST_MEMBER_BYTES = 1 << 60  # nothing is larger, and places in a file are still numbers of 64 bits
_LARGEST_DIGITS = 19


def is_tar(head: bytes) -> bool:
    """Whether a file that begins so is a tar."""
    return head[257:262] == b"ustar"


def is_zip(head: bytes) -> bool:
    """Whether a file that begins so is a zip."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in a tar.

    Attributes:
        name: as the archive says.
        at: where in the tar its content begins.
        size: of its content, in bytes.
    """

    name: str
    at: int
    size: int


class Section(io.RawIOBase):
    """Some of the next bytes of a stream, as a stream.

    Attributes:
        left: how many of them are yet to be read.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.left = size

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most so many of the bytes that are left."""
        data = self._stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data


@dataclass(slots=True)
class Tar:
    """The members of a tar, one after the other, from a stream that need not seek.

    Attributes:
        stream: at the beginning of the tar.
        where: the archive, as it is shown in errors.
    """

    stream: BinaryIO
    where: str
    _at: int = field(default=0, init=False)

    def members(self) -> Iterator[tuple[Member, Section]]:
        """Each regular file, and its content, which is to be read before the next is asked for, or not at all.

        Raises:
            TruncatedError: at the end of a tar that is cut or damaged.
        """
        name: str | None = None
        size: int | None = None
        while header := self._read(TAR_BLOCK_BYTES):
            if not header.strip(b"\0"):
                return  # its end mark
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise self._cut(str(error)) from error
            self._check(info.size)
            begin = self._at
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                if info.size <= _LONGEST_HEADER_BYTES:
                    extended = self._read(info.size)
                    if info.type == tarfile.GNUTYPE_LONGNAME:
                        name = extended.rstrip(b"\0").decode("utf-8", "surrogateescape")
                    else:
                        stated = _pax(extended)
                        name = stated.get("path", name)
                        if (digits := stated.get("size", "")).isdecimal():
                            if len(digits) > _LARGEST_DIGITS:
                                raise self._cut(f"a member whose size has {len(digits)} digits")
                            size = int(digits)
                            self._check(size)
                content = info.size
            elif info.type in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
                content = info.size
            else:
                content = info.size if size is None else size
                if info.type in tarfile.REGULAR_TYPES and not info.name.endswith("/"):
                    member = Member(name=info.name if name is None else name, at=begin, size=content)
                    section = Section(self.stream, content)
                    yield member, section
                    self._at += content - section.left
                name = size = None
            self._pass(begin + -(-content // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES - self._at)

    def _check(self, size: int) -> None:
        """A size is a number of 96 bits, with a sign, where a tar says it in binary: a negative one would read everything."""
        if not 0 <= size <= _LARGEST_MEMBER_BYTES:
            raise self._cut(f"a member of {size} bytes")

    def _read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self._at += len(data)
        if data and len(data) < size:
            raise self._cut("it stops in the middle of a member")
        return data

    def _pass(self, count: int) -> None:
        if count > _SKIP_BYTES and self.stream.seekable():
            self._at = self.stream.seek(count - 1, io.SEEK_CUR)
            count = 1
        while count > 0:
            data = self.stream.read(min(count, _SKIP_BYTES))
            if not data:
                raise self._cut("it stops in the middle of a member")
            self._at += len(data)
            count -= len(data)

    def _cut(self, found: str) -> TruncatedError:
        return TruncatedError("an archive that is cut", where=self.where, found=found, expected="a whole tar")


def _pax(extended: bytes) -> dict[str, str]:
    """The words of a pax header: lines of a length, a blank, a key, `=` and a value (POSIX 1003.1, pax)."""
    stated: dict[str, str] = {}
    at = 0
    while at < len(extended):
        length, blank, _ = extended[at : at + 20].partition(b" ")
        if not blank or not length.isdigit() or int(length) <= len(length) + 1:
            break
        key, _, value = extended[at + len(length) + 1 : at + int(length)].rstrip(b"\n").partition(b"=")
        stated[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at += int(length)
    return stated


class DamagedZipError(Exception):
    """What is in a zip is not what it should be; reading on gives nothing."""


_DAMAGED = (
    zipfile.BadZipFile,
    RuntimeError,  # NotImplementedError among them: ways to compress and to encrypt that zipfile does not know
    ValueError,  # a name that is not the UTF-8 that it says to be; a place before the beginning
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    EOFError,
)
"""What zipfile raises of bytes that are no zip, beside OSError."""


def open_zip(path: Path) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
    """A zip, to be closed, and the files in it, in its order. Several threads may read it.

    Raises:
        InputError: when its list of files is damaged.
        OSError: when it cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise InputError(
            "a zip that is cut or damaged", where=str(path), found=str(error), expected="a whole zip"
        ) from error
    # Not `is_dir`, which wants a name of at least a letter.
    return archive, [info for info in archive.infolist() if not info.filename.endswith("/")]


class ZipMember(io.RawIOBase):
    """The content of a file in a zip.

    Raises:
        InputError: when it is encrypted, or compressed in a way that cannot be read in bounded memory.
        DamagedZipError: when it is damaged; also while it is read.
    """

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> None:
        if info.flag_bits & 1:
            raise InputError("a file in a zip that is encrypted", where=where, expected="one that is not")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                "a file in a zip that is compressed in an unusual way",
                where=where,
                found=f"method {info.compress_type}",
                expected="stored or deflated",
                next_step="unpack it and ingest the file itself",
            )
        try:
            self._stream = archive.open(info)
        except _DAMAGED as error:
            raise DamagedZipError(str(error)) from error

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most so many of its next bytes."""
        try:
            return self._stream.read(size)
        except _DAMAGED as error:
            raise DamagedZipError(str(error) or "it stops in the middle") from error

    def close(self) -> None:
        """Close it; the zip stays open."""
        self._stream.close()
        super().close()
