"""Where the elements of a JSON array begin and end, without reading it as a whole.

The API answers arrays that may be larger than memory allows once they are Python objects. The bytes are split into
elements here, vectorised over a chunk, and each element is read by itself later, so that one bad element spoils
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_STRUCTURE = np.zeros(256, dtype=np.bool_)
_STRUCTURE[list(b'"[]{},')] = True

_NESTING = np.zeros(256, dtype=np.int32)
_NESTING[list(b"[{")] = 1
_NESTING[list(b"]}")] = -1

_BLANK = b" \t\r\n"


class ArraySplitter:
    """Splits the bytes of one JSON array into its elements.

    Attributes:
        closed: True once the array's closing bracket was seen.
        rest: what was not given out: before the end, the beginning of the next element; after it, whatever
            follows the array.

    >>> splitter = ArraySplitter()
    >>> list(splitter.feed(b' [{"a": "]}"}, {"b"')), splitter.closed, splitter.rest
    ([b'{"a": "]}"}'], False, b' {"b"')
    >>> list(splitter.feed(b': [1, 2]}] ')), splitter.closed, splitter.rest
    ([b'{"b": [1, 2]}'], True, b'')
    """

    def __init__(self) -> None:
        self.closed = False
        self.rest = b""
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take more bytes; yield the elements that are complete with them."""
        data = self.rest + chunk
        if not self._begun:
            data = data.lstrip(_BLANK)
            if not data:
                self.rest = b""
                return
            data = data[1:]  # the opening bracket
            self._begun = True
        if self.closed:
            self.rest = data.lstrip(_BLANK)
            return
        begin = 0
        for end in self._ends(data):
            element = data[begin:end].strip(_BLANK)
            begin = end + 1
            if element or not self.closed:  # `[]` and a comma before the closing bracket hold no element
                yield element
        self.rest = data[begin:].lstrip(_BLANK) if self.closed else data[begin:]

    def _ends(self, data: bytes) -> list[int]:
        """Where elements end: commas of the array itself, and its closing bracket, which is noted."""
        codes = np.frombuffer(data, dtype=np.uint8)
        at = np.flatnonzero(_STRUCTURE[codes])
        marks = codes[at]
        quotes = marks == ord('"')
        if b"\\" in data:
            quotes[quotes], _ = escaped_quotes(codes, at[quotes])
        outside = np.cumsum(quotes, dtype=np.int32) & 1 == 0  # of strings
        at, marks = at[outside], marks[outside]
        depth = np.cumsum(_NESTING[marks], dtype=np.int32)  # 0 in the array itself
        ends = at[(marks == ord(",")) & (depth == 0)]
        closing = np.flatnonzero(depth < 0)
        if closing.size:
            self.closed = True
            end = at[closing[0]]
            ends = np.append(ends[ends < end], end)
        return [int(end) for end in ends]


def escaped_quotes(
    codes: NDArray[np.uint8], quotes: NDArray[np.intp], escaped: bool = False
) -> tuple[NDArray[np.bool_], bool]:
    """Which quotes begin or end a string.

    Args:
        codes: (N,) bytes.
        quotes: (Q,) where in them quotes are.
        escaped: whether the first byte follows an odd run of backslashes.

    Returns:
        (Q,) whether the quote follows an even run of backslashes, for after an odd one it belongs to its string, and whether the
        byte after the last one follows an odd one.
    """
    others = np.flatnonzero(codes != ord("\\"))
    places = np.append(quotes, len(codes))
    before = np.searchsorted(others, places) - 1  # the last byte before the quote that is no backslash
    last = np.where(before >= 0, others[before] if len(others) else -1, -1 - int(escaped))
    odd = (places - 1 - last) % 2 == 1
    return ~odd[:-1], bool(odd[-1])
