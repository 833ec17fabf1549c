"""The data's way: what learning may know of the topology, and what each room needs to be imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from domain.errors import InputError
from domain.progress import unheard
from domain.provenance import Provenance
from domain.selection import Selection
from gnn.protocols import protocol_named
from ingest.lake import Lake
from ingest.parse import parse
from ingest.probes import probes_table
from kg.check import check
from kg.history import differences
from kg.schema import (
    ASSIGNED,
    COUNTRY_SCORE,
    EDGE_TYPES,
    HAD_STATUS,
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
from twin.building import build_graph, read_origins, summarise_lake
from twin.ingestion import ingest_table
from twin.learning import export

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
        before = export(store, Selection(), rule)
        first_not_fitted = int(rule.splits(before, seed=0)[0].validation.windows.min())
        for number, slot in enumerate(range(first_not_fitted, 24)):
            see(f"192.0.2.{100 + number}", slot)
        after = export(store, Selection(), rule)
        see("192.0.2.50", first_not_fitted - 1)
        in_time = export(store, Selection(), rule)
    assert np.array_equal(before.target_end.centrality, after.target_end.centrality)
    assert before.target_end.centrality[0, 0] == 1.0
    assert in_time.target_end.centrality[0, 0] == 2.0


def test_only_those_who_ask_the_api_need_cousteau() -> None:
    script = "import sys; sys.modules['ripe'] = None; import app.cli, twin.pipeline, twin.qoe, gnn.registry"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_baselines_are_learned_without_torch(built: Path) -> None:
    arguments = [
        "compare",
        "--protocol",
        "forecast",
        "--models",
        "last-value,ewma",
        "--quick",
        "--home",
        str(built),
    ]
    script = f"""
        import sys
        from app.cli import main
        sys.argv = ["qoetwin", *{arguments}]
        try:
            main()
        finally:
            print("torch" in sys.modules)
    """
    ran = subprocess.run([sys.executable, "-c", dedent(script)], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "False"


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


SAMPLES = """from,to,mean,when
0,1,60.5,2020-07-19T00:10:00Z
0,1,61.5,2020-07-19T00:20:00Z
1,0,62.0,2020-07-19T00:10:00Z
1,2,0.5,2020-07-19T00:10:00Z
1,1,0.1,2020-07-19T00:10:00Z
"""
NODES = """id,lat,lon,asn,country,address,host
0,33.89,35.50,64500,LB,,beirut
1,52.37,4.90,64501,NL,192.0.2.1,amsterdam
2,-33.87,151.21,64502,AU,,sydney
"""
COLUMNS = {"probe_id": "from", "target_id": "to", "rtt_avg_ms": "mean", "timestamp": "when"}


def table(folder: Path) -> tuple[Path, Path]:
    samples, nodes = folder / "samples.csv", folder / "nodes.csv"
    samples.write_text(SAMPLES)
    nodes.write_text(NODES)
    return samples, nodes


def test_a_table_of_anybody_goes_the_whole_way_and_nothing_of_it_is_said_to_be_atlas_s(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    for observations in (5, 0):
        ingested = ingest_table(lake, *table(tmp_path), columns=COLUMNS, constants={"af": "4"})
        assert (ingested.landed.observations, ingested.landed.quarantined) == (observations, 0)
        assert (ingested.of_itself, ingested.faster_than_light, ingested.nodes) == (1, 1, 3)
    (tmp_path / "prefixes.csv").write_text("prefix,asn\n192.0.2.0/24,64501\n")
    with open_store("sqlite", tmp_path, create=True) as store:
        summary = summarise_lake(lake, H3)
        built = build_graph(summary, store, load_profile(), origins=read_origins(tmp_path / "prefixes.csv"))
        assert (built.states, built.results_faster_than_light, built.addresses_without_as) == (2, 1, 0)
        states = store.facts(PATH_STATE, with_provenance=True).to_pylist()
        assert [(row["probe_id"], row["target"], row["rtt_median_ms"], row["sent"]) for row in states] == [
            (0, "192.0.2.1", 61.0, None),
            (1, "node:0", 62.0, None),
        ]
        said_by = {row["reference_name"] for kind in EDGE_TYPES for row in store.edges(kind).to_pylist()}
        assert said_by == {"table", "prefixes", f"profile {load_profile().label}"}
        assert {(row["reference_name"], row["reference_org"]) for row in states} == {("table", "unknown")}
        assert {
            row["reference_name"] for row in store.facts(TARGET_STATE, with_provenance=True).to_pylist()
        } == {"table"}
        (there,) = store.pairs(Selection(targets=("node:0",))).to_pylist()
        assert (there["target_country"], there["target_asn"], there["target_probe_id"]) == ("LB", 64500, 0)
        assert store.pairs(Selection(prefixes=("192.0.2.0/24",)))["probe_id"].to_pylist() == [1]
        assert check(store, report=unheard) == []


def test_nodes_with_the_ids_of_probes_of_atlas_are_refused_before_they_land(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    lake.merge_probes(probes_table([{"id": 1}]).table, datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(
        InputError, match=r"ids of probes of Atlas.*found 1; .*home of its own \(--home DIR\)"
    ):
        ingest_table(lake, *table(tmp_path), columns=COLUMNS, constants={"af": "4"})
    assert lake.query("SELECT * FROM sample").num_rows == 0


def test_a_table_read_again_with_more_columns_of_samples_and_nodes_says_more(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    samples, nodes = table(tmp_path)
    samples.write_text("from,to,mean,when,xmt,got\n0,1,60.5,2020-07-19T00:10:00Z,10,8\n")
    nodes.write_text("id,lat,lon,land\n0,33.89,35.50,Lebanon\n1,52.37,4.90,Atlantis\n")
    first = ingest_table(lake, samples, nodes, columns=COLUMNS, constants={"af": "4"})
    assert (first.unread, first.unread_of_nodes) == (("xmt", "got"), ("land",))
    with open_store("sqlite", tmp_path, create=True) as store:
        build_graph(summarise_lake(lake, H3), store, load_profile())
        more = COLUMNS | {"sent": "xmt", "received": "got", "country": "land"}
        again = ingest_table(lake, samples, nodes, columns=more, constants={"af": "4"})
        assert (again.landed.duplicates, again.landed.completed, again.landed.differing) == (1, 1, 0)
        assert again.bad_node_values == ("row 1: country 'Atlantis'",)
        build_graph(summarise_lake(lake, H3), store, load_profile())
        (state,) = store.facts(PATH_STATE).to_pylist()
        assert (state["sent"], state["received"], state["loss_ratio"]) == (10, 8, 0.2)
        (pair,) = store.pairs(Selection()).to_pylist()
        assert (pair["probe_country"], pair["target_country"]) == ("LB", None)
    # without its file of nodes the table knows what was said of them before
    alone = ingest_table(lake, samples, columns=COLUMNS, constants={"af": "4"})
    assert (alone.landed.duplicates, alone.nodes_without_position) == (1, 0)


def test_a_node_is_one_target_whether_or_not_its_address_is_said_again(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    samples, nodes = table(tmp_path)
    named = {"columns": COLUMNS, "constants": {"af": "4"}}
    ingest_table(lake, samples, nodes, **named)
    assert ingest_table(lake, samples, **named).landed.observations == 0
    nodes.write_text(NODES.replace("LB,,", "LB,192.0.2.9,"))
    with pytest.raises(
        InputError, match=r"before its address was known.*found node:0, and now 192\.0\.2\.9.*--home DIR"
    ):
        ingest_table(lake, samples, nodes, **named)
    assert lake.query("SELECT * FROM sample").num_rows == 5


def test_columns_of_nodes_without_a_file_of_nodes_are_refused(tmp_path: Path) -> None:
    samples, _ = table(tmp_path)
    with pytest.raises(
        InputError, match=r"a column of nodes, and no file of nodes; found country; .*--nodes FILE"
    ):
        ingest_table(
            Lake(tmp_path / "lake"), samples, columns=COLUMNS, constants={"af": "4", "country": "LB"}
        )


def test_scores_and_networks_of_places_are_of_where_the_probe_was_then(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    node = {"id": 0, "address_v4": None, "asn_v4": 64500, "country": "LB", "lat": 33.89, "lon": 35.5}
    first = datetime(2020, 7, 19, tzinfo=UTC)
    moved = node | {"country": "SY", "asn_v4": 64999}
    record = {
        "type": "ping", "msm_id": 1, "prb_id": 7, "af": 4, "dst_addr": "192.0.2.1", "dst_name": "192.0.2.1", "fw": 5000,
        "sent": 3, "rcvd": 3, "min": 1.0, "avg": 2.0, "max": 3.0, "result": [{"rtt": 1.0}, {"rtt": 2.0}, {"rtt": 3.0}],
    }  # fmt: skip
    days = [first + timedelta(days=n) for n in range(4)]
    lake.land(parse([record | {"timestamp": int(day.timestamp())} for day in days], "test"))
    lake.merge_probes(probes_table([node | {"id": 7, "status": "Connected"}]).table, first)
    lake.merge_probes(
        probes_table([moved | {"id": 7, "status": "Abandoned"}]).table, first + timedelta(days=2)
    )
    with open_store("sqlite", tmp_path, create=True) as store:
        build_graph(summarise_lake(lake, H3), store, load_profile())
        found = {(row["country_code"], row["window_start"]) for row in store.facts(COUNTRY_SCORE).to_pylist()}
        assert found == {("LB", days[0]), ("LB", days[1]), ("SY", days[2]), ("SY", days[3])}
        for day, status in ((days[1], "Connected"), (days[3], "Abandoned")):
            assert store.edges(HAD_STATUS, at=day)["target"].to_pylist() == [status]
        changed = differences(store, days[1], days[3], most=10)
        (row,) = (one for one in changed.rows if one.type == HAD_STATUS.table)
        assert (row.before, row.after) == ("Connected", "Abandoned")
