from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import math
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.table
from domain.errors import InputError, NotFoundError
from domain.observation import Doubt
from domain.place import fibre_rtt_ms
from domain.progress import unheard
from ingest.batch import QUARANTINE_SCHEMA, SAMPLE_SCHEMA, Parsed
from ingest.table import NO_NODES, Nodes, TableSource, _Blocks, _keys, check_names, read_nodes

HEADER = "probe_id,target_id,af,timestamp,rtt_avg_ms"
DAY = datetime(2020, 7, 19, tzinfo=UTC)


def source(
    tmp_path: Path,
    text: str | bytes,
    *,
    nodes: Nodes = NO_NODES,
    columns: dict[str, str] | None = None,
    constants: dict[str, str] | None = None,
) -> TableSource:
    path = tmp_path / "samples"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return TableSource(path, nodes=nodes, columns=columns or {}, constants=constants or {})


def read(one: TableSource) -> Parsed:
    """All of its batches together."""
    found = list(one.read(unheard))
    for parsed in found:
        assert parsed.samples.schema == SAMPLE_SCHEMA
        assert parsed.quarantined.schema == QUARANTINE_SCHEMA
    return Parsed(
        samples=pa.concat_tables([parsed.samples for parsed in found]),
        quarantined=pa.concat_tables([parsed.quarantined for parsed in found]),
        cut=found[-1].cut,
    )


def rows(tmp_path: Path, *lines: str, header: str = HEADER, **more: Any) -> list[dict[str, Any]]:
    return list(read(source(tmp_path, "\n".join([header, *lines]) + "\n", **more)).samples.to_pylist())


def nodes_file(tmp_path: Path, *lines: str, header: str = "id,lat,lon", **columns: str) -> Nodes:
    path = tmp_path / "nodes.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return read_nodes(path, columns, {})


# What a row means


def test_a_row_is_a_sample_and_what_it_does_not_state_is_unknown(tmp_path: Path) -> None:
    assert rows(tmp_path, "3,4,4,2020-07-19T00:00:00Z,12.5") == [
        {
            "probe_id": 3, "target": "node:4", "af": 4, "timestamp": DAY, "sent": None, "received": None,
            "rtt_min_ms": None, "rtt_avg_ms": 12.5, "rtt_max_ms": None, "rtt_mdev_ms": None,
            "utilisation_ratio": None, "doubts": [], "synthetic": False,
        }
    ]  # fmt: skip


def test_columns_are_named_and_constants_are_stated(tmp_path: Path) -> None:
    (row,) = rows(
        tmp_path,
        "3;4;10;9;5;14;1;0.25",
        header="from;to;mean;least;lost;most;dev;load",
        columns={
            "probe_id": "from", "target_id": "to", "rtt_avg_ms": "mean", "rtt_min_ms": "least", "rtt_max_ms": "most",
            "rtt_mdev_ms": "dev", "utilisation_ratio": "load",
        },
        constants={"af": "6", "timestamp": "2020-07-19", "sent": "20"},
    )  # fmt: skip
    assert (row["probe_id"], row["target"], row["af"], row["timestamp"]) == (3, "node:4", 6, DAY)
    assert (row["sent"], row["received"], row["utilisation_ratio"]) == (20, 15, 0.25)
    assert [row[f"rtt_{name}_ms"] for name in ("min", "avg", "max", "mdev")] == [9.0, 10.0, 14.0, 1.0]


@pytest.mark.parametrize(
    ("word", "moment"),
    [
        ("2020-07-19T00:00:00Z", DAY),
        ("2020-07-19 02:00:00+02:00", DAY),
        ("2020-07-19", DAY),
        ("2020-07-19 00:00:00.25", DAY + timedelta(seconds=0.25)),
        ("1990-01-01", datetime(1990, 1, 1, tzinfo=UTC)),
        ("2099-12-31", datetime(2099, 12, 31, tzinfo=UTC)),
        ("1595116800", DAY),
        ("1595116800.5", DAY + timedelta(seconds=0.5)),
        ("1595116800250", DAY + timedelta(seconds=0.25)),
        ("1595116800250000", DAY + timedelta(seconds=0.25)),
        ("1595116800250000000", DAY + timedelta(seconds=0.25)),
        ("1.5951168e9", DAY),
        ("20200719T000000Z", DAY),
        ("2020-07-19T02:00:00+0200", DAY),
        ('"2020-07-19 00:00:00,250"', DAY + timedelta(seconds=0.25)),
    ],
)
def test_times_are_iso_8601_or_count_from_1970(tmp_path: Path, word: str, moment: datetime) -> None:
    assert rows(tmp_path, f"3,4,4,{word},1.0")[0]["timestamp"] == moment


def test_seconds_are_a_unit_of_their_own(tmp_path: Path) -> None:
    header = "probe_id,target_id,af,timestamp,rtt_avg_s,rtt_min_ms"
    (row,) = rows(tmp_path, "3,4,4,2020-07-19,0.0125,11.0", header=header)
    assert (row["rtt_avg_ms"], row["rtt_min_ms"]) == (12.5, 11.0)
    (row,) = rows(tmp_path, "3,4,4,2020-07-19,12500", header=HEADER.replace("_ms", "_us"))
    assert row["rtt_avg_ms"] == 12.5
    with pytest.raises(InputError, match=r"one RTT in two units.*rtt_avg_ms and rtt_avg_s"):
        rows(tmp_path, "3,4,4,2020-07-19,12,0.012", header=HEADER + ",rtt_avg_s")
    with pytest.raises(InputError, match=r"one RTT in two units.*rtt_avg_s and rtt_avg_us"):
        rows(tmp_path, "3,4,4,2020-07-19,12,0.012", header=HEADER.replace("_ms", "_us") + ",rtt_avg_s")


