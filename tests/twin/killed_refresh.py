"""A graph that is brought up to what the lake holds, landing by landing, to be killed by `tests.ingest.kills`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import EmptyError
from domain.provenance import Provenance
from ingest.lake import Lake
from ingest.parse import parse
from ingest.probes import probes_table
from kg.schema import EDGE_TYPES, FACT_TYPES, NODE_TYPES, PATH_SCORE, PATH_STATE
from kg.store import GraphStore, open_store
from qoe.profile import load_profile
from tests.ingest.kills import LAKE_PARTS, Work
from twin.building import build_graph, read_origins, summarise_lake
from twin.refresh import memory_file, refresh_graph

WINDOW = timedelta(hours=3)
_START_S = 1_557_705_600
_WINDOW_S = int(WINDOW.total_seconds())
_ADDRESSES = ("192.0.2.1", "192.0.2.2", "198.51.100.1", "203.0.113.1")


def content(store: GraphStore) -> dict[str, list[str]]:
    """All that a graph says; not who said it when."""
    said = set(Provenance.__dataclass_fields__) - {"synthetic"}

    def rows(table: Any) -> list[str]:
        return sorted(
            map(str, table.drop_columns([one for one in table.column_names if one in said]).to_pylist())
        )

    found = {node_type.label: rows(store.nodes(node_type)) for node_type in NODE_TYPES}
    found |= {edge_type.table: rows(store.edges(edge_type)) for edge_type in EDGE_TYPES}
    return found | {fact_type.label: rows(store.facts(fact_type)) for fact_type in FACT_TYPES}


def _ping(probe: int, at_s: int) -> dict[str, Any]:
    return {
        "type": "ping", "af": 4, "msm_id": 1001, "prb_id": probe, "timestamp": at_s, "dst_addr": "192.0.2.1",
        "sent": 1, "result": [{"rtt": 1.0 * probe + at_s % 7}],
    }  # fmt: skip


def _traceroute(probe: int, at_s: int) -> dict[str, Any]:
    path = _ADDRESSES[probe % 2 :: 2]
    return {
        "type": "traceroute", "af": 4, "msm_id": 5001, "prb_id": probe, "timestamp": at_s, "dst_addr": path[-1],
        "result": [{"hop": hop, "result": [{"from": address, "rtt": 1.0 * hop}]} for hop, address in enumerate(path, 1)],
    }  # fmt: skip


def _new(step: int) -> list[dict[str, Any]]:
    """What lands in a step: two windows of its own, and a probe that is late for those of the step before."""
    return [
        made
        for probe, windows in ((1, (0, 1)), (2, (0, 1)), (3 + step, (-1,)))
        for window in windows
        for at_s in (_START_S + (2 * step + window) * _WINDOW_S + 60 * probe,)
        for made in (_ping(probe, at_s), _traceroute(probe, at_s))
    ]


_STEPS = range(3)


def _begin(home: Path) -> None:
    (home / "prefixes.csv").write_text("prefix,asn\n192.0.2.0/24,64501\n198.51.100.0/24,64502\n")


def _run(home: Path) -> None:
    lake = Lake(home / "lake")
    origins = read_origins(home / "prefixes.csv")
    with open_store("sqlite", home, create=True) as store:
        for step in _STEPS:
            lake.land(parse(_new(step), "test"))
            if step == 1:  # what is known of probes changes, and everything is built again
                words = [{"id": probe, "asn_v4": 64_500, "country_code": "LB"} for probe in (1, 2)]
                lake.merge_probes(probes_table(words).table, datetime(2019, 5, 13, tzinfo=UTC))
            refresh_graph(lake, store, load_profile(), WINDOW, memory_file(home, WINDOW), origins=origins)


def _windows(facts: pa.Table) -> dict[datetime, int]:
    """How many facts each window has."""
    counts = pc.value_counts(facts["window_start"]).to_pylist()
    return {one["values"]: one["counts"] for one in counts}


def _underway(home: Path) -> list[str]:
    """A reader sees the graph as it was after some step, and never between two."""
    try:
        with open_store("sqlite", home, create=False) as store:
            states, scores = _windows(store.facts(PATH_STATE)), _windows(store.facts(PATH_SCORE))
    except EmptyError:
        return []
    found = []
    wholes = [
        {
            datetime.fromtimestamp(start_s, UTC): len(
                {
                    made["prb_id"]
                    for step in range(steps)
                    for made in _new(step)
                    if made["type"] == "ping" and made["timestamp"] // _WINDOW_S * _WINDOW_S == start_s
                }
            )
            for start_s in {
                made["timestamp"] // _WINDOW_S * _WINDOW_S for step in range(steps) for made in _new(step)
            }
        }
        for steps in range(len(_STEPS) + 1)
    ]
    if states not in wholes:
        found.append(f"a graph between two: {states}")
    if scores != {window: 5 * count for window, count in states.items()}:
        found.append(f"states and scores that are not of one another: {states}, {scores}")
    return found


def _wrong(home: Path) -> list[str]:
    """The graph is the one that is built at once, and there is nothing left to do."""
    lake, origins = Lake(home / "lake"), read_origins(home / "prefixes.csv")
    profile = load_profile()
    with (
        open_store("sqlite", home, create=False) as store,
        open_store("sqlite", home / "at once", create=True) as fresh,
    ):
        build_graph(summarise_lake(lake, WINDOW), fresh, profile, origins=origins)
        there, wanted = content(store), content(fresh)
        again = refresh_graph(lake, store, profile, WINDOW, memory_file(home, WINDOW), origins=origins)
    found = [
        f"{table}: {len(there[table])} rows that are not those {len(wanted[table])} of a graph that is built at once"
        for table in wanted
        if there[table] != wanted[table]
    ]
    found += [f"left to do, as it says: {again}"] if again is not None else []
    files = {file.relative_to(home).as_posix() for file in home.iterdir() if file.is_file()}
    files |= {file.relative_to(home).as_posix() for file in (home / "built").iterdir()}
    files -= {"graph.sqlite", "prefixes.csv", memory_file(home, WINDOW).relative_to(home).as_posix()}
    return found + ([f"strays: {files}"] if files else [])


REFRESH = Work(
    name="refresh",
    begin=_begin,
    run=_run,
    wrong=_wrong,
    wrong_underway=_underway,
    phases={
        "refresh": (("twin/refresh.py", ()),),
        "build": (("twin/building.py", ()), ("kg/sqlite_store.py", ()), ("kg/build.py", ()), *LAKE_PARTS),
    },
)
