"""All recorded results, ingested: as many as are there, each once; so what identifies a result tells all of them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.lake import Lake
from ingest.lake_files import IDENTITY, Kind
from twin.ingestion import ingest_files

pytestmark = pytest.mark.recorded

SETS = {
    "builtin-2019": ("*.bz2", 68_191, 9_089),
    "regional-2019": ("*.bz2", 173_391, 40_700),
    "mesh": ("results.ndjson.gz", 1_000, 1_000),
}
"""Set -> its files of results, and how many pings and traceroutes its description says there are."""


def test_every_recorded_result_lands_once_and_a_second_time_none(recorded: Path, lake: Lake) -> None:
    for name, (pattern, pings, traceroutes) in SETS.items():
        before = {kind: rows(lake, kind) for kind in (Kind.PING, Kind.TRACEROUTE)}
        files = sorted((recorded / "atlas" / name).glob(pattern))
        done = ingest_files(lake, files)
        assert done.failures == ()
        assert (done.landed.results_read, done.landed.quarantined) == (pings + traceroutes, 0)
        assert done.landed.duplicates == 0  # no two results have the same identity
        assert rows(lake, Kind.PING) - before[Kind.PING] == pings
        assert rows(lake, Kind.TRACEROUTE) - before[Kind.TRACEROUTE] == traceroutes
        again = ingest_files(lake, files)
        assert (again.landed.duplicates, again.landed.observations) == (pings + traceroutes, 0)


def test_the_fixtures_land_too_but_for_the_one_of_another_type(recorded: Path, lake: Lake) -> None:
    done = ingest_files(lake, sorted((recorded / "atlas" / "fixtures").iterdir()))
    assert done.failures == ()
    assert (done.landed.observations, done.landed.duplicates) == (57, 0)
    assert (done.landed.quarantined, done.landed.other_types) == (1, 1)


def rows(lake: Lake, kind: Kind) -> int:
    names = ", ".join(IDENTITY[kind])
    answer = lake.query(f"SELECT count(*) AS n, count(DISTINCT ({names})) AS identities FROM {kind}")  # noqa: S608
    (found,) = answer.to_pylist()
    assert found["n"] == found["identities"]
    return int(found["n"])