@pytest.mark.parametrize("unit", ["ms", "s", "us"])
def test_a_duration_says_its_unit_itself(tmp_path: Path, unit: str) -> None:
    (row,) = rows(tmp_path, "3,4,4,2020-07-19,PT0.0312S", header=HEADER.replace("ms", unit))
    assert row["rtt_avg_ms"] == 31.2
    table = {
        "probe_id": [3],
        "target_id": [4],
        "af": [4],
        "timestamp": [DAY],
        "mean": [timedelta(milliseconds=12.5)],
    }
    pq.write_table(pa.table(table), tmp_path / "samples")
    one = TableSource(tmp_path / "samples", columns={f"rtt_avg_{unit}": "mean"}, constants={})
    assert read(one).samples["rtt_avg_ms"].to_pylist() == [12.5]


def test_counts_are_whole_numbers_however_they_are_written(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, "3,4,4,2020-07-19,1,2.0000000000e+01,1e0", header=HEADER + ",sent,lost")
    assert (row["sent"], row["received"]) == (20, 19)


def test_where_semicolons_are_between_cells_numbers_may_have_a_comma(tmp_path: Path) -> None:
    header = HEADER.replace(",", ";") + ";note"
    found = rows(tmp_path, "3;4;4;2020-07-19;12,5;a,b", "3;4;4;2020-07-20;13.25;", header=header)
    assert [row["rtt_avg_ms"] for row in found] == [12.5, 13.25]
    for text in ("1.012,5", "1,012.5", "1,2,3"):
        with pytest.raises(InputError, match=f"row 0: rtt_avg_ms: {text} is no number"):
            rows(tmp_path, f"3;4;4;2020-07-19;{text};", header=header)
    with pytest.raises(InputError, match="row 0: rtt_avg_ms: 12,5 is no number"):
        rows(tmp_path, '3,4,4,2020-07-19,"12,5"')


@pytest.mark.parametrize("word", ["", "NA", "nan", "NULL", "U", "-", "*", "\\N"])
def test_words_for_unknown_are_unknown(tmp_path: Path, word: str) -> None:
    (row,) = rows(tmp_path, f"3,4,4,2020-07-19,{word},10,0", header=HEADER + ",sent,received")
    assert (row["rtt_avg_ms"], row["sent"], row["received"]) == (None, 10, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (",4,4,2020-07-19,1,,", "no probe_id"),
        ("x,4,4,2020-07-19,1,,", "probe_id: x is the id, name or address of no node"),
        ("-1,4,4,2020-07-19,1,,", "probe_id: -1 is the id"),
        ("1.5,4,4,2020-07-19,1,,", "probe_id: 1.5 is the id"),
        ("3,4,5,2020-07-19,1,,", "af: 5 is neither 4 nor 6"),
        ("3,4,4,yesterday,1,,", "timestamp: yesterday is neither ISO 8601"),
        ("3,4,4,20200719,1,,", "timestamp: 20200719 is neither ISO 8601"),
        ("3,4,4,infinity,1,,", "timestamp: infinity is neither"),
        ("3,4,4,0001-01-01,1,,", "timestamp: 0001-01-01 is neither"),
        ("3,4,4,1989-12-31T23:59:59Z,1,,", "timestamp: 1989-12-31T23:59:59Z is neither"),
        ("3,4,4,2100-01-01,1,,", "timestamp: 2100-01-01 is neither"),
        ("3,4,4,631151999,1,,", "timestamp: 631151999 is neither"),
        ("3,4,4,2020-13-19,1,,", "timestamp: 2020-13-19 is neither"),
        ("3,4,4,2020-07-19,fast,,", "rtt_avg_ms: fast is no number of 0 or more"),
        ("3,4,4,2020-07-19,-1,,", "rtt_avg_ms: -1 is no number of 0 or more"),
        ("3,4,4,2020-07-19,inf,,", "rtt_avg_ms: inf is no number of 0 or more"),
        ("3,4,4,2020-07-19,1,2.5,", "sent: 2.5 is no whole number"),
        ("3,4,4,2020-07-19,1,3,4", "more packets received, or lost, than sent"),
        ("3,4,4,2020-07-19,1,3,0", "an RTT, and no packet received"),
        ("3,4,4,2020-07-19", "4 cells, and 7 in the header"),
        ("3,4,4,2020-07-19,1,,,8", "8 cells, and 7 in the header"),
    ],
)
def test_a_row_that_is_no_sample_is_kept_whole_with_its_place_and_reason(
    tmp_path: Path, line: str, reason: str
) -> None:
    good = "3,4,4,2020-07-19T01:00Z,1,,"
    text = "\n".join([HEADER + ",sent,received", good, "", line, good.replace("01:00", "02:00")]) + "\n"
    parsed = read(source(tmp_path, text))
    assert parsed.samples.num_rows == 2
    (kept,) = parsed.quarantined.to_pylist()
    assert (kept["source"], kept["position"]) == ("samples", 1)
    assert kept["reason"].startswith(reason)
    raw = kept["raw"].decode()
    cells = raw.split(",") if "cells" in reason else list(json.loads(raw).values())
    assert cells == line.split(",")


@pytest.mark.parametrize(
    "names", [("note", "note"), ("", "column 5"), ("column 6", ""), ("note", "note (column 6)")]
)
@pytest.mark.parametrize("parquet", [False, True])
def test_columns_of_one_name_or_none_are_kept_each(
    tmp_path: Path, names: tuple[str, str], parquet: bool
) -> None:
    cells = [["3", "4", "4", "2020-07-19", "1", "a", "b"], ["x", "4", "4", "2020-07-19", "1", "c", "d"]]
    header = [*HEADER.split(","), *names]
    one = source(tmp_path, "\n".join(",".join(row) for row in [header, *cells]))
    if parquet:
        pq.write_table(
            pa.table([pa.array(column) for column in zip(*cells, strict=True)], names=header), one.path
        )
    (raw,) = read(one).quarantined["raw"].to_pylist()
    assert list(json.loads(raw).values()) == cells[1]


