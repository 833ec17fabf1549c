"""Which synthetic AS announces which prefix: what real networks say by BGP, as a list."""

from __future__ import annotations

from testbed.addresses import AddressPlan
from testbed.internet import SyntheticInternet


def announcements(internet: SyntheticInternet) -> tuple[tuple[str, int], ...]:
    """The prefixes of an Internet and the AS number that announces each, IPv4 before IPv6 of each system.

    Every address of a router, a probe and an anchor is in exactly one of them; addresses behind home routers are in none.
    """
    plan = AddressPlan()
    return tuple(
        (str(prefix), system.asn)
        for number, system in enumerate(internet.systems)
        for prefix in (plan.prefix_v4(number), plan.prefix_v6(number))
    )


def announcements_csv(internet: SyntheticInternet) -> str:
    """The same as CSV with the header `prefix,asn`, to be written to a file."""
    return "".join(f"{prefix},{asn}\n" for prefix, asn in (("prefix", "asn"), *announcements(internet)))
