"""What is ordinary, done by a small Rust library: most pings and traceroutes straight into columns, most blocks of bzip2.

What a record means is said in `ingest.parse`, and what a block holds by libbz2; both do all of it where this library is not
installed. The library takes only what has an ordinary form and gives all else back, so results are the same with it and without.
It is called through ctypes: one wheel a platform serves every Python, and the interpreter's lock is open while it works.
"""

from __future__ import annotations

import ctypes
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ingest.batch import PING_SCHEMA, TRACEROUTE_SCHEMA, Batch

_FOLDER = Path(__file__).parent
_LIBRARIES = ("libordinary.so", "libordinary.dylib", "ordinary.dll")
_SOURCES = (
    "Cargo.toml",
    *(f"src/{name}.rs" for name in ("address", "bzip2", "columns", "json", "lib", "record")),
)

_PING, _TRACEROUTE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Records of one kind, parsed.

    Attributes:
        numbers: (N,) which of the batch they are, in its order.
        columns: N values each, by name, all of the kind's schema but `doubts`; a `clock_age_s` less than 0 is as it was stated.
    """

    numbers: NDArray[np.int64]
    columns: dict[str, pa.Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """What became of a batch.

    Attributes:
        odd: (N,) numbers of the records that are left to the careful parser.
        pings, traceroutes: all others.
    """

    odd: NDArray[np.int64]
    pings: Rows
    traceroutes: Rows


def library() -> Path | None:
    """Where the library lies that is in use; None when there is none, and every record is left to the careful parser."""
    return None if _loaded() is None else _file()


def recognise(batch: Batch) -> Recognised | None:
    """Parse the ordinary records of a batch; None when the library is not there."""
    functions = _loaded()
    if functions is None or len(batch) == 0:
        return None
    begin, end = (np.ascontiguousarray(bounds, dtype=np.int64) for bounds in (batch.begin, batch.end))
    handle = functions.ordinary_recognise(
        batch.data, len(batch.data), begin.ctypes.data, end.ctypes.data, len(batch)
    )
    if not handle:
        raise RuntimeError("the recogniser of ordinary records has a bug; what it was is on stderr")
    memory = _Memory(functions, handle)
    length = ctypes.c_size_t()
    description = functions.ordinary_description(handle, ctypes.byref(length))
    numbers = iter(description[: length.value])
    kinds = np.frombuffer(_array(pa.uint8(), numbers, memory).buffers()[1], dtype=np.uint8)
    tables = [
        {
            field.name: _array(field.type, numbers, memory, nullable=field.nullable)
            for field in schema
            if field.name != "doubts"
        }
        for schema in (PING_SCHEMA, TRACEROUTE_SCHEMA)
    ]
    return Recognised(
        odd=np.flatnonzero(kinds == 0),
        pings=Rows(numbers=np.flatnonzero(kinds == _PING), columns=tables[0]),
        traceroutes=Rows(numbers=np.flatnonzero(kinds == _TRACEROUTE), columns=tables[1]),
    )


def inflate(data: bytes, begin: int, end: int) -> bytes | None:
    """The content of a block of bzip2.

    Args:
        data: holds the block.
        begin: the bit of the data at which its mark begins.
        end: the bit after its last one.

    Returns:
        None when it is left to libbz2: it inflates to more than 4 MiB, it is damaged, or the library is not there.
    """
    functions = _loaded()
    if functions is None:
        return None
    length = ctypes.c_size_t()
    content = functions.ordinary_inflate(data, len(data), begin, end, ctypes.byref(length))
    return ctypes.string_at(content, length.value) if content else None


class _Memory:
    """Keeps the library's arrays until nobody refers to any of them."""

    def __init__(self, functions: ctypes.CDLL, handle: int) -> None:
        weakref.finalize(self, functions.ordinary_free, handle).atexit = False


def _array(kind: pa.DataType, numbers: Iterator[int], memory: _Memory, *, nullable: bool = True) -> pa.Array:
    """The next array of the description, without a copy: its length, its buffers, then the arrays inside it."""
    length = next(numbers)
    buffers = [
        pa.foreign_buffer(address, size, memory) if address else None
        for address, size in ((next(numbers), next(numbers)) for _ in range(_buffers(kind)))
    ]
    if not nullable:
        buffers[0] = None
    if pa.types.is_list(kind):
        children = [_array(kind.value_type, numbers, memory, nullable=False)]
    elif pa.types.is_struct(kind):
        children = [_array(field.type, numbers, memory, nullable=field.nullable) for field in kind]
    else:
        children = None
    return pa.Array.from_buffers(kind, length, buffers, children=children)


def _buffers(kind: pa.DataType) -> int:
    """How many buffers an array has by itself, the bits of validity among them."""
    if pa.types.is_struct(kind):
        return 1
    return 3 if pa.types.is_string(kind) else 2


def _file() -> Path | None:
    return next((_FOLDER / name for name in _LIBRARIES if (_FOLDER / name).is_file()), None)


@cache
def _loaded() -> ctypes.CDLL | None:
    """The library, if it was built; in a checkout only if it was built from what lies there."""
    path = _file()
    if path is None:
        return None
    try:
        functions = ctypes.CDLL(str(path))
        _declare(functions)
    except (OSError, AttributeError) as error:
        warnings.warn(
            f"the parser works without its library, and more slowly: {path} cannot be loaded ({error}); install again",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if (_FOLDER / _SOURCES[0]).is_file():
        sources = b"".join((_FOLDER / name).read_bytes() for name in _SOURCES)
        if not functions.ordinary_is_made_of(sources, len(sources)):
            warnings.warn(
                f"the parser works without its library, and more slowly: {path} is older than its sources; run `make install`",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
    return functions


def _declare(functions: ctypes.CDLL) -> None:
    """Say what `src/lib.rs` says: the arguments and results of its functions."""
    address, size = ctypes.c_void_p, ctypes.c_size_t
    functions.ordinary_is_made_of.argtypes = [ctypes.c_char_p, size]
    functions.ordinary_is_made_of.restype = ctypes.c_bool
    functions.ordinary_recognise.argtypes = [ctypes.c_char_p, size, address, address, size]
    functions.ordinary_recognise.restype = address
    functions.ordinary_description.argtypes = [address, ctypes.POINTER(size)]
    functions.ordinary_description.restype = ctypes.POINTER(ctypes.c_uint64)
    functions.ordinary_inflate.argtypes = [ctypes.c_char_p, size, size, size, ctypes.POINTER(size)]
    functions.ordinary_inflate.restype = address
    functions.ordinary_free.argtypes = [address]
    functions.ordinary_free.restype = None
