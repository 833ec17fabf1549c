from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.files import find_files, parse_file, read_file

Make = Callable[..., dict[str, Any]]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def records(ping: Make, count: int) -> list[bytes]:
    return [orjson.dumps(ping(prb_id=number + 1)) for number in range(count)]


def ndjson(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


def array(lines: list[bytes]) -> bytes:
    return b"[" + b",".join(lines) + b"]"


def read(path: Path) -> tuple[list[Any], str | None, bytes]:
    batches = list(read_file(path))
    for before, after in pairwise(batches):
        assert after.first_position == before.first_position + len(before.records)
        assert before.cut is None
    return [one for batch in batches for one in batch.records], batches[-1].cut, batches[-1].tail


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("write", [ndjson, array])
def test_the_form_is_told_by_the_content_and_never_by_the_name(
    ping: Make, tmp_path: Path, pack: str, write: Callable[[list[bytes]], bytes]
) -> None:
    path = tmp_path / "results.txt"
    lines = records(ping, 7)
    path.write_bytes(PACKERS[pack](b"\xef\xbb\xbf \n" + write(lines)))
    assert read(path) == (lines, None, b"")


def test_compressed_streams_one_after_the_other_are_one_file(ping: Make, tmp_path: Path) -> None:
    path = tmp_path / "two.gz"
    lines = records(ping, 4)
    path.write_bytes(
        gzip.compress(ndjson(lines[:2])) + b"\0" * 600 + gzip.compress(ndjson(lines[2:])) + b"\0\0"
    )
    assert read(path) == (lines, None, b"")


def test_blank_lines_and_a_missing_last_newline_are_no_records(ping: Make, tmp_path: Path) -> None:
    path = tmp_path / "spaced"
    lines = records(ping, 3)
    path.write_bytes(b"\n" + lines[0] + b"\r\n\n  \n" + lines[1] + b"\n" + lines[2])
    found, cut, _ = read(path)
    assert [line.strip() for line in found] == lines
    assert cut is None


@pytest.mark.parametrize("write", [ndjson, array])
def test_records_come_in_batches_that_know_their_position(
    ping: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[list[bytes]], bytes]
) -> None:
    lines = records(ping, 300)
    monkeypatch.setattr("ingest.files.BATCH_BYTES", 40 * len(lines[0]))
    monkeypatch.setattr("ingest.compression._INFLATED_BYTES", 3 * len(lines[0]))
    monkeypatch.setattr("ingest.files._BATCH_RECORDS", 30)
    path = tmp_path / "many"
    path.write_bytes(write(lines))
    batches = list(read_file(path))
    assert len(batches) > 10
    assert max(len(batch) for batch in batches) <= 30
    position = 0
    for batch in batches:
        assert batch.first_position == position
        position += len(batch)
    assert [one for batch in batches for one in batch.records] == lines


@pytest.mark.parametrize("write", [ndjson, array])
@settings(max_examples=40)
@given(share=st.floats(0.0, 1.0, exclude_max=True), pack=st.sampled_from(sorted(PACKERS)))
def test_of_a_cut_file_the_whole_records_are_read_and_the_cut_is_named(
    ping: Make,
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[[list[bytes]], bytes],
    share: float,
    pack: str,
) -> None:
    lines = records(ping, 60)
    packed = PACKERS[pack](write(lines))
    path = tmp_path_factory.mktemp("cut") / "file"
    path.write_bytes(packed[: int(len(packed) * share)])
    kept = inflatable(path.read_bytes(), pack)
    complete = whole_records(kept, lines)
    if not kept.strip() and pack == "plain":
        with pytest.raises(InputError, match="empty"):
            read(path)
    elif complete == 0 and kept == b"" and path.stat().st_size < 6:
        with pytest.raises(InputError):  # too short to tell what it was
            read(path)
    elif complete == 0:
        with pytest.raises(TruncatedError, match="cut"):
            read(path)
    else:
        found, cut, tail = read(path)
        assert found == lines[:complete]
        if (
            write is ndjson
            and pack == "plain"
            and kept in (ndjson(lines[:complete]), ndjson(lines[:complete])[:-1])
        ):
            assert cut is None  # cut between two lines: nobody can tell
        else:
            assert cut is not None
            assert "cut" in cut
            assert lines[complete].startswith(tail) if complete < len(lines) else tail == b""


