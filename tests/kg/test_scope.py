from __future__ import annotations

import ipaddress

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.scope import Scope, local_among, scope_of, scopes


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("8.8.8.8", Scope.GLOBAL),
        ("2001:4860:4860::8888", Scope.GLOBAL),
        ("192.0.0.9", Scope.GLOBAL),
        ("2001:4:112::1", Scope.GLOBAL),
        ("10.255.255.255", Scope.LOCAL),
        ("172.31.0.1", Scope.LOCAL),
        ("172.32.0.1", Scope.GLOBAL),
        ("100.64.0.1", Scope.LOCAL),
        ("169.254.1.1", Scope.LOCAL),
        ("127.0.0.53", Scope.LOCAL),
        ("0.1.2.3", Scope.LOCAL),
        ("fd00::1", Scope.LOCAL),
        ("fe80::1", Scope.LOCAL),
        ("::1", Scope.LOCAL),
        ("198.18.0.1", Scope.RESERVED),
        ("198.19.255.255", Scope.RESERVED),
        ("198.20.0.0", Scope.GLOBAL),
        ("2001:db8::1", Scope.RESERVED),
        ("192.0.2.1", Scope.RESERVED),
        ("224.0.0.1", Scope.RESERVED),
        ("255.255.255.255", Scope.RESERVED),
        ("::ffff:8.8.8.8", Scope.RESERVED),
        ("ff02::1", Scope.RESERVED),
    ],
)
def test_each_kind_of_address_has_its_scope(address: str, scope: Scope) -> None:
    assert scope_of(address) is scope


def test_what_is_no_address_has_no_scope() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        scope_of("example.org")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_that_ipaddress_calls_private_is_never_global(address: ipaddress.IPv4Address) -> None:
    if address.is_private:
        assert scope_of(address.compressed) is not Scope.GLOBAL


@given(st.ip_addresses())
def test_global_addresses_are_those_that_ipaddress_calls_so_but_for_what_registries_leave_open(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    # 6to4 is neither reachable nor not in IANA's registries; of the others versions of ipaddress think differently; and
    # it counts multicast as global.
    left_open = [
        ipaddress.ip_network(prefix)
        for prefix in (
            "2002::/16", "192.88.99.0/24", "5f00::/16", "3fff::/20", "192.0.0.0/24", "2001::/23", "64:ff9b:1::/48",
            "::ffff:0:0/96", "100:0:0:1::/64",
        )
    ]  # fmt: skip
    if address.is_multicast or any(address in network for network in left_open):
        return
    assert (scope_of(address.compressed) is Scope.GLOBAL) == address.is_global


def test_columns_of_addresses_keep_their_order_and_repetitions() -> None:
    column = pa.chunked_array([["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "198.18.0.1"]])
    assert scopes(column).to_pylist() == ["global", "local", "global", "reserved"]
    assert local_among(column).to_pylist() == ["10.0.0.1"]
    assert scopes(pa.array([], pa.string())).to_pylist() == []
