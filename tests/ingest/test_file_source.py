from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.batch import Parsed, SourceFile
from ingest.files import STDIN, FileSource, find_files
from ingest.json_records import RECORD_BYTES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Make = Callable[..., dict[str, Any]]

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd.compress,
}

CONTAINERS: dict[str, Callable[[list[bytes]], bytes]] = {
    "lines": lambda lines: b"\n".join(lines) + b"\n",
    "lines of Windows": lambda lines: b"\r\n\r\n".join(lines),
    "record separators": lambda lines: b"".join(b"\x1e" + line + b"\n" for line in lines),
    "an array": lambda lines: b"[" + b",".join(lines) + b"]",
    "arrays": lambda lines: b"\n".join(b"[" + line + b"]" for line in lines),
    "an array over lines": lambda lines: b"[\n" + b",\n".join(lines) + b"\n]\n",
    "objects": b"".join,
    "objects over lines": lambda lines: b"\n".join(
        orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2) for line in lines
    ),
}


def lines_of(ping: Make, count: int, first: int = 1) -> list[bytes]:
    return [orjson.dumps(ping(prb_id=first + number)) for number in range(count)]


def read(source: FileSource) -> tuple[list[Parsed], list[int], list[str]]:
    """What it gave, its probes in their order, and the lines of its failures."""
    given_ = list(source.read())
    probes = [probe for parsed in given_ for probe in parsed.pings.column("probe_id").to_pylist()]
    return given_, probes, [failure.line() for failure in source.failures]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_in_every_compression_gives_its_records(
    ping: Make, tmp_path: Path, pack: str, container: str
) -> None:
    path = tmp_path / "no name says it"
    path.write_bytes(PACKERS[pack](b"\xef\xbb\xbf\n" + CONTAINERS[container](lines_of(ping, 9))))
    given_, probes, failures = read(FileSource([path]))
    assert probes == list(range(1, 10))
    assert failures == []
    assert given_[-1].finished is not None
    assert sum(parsed.quarantined.num_rows for parsed in given_) == 0


@settings(max_examples=40)
@given(
    container=st.sampled_from(sorted(CONTAINERS)),
    pack=st.sampled_from(sorted(PACKERS)),
    share=st.floats(0, 1, exclude_max=True),
)
def test_wherever_a_file_is_cut_its_whole_records_are_given(
    ping: Make, tmp_path_factory: pytest.TempPathFactory, container: str, pack: str, share: float
) -> None:
    lines = lines_of(ping, 30)
    packed = PACKERS[pack](CONTAINERS[container](lines))
    path = tmp_path_factory.mktemp("cut") / "file"
    path.write_bytes(packed[: int(len(packed) * share)])
    source = FileSource([path], threads=2)
    given_, probes, failures = read(source)
    assert probes == list(range(1, len(probes) + 1))
    assert len(failures) <= 1
    if failures:
        assert isinstance(source.failures[0], InputError)
        assert str(path) in failures[0]
    elif len(probes) < 30:
        assert pack == "plain"  # cut between two records: nobody can tell
    if probes:
        assert [parsed.finished is not None for parsed in given_] == [False] * (len(given_) - 1) + [True]
    else:
        assert given_ == []
    if pack == "plain" and container != "objects over lines":
        assert len(probes) == sum(line in path.read_bytes() for line in lines)


