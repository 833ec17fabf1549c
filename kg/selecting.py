"""Which probes lie in an area, or have an address in a prefix."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pyarrow as pa

from domain.observation import NODE
from domain.place import distance_km
from domain.selection import Area


def within_area(located: pa.Table, points: pa.Table, area: Area) -> list[int]:
    """Ids of the probes whose place lies in the area.

    Args:
        located: edges probe -> point (`source`, `target`).
        points: nodes `position`, `latitude`, `longitude`.
        area: the disc.
    """
    inside = {
        position
        for position, latitude, longitude in zip(
            points["position"].to_pylist(),
            points["latitude"].to_pylist(),
            points["longitude"].to_pylist(),
            strict=True,
        )
        if distance_km(area.latitude, area.longitude, latitude, longitude) <= area.radius_km
    }
    return [
        probe
        for probe, position in zip(located["source"].to_pylist(), located["target"].to_pylist(), strict=True)
        if position in inside
    ]


def within_prefixes(assigned: pa.Table, prefixes: Sequence[str]) -> list[int]:
    """Ids of the probes that have an address in one of the prefixes.

    Args:
        assigned: edges address -> probe (`source`, `target`).
        prefixes: networks in the form of Python's ipaddress.
    """
    networks = [ip_network(prefix) for prefix in prefixes]
    return sorted(
        {
            probe
            for address, probe in zip(
                assigned["source"].to_pylist(), assigned["target"].to_pylist(), strict=True
            )
            if not address.startswith(NODE) and any(ip_address(address) in network for network in networks)
        }
    )
