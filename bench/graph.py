"""The graph: how fast states are written, a window is read for learning, a neighbourhood is walked, on both stores.

Prints one JSON object. Every figure is a median of several runs; rates stand beside a named reference that writes the same
rows, timed in turn with ours. Neo4j is a real server, started for this as `make neo4j` does.
Seconds depend on the machine, ratios less so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from domain.credentials import Credentials
from domain.provenance import Provenance
from domain.selection import Selection
from kg.arrays import path_arrays
from kg.schema import ASSIGNED, ATLAS_PROBE, IN_COUNTRY, LOCATED_IN_AS, LOCATED_IN_POINT, PATH_STATE, POINT
from kg.store import GraphStore, open_store
from kg.tables import TIME, fact_schema

START = datetime(2026, 1, 5, tzinfo=UTC)
WINDOW_S = 3600
SAID = Provenance(
    reference_name="bench",
    reference_org="qoetwin bench",
    reference_url_data=None,
    reference_time_fetch=START,
    reference_time_modification=None,
    method=None,
    synthetic=True,
)


def main() -> None:
    parts = {
        "states": states_written,
        "window": window_to_tensors,
        "neighbours": neighbourhoods,
        "growth": growth,
        "testbed": whole_testbed,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=parts, action="append", help="these parts only")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    figures: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": sys.version.split()[0]},
        "runs": arguments.runs,
    }
    with tempfile.TemporaryDirectory(prefix="qoetwin-bench-") as scratch:
        for name in arguments.only or parts:
            figures[name] = parts[name](Path(scratch), arguments.runs)
    print(json.dumps(figures, indent=2))


# What is written


def states(probes: int, targets: int, window: int = 0, *, seed: int = 0) -> pa.Table:
    """States of every probe to so many targets, in one window."""
    chance = np.random.default_rng([seed, window])
    rows = probes * targets
    start_us = round(START.timestamp() * 1e6) + window * WINDOW_S * 1_000_000

    def numbers() -> pa.Array:
        return pa.array(chance.gamma(2.0, 20.0, rows), mask=chance.random(rows) < 0.02)

    columns: dict[str, Any] = {
        "probe_id": pa.array(np.repeat(np.arange(1, probes + 1), targets)),
        "target": pa.array([f"198.18.{n // 250}.{n % 250}" for n in range(targets)] * probes),
        "af": pa.repeat(4, rows),
        "window_start": pa.repeat(start_us, rows).cast(TIME),
        "window_end": pa.repeat(start_us + WINDOW_S * 1_000_000, rows).cast(TIME),
        "results": pa.repeat(2, rows),
        "sent": pa.repeat(6, rows),
        "received": pa.array(chance.integers(0, 7, rows)),
        "duplicates": pa.repeat(0, rows),
        "errors": pa.repeat(0, rows),
        **{name: numbers() for name in ("rtt_min_ms", "rtt_mean_ms", "rtt_median_ms", "rtt_p95_ms")},
        "loss_ratio": pa.array(chance.random(rows)),
        "jitter_ms": numbers(),
        "utilisation_ratio": pa.nulls(rows, pa.float64()),
        "synthetic": pa.repeat(True, rows),
    }
    schema = fact_schema(PATH_STATE)
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema=schema)


def places(store: GraphStore, probes: int) -> None:
    """Every probe in a country, an AS and at a place, with an address."""
    ids = pa.array(np.arange(1, probes + 1))
    chance = np.random.default_rng(1)
    latitude = np.round(chance.uniform(-60, 70, probes), 3)
    longitude = np.round(chance.uniform(-180, 180, probes), 3)
    points = pa.array(
        [f"POINT({x!r} {y!r})" for x, y in zip(longitude.tolist(), latitude.tolist(), strict=True)]
    )
    countries = pa.array([f"{chr(65 + n % 26)}{chr(65 + n // 26 % 8)}" for n in range(probes)])
    networks = pa.array(64496 + np.arange(probes) % 2000)
    four = pa.repeat(4, probes).cast(pa.int64())
    addresses = pa.array([f"198.19.{n // 250 % 250}.{n % 250}" for n in range(probes)])
    with store.transaction():
        store.upsert_nodes(ATLAS_PROBE, pa.table({"id": ids, "synthetic": pa.repeat(True, probes)}))
        store.upsert_nodes(
            POINT, pa.table({"position": points, "latitude": latitude, "longitude": longitude})
        )
        store.upsert_edges(LOCATED_IN_POINT, pa.table({"source": ids, "target": points}), SAID)
        store.upsert_edges(IN_COUNTRY, pa.table({"source": ids, "target": countries}), SAID)
        store.upsert_edges(LOCATED_IN_AS, pa.table({"source": ids, "target": networks, "af": four}), SAID)
        store.upsert_edges(ASSIGNED, pa.table({"source": addresses, "target": ids, "af": four}), SAID)


# Where


@contextmanager
def neo4j() -> Iterator[tuple[str, Credentials]]:
    """A real server with an empty database."""
    from tests.neo4j.server import USER, Neo4jServer

    with (
        tempfile.TemporaryDirectory(prefix="qoetwin-neo4j-") as home,
        Neo4jServer(home=Path(home)) as server,
    ):
        yield server.uri, Credentials(user=USER, password=server.password)


homes = count()


@contextmanager
def new_graph(name: str, scratch: Path) -> Iterator[GraphStore]:
    """An empty graph in that kind of store."""
    if name == "sqlite":
        with open_store("sqlite", scratch / f"home-{next(homes)}", create=True) as store:
            yield store
        return
    with (
        neo4j() as (address, credentials),
        open_store(address, scratch, create=True, credentials=credentials) as store,
    ):
        yield store


# Parts


def states_written(scratch: Path, runs: int) -> dict[str, object]:
    """Rows a second, new and again, beside the plainest way of writing the same rows."""
    table = states(10_000, 20)
    new, again, plain = [], [], []
    for run in range(runs):
        with new_graph("sqlite", scratch) as store:
            new.append(timed(lambda: store.put_facts(PATH_STATE, table, SAID)))
            again.append(timed(lambda: store.put_facts(PATH_STATE, table, SAID)))
        plain.append(timed(lambda: plain_sqlite(scratch / f"plain-{run}.sqlite", table)))
    return {
        "sqlite": {
            "new_per_s": rate(table, new),
            "again_per_s": rate(table, again),
            "least_per_s": 150_000,
            "reference": "sqlite3.executemany, INSERT of the same columns into a table without rowid",
            "reference_per_s": rate(table, plain),
            "ratio_to_reference": ratio(plain, new),
        },
        "neo4j": neo4j_states(scratch, max(3, runs // 2)),
    }


def plain_sqlite(path: Path, table: pa.Table) -> None:
    names = table.column_names
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(
            f"CREATE TABLE state ({', '.join(names)}, PRIMARY KEY (window_start, probe_id, target)) WITHOUT ROWID"
        )
        columns = [
            table[name].cast(pa.int64()) if pa.types.is_timestamp(table[name].type) else table[name]
            for name in names
        ]
        database.executemany(
            f"INSERT INTO state VALUES ({', '.join('?' * len(names))})",
            zip(*(c.to_pylist() for c in columns), strict=True),
        )
    database.close()


BARE_MERGE = """
UNWIND $rows AS row
MATCH (probe:AtlasProbe {id: row.probe_id})
MATCH (target:IP {ip: row.target})
MERGE (probe)-[state:BENCH_STATE {
  af: row.af, window_start: datetime({epochMillis: row.window_start}), window_end: datetime({epochMillis: row.window_end})
}]->(target)
SET state += row.values
"""
"""The plainest batched way: the same relationship between the same nodes, with the same properties, and nothing compared."""


ONE_CALL_A_NODE = (
    "MERGE (:AtlasProbe {id: $probe_id})",
    "MERGE (:IP {ip: $target})",
    "MATCH (probe:AtlasProbe {id: $probe_id}) MATCH (target:IP {ip: $target})"
    " MERGE (probe)-[state:BENCH_STATE {af: $af, window_start: datetime({epochMillis: $window_start}),"
    " window_end: datetime({epochMillis: $window_end})}]->(target)"
    " SET state += $values",
)
"""How the published prototype writes: a call for each node, and one for what joins them."""


def neo4j_states(scratch: Path, runs: int) -> dict[str, object]:
    from neo4j import GraphDatabase

    windows = [states(1000, 20, window) for window in range(2 * runs + 1)]
    new, again, bare, single = [], [], [], []
    with neo4j() as (address, credentials):
        driver = GraphDatabase.driver(address, auth=(credentials.user, credentials.password))
        with driver, open_store(address, scratch, create=True, credentials=credentials) as store:
            store.put_facts(PATH_STATE, windows[-1], SAID)  # warm the server up

            def plainly(table: pa.Table) -> None:
                for begin in range(0, table.num_rows, 10_000):
                    rows = [as_parameters(row) for row in table.slice(begin, 10_000).to_pylist()]
                    driver.execute_query(BARE_MERGE, rows=rows, database_="neo4j")

            def one_by_one(table: pa.Table) -> None:
                for row in map(as_parameters, table.to_pylist()):
                    for statement in ONE_CALL_A_NODE:
                        driver.execute_query(statement, row, database_="neo4j")

            for run in range(runs):
                ours, theirs = windows[2 * run], windows[2 * run + 1]
                new.append(timed(lambda: store.put_facts(PATH_STATE, ours, SAID)))
                bare.append(timed(lambda: plainly(theirs)))
                again.append(timed(lambda: store.put_facts(PATH_STATE, ours, SAID)))
                single.append(timed(lambda: one_by_one(theirs.slice(0, 300))) * theirs.num_rows / 300)
    table = windows[0]
    return {
        "new_per_s": rate(table, new),
        "again_per_s": rate(table, again),
        "bare_unwind_merge_per_s": rate(table, bare),
        "one_call_a_node_per_s": rate(table, single),
        "ratio_to_bare": ratio(bare, new),
        "least_ratio_to_bare": 0.8,
        "ratio_to_one_call": ratio(single, new),
        "least_ratio_to_one_call": 50,
    }


def as_parameters(row: dict[str, Any]) -> dict[str, Any]:
    key = {name: row.pop(name) for name in ("probe_id", "target", "af", "window_start", "window_end")}
    for name in ("window_start", "window_end"):  # times as integers: the driver takes 60 us for a datetime
        key[name] = round(key[name].timestamp() * 1000)
    return {**key, "values": row}


def window_to_tensors(scratch: Path, runs: int) -> dict[str, object]:
    """One window of 100,000 paths, to tensors; the graph holds others."""
    import torch

    probes, targets = 10_000, 10

    def read(store: GraphStore, window: int) -> None:
        at = START + timedelta(seconds=window * WINDOW_S)
        arrays = path_arrays(store, Selection(at=at))
        tensors = [torch.from_numpy(one) for one in (arrays.rtt_ms, arrays.jitter_ms, arrays.loss_ratio)]
        assert tensors[0].shape == (1, probes * targets)

    figures: dict[str, object] = {}
    for name, limit_s, windows in (("sqlite", 0.3, 6), ("neo4j", 3.0, 2)):
        with new_graph(name, scratch) as store:
            places(store, probes)
            for window in range(windows):
                store.put_facts(PATH_STATE, states(probes, targets, window), SAID)
            times = [timed(lambda: read(store, run % windows)) for run in range(runs + 1)][1:]
        figures[name] = {"median_s": median(times), "worst_s": round(max(times), 3), "limit_s": limit_s}
    return figures


def neighbourhoods(scratch: Path, runs: int) -> dict[str, object]:
    """Two hops around a probe, with a million states in the graph; every walk begins at another probe."""
    probes, targets, windows = 10_000, 10, 10
    figures: dict[str, object] = {}
    for name, limit_ms in (("sqlite", 20.0), ("neo4j", 50.0)):
        with new_graph(name, scratch) as store:
            places(store, probes)
            for window in range(windows):
                store.put_facts(PATH_STATE, states(probes, targets, window), SAID)
            chosen = (np.random.default_rng(2).permutation(probes)[:400] + 1).tolist()
            walks = [timed(lambda: store.neighbours(ATLAS_PROBE, probe, hops=2)) for probe in chosen]
            times = walks[100:]
        figures[name] = {
            "p50_ms": round(1000 * float(np.quantile(times, 0.5)), 2),
            "p99_ms": round(1000 * float(np.quantile(times, 0.99)), 2),
            "limit_ms": limit_ms,
            "walks": len(times),
        }
    return figures


def growth(scratch: Path, runs: int) -> dict[str, object]:
    """How time grows with probes, 1 k to 100 k, ten paths each: the exponent of a fit of time against size."""
    sizes = (1_000, 10_000, 100_000)
    figures: dict[str, object] = {"probes": sizes, "limit": 1.1}
    for name in ("sqlite", "neo4j"):
        write_s, read_s = [], []
        for probes in sizes:
            table = states(probes, 10)
            writes, reads = [], []
            for _ in range(max(1, runs // 2) if probes < 100_000 else 1):
                with new_graph(name, scratch) as store:
                    if name == "neo4j":  # a server that was just started is slow with anything
                        store.put_facts(PATH_STATE, states(2000, 10, 1), SAID)
                    places(store, probes)
                    writes.append(timed(lambda: store.put_facts(PATH_STATE, table, SAID)))
                    reads.append(timed(lambda: path_arrays(store, Selection(at=START))))
            write_s.append(statistics.median(writes))
            read_s.append(statistics.median(reads))
        figures[name] = {
            "write_s": [round(one, 3) for one in write_s],
            "read_s": [round(one, 3) for one in read_s],
            "write_exponent": exponent(sizes, write_s),
            "read_exponent": exponent(sizes, read_s),
        }
    return figures


def whole_testbed(scratch: Path, runs: int) -> dict[str, object]:
    """The graph of 10,000 synthetic probes with a million states, from a lake. One run, in a process of its own."""
    import subprocess

    command = [sys.executable, "-m", "bench.whole_testbed", str(scratch / "testbed")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(ran.stdout))


# Figures


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def median(times: Sequence[float]) -> float:
    return round(statistics.median(times), 3)


def rate(table: pa.Table, times: Sequence[float]) -> int:
    return round(table.num_rows / statistics.median(times))


def ratio(reference: Sequence[float], ours: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(reference, ours, strict=True)), 2)


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    slope = np.polyfit([math.log(size) for size in sizes], [math.log(one) for one in times], 1)[0]
    return round(float(slope), 2)


def peak_gib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


if __name__ == "__main__":
    main()
