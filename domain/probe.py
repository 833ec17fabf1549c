"""Probes and anchors, as Atlas or a list of probes describes them; and nodes, as a table of measurements does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """An Atlas probe, or a node of a table of measurements. What its source does not say is None, never guessed.

    Attributes:
        probe_id: Atlas probe id, or the node's.
        latitude, longitude: WGS84 degrees, as stated by the host (Atlas blurs them by about 1 km).
        asn_v4, asn_v6: AS numbers of its addresses.
        country: ISO 3166-1 alpha-2, upper case.
        address_v4, address_v6: public addresses, compressed form; `node:ID` for a node whose address is not known.
        prefix_v4, prefix_v6: announced prefixes holding them.
        is_anchor: True for an anchor (which is also a target).
        name: the anchor's FQDN or the probe's description.
        status: Atlas's word (Connected, Disconnected, Abandoned …).
        synthetic: True for probes of the testbed.
        host: word for the machine behind it: those with the same one are one machine. Atlas has none.
    """

    probe_id: int
    latitude: float | None
    longitude: float | None
    asn_v4: int | None
    asn_v6: int | None
    country: str | None
    address_v4: str | None
    address_v6: str | None
    prefix_v4: str | None
    prefix_v6: str | None
    is_anchor: bool | None
    name: str | None
    status: str | None
    synthetic: bool
    host: str | None = None
