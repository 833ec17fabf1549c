"""What the lake remembers of probes: who was where, since when and until when."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError, StoreError
from domain.place import distance_km
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.places import BLUR_KM
from ingest.probe_words import HISTORY_SCHEMA, PROBE_SCHEMA
from ingest.probes import probes_table

Word = dict[str, Any]


def day(number: int) -> datetime:
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)


def say(lake: Lake, when: int, *words: Word) -> int:
    return lake.merge_probes(probes_table([{"id": 5} | word for word in words]).table, day(when))


def history(lake: Lake, relation: str, *names: str) -> list[tuple[Any, ...]]:
    """The rows of a relation: the columns named, then from and until as numbers of days."""
    table = lake.probe_history()
    assert table.schema == HISTORY_SCHEMA

    def days(moment: datetime | None) -> int | None:
        return None if moment is None else (moment - day(0)).days

    return [
        (*(row[name] for name in names), days(row["valid_from"]), days(row["valid_to"]))
        for row in table.to_pylist()
        if row["relation"] == relation
    ]


def test_a_run_of_equal_words_ends_where_another_begins_and_silence_ends_none(lake: Lake) -> None:
    say(lake, 1, {"asn_v4": 64500, "country_code": "LB"})
    say(lake, 2, {"country_code": "LB"})  # says nothing of the network
    say(lake, 3, {"asn_v4": 64500})
    say(lake, 4, {"asn_v4": 64501, "asn_v6": 64502})
    say(lake, 5, {"asn_v4": 64500})
    assert history(lake, "network", "probe_id", "af", "asn") == [
        (5, 4, 64500, None, 4),
        (5, 4, 64501, 4, 5),
        (5, 4, 64500, 5, None),
        (5, 6, 64502, None, None),
    ]
    assert history(lake, "country", "country") == [("LB", None, None)]
    assert lake.probes()["asn_v4"].to_pylist() == [64500]


def test_a_list_that_is_read_late_takes_its_place_in_time(lake: Lake) -> None:
    say(lake, 9, {"asn_v4": 64509})
    assert say(lake, 3, {"asn_v4": 64503}) == 0  # nothing new is known of now
    assert history(lake, "network", "asn") == [(64503, None, 9), (64509, 9, None)]
    assert lake.probes()["asn_v4"].to_pylist() == [64509]


def test_a_position_is_one_word_and_a_move_within_its_blur_is_none(lake: Lake) -> None:
    say(lake, 1, {"latitude": 33.9, "longitude": 35.5})
    say(lake, 2, {"latitude": 33.905, "longitude": 35.5})  # 560 m
    say(lake, 3, {"latitude": 33.905})  # half a position
    say(lake, 4, {"latitude": 33.92, "longitude": 35.5})  # 1.7 km
    assert history(lake, "place", "latitude", "longitude") == [
        (33.905, 35.5, None, 4),
        (33.92, 35.5, 4, None),
    ]


def test_the_blur_is_measured_on_the_globe_across_the_date_line_and_at_the_pole(lake: Lake) -> None:
    say(lake, 1, {"latitude": 0.0, "longitude": 179.999})
    say(lake, 2, {"latitude": 0.0, "longitude": -179.999})
    say(lake, 3, {"latitude": 90.0, "longitude": 0.0})
    say(lake, 4, {"latitude": 90.0, "longitude": 180.0})
    assert [row[-2:] for row in history(lake, "place")] == [(None, 3), (3, None)]


def test_a_prefix_is_the_words_of_an_address_whichever_probe_has_it(lake: Lake) -> None:
    for when, probe, address, prefix in (
        (1, 5, "192.0.2.5", "192.0.2.0/24"),
        (2, 6, "192.0.2.5", "192.0.0.0/16"),
        (3, 5, "192.0.2.9", "192.0.2.0/24"),
        (4, 7, "192.0.2.7", None),
        (5, 8, None, "198.51.100.0/24"),
    ):
        say(lake, when, {"id": probe, "address_v4": address, "prefix_v4": prefix})
    assert history(lake, "address", "probe_id", "address") == [
        (5, "192.0.2.5", None, 3),
        (5, "192.0.2.9", 3, None),
        (6, "192.0.2.5", None, None),
        (7, "192.0.2.7", None, None),
    ]
    assert history(lake, "prefix", "probe_id", "address", "prefix") == [
        (None, "192.0.2.5", "192.0.2.0/24", None, 2),
        (None, "192.0.2.5", "192.0.0.0/16", 2, None),
        (None, "192.0.2.9", "192.0.2.0/24", None, None),
    ]


def test_the_same_list_as_of_the_same_time_is_kept_once_and_a_time_needs_a_zone(lake: Lake) -> None:
    assert say(lake, 1, {"asn_v4": 64500}, {"id": 6, "asn_v4": 64501}) == 2
    files = {file: file.stat().st_mtime_ns for file in lake.files(Kind.PROBE)}
    assert say(lake, 1, {"id": 6, "asn_v4": 64501}, {"asn_v4": 64500}) == 0
    assert {file: file.stat().st_mtime_ns for file in lake.files(Kind.PROBE)} == files
    with pytest.raises(InputError, match="zone"):
        lake.merge_probes(probes_table([{"id": 5}]).table, datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_what_was_synthetic_once_is_synthetic_in_all_its_history(lake: Lake) -> None:
    say(lake, 1, {"asn_v4": 64500, "country_code": "LB"}, {"id": 6, "asn_v4": 64500})
    say(lake, 2, {"asn_v4": 64501, "synthetic": True})
    rows = lake.probe_history().to_pylist()
    assert {(row["probe_id"], row["synthetic"]) for row in rows} == {(5, True), (6, False)}


def old_lake(lake: Lake, written: datetime, *words: Word) -> Path:
    """A table of probes as it was kept before there was a history."""
    path = lake.folder / "probe" / "probes.parquet"
    path.parent.mkdir()
    table = probes_table(words).table
    assert table.schema == PROBE_SCHEMA
    table = table.drop_columns(["host"])  # of nodes of tables, which came later
    pq.write_table(table.replace_schema_metadata({b"qoetwin_schema": b"probe/1"}), path)
    os.utime(path, (written.timestamp(), written.timestamp()))
    return path


def test_a_lake_of_before_the_history_is_read_as_of_when_its_table_was_written(lake: Lake) -> None:
    path = old_lake(lake, day(3), {"id": 5, "asn_v4": 64503}, {"id": 6, "country_code": "LB"})
    assert lake.probes()["probe_id"].to_pylist() == [5, 6]
    assert history(lake, "network", "asn") == [(64503, None, None)]
    say(lake, 1, {"asn_v4": 64501})
    say(lake, 5, {"asn_v4": 64505})
    assert history(lake, "network", "asn") == [(64501, None, 3), (64503, 3, 5), (64505, 5, None)]
    assert lake.query("SELECT count(*) AS n FROM probe_word")["n"].to_pylist() == [4]
    assert not path.exists()  # it was taken over


def test_a_list_of_before_nodes_had_hosts_is_read(lake: Lake) -> None:
    say(lake, 1, {"asn_v4": 64501})
    (path,) = lake.files(Kind.PROBE)
    old = pq.read_table(path, partitioning=None).drop_columns(["host"])
    pq.write_table(old.replace_schema_metadata({b"qoetwin_schema": b"probe/2"}), path)
    (lake.folder / "manifest.sqlite").unlink()  # as there was none then
    say(lake, 2, {"asn_v4": 64502, "host": "a machine"})
    assert history(lake, "network", "asn") == [(64501, None, 2), (64502, 2, None)]
    assert lake.probes()["host"].to_pylist() == ["a machine"]


def test_the_status_of_a_probe_has_a_history(lake: Lake) -> None:
    for at, word in ((1, "Connected"), (2, "Connected"), (3, "Disconnected"), (4, None), (5, "Connected")):
        say(lake, at, {"status_name": word})
    assert history(lake, "status", "status") == [
        ("Connected", None, 3),
        ("Disconnected", 3, 5),
        ("Connected", 5, None),
    ]


def test_a_damaged_table_of_before_the_history_is_named(lake: Lake) -> None:
    path = old_lake(lake, day(3), {"id": 5, "asn_v4": 64503})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(StoreError, match="damaged") as error:
        lake.probes()
    assert error.value.where == str(path)


def test_a_run_that_dies_while_words_are_written_shows_none_of_them_and_the_next_completes_it(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(lake, 1, {"asn_v4": 64500})

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            say(lake, 2, {"asn_v4": 64501})
    assert history(lake, "network", "asn") == [(64500, None, None)]
    assert say(lake, 2, {"asn_v4": 64501}) == 1
    assert history(lake, "network", "asn") == [(64500, None, 2), (64501, 2, None)]
    assert not list(lake.folder.rglob("*.partial"))


def test_an_empty_lake_has_an_empty_history(lake: Lake) -> None:
    assert lake.probe_history() == HISTORY_SCHEMA.empty_table()


def _flat(one: Word) -> Word:
    latitude, longitude = one.get("place", (None, None))
    place = {} if latitude is None else {"latitude": latitude, "longitude": longitude}
    return {name: value for name, value in one.items() if name != "place"} | place


_places = st.sampled_from([(33.9, 35.5), (33.905, 35.5), (33.91, 35.5), (52.0, 5.0)])
_word = st.fixed_dictionaries(
    {"id": st.integers(1, 2)},
    optional={
        "asn_v4": st.integers(64500, 64502),
        "country_code": st.sampled_from(["LB", "NL"]),
        "address_v4": st.sampled_from(["192.0.2.5", "192.0.2.6"]),
        "prefix_v4": st.sampled_from(["192.0.2.0/24", "192.0.0.0/16"]),
        "place": _places,
    },
).map(_flat)
_lists = st.lists(
    st.tuples(st.integers(0, 4), st.lists(_word, min_size=1, max_size=3)), min_size=1, max_size=5
)


def merged(folder: Path, lists: list[tuple[int, list[Word]]]) -> Lake:
    lake = Lake(folder)
    for when, words in lists:
        say(lake, when, *words)
    return lake


@settings(max_examples=10)
@given(lists=_lists, data=st.data())
def test_history_and_latest_words_do_not_depend_on_the_order_in_which_lists_are_read(
    tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[int, list[Word]]], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(lists))
    one, two = (merged(tmp_path_factory.mktemp("lake"), order) for order in (lists, other))
    assert one.probe_history() == two.probe_history()
    assert one.probes() == two.probes()


@settings(max_examples=10)
@given(lists=_lists)
def test_history_is_what_plain_python_makes_of_the_words(
    tmp_path_factory: pytest.TempPathFactory, lists: list[tuple[int, list[Word]]]
) -> None:
    lake = merged(tmp_path_factory.mktemp("lake"), lists)
    said: dict[tuple[Any, ...], dict[int, Any]] = {}
    for when, words in lists:
        at_once: dict[int, Word] = {}
        for word in words:  # of one probe in one list the later word counts
            at_once[word["id"]] = at_once.get(word["id"], {}) | word
        for probe, word in at_once.items():
            stated: dict[tuple[Any, ...], Any] = {
                ("network", probe): word.get("asn_v4"),
                ("country", probe): word.get("country_code"),
            }
            stated["address", probe] = word.get("address_v4")
            if "latitude" in word:
                stated["place", probe] = (word["latitude"], word["longitude"])
            if "address_v4" in word:
                stated["prefix", word["address_v4"]] = word.get("prefix_v4")
            for owner, value in stated.items():
                if value is not None:  # of two lists of one time the greater counts
                    at = said.setdefault(owner, {})
                    at[when] = max(at.get(when, value), value)
    expected = []
    for (relation, owner), at in said.items():
        runs: list[list[Any]] = []
        for when in sorted(at):
            if not runs or (
                distance_km(*runs[-1][0], *at[when]) >= BLUR_KM
                if relation == "place"
                else runs[-1][0] != at[when]
            ):
                runs.append([at[when], when if runs else None])
            runs[-1][0] = at[when]
        ends = [run[1] for run in runs[1:]] + [None]
        expected += [(relation, owner, run[0], run[1], end) for run, end in zip(runs, ends, strict=True)]
    found = []
    for row in lake.probe_history().to_pylist():
        owner = row["address"] if row["relation"] == "prefix" else row["probe_id"]
        value = {
            "network": row["asn"],
            "place": (row["latitude"], row["longitude"]),
            "country": row["country"],
            "address": row["address"],
            "prefix": row["prefix"],
        }[row["relation"]]
        days = [None if row[n] is None else (row[n] - day(0)).days for n in ("valid_from", "valid_to")]
        found.append((row["relation"], owner, value, *days))
    assert sorted(found, key=repr) == sorted(expected, key=repr)


@pytest.mark.recorded
def test_recorded_lists_of_two_times_have_a_history_of_every_probe(recorded: Path, lake: Lake) -> None:
    from ingest.probes import read_probes

    names = (
        "probes/probes.csv.gz",
        "probes/emileaben-atlas-mesh-msm_state-2023.json.gz",
        "mesh/anchors.json.gz",
    )
    for when, name in enumerate(names):
        lake.merge_probes(read_probes(recorded / "atlas" / name).table, day(when))
    rows = pa.table(lake.probe_history())
    known = lake.probes()
    places = {
        row["probe_id"]: row
        for row in rows.to_pylist()
        if row["relation"] == "place" and row["valid_to"] is None
    }
    for row in known.to_pylist():
        place = places.get(row["probe_id"])
        assert (place is None) == (row["latitude"] is None)
        if place is not None:
            assert (place["latitude"], place["longitude"]) == (row["latitude"], row["longitude"])
