from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.json_records import RECORD_BYTES, LineSplitter, Records, Splitter, ValueSplitter, splitter_for

_text = st.text(alphabet='"\\[]{},:a \n', max_size=6)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_text, _values, min_size=1, max_size=3)
_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


def listed(records: Records) -> list[bytes]:
    return [records.data[begin:end] for begin, end in zip(records.begin, records.end, strict=True)]


def split(splitter: Splitter, content: bytes, sizes: list[int]) -> tuple[list[bytes], str | None]:
    """The records of a content that comes in pieces of these sizes, and how it ends."""
    found: list[bytes] = []
    at = turn = 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        found += listed(splitter.feed(content[at : at + size]))
        at, turn = at + size, turn + 1
    last, cut = splitter.end()
    return found + listed(last), cut


@given(
    elements=st.lists(_values, max_size=6), indent=st.sampled_from([None, 0, 2]), sizes=_sizes, again=_values
)
def test_the_elements_of_arrays_are_the_records_however_they_are_chopped(
    elements: list[object], indent: int | None, sizes: list[int], again: object
) -> None:
    content = ("\n " + json.dumps(elements, indent=indent) + "\n" + json.dumps([again])).encode()
    found, cut = split(ValueSplitter(), content, sizes)
    assert [json.loads(element) for element in found] == [*elements, again]
    assert cut is None


