"""Addresses that are never routed on the Internet, so that no synthetic host can be taken for a real one.

IPv4 comes from 198.18.0.0/15, set aside for benchmarking networks (RFC 2544, appendix C.2.2), IPv6 from
2001:db8::/32, set aside for documentation (RFC 3849). The larger documentation and private IPv4 ranges were passed
over: 192.0.2.0/24 and its two sisters are too small, and 10.0.0.0/8 is what real traceroutes show inside homes and
carriers. Each autonomous system has one /22 and one /48.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from domain.errors import InputError

V4_SPACE = IPv4Network("198.18.0.0/15")
V6_SPACE = IPv6Network("2001:db8::/32")

_V4_PREFIX = 22
_V6_PREFIX = 48


class AddressPlan:
    """Hands out the addresses of each autonomous system in turn, the same number in both families."""

    def __init__(self) -> None:
        self._used: dict[int, int] = {}

    def prefix_v4(self, system: int) -> IPv4Network:
        """The system's IPv4 prefix; `system` counts from 0.

        Raises:
            InputError: when there are more systems than the benchmarking range has prefixes.
        """
        step = 1 << (32 - _V4_PREFIX)
        if (system + 1) * step > V4_SPACE.num_addresses:
            raise InputError(
                "too many autonomous systems for the never-routed IPv4 range",
                where=str(V4_SPACE),
                found=str(system + 1),
                expected=f"at most {V4_SPACE.num_addresses // step}",
            )
        return IPv4Network((int(V4_SPACE.network_address) + system * step, _V4_PREFIX))

    def prefix_v6(self, system: int) -> IPv6Network:
        """The system's IPv6 prefix."""
        return IPv6Network((int(V6_SPACE.network_address) + (system << (128 - _V6_PREFIX)), _V6_PREFIX))

    def next(self, system: int) -> tuple[str, str]:
        """A fresh IPv4 and IPv6 address in the system's prefixes, compressed form.

        Raises:
            InputError: when the system's IPv4 prefix is full.
        """
        number = self._used.get(system, 0) + 1
        prefix = self.prefix_v4(system)
        if number >= prefix.num_addresses - 1:
            raise InputError(
                "too many hosts in one autonomous system",
                where=str(prefix),
                found=str(number),
                expected=f"at most {prefix.num_addresses - 2}",
                next_step="generate fewer probes or anchors",
            )
        self._used[system] = number
        return str(prefix[number]), str(self.prefix_v6(system)[number])