def test_many_columns_without_a_name_take_time_in_proportion() -> None:
    began = time.process_time()
    assert len(set(_keys([""] * 100_000))) == 100_000
    assert time.process_time() - began < 5


def test_a_name_of_a_file_may_be_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"bad\xff.csv")
    path.write_text(f"{HEADER}\n3,4,4,2020-07-19,1\nx,4,4,2020-07-19,1\n")
    parsed = read(TableSource(path, columns={}, constants={}))
    assert parsed.quarantined["source"].to_pylist() == [r"bad\udcff.csv"]


def test_contradictions_of_least_mean_and_greatest_are_no_sample(tmp_path: Path) -> None:
    header = HEADER + ",rtt_min_ms,rtt_max_ms,utilisation_ratio"
    lines = (
        "3,4,4,2020-07-19,5,6,7,",
        "3,4,4,2020-07-20,5,4,4.5,",
        "3,4,4,2020-07-21,,4,3,",
        "3,4,4,2020-07-22,5,5,5,2",
    )
    parsed = read(source(tmp_path, "\n".join([header, "3,4,4,2020-07-18,5,5,5,1", *lines])))
    assert parsed.samples.num_rows == 1
    assert parsed.quarantined["reason"].to_pylist() == [
        *["least, mean and greatest RTT are not in this order"] * 3,
        "utilisation_ratio: 2 is not between 0 and 1",
    ]


def test_a_time_to_come_is_kept_and_in_doubt(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    now = datetime.now(UTC)
    found = rows(tmp_path, f"3,4,4,{ahead.isoformat()},1", f"3,4,4,{now.isoformat()},1")
    assert [row["doubts"] for row in found] == [[str(Doubt.CLOCK_AHEAD)], []]


# Forms


TEXT = f"{HEADER}\n" + "".join(f'{n},4,4,2020-07-19,"{n}.5"\n' for n in range(5, 50))


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.rstrip().encode(),
        TEXT.replace(",", "\t").encode(),
        gzip.compress(TEXT.encode()),
        bz2.compress(TEXT.encode()),
    ],
)
def test_csv_is_read_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    parsed = read(source(tmp_path, content))
    assert parsed.samples["rtt_avg_ms"].to_pylist() == [n + 0.5 for n in range(5, 50)]
    assert parsed.quarantined.num_rows == 0


def test_blocks_end_where_records_end_and_positions_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.table, "BATCH_BYTES", 64)
    monkeypatch.setattr("ingest.compression._INFLATED_BYTES", 10)
    lines = [f'{n},4,4,2020-07-19,{n}.5,"two\nlines, {n}"' for n in range(5, 40)]
    lines[20] = "nonsense,4,4,2020-07-19,1,"
    lines[30] = "too few"
    parsed = read(source(tmp_path, "\n".join([HEADER + ",note", *lines]) + "\n"))
    assert parsed.samples["probe_id"].to_pylist() == [n for n in range(5, 40) if n not in (25, 35)]
    assert parsed.quarantined["position"].to_pylist() == [20, 30]


@pytest.mark.parametrize("batch", [64, 1 << 23])
@pytest.mark.parametrize("longest", [300, 1 << 20])
def test_a_quote_that_is_not_closed_costs_its_line_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, longest: int
) -> None:
    monkeypatch.setattr(ingest.table, "BATCH_BYTES", batch)
    monkeypatch.setattr(ingest.table, "_LONGEST_RECORD", longest)
    monkeypatch.setattr("ingest.compression._READ_BYTES", 10)
    lines = [f"{n},4,4,2020-07-19,{n}" for n in range(5, 40)]
    lines[10] = '15,4,4,2020-07-19,"10'
    parsed = read(source(tmp_path, "\n".join([HEADER, *lines])))
    assert parsed.samples["probe_id"].to_pylist() == [n for n in range(5, 40) if n != 15]
    assert parsed.quarantined.to_pylist() == [
        {
            "source": "samples",
            "position": 10,
            "reason": "a quote that is not closed",
            "raw": lines[10].encode(),
        }
    ]


@given(
    notes=st.lists(st.text(',"\n x5', max_size=6), min_size=1, max_size=20),
    batch=st.integers(1, 100),
    chunk=st.integers(1, 50),
)
def test_records_end_where_a_writer_of_csv_ends_them(notes: list[str], batch: int, chunk: int) -> None:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([["a", "b"], *([note, "1"] for note in notes)])
    text = written.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.table, "BATCH_BYTES", batch)
        chunks = [text[at : at + chunk] for at in range(0, len(text), chunk)]
        patch.setattr(ingest.table, "read_chunks", lambda _path: iter(chunks))
        blocks = list(_Blocks(Path("samples"), ","))
    assert [unclosed for unclosed, _ in blocks if unclosed] == []
    found = [row for _, block in blocks for row in csv.reader(io.StringIO(block.decode(), newline=""))]
    assert [row[0] for row in found] == notes


