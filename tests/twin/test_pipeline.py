"""The data's way: what learning may know of the topology, and what each room needs to be imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from domain.provenance import Provenance
from domain.selection import Selection
from gnn.protocols import protocol_named
from kg.schema import ASSIGNED, EDGE_TYPES, NEXT_HOP, PATH_STATE, REQUIRES
from kg.store import open_store
from kg.tables import TIME, fact_schema
from tests.twin.test_qoe import SAID, T0, state
from twin.pipeline import export

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
