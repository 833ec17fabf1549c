"""Where the elements of a JSON array begin and end, without reading it as a whole.

The API answers arrays that may be larger than memory allows once they are Python objects. The bytes are split into
elements here, vectorised over a chunk, and each element is read by itself later, so that one bad element spoils
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_OPENING = np.zeros(256, dtype=np.int8)
_OPENING[[ord("["), ord("{")]] = 1
_OPENING[[ord("]"), ord("}")]] = -1

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
        outside = ~_inside_strings(codes)
        depth = np.cumsum(np.where(outside, _OPENING[codes], 0), dtype=np.int64)  # 0 in the array itself
        closing = np.flatnonzero(depth < 0)
        length = int(closing[0]) if closing.size else len(data)
        commas = np.flatnonzero((codes[:length] == ord(",")) & outside[:length] & (depth[:length] == 0))
        ends: list[int] = commas.tolist()
        if closing.size:
            self.closed = True
            ends.append(length)
        return ends


def _inside_strings(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N,) True from a string's opening quote up to, not including, its closing quote."""
    quotes = codes == ord('"')
    backslashes = codes == ord("\\")
    if backslashes.any():
        # A quote after an odd run of backslashes belongs to the string.
        index = np.arange(codes.size)
        last_other = np.maximum.accumulate(np.where(backslashes, -1, index))
        run = index - last_other  # length of the run of backslashes that ends here
        escaped = np.zeros(codes.size, dtype=np.bool_)
        escaped[1:] = run[:-1] % 2 == 1
        quotes &= ~escaped
    inside: NDArray[np.bool_] = (np.cumsum(quotes) & 1).astype(np.bool_)
    return inside