@pytest.mark.parametrize("line", [b'a","\n', b'a","\n5,6\n', b'","\n', b'a,"""\n', b'"",""","\n'])
def test_quotes_that_are_not_closed_take_time_in_proportion(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "samples"
    path.write_bytes(b"a,b\n" + line * 40_000)
    began = time.process_time()
    kept = sum(len(block) + sum(len(one) + 1 for one in unclosed) for unclosed, block in _Blocks(path, ","))
    assert kept == len(line) * 40_000
    assert time.process_time() - began < 5  # 164 s, when each line was looked through to the end of the file


@given(text=st.text('",\r\n x', max_size=60))
def test_records_end_at_one_place_however_they_are_looked_for(text: str) -> None:
    blocks = _Blocks(Path("samples"), ",")
    content = bytearray(text.encode() + b"\n")
    scanned = bytearray()
    begin = 0
    while begin < len(content):
        end = blocks._end(content, begin, scanned)
        assert end == blocks._end(content, begin, bytearray())
        begin = end if end > begin else content.index(b"\n", begin) + 1


def test_a_mark_of_inches_is_no_quote(tmp_path: Path) -> None:
    found = rows(tmp_path, '3,4,4,2020-07-19,1,5" disk', "5,4,4,2020-07-19,1,", header=HEADER + ",note")
    assert [row["probe_id"] for row in found] == [3, 5]


@pytest.mark.parametrize(
    "begin", [f"{HEADER}\n1,2,4,2020-07-19,", f'{HEADER}\n1,2,4,2020-07-19,"', "", "probe_id"]
)
def test_a_line_without_end_is_refused_as_it_is_met(tmp_path: Path, begin: str) -> None:
    one = source(tmp_path, gzip.compress(begin.encode() + b"1" * (1 << 25), 1))
    with pytest.raises(InputError, match="a line that is too long for a table"):
        read(one)


def test_lines_have_the_length_that_they_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "3,4,4,2020-07-19,1,"
    monkeypatch.setattr(ingest.table, "_LONGEST_RECORD", 100)
    header = HEADER + ",note"
    lines = [line + "x" * 10, line + "x" * (100 - len(line)), line]
    assert len(rows(tmp_path, *lines, header=header)) == 3
    with pytest.raises(InputError, match="a line that is too long for a table"):
        rows(tmp_path, *lines, line + "x" * (101 - len(line)), line, header=header)


def test_a_file_that_is_cut_gives_its_whole_rows_and_says_so(tmp_path: Path) -> None:
    whole = gzip.compress(
        "\n".join([HEADER, *(f"{n},4,4,2020-07-19,{n * 7919 % 1000}.5" for n in range(5, 9000))]).encode()
    )
    one = source(tmp_path, whole[: len(whole) // 2])
    parsed = read(one)
    assert 100 < parsed.samples.num_rows < 9000
    assert [type(failure).__name__ for failure in one.failures] == ["TruncatedError"]
    assert parsed.cut is not None
    assert parsed.quarantined["reason"][0].as_py().startswith("the file is cut")
    assert parsed.quarantined["position"][0].as_py() == parsed.samples.num_rows


def test_letters_of_another_alphabet_than_utf_8_harm_nothing(tmp_path: Path) -> None:
    parsed = read(
        source(tmp_path, (HEADER + ",place\n3,4,4,2020-07-19,1,S\u00e3o Paulo\n").encode("latin-1"))
    )
    assert parsed.samples.num_rows == 1


def test_parquet_is_read_with_the_types_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "samples"
    table = pa.table(
        {
            "probe_id": pa.array([3, 3, 3], pa.int32()),
            "target_id": pa.array(["4", "5", "x"]),
            "af": pa.array([4.0, 6.0, 4.0]),
            "timestamp": pa.array([DAY] * 3, pa.timestamp("ns", tz="Europe/Berlin")),
            "rtt_avg_ms": pa.array([0.1, None, 1.0], pa.float32()).cast(pa.float64()),
        }
    )
    pq.write_table(table, path)
    parsed = read(TableSource(path, columns={}, constants={}))
    assert parsed.samples["target"].to_pylist() == ["node:4", "node:5"]
    assert parsed.samples["timestamp"].to_pylist() == [DAY, DAY]
    assert parsed.samples["rtt_avg_ms"].to_pylist() == [table["rtt_avg_ms"][0].as_py(), None]
    assert parsed.quarantined["position"].to_pylist() == [2]
    assert json.loads(parsed.quarantined["raw"][0].as_py())["target_id"] == "x"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="Parquet file that cannot be read"):
        read(TableSource(path, columns={}, constants={}))


def hostile(tmp_path: Path, **columns: pa.Array) -> TableSource:
    """Three rows of Parquet, of which the last is no sample."""
    table = {
        "probe_id": pa.array(["3", "3", "x"]), "target_id": pa.array(["4"] * 3), "af": pa.array([4] * 3),
        "timestamp": pa.array(["2020-07-19"] * 3), "rtt_avg_ms": pa.array([1.0] * 3),
    }  # fmt: skip
    pq.write_table(pa.table(table | columns), tmp_path / "samples")
    return TableSource(tmp_path / "samples", columns={}, constants={})


def test_long_words_of_parquet_are_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.table, "_PARQUET_BYTES", 3000)
    monkeypatch.setattr(ingest.table, "_LONGEST_RECORD", 3000)
    words = pa.array(["x" * 1400, None, "y"] * 100)
    table = {"probe_id": ["3", "x", "5"] * 100, "target_id": [4] * 300, "af": [4] * 300,
             "timestamp": ["2020-07-19"] * 300, "rtt_avg_ms": [1.0] * 300, "note": words.dictionary_encode(),
             "also": words.cast(pa.large_binary()), "list": [[1, 2]] * 300, "list.list.element": ["x"] * 300}  # fmt: skip
    pq.write_table(pa.table(table), tmp_path / "samples")
    one = TableSource(tmp_path / "samples", columns={}, constants={})
    found = list(one.read(unheard))
    assert len(found) >= 100
    assert [row for parsed in found for row in parsed.samples["probe_id"].to_pylist()] == [3, 5] * 100
    kept = [row for parsed in found for row in parsed.quarantined.to_pylist()]
    assert [row["position"] for row in kept] == list(range(1, 300, 3))
    assert json.loads(kept[0]["raw"])["note"] is None
    assert one.unread == ("note", "also", "list", "list.list.element")


def test_words_of_parquet_that_share_their_beginnings_are_read(tmp_path: Path) -> None:
    one = hostile(tmp_path)
    pq.write_table(
        pq.read_table(one.path),
        one.path,
        use_dictionary=False,
        column_encoding={"probe_id": "DELTA_BYTE_ARRAY"},
    )
    assert read(one).samples["probe_id"].to_pylist() == [3, 3]


def test_a_row_group_of_parquet_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.table, "_GROUP_BYTES", 100)
    with pytest.raises(InputError, match="a row group of Parquet that is too large"):
        read(hostile(tmp_path))


