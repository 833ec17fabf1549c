"""The whole way on two days of recorded measurements, checked against computations that share no code with it.

The oracles: ripe.atlas.sagan for the RTT of packets, a short count over the raw JSON for loss (sagan's own loss is
defined otherwise), a pencil for one score.
"""

from __future__ import annotations

import bz2
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ripe.atlas.sagan import PingResult

from domain.application import Application
from domain.selection import Selection
from gnn.artefact import load
from ingest.lake import Lake, Landed
from kg.arrays import path_arrays
from kg.schema import EDGE_TYPES, FACT_TYPES, NODE_TYPES, PATH_STATE
from kg.store import STORES, GraphStore
from qoe.profile import load_profile
from tests.places import Place, empty_place
from twin.building import build_graph, summarise_lake
from twin.ingestion import ingest_files, load_probes
from twin.learning import train
from twin.qoe import GroupBy, qoe

pytestmark = pytest.mark.recorded

WINDOW = timedelta(hours=3)
DAYS = ("2019-05-13", "2019-05-14")
Key = tuple[int, str, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A home in which the whole way was gone, and where its graph is."""

    home: Path
    place: Place
    files: list[Path]
    landed: Landed
    records: list[dict[str, Any]]

    def pings(self) -> Iterator[tuple[Key, dict[str, Any]]]:
        """Raw pings with the pair and the window that they belong to."""
        window_s = int(WINDOW.total_seconds())
        for record in self.records:
            if record["type"] == "ping":
                start_s = record["timestamp"] // window_s * window_s
                target = ip_address(record["dst_addr"]).compressed
                yield (record["prb_id"], target, record["af"], start_s), record


@pytest.fixture(scope="module", params=list(STORES))
def way(request: pytest.FixtureRequest, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Way:
    home = tmp_path_factory.mktemp("home")
    place = empty_place(request.param, home, request)
    folder = recorded / "atlas" / "regional-2019"
    files = [folder / f"{kind}-{day}.ndjson.bz2" for day in DAYS for kind in ("ping", "traceroute")]
    lake = Lake(home / "lake")
    load_probes(lake, recorded / "atlas" / "probes" / "probes.csv.gz")
    ingested = ingest_files(lake, files)
    assert ingested.failures == ()
    with place.open() as store:
        build_graph(summarise_lake(lake, WINDOW), store, load_profile())
    records = [json.loads(line) for file in files for line in bz2.decompress(file.read_bytes()).splitlines()]
    return Way(home=home, place=place, files=files, landed=ingested.landed, records=records)


@pytest.fixture
def store(way: Way) -> Iterator[GraphStore]:
    with way.place.open(create=False) as opened:
        yield opened


def states_by_key(store: GraphStore) -> dict[Key, dict[str, Any]]:
    return {
        (row["probe_id"], row["target"], row["af"], int(row["window_start"].timestamp())): row
        for row in store.facts(PATH_STATE).to_pylist()
    }


def test_every_record_is_counted_once(way: Way) -> None:
    assert way.landed.results_read == way.landed.observations == len(way.records)
    assert (way.landed.duplicates, way.landed.quarantined) == (0, 0)


def test_there_is_a_state_for_each_pair_and_window_that_was_measured_and_for_no_other(
    way: Way, store: GraphStore
) -> None:
    results: dict[Key, int] = defaultdict(int)
    for key, _ in way.pings():
        results[key] += 1
    assert {key: row["results"] for key, row in states_by_key(store).items()} == results


def test_the_rtt_of_every_state_is_what_sagan_reads_from_the_records(way: Way, store: GraphStore) -> None:
    packets: dict[Key, list[float]] = defaultdict(list)
    for key, record in way.pings():
        result = PingResult(record, on_error=PingResult.ACTION_IGNORE)
        packets[key] += [p.rtt for p in result.packets if p.rtt is not None and not p.dup]
    for key, row in states_by_key(store).items():
        rtts = packets[key]
        wanted = (statistics.mean(rtts), statistics.median(rtts), min(rtts)) if rtts else (None, None, None)
        # sagan rounds to a microsecond
        assert (row["rtt_mean_ms"], row["rtt_median_ms"], row["rtt_min_ms"]) == pytest.approx(
            wanted, abs=0.001
        ), key
        assert row["received"] == len(rtts)


def test_the_loss_of_every_state_is_a_short_count_over_the_raw_json(way: Way, store: GraphStore) -> None:
    sent: dict[Key, int] = defaultdict(int)
    received: dict[Key, int] = defaultdict(int)
    errors: dict[Key, int] = defaultdict(int)
    for key, record in way.pings():
        for reply in record["result"]:
            if "dup" in reply:
                continue
            errors[key] += "error" in reply
            sent[key] += "error" not in reply
            received[key] += "rtt" in reply
    lossy = 0
    for key, row in states_by_key(store).items():
        assert (row["sent"], row["received"], row["errors"]) == (sent[key], received[key], errors[key])
        wanted = None if sent[key] == 0 else (sent[key] - received[key]) / sent[key]
        assert row["loss_ratio"] == wanted
        lossy += sent[key] > received[key]
    assert lossy > 100, "these days have loss, or this test says nothing"


def test_the_jitter_of_every_state_is_the_mean_step_between_packets_answered_one_after_the_other(
    way: Way, store: GraphStore
) -> None:
    by_result: dict[Key, list[float]] = defaultdict(list)
    for key, record in way.pings():
        rtts = [reply.get("rtt") for reply in record["result"] if "dup" not in reply]
        steps = [
            abs(second - first)
            for first, second in pairwise(rtts)
            if first is not None and second is not None
        ]
        if steps:
            by_result[key].append(statistics.mean(steps))
    for key, row in states_by_key(store).items():
        wanted = statistics.mean(by_result[key]) if key in by_result else None
        assert row["jitter_ms"] == (None if wanted is None else pytest.approx(wanted, abs=1e-9))


def test_one_score_worked_out_by_hand(way: Way, store: GraphStore) -> None:
    record = next(r for k, r in way.pings() if k[:2] == (29198, "185.229.28.42"))
    first, second, third = (
        reply["rtt"] for reply in record["result"]
    )  # answered, all three, slower to faster
    median_ms = second
    jitter_ms = ((first - second) + (second - third)) / 2
    by_hand = 100 - 30 * median_ms / 500 - 20 * 0 / 0.15 - 50 * jitter_ms / 100  # Table I, VoIP
    at = datetime.fromtimestamp(record["timestamp"], tz=UTC)
    selection = Selection(probe_ids=(29198,), targets=("185.229.28.42",), at=at)
    (answer,) = qoe(store, [Application.VOIP], selection)
    assert answer.score == pytest.approx(by_hand)
    assert 94 < by_hand < 95
    assert answer.limiting_metric == "rtt"


def test_a_pair_that_was_never_measured_has_no_score_and_says_so(store: GraphStore) -> None:
    (answer,) = qoe(store, [Application.GAMING], Selection(probe_ids=(6217,), targets=("192.0.2.77",)))
    assert answer.score is None
    assert answer.reason is not None
    assert "never measured" in answer.reason


def test_going_the_way_twice_changes_nothing(way: Way, store: GraphStore) -> None:
    def everything() -> list[Any]:
        tables = [store.nodes(n) for n in NODE_TYPES] + [store.edges(e) for e in EDGE_TYPES]
        return [*tables, *(store.facts(f, with_provenance=True) for f in FACT_TYPES)]

    lake = Lake(way.home / "lake")
    files = {file: file.stat().st_mtime_ns for file in (way.home / "lake").rglob("*.parquet")}
    before = everything()
    again = ingest_files(lake, way.files).landed
    build_graph(summarise_lake(lake, WINDOW), store, load_profile())
    assert (again.observations, again.duplicates) == (0, len(way.records))
    assert {file: file.stat().st_mtime_ns for file in (way.home / "lake").rglob("*.parquet")} == files
    assert everything() == before


def test_export_training_and_answers_need_the_graph_and_no_lake(
    way: Way, store: GraphStore, tmp_path: Path
) -> None:
    lake, away = way.home / "lake", way.home / "moved-away"
    lake.rename(away)
    try:
        arrays = path_arrays(store, Selection())
        answers = qoe(store, list(Application), Selection(), group_by=GroupBy.COUNTRY)
        trained = train(store, "sage", "forecast", tmp_path / "model", selection=Selection(), quick=True)
    finally:
        away.rename(lake)
    sent = store.facts(PATH_STATE, values=("sent",))["sent"].to_numpy()
    assert arrays.sent.sum() == sent.sum()
    assert (arrays.sent > 0).sum() == np.count_nonzero(sent)
    assert {answer.application for answer in answers} == set(Application)
    assert trained.document["audit"]["passed"]
    assert {"last-value", "boosting-around", "sage"} <= {row["model"] for row in trained.document["rows"]}
    predictor, card = load(tmp_path / "model")
    assert (predictor.name, card.synthetic) == ("sage", False)
    took = {"fit_seconds": None, "predict_seconds": None, "peak_memory_mb": None}
    assert_as_on_other_stores("train", [{**row, **took} for row in trained.document["rows"]])


def test_every_store_holds_the_same_graph_and_gives_the_same_answers(store: GraphStore) -> None:
    assert_as_on_other_stores("nodes", {n.label: store.nodes(n) for n in NODE_TYPES})
    columns = {
        e: [p.name for p in e.columns] for e in EDGE_TYPES
    }  # without provenance: each was read at another time
    assert_as_on_other_stores(
        "edges", {e.table: store.edges(e).select(names) for e, names in columns.items()}
    )
    assert_as_on_other_stores("facts", {f.label: store.facts(f) for f in FACT_TYPES})
    for group in (None, GroupBy.COUNTRY, GroupBy.ASN, GroupBy.TARGET):
        assert_as_on_other_stores(f"qoe {group}", qoe(store, list(Application), Selection(), group_by=group))


_of_the_first: dict[str, object] = {}


def assert_as_on_other_stores(what: str, found: object) -> None:
    """Compare with what the first store gave; that one is held to the oracles above."""
    assert found == _of_the_first.setdefault(what, found)
