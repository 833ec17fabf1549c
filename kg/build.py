"""Probes, measurements and hops, as tables -> nodes and edges of NTKG.

Nothing is guessed: a column that is null makes no edge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from domain.provenance import Provenance
from kg.schema import (
    ASSIGNED,
    ATLAS_MEASUREMENT,
    ATLAS_PROBE,
    IN_COUNTRY,
    IP,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    NEXT_HOP,
    PART_OF_MEASUREMENT,
    PART_OF_PREFIX,
    POINT,
    PREFIX,
    TARGET_HOST_NAME,
    TARGET_IP,
)
from kg.store import GraphStore

# Addresses that mean another machine in every network: RFC 1918, RFC 6598, RFC 3927, RFC 1122, RFC 4193, RFC 4291.
_LOCAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "0.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)


def add_probes(store: GraphStore, probes: pa.Table, provenance: Provenance) -> None:
    """Write probes and where they are.

    Args:
        store: the graph.
        probes: columns of `domain.probe.Probe`.
        provenance: whose word it is.
    """
    store.upsert_nodes(
        ATLAS_PROBE,
        _renamed(probes, {"probe_id": "id", "name": "name", "status": "status"})
        .append_column("is_anchor", probes["is_anchor"])
        .append_column("synthetic", probes["synthetic"]),
    )
    placed = _known(probes, ("latitude", "longitude"))
    positions = _positions(placed)
    points = pa.table(
        {"position": positions, "latitude": placed["latitude"], "longitude": placed["longitude"]}
    )
    store.upsert_nodes(POINT, points)
    store.upsert_edges(
        LOCATED_IN_POINT, pa.table({"source": placed["probe_id"], "target": positions}), provenance
    )
    store.upsert_edges(IN_COUNTRY, _ends(probes, "probe_id", "country"), provenance)
    for af in (4, 6):
        networks = _ends(probes, "probe_id", f"asn_v{af}")
        store.upsert_edges(LOCATED_IN_AS, networks.append_column("af", _constant(af, networks)), provenance)
        addresses = _ends(probes, f"address_v{af}", "probe_id")
        store.upsert_nodes(IP, _family(addresses["source"], "ip", af))
        store.upsert_edges(ASSIGNED, addresses, provenance)
        prefixes = _known(probes, (f"address_v{af}", f"prefix_v{af}"))
        store.upsert_nodes(PREFIX, _family(prefixes[f"prefix_v{af}"], "prefix", af))
        store.upsert_edges(PART_OF_PREFIX, _ends(prefixes, f"address_v{af}", f"prefix_v{af}"), provenance)


def add_measurements(store: GraphStore, targets: pa.Table, provenance: Provenance) -> None:
    """Write who measures what.

    Args:
        store: the graph.
        targets: distinct `msm_id`, `type`, `probe_id`, `target`, `target_name`, `af`, `synthetic`.
        provenance: whose word it is.
    """
    measurements = targets.group_by("msm_id").aggregate(
        [("type", "min"), ("af", "min"), ("synthetic", "max")]
    )
    store.upsert_nodes(
        ATLAS_MEASUREMENT,
        _renamed(
            measurements, {"msm_id": "id", "type_min": "type", "af_min": "af", "synthetic_max": "synthetic"}
        ),
    )
    store.upsert_edges(PART_OF_MEASUREMENT, _ends(targets, "probe_id", "msm_id"), provenance)
    addresses = _known(targets, ("target", "af"))
    store.upsert_nodes(IP, _distinct(_renamed(addresses, {"target": "ip", "af": "af"})))
    store.upsert_edges(TARGET_IP, _ends(targets, "msm_id", "target"), provenance)
    named = _ends(targets, "msm_id", "target_name")
    names = pa.array(
        [name for name in named["target"].unique().to_pylist() if not _is_address(name)], pa.string()
    )
    store.upsert_edges(TARGET_HOST_NAME, named.filter(pc.is_in(named["target"], value_set=names)), provenance)


def add_hops(store: GraphStore, links: pa.Table, provenance: Provenance) -> None:
    """Write which address was seen next to which in traceroutes.

    Addresses of private networks are left out: the same one is another machine in every network.

    Args:
        store: the graph.
        links: `from_address`, `to_address`, `count` (of traceroutes), `first_seen`, `last_seen`.
        provenance: whose word it is.
    """
    seen = {*links["from_address"].unique().to_pylist(), *links["to_address"].unique().to_pylist()}
    local = pa.array([address for address in seen if is_local(address)], pa.string())
    for column in ("from_address", "to_address"):
        links = links.filter(pc.invert(pc.is_in(links[column], value_set=local)))
    for af in (4, 6):
        for column in ("from_address", "to_address"):
            own = links[column].filter(pc.equal(pc.match_substring(links[column], ":"), af == 6))
            store.upsert_nodes(IP, _family(own, "ip", af))
    store.upsert_edges(
        NEXT_HOP,
        _renamed(links, _HOP),
        provenance,
    )


_HOP = {
    "from_address": "source",
    "to_address": "target",
    "count": "traceroutes",
    "first_seen": "first_seen",
    "last_seen": "last_seen",
}
"""Column of a table of links -> column of an edge."""


def is_local(address: str) -> bool:
    """Whether an address means another machine in every network (private, shared, link-local, loopback).

    >>> is_local("192.168.1.1"), is_local("193.0.14.129")
    (True, False)
    """
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in _LOCAL if network.version == parsed.version)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _positions(placed: pa.Table) -> pa.Array:
    """Points as Well-Known Text, longitude first."""
    return pa.array(
        [
            f"POINT({longitude!r} {latitude!r})"
            for latitude, longitude in zip(
                placed["latitude"].to_pylist(), placed["longitude"].to_pylist(), strict=True
            )
        ],
        pa.string(),
    )


def _known(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The rows in which all those columns are known."""
    for column in columns:
        table = table.filter(pc.is_valid(table[column]))
    return table


def _ends(table: pa.Table, source: str, target: str) -> pa.Table:
    """Distinct known pairs of two columns, as the two ends of edges."""
    known = _known(table, (source, target))
    return _distinct(pa.table({"source": known[source], "target": known[target]}))


def _distinct(table: pa.Table) -> pa.Table:
    return table.group_by(table.column_names).aggregate([])


def _renamed(table: pa.Table, names: dict[str, str]) -> pa.Table:
    return table.select(list(names)).rename_columns(list(names.values()))


def _family(addresses: pa.ChunkedArray, key: str, af: int) -> pa.Table:
    distinct = addresses.unique()
    return pa.table({key: distinct, "af": pa.array([af] * len(distinct), pa.int64())})


def _constant(value: int, like: pa.Table) -> pa.Array:
    return pa.array([value] * like.num_rows, pa.int64())