@pytest.mark.parametrize("column", ["probe_id", "note"])
def test_parquet_with_words_that_are_no_utf_8_is_refused(tmp_path: Path, column: str) -> None:
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    bad = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"3\xff\xfe")])
    with pytest.raises(InputError, match=r"Parquet file that cannot be read.*Invalid UTF8"):
        read(hostile(tmp_path, **{column: bad}))
    pq.write_table(
        pa.table({"id": [1, 2, 3], "lat": [1.0] * 3, "lon": [1.0] * 3, "name": bad}), tmp_path / "nodes"
    )
    with pytest.raises(InputError, match=r"Parquet file that cannot be read.*Invalid UTF8"):
        read_nodes(tmp_path / "nodes", {}, {})


@pytest.mark.parametrize("far", [1 << 62, -(1 << 62)])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_of_parquet_for_which_python_has_no_value_are_kept(
    tmp_path: Path, far: int, zone: str | None
) -> None:
    times = pa.array([int(DAY.timestamp()) * 1_000_000, far, far], pa.timestamp("us", zone))
    parsed = read(hostile(tmp_path, timestamp=times, note=times))
    assert parsed.samples["timestamp"].to_pylist() == [DAY]
    kept = parsed.quarantined.to_pylist()
    assert [row["position"] for row in kept] == [1, 2]
    assert "timestamp: 14" in kept[0]["reason"]
    assert str(far) in json.loads(kept[0]["raw"])["note"]
    with pytest.raises(InputError, match="values that are not understood"):
        read(hostile(tmp_path, timestamp=times.cast(pa.int64()).cast(pa.timestamp("ms", zone))))


def test_a_zone_that_nobody_knows_harms_no_other_column(tmp_path: Path) -> None:
    parsed = read(hostile(tmp_path, note=pa.array([1, 2, 3], pa.timestamp("us", "Nowhere/None"))))
    assert (parsed.samples.num_rows, parsed.quarantined.num_rows) == (2, 1)


@pytest.mark.parametrize("delimiter", ["\t", " ", ", ", ";"])
def test_a_matrix_has_a_sample_a_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delimiter: str
) -> None:
    monkeypatch.setattr(ingest.table, "_ROWS", 7)
    lines = [delimiter.join(f"0.{row}{column}" for column in range(5)) for row in range(5)]
    one = source(
        tmp_path,
        "\n".join(lines),
        columns={"rtt_avg_s": "value"},
        constants={"af": "4", "timestamp": "2020-07-19"},
    )
    parsed = read(one)
    assert {
        (row["probe_id"], row["target"]): row["rtt_avg_ms"] for row in parsed.samples.to_pylist()
    } == pytest.approx(
        {(row, f"node:{column}"): 100.0 * row + 10.0 * column for row in range(5) for column in range(5)}
    )
    assert one.of_itself == 5
    itself = [
        (row["probe_id"], row["target"])
        for row in parsed.samples.to_pylist()
        if row["doubts"] == [str(Doubt.OF_ITSELF)]
    ]
    assert itself == [(node, f"node:{node}") for node in range(5)]


LABELLED = "{corner},a,New York,c\na,0,1.5,2.5\nc,7.5,8.5,0\nNew York,4.5,0,6.5\n"


