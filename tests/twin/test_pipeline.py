"""The data's way: what learning may know of the topology, and what each room needs to be imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.provenance import Provenance
from domain.selection import Selection
from gnn.protocols import protocol_named
from ingest.lake import Lake
from ingest.parse import parse
from ingest.probes import probes_table
from kg.schema import (
    ASSIGNED,
    COUNTRY_SCORE,
    EDGE_TYPES,
    NEXT_HOP,
    PART_OF_PREFIX,
    PATH_SCORE,
    PATH_STATE,
    REQUIRES,
    TARGET_STATE,
)
from kg.store import open_store
from kg.tables import TIME, fact_schema
from qoe.profile import load_profile
from tests.twin.test_qoe import SAID, T0, state
from twin.pipeline import build_graph, export, read_origins, summarise_lake

H3 = timedelta(hours=3)


def test_learning_knows_no_hop_that_was_first_seen_after_the_windows_it_is_fitted_on(tmp_path: Path) -> None:
    rows = [state(1, "192.0.2.1", slot, 10.0 + slot, 0.0, 1.0) for slot in range(24)]
    with open_store("sqlite", tmp_path, create=True) as store:
        store.put_facts(PATH_STATE, pa.Table.from_pylist(rows, fact_schema(PATH_STATE)), SAID)
        store.upsert_edges(ASSIGNED, pa.table({"source": ["192.0.2.9"], "target": [1], "af": [4]}), SAID)

        def see(source: str, slot: int) -> None:
            seen = pa.array([T0 + slot * H3], TIME)
            hop = {"source": [source], "target": ["192.0.2.1"], "traceroutes": [1]}
            store.upsert_edges(NEXT_HOP, pa.table(hop | {"first_seen": seen, "last_seen": seen}), SAID)

        see("192.0.2.9", 0)
        rule = protocol_named("forecast")
        before, split = export(store, Selection(), rule)
        first_not_fitted = int(split.validation.windows.min())
        for number, slot in enumerate(range(first_not_fitted, 24)):
            see(f"192.0.2.{100 + number}", slot)
        after, _ = export(store, Selection(), rule)
        see("192.0.2.50", first_not_fitted - 1)
        in_time, _ = export(store, Selection(), rule)
    assert np.array_equal(before.target_end.centrality, after.target_end.centrality)
    assert before.target_end.centrality[0, 0] == 1.0
    assert in_time.target_end.centrality[0, 0] == 2.0


def test_only_those_who_ask_the_api_need_cousteau() -> None:
    script = "import sys; sys.modules['ripe'] = None; import app.cli, twin.pipeline, twin.qoe, gnn.registry"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_edge_of_a_synthetic_graph_says_so_and_who_said_it(built: Path) -> None:
    with open_store("sqlite", built, create=False) as store:
        met = 0
        for edge_type in EDGE_TYPES:
            if (
                edge_type is REQUIRES
            ):  # what an application requires is the profile's word, and no measurement
                continue
            for row in store.edges(edge_type).select(list(Provenance.__dataclass_fields__)).to_pylist():
                met += 1
                assert row["synthetic"] is True
                assert row["reference_org"] == "qoetwin testbed (synthetic)"
                assert row["reference_name"].startswith("testbed.")
                assert row["reference_time_fetch"] is not None
    assert met > 100


# What is derived is of all there is, and of nothing that is no more


def ping(probe: int, **changes: Any) -> dict[str, Any]:
    return {
        "type": "ping", "af": 4, "msm_id": 1001, "prb_id": probe, "timestamp": int(T0.timestamp()),
        "dst_addr": "192.0.2.1", "sent": 1, "result": [{"rtt": 10.0}],
    } | changes  # fmt: skip


def lake_of(folder: Path, *records: dict[str, Any]) -> Lake:
    lake = Lake(folder)
    assert lake.land(parse(records, "test")).quarantined == 0
    probes = [{"id": probe, "asn_v4": 64500, "country_code": "LB"} for probe in (1, 2)]
    lake.merge_probes(probes_table(probes).table, T0)
    return lake


def test_what_paths_have_in_common_is_of_real_and_synthetic_ones_and_says_that_it_is_not_all_real(
    tmp_path: Path,
) -> None:
    lake = lake_of(tmp_path / "lake", ping(1), ping(2, synthetic=True))
    with open_store("sqlite", tmp_path, create=True) as store:
        build_graph(summarise_lake(lake, H3), store, load_profile())
        (target,) = store.facts(TARGET_STATE, with_provenance=True).to_pylist()
        (country, *_) = store.facts(COUNTRY_SCORE, with_provenance=True).to_pylist()
        by_probe = {row["probe_id"]: row["synthetic"] for row in store.facts(PATH_STATE).to_pylist()}
        said = (
            store.facts(PATH_SCORE, with_provenance=True).select(["probe_id", "reference_name"]).to_pylist()
        )
    assert target["paths"] == country["paths"] + country["paths_without_score"] == 2
    assert target["synthetic"] is country["synthetic"] is True
    assert by_probe == {1: False, 2: True}
    assert {(row["probe_id"], row["reference_name"]) for row in said} == {
        (1, "atlas.ping"),
        (2, "testbed.atlas.ping"),
    }


def test_building_again_changes_nothing_also_with_a_list_of_prefixes_that_is_read_again(
    tmp_path: Path,
) -> None:
    lake = lake_of(tmp_path / "lake", ping(1), ping(2))  # and no traceroute
    (tmp_path / "prefixes.csv").write_text("prefix,asn\n192.0.2.0/24,64501\n")
    with open_store("sqlite", tmp_path, create=True) as store:
        revisions = []
        for _ in range(2):
            origins = read_origins(tmp_path / "prefixes.csv")
            build_graph(summarise_lake(lake, H3), store, load_profile(), origins=origins)
            revisions.append(store.revision())
        (within,) = store.edges(PART_OF_PREFIX).to_pylist()
    assert revisions[0] == revisions[1]
    assert (within["source"], within["target"], within["method"]) == (
        "192.0.2.1",
        "192.0.2.0/24",
        "longest prefix match",
    )


def test_one_clock_that_is_years_ahead_makes_no_other_window_old(tmp_path: Path) -> None:
    lake = lake_of(tmp_path / "lake", ping(1), ping(2, timestamp=4_070_908_800))
    recently = int(datetime.now(UTC).timestamp()) - 86_400
    lake.land(parse([ping(1, timestamp=recently)], "test"))
    kept = summarise_lake(lake, H3, keep=timedelta(days=7)).states
    assert [year for year in pc.year(kept["window_start"]).to_pylist() if year < 2099] == [
        datetime.fromtimestamp(recently, UTC).year
    ]
