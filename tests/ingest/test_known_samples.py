"""Samples that are read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.observation import Doubt
from ingest.batch import SAMPLE_SCHEMA, Parsed
from ingest.lake import Lake, Landed
from ingest.lake_files import Kind
from ingest.summarise import summarise

NOON = datetime(2020, 7, 19, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def sample(**changes: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(SAMPLE_SCHEMA.names)
    said = {"probe_id": 0, "target": "node:1", "af": 4, "timestamp": NOON, "rtt_avg_ms": 20.0}
    return unknown | said | {"doubts": [], "synthetic": False} | changes


def land(lake: Lake, *samples: dict[str, Any]) -> Landed:
    return lake.land(Parsed(samples=pa.Table.from_pylist(list(samples), SAMPLE_SCHEMA)))


def in_lake(lake: Lake) -> list[dict[str, Any]]:
    return list(lake.query("SELECT * FROM sample ORDER BY probe_id, timestamp").to_pylist())


def test_a_sample_that_says_more_takes_the_place_of_the_one_that_is_known(lake: Lake) -> None:
    others = [sample(probe_id=7), sample(timestamp=NOON + timedelta(days=1))]
    land(lake, sample(), *others)
    head = lake.manifest.head()
    fuller = sample(sent=10, received=8, rtt_min_ms=19.0)
    assert land(lake, fuller) == Landed(results_read=1, duplicates=1, completed=1)
    assert in_lake(lake) == [fuller, others[1], others[0]]
    assert summarise(lake, HOUR)["loss_ratio"].to_pylist() == [0.2, None, None]
    hour = int(NOON.timestamp()) // 3600
    assert lake.manifest.touched_since(head) == {"sample": [hour]}  # and so the graph is built again there
    assert land(lake, fuller, sample()) == Landed(results_read=2, duplicates=2)
    assert sum(file.rows for file in lake.manifest.files(Kind.SAMPLE)) == len(in_lake(lake)) == 3


@pytest.mark.parametrize(
    "other",
    [{"rtt_avg_ms": 21.0}, {"rtt_avg_ms": 21.0, "sent": 5}, {"rtt_avg_ms": None, "rtt_min_ms": 5.0}],
)
def test_a_sample_that_says_otherwise_stays_out_and_is_counted(lake: Lake, other: dict[str, Any]) -> None:
    land(lake, sample(rtt_max_ms=30.0))
    assert land(lake, sample(**other)) == Landed(results_read=1, duplicates=1, differing=1)
    assert in_lake(lake) == [sample(rtt_max_ms=30.0)]


def test_samples_of_one_time_in_one_file_are_one_and_the_others_are_counted(lake: Lake) -> None:
    landed = land(lake, sample(), sample(rtt_avg_ms=21.0), sample(), sample(rtt_avg_ms=22.0), sample(sent=3))
    assert landed == Landed(results_read=5, observations=1, duplicates=4, completed=0, differing=2)
    assert in_lake(lake) == [sample(sent=3)]


def test_a_doubt_that_is_found_later_is_added_and_none_is_taken_back(lake: Lake) -> None:
    land(lake, sample(doubts=[str(Doubt.CLOCK_AHEAD)]))
    assert land(lake, sample(doubts=[str(Doubt.OF_ITSELF)])).completed == 1
    assert in_lake(lake)[0]["doubts"] == [str(Doubt.CLOCK_AHEAD), str(Doubt.OF_ITSELF)]
    assert land(lake, sample()).completed == 0
    assert in_lake(lake)[0]["doubts"] == [str(Doubt.CLOCK_AHEAD), str(Doubt.OF_ITSELF)]


def test_a_sample_of_itself_is_kept_and_in_no_state(lake: Lake) -> None:
    land(lake, sample(target="node:0", doubts=[str(Doubt.OF_ITSELF)]), sample())
    assert len(in_lake(lake)) == 2
    assert summarise(lake, HOUR)["target"].to_pylist() == ["node:1"]


STATED = ("sent", "rtt_avg_ms", "utilisation_ratio")
READING = st.tuples(*([st.one_of(st.none(), st.just(1), st.just(1), st.just(0))] * len(STATED)))


@settings(max_examples=30, deadline=None)
@given(readings=st.lists(READING, min_size=1, max_size=5))
def test_whatever_is_read_again_nothing_is_taken_back_and_all_that_is_new_is_taken_or_counted(
    tmp_path_factory: pytest.TempPathFactory, readings: list[tuple[int | None, ...]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    known: tuple[int | None, ...] | None = None
    for reading in readings:
        landed = land(lake, sample(**dict(zip(STATED, reading, strict=True))))
        if known is None:
            expected, known = (1, 0, 0), reading
        elif all(new is None or new == old for new, old in zip(reading, known, strict=True)):
            expected = (0, 0, 0)
        elif all(old is None or new == old for new, old in zip(reading, known, strict=True)):
            expected, known = (0, 1, 0), reading
        else:
            expected = (0, 0, 1)
        assert (landed.observations, landed.completed, landed.differing) == expected
        assert tuple(in_lake(lake)[0][name] for name in STATED) == known