@pytest.mark.parametrize("corner", ["", "node", "from/to", "0"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_matrix_may_name_its_rows_and_columns(tmp_path: Path, corner: str, delimiter: str) -> None:
    known = nodes_file(tmp_path, "7,1,1,a", "8,1,1,New York", "9,1,1,c", header="id,lat,lon,name")
    text = LABELLED.format(corner=corner).replace(",", delimiter)
    if delimiter == ";":
        text = text.replace(".", ",")
    parsed = read(source(tmp_path, text, nodes=known, constants={"af": "4", "timestamp": "2020-07-19"}))
    assert {
        (row["probe_id"], row["target"]): row["rtt_avg_ms"]
        for row in parsed.samples.to_pylist()
        if row["doubts"] == []
    } == {
        (7, "node:8"): 1.5, (7, "node:9"): 2.5, (9, "node:7"): 7.5, (9, "node:8"): 8.5, (8, "node:7"): 4.5, (8, "node:9"): 6.5,
    }  # fmt: skip


def test_a_symmetric_matrix_of_numbers_is_not_one_that_names_its_rows(tmp_path: Path) -> None:
    constants = {"af": "4", "timestamp": "2020-07-19"}
    parsed = read(source(tmp_path, "0,10,20\n10,0,15\n20,15,0\n", constants=constants))
    assert parsed.samples["rtt_avg_ms"].to_pylist() == [0.0, 10.0, 20.0, 10.0, 0.0, 15.0, 20.0, 15.0, 0.0]
    blank = ",10,20\n10,,15\n20,15,\n"
    with pytest.raises(InputError, match="a column that is needed"):
        read(source(tmp_path, blank, constants=constants))
    known = nodes_file(tmp_path, "10,1,1", "20,1,1")
    parsed = read(source(tmp_path, blank, nodes=known, constants=constants))
    assert parsed.samples["rtt_avg_ms"].to_pylist() == [None, 15.0, 15.0, None]


def test_names_of_rows_that_are_not_those_of_columns_make_no_matrix(tmp_path: Path) -> None:
    constants = {"af": "4", "timestamp": "2020-07-19"}
    for text in ("n,a,b\na,1,2\nc,3,4\n", "n,a,b\na,1,2\na,3,4\n", "n,a,b\na,1,2\n", "n,a,b\na,1,2\nb,3\n"):
        with pytest.raises(InputError, match=r"a column that is needed.*'n', 'a', 'b'"):
            read(source(tmp_path, text, constants=constants))


@pytest.mark.parametrize("word", ["nan", "NaN", "-", "NA", "null"])
def test_a_matrix_may_begin_with_what_is_unknown(tmp_path: Path, word: str) -> None:
    found = rows(tmp_path, f"7 {word}", header=f"{word} 5", constants={"af": "4", "timestamp": "2020-07-19"})
    assert [(row["probe_id"], row["target"], row["rtt_avg_ms"]) for row in found if not row["doubts"]] == [
        (0, "node:1", 5.0),
        (1, "node:0", 7.0),
    ]


def test_numbers_that_are_no_square_are_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no square matrix either.*found 2 rows of 2 to 3 cells"):
        read(source(tmp_path, "1 2 3\n4 5\n", constants={"af": "4", "timestamp": "2020-07-19"}))


@settings(max_examples=25)
@given(
    table=st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(10, 19),
            st.floats(0, 1e6),
            st.one_of(st.none(), st.integers(1, 99)),
        ),
        min_size=1,
        max_size=20,
    ),
    parquet=st.booleans(),
)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[Any, ...]], parquet: bool
) -> None:
    path = tmp_path_factory.mktemp("table") / "samples"
    names = ["probe_id", "target_id", "rtt_avg_ms", "sent"]
    if parquet:
        pq.write_table(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in table]), path)
    else:
        lines = [",".join("" if cell is None else repr(cell) for cell in row) for row in table]
        path.write_text("\n".join([",".join(names), *lines]))
    constants = {"af": "4", "timestamp": "2020-07-19"}
    found = read(TableSource(path, columns={}, constants=constants)).samples.to_pylist()
    assert [
        (row["probe_id"], int(row["target"][5:]), row["rtt_avg_ms"], row["sent"]) for row in found
    ] == table


# Exports of others


def test_what_rrdtool_fetches_of_smokeping_is_read_as_it_is(tmp_path: Path) -> None:
    lines = [f"{1595116800 + 300 * n}: -nan {n:.10e} {0.012 + n / 1e4:.10e} 1.1e-02" for n in range(3)]
    one = source(
        tmp_path,
        "              uptime                loss              median               ping1\n\n" + "\n".join(lines) + "\n",
        columns={"rtt_avg_s": "median", "lost": "loss"},
        constants={"probe_id": "0", "target_id": "1", "af": "4", "sent": "20"},
    )  # fmt: skip
    found = read(one).samples.to_pylist()
    assert [(row["timestamp"], row["received"]) for row in found] == [
        (DAY + timedelta(minutes=5 * n), 20 - n) for n in range(3)
    ]
    assert [row["rtt_avg_ms"] for row in found] == pytest.approx([12.0, 12.1, 12.2])
    assert one.unread == ("uptime", "ping1")


def test_round_trips_of_perfsonar_are_read_as_they_are(tmp_path: Path) -> None:
    header = "source,dest,start,sent,received,min,mean,max,stddev"
    names = {
        "probe_id": "source", "target_id": "dest", "timestamp": "start", "rtt_min_ms": "min", "rtt_avg_ms": "mean", "rtt_max_ms": "max",
        "rtt_mdev_ms": "stddev",
    }  # fmt: skip
    known = nodes_file(tmp_path, *NODES, header=NODE_HEADER)
    line = "192.0.2.1,2001:db8::2,2020-07-19T02:00:00+02:00,5,4,PT0.0601S,PT0.0612S,PT0.07S,PT0.001S"
    (row,) = rows(tmp_path, line, header=header, nodes=known, columns=names, constants={"af": "6"})
    assert (row["probe_id"], row["target"], row["timestamp"]) == (1, "2001:db8::2", DAY)
    assert [row[f"rtt_{name}_ms"] for name in ("min", "avg", "max", "mdev")] == pytest.approx(
        [60.1, 61.2, 70.0, 1.0]
    )
    assert (row["sent"], row["received"]) == (5, 4)
    histogram = 'source,dest,start,val\n192.0.2.1,2001:db8::2,1595116800,"{""30.1"": 10}"\n'
    del names["rtt_min_ms"], names["rtt_max_ms"], names["rtt_mdev_ms"]
    with pytest.raises(InputError, match=r'row 0: rtt_avg_ms: \{"30.1": 10\} is no number'):
        read(
            source(
                tmp_path, histogram, nodes=known, columns=names | {"rtt_avg_ms": "val"}, constants={"af": "6"}
            )
        )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"meta": {"start": 1595116800}, "data": [[0.012]]}', "JSON"),
        (b'[{"rtt": 1}]', "JSON"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<xport>", "XML"),
        (TEXT.encode("utf-16"), "text in UTF-16"),
    ],
)
def test_what_is_no_table_but_another_form_is_called_by_its_name(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(InputError, match=f"found {words}; expected CSV in UTF-8.*save it as CSV"):
        read(source(tmp_path, content))


# What is no table


def test_a_column_that_is_needed_is_named_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'src', 'dst'.*expected probe_id; write --column probe_id=THEIRS, or --set"
    ):
        rows(tmp_path, "1,2", header="src,dst")
    with pytest.raises(InputError, match="expected 'source', named for probe_id"):
        rows(tmp_path, "3,4,4,2020-07-19,1", columns={"probe_id": "source"})
    with pytest.raises(InputError, match=r"no column of a table.*'rtt'"):
        check_names({"rtt": "x"}, {})
    with pytest.raises(InputError, match=r"both named and stated.*af"):
        check_names({"af": "x"}, {"af": "4"})
    with pytest.raises(InputError, match=r"there twice.*'af'"):
        rows(tmp_path, "3,4,4,4,2020-07-19,1", header="probe_id,target_id,af,af,timestamp,rtt_avg_ms")


