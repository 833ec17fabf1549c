from __future__ import annotations

from ipaddress import ip_address, ip_network

from testbed.announcements import announcements, announcements_csv
from testbed.internet import SyntheticInternet


def test_every_public_address_is_announced_by_its_own_system_and_by_no_other(
    internet: SyntheticInternet,
) -> None:
    announced = [(ip_network(prefix), asn) for prefix, asn in announcements(internet)]
    own = [
        (address, internet.systems[router.system].asn)
        for router in internet.routers
        for address in (internet.router_v4[router.number], internet.router_v6[router.number])
    ]
    own += [(a, host.asn) for host in internet.hosts for af in (4, 6) if (a := host.address(af)) is not None]
    for address, asn in own:
        parsed = ip_address(address)
        assert [by for p, by in announced if p.version == parsed.version and parsed in p] == [asn]


def test_the_file_has_a_header_and_a_line_for_each_prefix(internet: SyntheticInternet) -> None:
    header, *lines = announcements_csv(internet).splitlines()
    assert header == "prefix,asn"
    assert lines == [f"{prefix},{asn}" for prefix, asn in announcements(internet)]
    assert len(lines) == 2 * len(internet.systems)