def test_batches_of_a_file_keep_their_order_whatever_else_is_read(
    ping: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.files._SMALLEST_BATCH_BYTES", 1 << 12)
    monkeypatch.setattr("ingest.files._IN_FLIGHT_BYTES", 1 << 13)
    monkeypatch.setattr("ingest.compression._INFLATED_BYTES", 1 << 12)
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}")
        content = CONTAINERS["lines"](lines_of(ping, 200, first=1000 * number + 1))
        paths[-1].write_bytes(PACKERS[sorted(PACKERS)[number % 5]](content))
    given_, probes, failures = read(FileSource(paths, threads=3))
    assert failures == []
    for number in range(6):
        own = [probe for probe in probes if probe // 1000 == number]
        assert own == list(range(1000 * number + 1, 1000 * number + 201))
    finished = [parsed.finished.name for parsed in given_ if parsed.finished is not None]
    assert sorted(finished) == [path.name for path in paths]
    assert len(given_) > 30
    assert len(list(groupby(probe // 1000 for probe in probes))) >= 6


def test_one_clear_line_for_each_file_that_is_none_in_the_order_of_the_paths(
    ping: Make, tmp_path: Path
) -> None:
    contents = {
        "a picture": b"\x89PNG\r\n\x1a\n",
        "good": CONTAINERS["lines"](lines_of(ping, 3)),
        "empty": b"",
        "cut": CONTAINERS["an array"](lines_of(ping, 3))[:-30],
        "probes": b'[{"id": 3, "type": "Probe"}]',
        "nothing": bz2.compress(b"\n" * 10_000_000),
        "a list": b"[]",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    source = FileSource([*(tmp_path / name for name in contents), tmp_path / "none"], threads=4)
    _, probes, failures = read(source)
    assert sorted(probes) == [1, 1, 2, 2, 3]
    words = [
        "not JSON",
        "an empty file",
        "in the middle",
        "not Atlas results",
        "an empty file",
        "without records",
        "no such file",
    ]
    assert len(failures) == len(words)
    for line, word in zip(failures, words, strict=True):
        assert word in line
        assert "\n" not in line
    assert isinstance(source.failures[2], TruncatedError)
    assert isinstance(source.failures[-1], NotFoundError)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_whose_bytes_were_read_before_is_not_read_again_whatever_its_name(
    ping: Make, tmp_path: Path, threads: int
) -> None:
    content = bz2.compress(CONTAINERS["lines"](lines_of(ping, 5)))
    for name in ("one", "copy", "other"):
        (tmp_path / name).write_bytes(content if name != "other" else content + b"\0")
    paths = [tmp_path / "one", tmp_path / "copy", tmp_path / "other"]
    first = FileSource(paths, threads=threads)
    given_, probes, _ = read(first)
    assert sorted(probes) == sorted([*range(1, 6)] * 2)
    finished = {parsed.finished for parsed in given_ if parsed.finished is not None}
    assert len(finished) == 2
    assert len(first.known) == 1
    assert {file.digest for file in first.known} < {file.digest for file in finished}
    digests = {file.digest for file in finished}
    second = FileSource(paths, is_known=digests.__contains__, threads=threads)
    assert read(second) == ([], [], [])
    assert [file.name for file in second.known] == ["one", "copy", "other"]


def test_a_file_that_is_no_result_fails_as_often_as_it_is_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b'{"a": 1}')
    source = FileSource([tmp_path / "a", tmp_path / "b"])
    given_, _, failures = read(source)
    assert (given_, len(failures), source.known) == ([], 2, [])


def test_a_cut_file_is_finished_for_nothing_more_is_in_it(ping: Make, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(CONTAINERS["lines"](lines_of(ping, 3))[:-20])
    given_, probes, failures = read(FileSource([path]))
    assert probes == [1, 2]
    assert given_[-1].finished is not None
    assert (given_[0].cut is not None, given_[0].quarantined.num_rows) == (True, 1)
    assert len(failures) == 1


def test_lines_that_are_broken_cost_themselves_also_the_first(ping: Make, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    good = lines_of(ping, 3)
    path.write_bytes(
        b"\n".join([good[0][:50], b"at noon", good[0], b"[1", b"\xff", good[1], good[2][:-1], good[2]])
    )
    given_, probes, failures = read(FileSource([path]))
    assert probes == [1, 2, 3]
    assert failures == []
    assert [row for parsed in given_ for row in parsed.quarantined.column("position").to_pylist()] == [
        0,
        1,
        3,
        4,
        6,
    ]


def test_values_that_are_broken_cost_themselves(ping: Make, tmp_path: Path) -> None:
    good = lines_of(ping, 6)
    path = tmp_path / "broken"
    path.write_bytes(
        b"[" + b",".join([*good[:2], good[2][:80], *good[2:4], b"oops", good[4], b'"', good[5]]) + b"]"
    )
    given_, probes, _ = read(FileSource([path]))
    assert probes == [1, 2, 3, 4, 5, 6]
    assert sum(parsed.quarantined.num_rows for parsed in given_) >= 2


def test_a_damaged_block_in_the_middle_costs_itself_and_is_said(ping: Make, tmp_path: Path) -> None:
    lines = [orjson.dumps(ping(prb_id=one + 1, dst_name=os.urandom(400).hex())) for one in range(900)]
    packed = bytearray(bz2.compress(CONTAINERS["lines"](lines), 1))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "damaged"
    path.write_bytes(packed)
    given_, probes, failures = read(FileSource([path]))
    assert len(failures) == 1
    assert "damaged" in failures[0]
    assert probes == sorted(set(probes))
    assert (probes[0], probes[-1]) == (1, 900)
    assert 900 - 400 < len(probes) < 900
    assert sum(parsed.quarantined.num_rows for parsed in given_) in (1, 2, 3)


# Archives


def _tar(members: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("folder/")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.mkdir("folder")
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


ARCHIVES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "tar": _tar,
    "old tar": lambda members: _tar(members, form=tarfile.GNU_FORMAT),
    "tar.gz": lambda members: _tar(members, "w:gz"),
    "tar.bz2": lambda members: _tar(members, "w:bz2"),
    "tar.xz": lambda members: _tar(members, "w:xz"),
    "tar.zst": lambda members: zstd.compress(_tar(members)),
    "zip": _zip,
    "stored zip": lambda members: _zip(members, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_files_in_an_archive_are_read_and_named_and_never_unpacked(
    ping: Make, tmp_path: Path, archive: str
) -> None:
    long = "d" * 120 + "/" + "é\n" * 60
    members = {
        "../../escape": bz2.compress(CONTAINERS["lines"](lines_of(ping, 4, 1))),
        "/etc/'; DROP TABLE ping; --": gzip.compress(CONTAINERS["an array"](lines_of(ping, 4, 11))),
        long: zstd.compress(CONTAINERS["objects over lines"](lines_of(ping, 4, 21))),
        "README": b"Results of 2019\n",
        "folder/.hidden": b"hidden",
        "cut": CONTAINERS["lines"](lines_of(ping, 2, 31))[:-9],
    }
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "archive"
    path.write_bytes(ARCHIVES[archive](members))
    source = FileSource([path], threads=2)
    given_, probes, failures = read(source)
    assert sorted(probes) == [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24, 31]
    assert len(failures) == 2
    assert f"{path}:README" in failures[0]
    assert f"{path}:cut" in failures[1]
    finished = [parsed.finished for parsed in given_ if parsed.finished is not None]
    assert [file.name for file in finished] == ["archive"]
    assert given_[-1].finished is not None
    sources = {name for parsed in given_ for name in parsed.quarantined.column("source").to_pylist()}
    assert sources == {"archive:cut"}
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["archive", "in"]
    known = FileSource([path], is_known={finished[0].digest}.__contains__)
    assert read(known) == ([], [], [])


@pytest.mark.parametrize("archive", ["tar", "tar.gz", "zip", "stored zip"])
def test_of_an_archive_that_is_cut_the_whole_files_are_read_where_it_can_be(
    ping: Make, tmp_path: Path, archive: str
) -> None:
    members = {str(one): CONTAINERS["lines"](lines_of(ping, 50, 100 * one)) for one in range(1, 5)}
    whole = ARCHIVES[archive](members)
    path = tmp_path / "archive"
    path.write_bytes(whole[: len(whole) * 6 // 10])
    _, probes, failures = read(FileSource([path]))
    assert failures
    if "zip" in archive:  # what is in a zip is said at its end
        assert "zip" in failures[0]
    else:
        assert set(probes) >= set(range(100, 150))


def test_a_damaged_file_in_a_zip_is_one_line_and_the_others_are_read(ping: Make, tmp_path: Path) -> None:
    members = {str(one): CONTAINERS["lines"](lines_of(ping, 50, 100 * one)) for one in range(1, 4)}
    packed = bytearray(_zip(members))
    packed[packed.index(b"PK\x03\x04", 500) + 60] ^= 0xFF
    path = tmp_path / "archive"
    path.write_bytes(packed)
    _, probes, failures = read(FileSource([path]))
    assert len(failures) == 1
    assert "damaged" in failures[0]
    assert set(probes) >= {*range(100, 150), *range(300, 350)} or set(probes) >= {
        *range(200, 250),
        *range(300, 350),
    }


def _tar_saying(size: bytes, kind: bytes = b"0") -> bytes:
    """The head of a member whose size is said in those 12 bytes."""
    head = bytearray(tarfile.TarInfo("hostile").tobuf(tarfile.GNU_FORMAT))
    head[124:136], head[156:157], head[148:156] = size, kind, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _tar_saying_in_pax(size: bytes) -> bytes:
    said = b" size=" + size + b"\n"
    said = b"%d" % (len(said) + len(b"%d" % len(said))) + said
    padded = said + b"\0" * (-len(said) % 512)
    return _tar_saying(b"%011o " % len(said), b"x") + padded + _tar_saying(b"%011o " % 1)


HOSTILE_HEADS = {
    "a negative size": _tar_saying((-512).to_bytes(12, "big", signed=True)),
    "a long name of negative size": _tar_saying((-512).to_bytes(12, "big", signed=True), b"L"),
    "a pax header of negative size": _tar_saying((-512).to_bytes(12, "big", signed=True), b"x"),
    "a size of 88 bits": _tar_saying(b"\x80" + b"\xff" * 11),
} | {f"a pax size of {digits} digits": _tar_saying_in_pax(b"9" * digits) for digits in (19, 30, 5000)}


@pytest.mark.parametrize("pack", ["plain", "gz"])
@pytest.mark.parametrize("head", HOSTILE_HEADS)
def test_a_tar_whose_sizes_are_none_is_damaged_there_and_is_not_read_as_a_whole(
    ping: Make, tmp_path: Path, head: str, pack: str
) -> None:
    good = _tar({"good": CONTAINERS["lines"](lines_of(ping, 5))}).rstrip(b"\0")
    good += b"\0" * (-len(good) % 512)
    path, other = tmp_path / "archive", tmp_path / "other"
    path.write_bytes(PACKERS[pack](good + HOSTILE_HEADS[head] + bytes(32 << 20)))
    other.write_bytes(CONTAINERS["lines"](lines_of(ping, 2, 50)))
    tracemalloc.start()
    _, probes, failures = read(FileSource([path, other]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sorted(probes) == [1, 2, 3, 4, 5, 50, 51]
    assert len(failures) == 1
    assert re.search(r"archive; found a member (of|whose)", failures[0]), failures
    assert len(failures[0]) < 400
    assert peak < 24 << 20


def test_a_zip_whose_names_are_none_fails_alone_and_one_without_a_name_is_read(
    ping: Make, tmp_path: Path
) -> None:
    content = CONTAINERS["lines"](lines_of(ping, 5))
    named = _zip({"\u00e9": content})
    damaged, nameless, other = tmp_path / "damaged", tmp_path / "nameless", tmp_path / "other"
    damaged.write_bytes(named.replace(b"\xc3\xa9", b"\xff\xa9"))
    packed = bytearray(_zip({"Q": CONTAINERS["lines"](lines_of(ping, 2, 30))}))
    for mark, at in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):  # its letter becomes an extra field
        begin = packed.rindex(mark) + at
        packed[begin : begin + 4] = b"\0\0\1\0"
    nameless.write_bytes(packed)
    other.write_bytes(CONTAINERS["lines"](lines_of(ping, 2, 50)))
    _, probes, failures = read(FileSource([damaged, nameless, other]))
    assert sorted(probes) == [30, 31, 50, 51]
    assert len(failures) == 1
    assert "a zip that is cut or damaged" in failures[0]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_byte_of_a_zip_ends_the_reading_of_other_files(data: st.DataObject) -> None:
    packed = bytearray(_zip({"a": b"[]", "\u00e9": b"{}"}))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "zip"
        path.write_bytes(packed)
        read(FileSource([path], threads=1))


def test_an_archive_without_files_says_so(tmp_path: Path) -> None:
    for name, content in {"tar": _tar({}), "zip": _zip({}), "tar.gz": _tar({}, "w:gz")}.items():
        path = tmp_path / name
        path.write_bytes(content)
        given_, _, failures = read(FileSource([path]))
        assert given_ == []
        assert len(failures) == 1
        assert "archive without files" in failures[0]


# Streams and what is no file


@pytest.mark.parametrize("pack", PACKERS)
def test_what_comes_by_standard_input_is_read_like_a_file(ping: Make, pack: str) -> None:
    stream = io.BytesIO(PACKERS[pack](CONTAINERS["an array"](lines_of(ping, 5))))
    stream.seek = None  # type: ignore[method-assign, assignment]
    given_, probes, failures = read(FileSource([STDIN], stdin=stream))
    assert (probes, failures) == ([1, 2, 3, 4, 5], [])
    assert isinstance(given_[-1].finished, SourceFile)
    assert given_[-1].finished.name == "<stdin>"


def test_standard_input_may_be_a_tar(ping: Make) -> None:
    stream = io.BytesIO(_tar({"a": CONTAINERS["lines"](lines_of(ping, 5))}, "w:gz"))
    assert read(FileSource([STDIN], stdin=stream))[1:] == ([1, 2, 3, 4, 5], [])


def test_nobody_waits_for_a_pipe_that_nobody_writes_to(ping: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good").write_bytes(CONTAINERS["lines"](lines_of(ping, 2)))
    (tmp_path / "broken link").symlink_to(tmp_path / "nowhere")
    assert [path.name for path in find_files(tmp_path)] == ["good"]
    _, probes, failures = read(FileSource([tmp_path / "pipe", tmp_path / "good"]))
    assert probes == [1, 2]
    assert len(failures) == 1
    assert "empty" in failures[0]


def test_a_file_that_must_not_be_read_is_one_line(
    ping: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(CONTAINERS["lines"](lines_of(ping, 2)))
    opened = os.open

    def refuse(name: Any, *rest: Any, **named: Any) -> int:  # root may read what others must not
        if name == path:
            raise PermissionError(13, "Permission denied")
        return opened(name, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    given_, _, failures = read(FileSource([path, tmp_path]))
    assert given_ == []
    assert "Permission denied" in failures[0]
    assert "directory" in failures[1]


def test_names_are_data_and_move_no_cursor(ping: Make, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[2J\n'; DROP TABLE ping; -- .bz2")
    path = tmp_path / name
    path.write_bytes(b'{"a":\n' + CONTAINERS["lines"](lines_of(ping, 2)) + b"{")
    given_, probes, failures = read(FileSource([path]))
    assert probes == [1, 2]
    assert failures[0].isprintable()
    finished = given_[-1].finished
    assert finished is not None
    assert finished.name.encode() == b"\\udcff\x1b[2J\n'; DROP TABLE ping; -- .bz2"
    assert given_[0].quarantined.column("source")[0].as_py() == finished.name


# Bombs


def test_a_record_that_is_too_large_is_left_out_and_what_follows_is_read(ping: Make, tmp_path: Path) -> None:
    good = lines_of(ping, 4)
    huge = b'{"fw": "' + b"a" * (RECORD_BYTES + (9 << 20)) + b'"}'
    for container in ("lines", "an array"):
        path = tmp_path / container
        path.write_bytes(gzip.compress(CONTAINERS[container]([*good[:2], huge, *good[2:]]), 1))
        given_, probes, failures = read(FileSource([path]))
        assert probes == [1, 2, 3, 4]
        assert len(failures) == 1
        assert "too large" in failures[0]
        assert "record 2" in failures[0]
        (row,) = [row for parsed in given_ for row in parsed.quarantined.to_pylist()]
        assert row["position"] == 2
        assert row["raw"] == huge[:1024].strip()
        assert given_[-1].finished is not None


@pytest.mark.parametrize("letter", [b"[", b'{"a":', b'"a', b"a", b"{", b"\\"])
def test_one_endless_line_is_one_clear_line(tmp_path: Path, letter: bytes) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(zstd.compress(letter * ((50 << 20) // len(letter))))
    given_, _, failures = read(FileSource([path]))
    assert given_ == []
    assert len(failures) == 1
    assert "too large" in failures[0] or "not JSON" in failures[0]
    assert len(failures[0]) < 500


def test_a_window_that_would_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide"
    path.write_bytes(_wide_zstd())
    given_, _, failures = read(FileSource([path]))
    assert given_ == []
    assert len(failures) == 1


def _wide_zstd() -> bytes:
    """A frame that says to need a window of 1 GiB (RFC 8878, 3.1.1.1.2), with a raw block of three bytes in it."""
    return b"\x28\xb5\x2f\xfd\x00\xa0" + (3 << 3 | 1).to_bytes(3, "little") + b"{}\n"


def test_who_stops_reading_stops_the_threads(ping: Make, tmp_path: Path) -> None:
    import threading

    for number in range(8):
        (tmp_path / f"{number}").write_bytes(CONTAINERS["lines"](lines_of(ping, 50, 100 * number)))
    before = threading.active_count()
    batches = FileSource(find_files(tmp_path), threads=2).read()
    assert next(batches).records
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_fault_of_ours_is_not_swallowed(
    ping: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good"
    path.write_bytes(CONTAINERS["lines"](lines_of(ping, 5)))

    def fail(batch: Any) -> Parsed:
        raise ZeroDivisionError

    monkeypatch.setattr("ingest.files.parse_batch", fail)
    with pytest.raises(ZeroDivisionError):
        list(FileSource([path]).read())


@pytest.mark.parametrize("suffix", ["", ".gz", ".tar"])
def test_progress_says_how_much_of_a_large_file_is_read(ping: Make, tmp_path: Path, suffix: str) -> None:
    heard: list[tuple[int, int | None]] = []
    content = (orjson.dumps(ping()) + b"\n") * 200_000
    path = tmp_path / f"large{suffix}"
    if suffix == ".gz":
        content = gzip.compress(content, 0)
    elif suffix == ".tar":
        content = _tar({"one": content})
    path.write_bytes(content)
    list(FileSource([path]).read(lambda what, done, total: heard.append((done, total))))
    megabytes = len(content) >> 20
    assert heard == sorted(heard, key=lambda one: one[0])
    assert heard[0] == (0, megabytes)
    assert heard[-1] == (megabytes, megabytes)
    assert any(0 < done < megabytes for done, _ in heard)


def test_of_a_stream_progress_says_how_much_and_not_out_of_how_much(ping: Make) -> None:
    heard: list[tuple[int, int | None]] = []
    content = CONTAINERS["lines"](lines_of(ping, 2))
    source = FileSource([STDIN], stdin=io.BytesIO(content))
    list(source.read(lambda what, done, total: heard.append((done, total))))
    assert set(heard) == {(0, None)}


@pytest.mark.recorded
def test_recorded_archives_are_read_alike_as_files_as_one_file_and_as_an_archive(
    recorded: Path, tmp_path: Path
) -> None:
    files = sorted((recorded / "atlas" / "regional-2019").glob("*-05-12.ndjson.bz2"))
    packed = {file.name: file.read_bytes() for file in files}
    (tmp_path / "one").write_bytes(b"".join(packed.values()))
    (tmp_path / "again").write_bytes(bz2.compress(b"".join(map(bz2.decompress, packed.values()))))
    (tmp_path / "tar").write_bytes(_tar(packed))

    def counted(paths: list[Path]) -> tuple[int, int, int]:
        source = FileSource(paths)
        all_parsed = list(source.read())
        assert source.failures == []
        return (
            sum(parsed.pings.num_rows for parsed in all_parsed),
            sum(parsed.traceroutes.num_rows for parsed in all_parsed),
            sum(parsed.quarantined.num_rows for parsed in all_parsed),
        )

    expected = counted(files)
    assert min(expected[:2]) > 1000
    for name in ("one", "again", "tar"):
        assert counted([tmp_path / name]) == expected
