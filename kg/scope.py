"""Scopes of addresses: which mean the same machine everywhere, which another one in every network, which are none."""

from __future__ import annotations

import ipaddress
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from domain.observation import NODE


class Scope(StrEnum):
    """What an address means (property `scope` of `IP`)."""

    GLOBAL = "global"
    LOCAL = "local"
    RESERVED = "reserved"
    NODE = "node"


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*prefixes: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(prefix) for prefix in prefixes)


_LOCAL = _networks(
    "0.0.0.0/8",  # RFC 1122, this network
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918, private
    "100.64.0.0/10",  # RFC 6598, behind carrier-grade NAT
    "127.0.0.0/8",  # RFC 1122, loopback
    "169.254.0.0/16",  # RFC 3927, link-local
    "::/128", "::1/128", "fe80::/10", "fec0::/10",  # RFC 4291: unspecified, loopback, link-local; RFC 3879: site-local
    "fc00::/7",  # RFC 4193, unique local
)  # fmt: skip

# What IANA's IPv4 and IPv6 special-purpose address registries call not globally reachable, besides; and multicast
# (RFC 5771, RFC 4291), which is no machine's address.
_RESERVED = _networks(
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
    "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:db8::/32", "2002::/16",
    "3fff::/20", "5f00::/16", "ff00::/8",
)  # fmt: skip

# Holes in the networks above, which the same registries call globally reachable.
_REACHABLE = _networks(
    "192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32",
    "2001:4:112::/48", "2001:20::/28", "2001:30::/28",
)  # fmt: skip


def scope_of(address: str) -> Scope:
    """The scope of one address, by lists of our own: those of Python's ipaddress differ from version to version.

    Raises:
        ValueError: when it is no address.

    >>> [str(scope_of(address)) for address in ("193.0.14.129", "192.168.1.1", "2001:db8::1", "node:12")]
    ['global', 'local', 'reserved', 'node']
    """
    if address.startswith(NODE):
        return Scope.NODE
    parsed = ipaddress.ip_address(address)

    def within(networks: tuple[_Network, ...]) -> bool:
        return any(parsed in network for network in networks if network.version == parsed.version)

    if within(_LOCAL):
        return Scope.LOCAL
    return Scope.RESERVED if within(_RESERVED) and not within(_REACHABLE) else Scope.GLOBAL


def is_node(addresses: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """(N,) which of N addresses are none, but name a node of a table (`domain.observation.NODE`)."""
    return pc.starts_with(addresses, NODE)


def scopes(addresses: pa.Array | pa.ChunkedArray) -> pa.Array:
    """(N,) the scope of each of N addresses; each distinct one is looked at once."""
    distinct = addresses.unique()
    words = pa.array([str(scope_of(address)) for address in distinct.to_pylist()], pa.string())
    found = words.take(pc.index_in(addresses, value_set=distinct))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def local_among(addresses: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Which of N addresses are local, each once."""
    distinct = addresses.unique()
    return distinct.filter(pc.equal(scopes(distinct), str(Scope.LOCAL)))


def without_local(links: pa.Table, source: str, target: str) -> pa.Table:
    """The links of which neither end is a local address.

    Args:
        links: a table with the two columns named.
        source: column of addresses.
        target: the other one.
    """
    ends = pa.chunked_array([*links[source].chunks, *links[target].chunks], pa.string())
    local = local_among(ends)
    keep = pc.invert(pc.or_(*(pc.is_in(links[end], value_set=local) for end in (source, target))))
    return links.filter(keep)
