from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ingest.json_array import ArraySplitter

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='"\\[]{},:a \n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    elements=st.lists(_values, max_size=6),
    indent=st.sampled_from([None, 2]),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
def test_the_elements_are_those_of_the_array_however_it_is_chopped(
    elements: list[object], indent: int | None, sizes: list[int]
) -> None:
    content = ("\n " + json.dumps(elements, indent=indent) + " \n").encode()
    splitter = ArraySplitter()
    found: list[bytes] = []
    at = turn = 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        found += splitter.feed(content[at : at + size])
        at, turn = at + size, turn + 1
    assert [json.loads(element) for element in found] == elements
    assert splitter.closed
    assert splitter.rest == b""


def test_what_follows_the_array_is_left() -> None:
    splitter = ArraySplitter()
    assert list(splitter.feed(b'[{"a": 1}] {"b"')) == [b'{"a": 1}']
    assert list(splitter.feed(b": 2}")) == []
    assert (splitter.closed, splitter.rest) == (True, b'{"b": 2}')