@given(
    objects=st.lists(_objects, min_size=1, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    between=st.sampled_from(["", "\n", "\r\n\r\n", " ", ",\n", "\n\x1e"]),
    sizes=_sizes,
)
def test_objects_one_after_the_other_are_records_whatever_is_between_and_in_them(
    objects: list[object], indent: int | None, between: str, sizes: list[int]
) -> None:
    content = between.join(json.dumps(one, indent=indent) for one in objects).encode()
    found, cut = split(ValueSplitter(), content, sizes)
    assert [json.loads(one) for one in found] == objects
    assert cut is None


@given(
    objects=st.lists(_objects, min_size=1, max_size=6),
    indent=st.sampled_from([None, 2]),
    between=st.sampled_from(["\n", "\r\n", "\n\n \n", "\n\x1e"]),
    sizes=_sizes,
)
def test_a_file_of_objects_is_split_alike_whichever_way_is_chosen_for_it(
    objects: list[object], indent: int | None, between: str, sizes: list[int]
) -> None:
    content = between.join(json.dumps(one, indent=indent) for one in objects).encode() + b"\n"
    splitter = splitter_for(content)
    assert splitter is not None
    found, cut = split(splitter, content, sizes)
    assert [json.loads(one) for one in found] == objects
    assert cut is None


@given(
    elements=st.lists(_objects, min_size=1, max_size=4),
    share=st.floats(0, 1, exclude_max=True),
    sizes=_sizes,
    array=st.booleans(),
)
def test_wherever_values_are_cut_the_whole_ones_before_are_records_and_the_cut_is_said(
    elements: list[object], share: float, sizes: list[int], array: bool
) -> None:
    parts = [json.dumps(one).encode() for one in elements]
    content = (b"[" + b",".join(parts) + b"]") if array else b"".join(parts)
    kept = content[: int(len(content) * share)]
    whole, at = 0, int(array)
    for part in parts:
        at += len(part)
        if at > len(kept):
            break
        whole, at = whole + 1, at + int(array)
    splitter = ValueSplitter()
    found, cut = split(splitter, kept, sizes)
    assert found == parts[:whole]
    between = kept == b"" or (not array and kept == b"".join(parts[:whole]))
    assert (cut is None) == between
    assert content.endswith(splitter.rest + content[len(kept) :])


@pytest.mark.parametrize(
    ("head", "way"),
    [
        (b'{"a": 1}\n{"a": 2}\n', LineSplitter),
        (b'{"a": 1}', LineSplitter),
        (b'{"a": 1, "b\n{"a": 2}\n{"a": 3}\n', LineSplitter),
        (b'started at noon\n{"a": 2}\n', LineSplitter),
        (b'[INFO] started\n{"a": 2}\n{"a": 3}\n', LineSplitter),
        (b'{"a": 1}{"a": 2}\n{"a": 3}{"a": 4}\n', ValueSplitter),
        (b'{\n  "a": [\n{"b": 1},\n{"b": 2}\n]\n}\n{\n  "a": 2\n}\n', ValueSplitter),
        (b'[{"a": 1},\n{"a": 2}]', ValueSplitter),
        (b'[\n{"a": 1}\n,\n{"a": 2}\n]\n', ValueSplitter),
        (b"[]", ValueSplitter),
        (b'{"a', ValueSplitter),
    ],
)
def test_how_records_are_held_is_told_by_the_content(head: bytes, way: type) -> None:
    assert type(splitter_for(head)) is way


@pytest.mark.parametrize(
    "head", [b"a,b\n1,2\n", b"\x89PNG\r\n\x1a\n", b'"text"', b"null\n", b"<html>\n{}x\n"]
)
def test_what_holds_no_json_objects_has_no_way(head: bytes) -> None:
    assert splitter_for(head) is None


def test_a_broken_line_costs_itself_alone() -> None:
    found, cut = split(LineSplitter(), b'{"a": 1\n{"a": 2}\r\n\n"]}\n{"a": 3}', [1000])
    assert found == [b'{"a": 1', b'{"a": 2}', b'"]}', b'{"a": 3}']
    assert cut is None


@pytest.mark.parametrize(
    "broken", [b'{"fw": [1, ', b'{"fw": "a, ', b'{"fw": {"a": ', b'{"fw": 1]]]]', b'oh "no ']
)
@pytest.mark.parametrize("array", [True, False])
def test_a_broken_value_costs_itself_alone(broken: bytes, array: bool) -> None:
    good = [b'{"fw": %d, "r": [{"x": "}"}]}' % number for number in range(6)]
    parts = [*good[:3], broken, *good[3:]]
    content = b"[" + b", ".join(parts) + b"]" if array else b"\n".join(parts)
    splitter = ValueSplitter()
    found = listed(splitter.feed(content))
    found += listed(splitter.end()[0])
    for more in splitter.again():
        found += listed(more)
    found += listed(splitter.end()[0])
    assert [one for one in found if one in good] == good
    assert b"".join(content.split()).startswith(b"[" if array else b"{")


def test_brackets_that_are_never_closed_are_given_up_in_bounded_memory_and_what_follows_is_found() -> None:
    splitter = ValueSplitter()
    assert listed(splitter.feed(b'[{"fw": 1}, {"fw": ')) == [b'{"fw": 1}']
    deep = b"[" * (1 << 20)
    tracemalloc.start()
    while len(splitter.rest) <= RECORD_BYTES:
        assert not len(splitter.feed(deep))
    assert list(splitter.again()) == []
    assert len(splitter.skip()) > RECORD_BYTES
    for _ in range(20):
        assert not len(splitter.feed(deep))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * RECORD_BYTES
    assert splitter.skipped is not None
    assert splitter.skipped > 19 << 20
    assert listed(splitter.feed(b', {"fw": 2}, {"fw": 3}]')) == [b'{"fw": 2}', b'{"fw": 3}']
    assert splitter.end()[1] is None


def test_a_line_that_is_given_up_ends_at_the_next_line() -> None:
    splitter = LineSplitter()
    assert listed(splitter.feed(b'{"a": 1}\n{"b')) == [b'{"a": 1}']
    assert splitter.skip() == b'{"b'
    assert not len(splitter.feed(b'{"c": 1}'))
    assert listed(splitter.feed(b'{"d": 1}\n{"e": 1}\n')) == [b'{"e": 1}']


@settings(max_examples=50)
@given(st.binary(max_size=60), _sizes)
def test_whatever_the_bytes_are_nothing_but_separators_is_passed_over(
    content: bytes, sizes: list[int]
) -> None:
    splitter = ValueSplitter()
    found, _ = split(splitter, content, sizes)
    seen = b"".join(found) + splitter.rest
    separators = b" \t\r\n\x1e,[]"
    assert seen.translate(None, separators) == content.translate(None, separators)
    assert all(len(one) for one in found)


def test_many_blank_lines_and_blanks_are_no_work() -> None:
    splitter = LineSplitter()
    content = np.full(1 << 21, ord("\n"), dtype=np.uint8).tobytes() + b" " * (1 << 21) + b'{"a": 1}  \n'
    assert listed(splitter.feed(content)) == [b'{"a": 1}']