def test_a_file_of_which_no_row_is_a_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sample in 2 rows; the first: row 0: af: 5 .*--set NAME=VALUE"):
        rows(
            tmp_path,
            "3,4,2020-07-19,1",
            "3,5,2020-07-19,1",
            header=HEADER.replace("af,", ""),
            constants={"af": "5"},
        )
    with pytest.raises(InputError, match=r"probe_id: sydney .*number the nodes from 0"):
        rows(tmp_path, "sydney,tokyo,4,2020-07-19,1")
    with pytest.raises(InputError, match="without rows"):
        rows(tmp_path)
    with pytest.raises(NotFoundError):
        read(TableSource(tmp_path / "nothing", columns={}, constants={}))


@settings(max_examples=25)
@given(content=st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("table") / "samples"
    path.write_bytes(content)
    for one in (content, HEADER.encode() + b"\n3,4,4,2020-07-19,1\n" + content):
        path.write_bytes(one)
        try:
            found = read(TableSource(path, columns={}, constants={}))
        except InputError:
            assert one is content or b'"' in content or b"\0" in content
        else:
            assert found.records > 0


# Nodes


NODES = (
    "1,33.89,35.50,64500,lb,192.0.2.1,192.0.2.0/24,yes,a,Beirut",
    "2,52.37,4.90,AS64501,Netherlands,2001:DB8::2,,no,b,Amsterdam",
    "3,,,,,,,,b,",
)
NODE_HEADER = "id,lat,lon,asn,country,address,prefix,is_anchor,host,name"


def test_nodes_that_took_part_are_probes_with_addresses_of_the_families_measured(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, *NODES, header=NODE_HEADER)
    assert known.not_understood == ()
    first, second, third, other = known.of({4: {1, 2, 3}, 6: {2, 9}}).to_pylist()
    assert (first["asn_v4"], first["asn_v6"], first["address_v4"], first["address_v6"]) == (
        64500,
        None,
        "192.0.2.1",
        None,
    )
    assert (first["country"], first["prefix_v4"], first["is_anchor"], first["host"]) == (
        "LB",
        "192.0.2.0/24",
        True,
        "a",
    )
    assert (second["asn_v4"], second["asn_v6"], second["address_v4"], second["address_v6"]) == (
        *(64501, 64501, "node:2"),
        "2001:db8::2",
    )
    assert (second["country"], second["name"]) == ("NL", "Amsterdam")
    assert (third["latitude"], third["address_v4"], third["host"]) == (None, "node:3", "b")
    assert (other["probe_id"], other["address_v6"], other["latitude"]) == (9, "node:9", None)


def test_samples_name_nodes_by_id_by_name_or_by_address(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, *NODES, header=NODE_HEADER)
    found = rows(
        tmp_path,
        "Beirut,Amsterdam,4,2020-07-19,99",
        "2001:db8::2,192.0.2.1,4,2020-07-19,99",
        "1,2,6,2020-07-19,99",
        "2,1,6,2020-07-19,99",
        nodes=known,
    )
    assert [(row["probe_id"], row["target"]) for row in found] == [
        *((1, "node:2"), (2, "192.0.2.1"), (1, "2001:db8::2")),
        (2, "node:1"),
    ]


def test_nodes_of_one_host_do_not_measure_each_other(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, *NODES, header=NODE_HEADER)
    one = source(tmp_path, f"{HEADER}\n2,3,4,2020-07-19,0.1\n1,3,4,2020-07-19,0.1\n", nodes=known)
    parsed = read(one)
    assert parsed.samples["doubts"].to_pylist() == [[str(Doubt.OF_ITSELF)], []]
    assert one.of_itself == 1


def test_countries_are_codes_or_names_and_what_is_none_is_told_with_its_row(tmp_path: Path) -> None:
    lines = (
        "0,1,1,lb,,", "1,1,1,LBN,,", "2,1,1,the Netherlands,,", "3,1,1,Czech Republic,,", "4,1,1,C\u00f4te d'Ivoire,,",
        "5,1,1,Bosnia & Herzegovina,,", "6,1,1,Atlantis,,", "7,95,1,,64500,", "8,,,-,AS0x1,192.0.2.300", "9,1,1,,0,",
    )  # fmt: skip
    known = nodes_file(tmp_path, *lines, header="id,lat,lon,country,asn,address")
    assert known.probes["country"].to_pylist() == ["LB", "LB", "NL", "CZ", "CI", "BA", None, None, None, None]
    assert known.not_understood == (
        "row 6: country 'Atlantis'",
        "row 7: lat '95', lon '1'",
        "row 8: asn 'AS0x1'",
        "row 8: address '192.0.2.300'",
    )


def test_places_of_nodes_may_have_a_comma_where_semicolons_are_between_cells(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, "1;33,89;35,50", header="id;lat;lon")
    assert known.probes.select(["latitude", "longitude"]).to_pylist() == [
        {"latitude": 33.89, "longitude": 35.5}
    ]


def test_columns_that_nobody_named_are_told(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, "1,1,1,x", header="id,lat,lon,town")
    assert known.unread == ("town",)
    one = source(tmp_path, HEADER + ",ttl,sent\n3,4,4,2020-07-19,1,64,3\n")
    assert read(one).samples["sent"].to_pylist() == [3]
    assert one.unread == ("ttl",)


def test_what_earlier_tables_said_of_nodes_holds_where_this_one_is_silent(tmp_path: Path) -> None:
    earlier = nodes_file(tmp_path, "1,33.89,35.50,LB,,a", "2,52.37,4.90,,192.0.2.1,b", header="id,lat,lon,country,address,name").of(
        {4: {1, 2}, 6: set()}
    )  # fmt: skip
    said = nodes_file(tmp_path, "2,,,NL", header="id,lat,lon,country")
    known = replace(said, earlier=earlier)
    assert known.known.select(["probe_id", "latitude", "country", "address_v4"]).to_pylist() == [
        {"probe_id": 1, "latitude": 33.89, "country": "LB", "address_v4": None},
        {"probe_id": 2, "latitude": 52.37, "country": "NL", "address_v4": "192.0.2.1"},
    ]
    one = source(tmp_path, f"{HEADER}\na,b,4,2020-07-19,99\n", nodes=known)
    assert [(row["probe_id"], row["target"]) for row in read(one).samples.to_pylist()] == [(1, "192.0.2.1")]
    # what is said now is said of now; what is known from before is not said again
    assert one.nodes().select(["probe_id", "latitude", "country", "address_v4"]).to_pylist() == [
        {"probe_id": 2, "latitude": None, "country": "NL", "address_v4": None},
        {"probe_id": 1, "latitude": None, "country": None, "address_v4": "node:1"},
    ]
    assert one.without_position() == 0


def test_what_is_faster_than_light_is_kept_flagged_and_counted(tmp_path: Path) -> None:
    known = nodes_file(tmp_path, *NODES, header=NODE_HEADER)
    least = fibre_rtt_ms(3182.0)
    one = source(
        tmp_path,
        f"{HEADER},rtt_min_ms\n1,2,4,2020-07-19,{least - 1},\n1,2,4,2020-07-20,{least + 1},\n"
        f"1,2,4,2020-07-21,{least + 1},{least - 1}\n1,3,4,2020-07-19,0.1,\n",
        nodes=known,
    )
    fast = [str(Doubt.FASTER_THAN_LIGHT)]
    assert read(one).samples["doubts"].to_pylist() == [fast, [], fast, []]
    assert one.faster_than_light == 2


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["x,1,2"], "id,lat,lon", r"no whole number.*row 0; found 'x'.*number the nodes"),
        (["1,1,2", "1,3,4"], "id,lat,lon", "two nodes of one id.*row 1; found 1"),
        (["1,1,2", "01,3,4"], "id,lat,lon", "two nodes of one id.*row 1; found 01"),
        (["1,1,2", "1.0,3,4"], "id,lat,lon", r"two nodes of one id.*row 1; found 1\.0"),
        (["1,1"], "id,lat", "expected lon; write --column lon=THEIRS"),
        (["1,1"], "id,lat,lon", "another length than the header.*found 2 cells"),
        ([], "id,lat,lon", "a file without nodes"),
    ],
)
def test_a_file_of_nodes_that_is_none_says_what_is_wrong(
    tmp_path: Path, lines: list[str], header: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        nodes_file(tmp_path, *lines, header=header)


def test_nodes_are_read_from_parquet_and_under_other_names(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    pq.write_table(pa.table({"number": [0, 1], "latitude": [1.0, None], "longitude": [2.0, None]}), path)
    table = read_nodes(path, {"id": "number"}, {"is_anchor": "true"}).probes
    assert table["probe_id"].to_pylist() == [0, 1]
    assert table["latitude"].to_pylist() == [1.0, None]
    assert table["is_anchor"].to_pylist() == [True, True]


# Recorded


@pytest.mark.recorded
def test_the_recorded_matrix_of_city_servers_is_read_as_it_is(recorded: Path) -> None:
    folder = recorded / "rtt" / "wondernetwork"
    columns = {
        "probe_id": "source", "target_id": "destination", "rtt_min_ms": "min", "rtt_avg_ms": "avg", "rtt_max_ms": "max",
        "rtt_mdev_ms": "mdev",
    }  # fmt: skip
    known = read_nodes(folder / "servers.csv", columns, {})
    one = TableSource(
        folder / "pings.csv.gz",
        nodes=known,
        columns=columns,
        constants={"af": "4", "timestamp": "2020-07-19"},
    )
    parsed = read(one)
    assert (parsed.records, one.of_itself, parsed.quarantined.num_rows) == (39695, 195, 0)
    assert (parsed.samples["sent"].null_count, parsed.samples["received"].null_count) == (39695, 39695)
    assert known.not_understood == ()
    assert (known.probes.num_rows, known.probes["country"].null_count) == (
        len((folder / "servers.csv").read_text().splitlines()) - 1,
        0,
    )
    met = one.nodes()
    assert (met.num_rows, met["latitude"].null_count) == (200, 4)
    place = {row["probe_id"]: (row["latitude"], row["longitude"]) for row in met.to_pylist()}
    impossible = 0
    for row in parsed.samples.to_pylist():
        here, there = place[row["probe_id"]], place[int(row["target"][5:])]
        if None not in (*here, *there):
            impossible += row["rtt_min_ms"] < fibre_rtt_ms(great_circle_km(*here, *there) - 2.0)
    assert one.faster_than_light == impossible > 0


def great_circle_km(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> float:
    """By the spherical law of cosines, unlike the code under test."""
    one, other, turn = (math.radians(x) for x in (latitude, other_latitude, other_longitude - longitude))
    cosine = math.sin(one) * math.sin(other) + math.cos(one) * math.cos(other) * math.cos(turn)
    return 6371.0088 * math.acos(min(1.0, cosine))
