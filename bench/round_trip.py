"""All recorded measurements of three weeks, from SQLite to RDF, to Neo4j, and back to SQLite: equal, value for value.

Prints one JSON object with the seconds of each step, and fails when anything differs. Takes minutes: `make soak`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pyarrow as pa

from bench.graph import neo4j, peak_gib
from bench.recorded import folder_of, parser_of
from domain.progress import unheard
from ingest.lake import Lake
from ingest.summarise import hop_links
from kg.check import check
from kg.exchange import export_graph, import_graph
from kg.schema import EDGE_TYPES, FACT_TYPES, NODE_TYPES
from kg.store import GraphStore, open_store
from qoe.profile import load_profile
from twin.building import Origins, build_graph, read_origins, summarise_lake
from twin.ingestion import ingest_files, load_probes


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--form", default="nquads", help="of the RDF between SQLite and Neo4j")
    arguments = parser.parse_args()
    atlas = folder_of(arguments, "atlas")
    with tempfile.TemporaryDirectory(prefix="qoetwin-soak-") as scratch:
        figures, equal = round_trip(Path(scratch), atlas, arguments.form)
    print(json.dumps(figures | {"equal": equal, "peak_gib": peak_gib()}, indent=2))
    sys.exit(0 if equal else 1)


def round_trip(scratch: Path, atlas: Path, form: str) -> tuple[dict[str, object], bool]:
    seconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], object]) -> object:
        before = time.perf_counter()
        done = work()
        seconds[name] = round(time.perf_counter() - before, 1)
        print(f"{name}: {seconds[name]} s", file=sys.stderr)
        return done

    lake = Lake(scratch / "home" / "lake")
    load_probes(lake, atlas / "probes" / "probes.csv.gz")
    ingest_files(lake, [atlas / "regional-2019"])
    rdf, csv = scratch / f"graph.{form}", scratch / "csv"
    origins = made_up_origins(lake, scratch / "prefixes.csv")
    with open_store("sqlite", scratch / "home", create=True) as first:
        step(
            "build",
            lambda: build_graph(
                summarise_lake(lake, timedelta(hours=3)), first, load_profile(), origins=origins
            ),
        )
        counts = first.counts()
        findings = step("check", lambda: check(first, report=unheard))
        step("sqlite_to_rdf", lambda: export_graph(first, rdf, form, report=unheard))
        expected = everything(first)
    with (
        neo4j() as (address, credentials),
        open_store(address, scratch, create=True, credentials=credentials) as second,
    ):
        step("rdf_to_neo4j", lambda: import_graph(second, rdf, form, report=unheard))
        step("neo4j_to_csv", lambda: export_graph(second, csv, "iyp-csv", report=unheard))
    with open_store("sqlite", scratch / "back", create=True) as third:
        step("csv_to_sqlite", lambda: import_graph(third, csv, "iyp-csv", report=unheard))
        found = everything(third)
    differing = [name for name in expected if not found[name].equals(expected[name])]
    figures: dict[str, object] = {
        "counts": counts,
        "seconds": seconds,
        "rdf_gib": round(rdf.stat().st_size / 2**30, 2),
        "findings": findings,
        "differing": differing,
    }
    return figures, not differing


def made_up_origins(lake: Lake, path: Path) -> Origins:
    """An AS for every /16 and /32 of the hops: no recorded list tells, and edges between ASes are to go the way too."""
    hops = hop_links(lake)
    lines = []
    for address in map(
        ip_address, sorted({*hops["from_address"].to_pylist(), *hops["to_address"].to_pylist()})
    ):
        prefix = ip_network((address, 16 if address.version == 4 else 32), strict=False)
        number = 64512 + int(prefix.network_address) % 1009
        lines.append(f"{prefix},{number}")
    path.write_text("\n".join(["prefix,asn", *dict.fromkeys(lines)]) + "\n")
    return read_origins(path)


def everything(store: GraphStore) -> dict[str, pa.Table]:
    return {
        **{node_type.label: store.nodes(node_type) for node_type in NODE_TYPES},
        **{edge_type.table: store.edges(edge_type) for edge_type in EDGE_TYPES},
        **{fact_type.label: store.facts(fact_type, with_provenance=True) for fact_type in FACT_TYPES},
    }


if __name__ == "__main__":
    main()
