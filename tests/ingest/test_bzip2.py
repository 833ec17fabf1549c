from __future__ import annotations

import bz2
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import bzip2, ordinary
from ingest.bzip2 import Damage, inflate_blocks
from ingest.compression import inflate
from ingest.workers import Workers

needs_library = pytest.mark.skipif(
    ordinary.library() is None, reason="the parser's library is not built here: libbz2 inflates all blocks"
)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with ThreadPoolExecutor(2) as pool:
        yield Workers(pool=pool, threads=2)


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that hardly compress, so that blocks are many and end anywhere in a byte."""
    return np.random.default_rng(seed).integers(0, 64, size, dtype=np.uint8).tobytes()


def inflated(packed: bytes, workers: Workers) -> tuple[bytes, list[tuple[int, str]]]:
    """What is in it, and where something is missing."""
    content, missing = b"", []
    for event in inflate(io.BytesIO(packed), workers):
        if isinstance(event, Damage):
            missing.append((len(content), event.found))
        else:
            content += event
    return content, missing


@settings(max_examples=30)
@given(
    streams=st.lists(
        st.tuples(st.integers(0, 400_000), st.integers(1, 2), st.integers(0, 700)), min_size=1, max_size=4
    ),
    read=st.integers(50, 5000),
)
def test_what_was_packed_comes_out_whatever_the_streams_and_the_padding_between_them(
    streams: list[tuple[int, int, int]], read: int
) -> None:
    contents = [noise(size, seed) for seed, (size, _, _) in enumerate(streams)]
    packed = b"".join(
        bz2.compress(content, level) + b"\0" * padding
        for content, (_, level, padding) in zip(contents, streams, strict=True)
    )
    stream = io.BytesIO(packed)
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bzip2, "_READ_BYTES", read * 10)
        found = list(inflate_blocks(stream.read(6), stream.read, Workers(pool=pool, threads=2)))
    assert b"".join(one for one in found if isinstance(one, bytes)) == b"".join(contents)
    assert not [one for one in found if isinstance(one, Damage)]


@settings(max_examples=15)
@given(share=st.floats(0.0001, 1, exclude_max=True))
def test_a_cut_stream_gives_all_blocks_before_the_cut_and_says_so(share: float) -> None:
    content = noise(250_000)
    packed = bz2.compress(content, 1)
    cut = packed[: max(4, int(len(packed) * share))]
    expected = bz2.BZ2Decompressor().decompress(cut)
    with ThreadPoolExecutor(2) as pool:
        found, missing = inflated(cut, Workers(pool=pool, threads=2))
    assert found.startswith(expected)
    assert content.startswith(found)
    assert missing == [(len(found), bzip2.STOPS)]


@settings(max_examples=15)
@given(place=st.integers(20, 60_000), bit=st.integers(0, 7))
def test_a_damaged_block_costs_no_more_than_itself_and_the_one_before(place: int, bit: int) -> None:
    content = noise(250_000)
    packed = bytearray(bz2.compress(content, 1))
    packed[place] ^= 1 << bit
    with ThreadPoolExecutor(2) as pool:
        found, missing = inflated(bytes(packed), Workers(pool=pool, threads=2))
    assert missing
    lost = len(content) - len(found)
    assert lost <= 200_000
    at = missing[0][0]
    assert found == content[:at] + content[at + lost :]


def test_the_mark_of_a_block_inside_a_block_costs_nothing(workers: Workers) -> None:
    content = noise(250_000)
    packed = bz2.compress(content, 1)
    marks = bzip2._marks

    def one_too_many(data: bytes, begin: int, end: int) -> list[tuple[int, bool]]:
        found = marks(data, begin, end)
        return [*found[:2], (found[1][0] + 4001, False), *found[2:]] if len(found) > 2 else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bzip2, "_marks", one_too_many)
        assert inflated(packed, workers) == (content, [])


@pytest.mark.parametrize("after", [b"garbage", b"garbage" * 500_000, b"\0\0BZx", b"BZh0"])
def test_what_follows_and_is_no_bzip2_is_said_and_costs_nothing_before_it(
    after: bytes, workers: Workers
) -> None:
    content = noise(200_000)
    found, missing = inflated(bz2.compress(content) + after, workers)
    assert found == content
    assert len(missing) == 1
    assert missing[0][0] == len(content)


def test_a_wrong_checksum_of_a_stream_is_said(workers: Workers) -> None:
    content = b"a" * 1000
    packed = bytearray(bz2.compress(content))
    packed[-2] ^= 0xFF
    found, missing = inflated(bytes(packed), workers)
    assert found == content
    assert len(missing) == 1


def test_a_bomb_comes_out_a_few_mb_at_a_time(workers: Workers) -> None:
    packed = bz2.compress(bytes(1 << 27))
    sizes = [len(event) for event in inflate(io.BytesIO(packed), workers) if isinstance(event, bytes)]
    assert len(packed) < 200
    assert (sum(sizes), max(sizes)) == (1 << 27, bzip2._INFLATED_BYTES)


def of_runs(*runs: tuple[bytes, int]) -> bytes:
    return b"".join(part * times for part, times in runs)


# How each is made, for what fails is shown.
texts = st.one_of(
    st.builds(partial, st.just(of_runs), st.tuples(st.binary(min_size=1, max_size=3000), st.just(1))),
    st.builds(partial, st.just(of_runs), st.tuples(st.binary(min_size=1, max_size=30), st.integers(1, 3000))),
    st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.integers(1, 1500)), min_size=1, max_size=50).map(
        lambda runs: partial(of_runs, *runs)
    ),
    st.builds(partial, st.just(noise), st.integers(1, 200_000), st.integers(0, 9)),
)


def only_block(packed: bytes) -> tuple[int, int]:
    """Where the first block begins and ends, in bits."""
    (begin, _), (end, _) = bzip2._marks(packed, 0, len(packed))[:2]
    return begin, end


@needs_library
@settings(max_examples=100)
@given(text=texts, level=st.integers(3, 9))
def test_the_library_gives_of_every_block_what_was_packed(text: Callable[[], bytes], level: int) -> None:
    packed = bz2.compress(text(), level)
    assert ordinary.inflate(packed, *only_block(packed)) == text()


@needs_library
@settings(max_examples=300)
@given(text=texts, data=st.data())
def test_of_a_damaged_block_the_library_gives_what_libbz2_does_or_leaves_it(
    text: Callable[[], bytes], data: st.DataObject
) -> None:
    packed = bytearray(bz2.compress(text()))
    begin, end = only_block(bytes(packed))
    for at in data.draw(st.lists(st.integers(begin + 48, end - 1), min_size=1, max_size=3, unique=True)):
        packed[at // 8] ^= 0x80 >> at % 8
    taken = ordinary.inflate(bytes(packed), begin, end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordinary, "inflate", lambda data, begin, end: None)
        try:
            judged, rest = bzip2._inflate(
                bzip2._Block(data=bytes(packed[begin // 8 :]), begin=begin, end=end)
            )
        except (OSError, EOFError):
            judged, rest = None, None
    assert taken is None or (taken, None) == (judged, rest)


@needs_library
@given(data=st.binary(max_size=300), begin=st.integers(0, 3000), end=st.integers(0, 3000))
def test_the_library_survives_whatever_it_is_given(data: bytes, begin: int, end: int) -> None:
    assert ordinary.inflate(data, begin, end) is None


@needs_library
def test_the_library_leaves_to_libbz2_what_becomes_larger_than_a_few_mb() -> None:
    packed = bz2.compress(bytes((1 << 22) + 1))
    assert ordinary.inflate(packed, *only_block(packed)) is None


def test_without_the_library_libbz2_gives_the_same(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordinary, "inflate", lambda data, begin, end: None)
    content = noise(250_000)
    assert inflated(bz2.compress(content, 1), workers) == (content, [])


@pytest.mark.recorded
def test_a_recorded_archive_comes_out_as_from_libbz2(recorded: Path, workers: Workers) -> None:
    packed = (recorded / "atlas" / "regional-2019" / "ping-2019-05-12.ndjson.bz2").read_bytes()
    assert inflated(packed, workers) == (bz2.decompress(packed), [])