def inflatable(packed: bytes, pack: str) -> bytes:
    """What a plain decompressor makes of the beginning of a stream."""
    if pack == "plain":
        return packed
    if pack == "gz":
        return zlib.decompressobj(31).decompress(packed)
    return (bz2.BZ2Decompressor() if pack == "bz2" else lzma.LZMADecompressor()).decompress(packed)


def whole_records(content: bytes, lines: list[bytes]) -> int:
    """How many of the lines are in the content, by their length alone."""
    at, count = (1 if content.startswith(b"[") else 0), 0
    for line in lines:
        at += len(line)
        if at > len(content):
            break
        count, at = count + 1, at + 1
    return count


@pytest.mark.parametrize("pack", ["gz", "bz2", "xz"])
def test_a_damaged_compressed_file_gives_what_comes_long_before_the_damage(
    ping: Make, tmp_path: Path, pack: str
) -> None:
    noise = np.random.default_rng(1)
    lines = [orjson.dumps(ping(dst_name=noise.bytes(3000).hex())) for _ in range(200)]
    packed = bytearray(PACKERS[pack](ndjson(lines)))
    packed[-len(packed) // 20] ^= 0xFF
    path = tmp_path / "damaged"
    path.write_bytes(packed)
    found, cut, _ = read(path)
    assert cut is not None
    assert "damaged" in cut
    assert found[:100] == lines[:100]
    if pack != "gz":  # gzip has its one checksum at the end: until there, damage may look like data
        assert found == lines[: len(found)]


def test_the_cut_is_one_quarantined_record(ping: Make, tmp_path: Path) -> None:
    path = tmp_path / "cut.ndjson"
    path.write_bytes(ndjson(records(ping, 3))[:-20])
    (parsed,) = parse_file(path)
    assert (parsed.pings.num_rows, parsed.quarantined.num_rows) == (2, 1)
    assert parsed.cut == parsed.quarantined.column("reason")[0].as_py()
    assert parsed.quarantined.column("source")[0].as_py() == "cut.ndjson"
    assert parsed.quarantined.column("position")[0].as_py() == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (gzip.compress(b"", mtime=0), "empty"),
        (b"[]", "without records"),
        (b"\x89PNG\r\n\x1a\n", "not JSON"),
        (b"prb_id,lat,lon\n1,2,3\n", "not JSON"),
        (gzip.compress(b"\x00\x01\x02", mtime=0), "not JSON"),
        (b'{"a": 1}\n{"b": 2}\n', "not Atlas results"),
        (b'[{"id": 3, "type": "Probe"}]', "not Atlas results"),
    ],
)
def test_what_is_not_atlas_results_is_one_error_and_yields_nothing(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        next(parse_file(path))
    assert str(path) in str(error.value)


def test_results_of_other_types_are_atlas_results(tmp_path: Path) -> None:
    path = tmp_path / "dns"
    path.write_bytes(b'{"type": "dns", "msm_id": 1, "prb_id": 2, "timestamp": 1557705600}')
    (parsed,) = parse_file(path)
    assert (parsed.other_types, parsed.quarantined.num_rows) == (1, 1)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        next(parse_file(tmp_path / "none"))
    with pytest.raises(NotFoundError, match="no such file"):
        find_files(tmp_path / "none")


def test_a_directory_is_its_files_sorted_and_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/two", "a", "b/.hidden", ".git/config", "b/one"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in find_files(tmp_path)] == ["a", "b/one", "b/two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no files"):
        find_files(tmp_path / "empty")
