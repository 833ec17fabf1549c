"""The synthetic Internet: topology, hosts, addresses. Fixed by a seed, without time."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domain.errors import InputError, UnknownNameError
from domain.place import distance_km
from testbed.addresses import AddressPlan
from testbed.cities import City, draw_countries
from testbed.topology import AutonomousSystem, Link, LinkKind, Role, Router, draw_topology

FIRST_PROBE_ID = 500_001
"""Hardware probes of Atlas have ids under 100,000, software probes from 1,000,000."""

FIRST_ANCHOR_ID = 300_001
"""Atlas numbers its anchors from 1; there are a few thousand."""


class LineType(StrEnum):
    """How a host is connected to its provider."""

    DATACENTRE = "datacentre"
    FIBRE = "fibre"
    CABLE = "cable"
    DSL = "dsl"
    MOBILE = "mobile"


@dataclass(frozen=True, slots=True, kw_only=True)
class _LineModel:
    """What lines of a type have in common: the fields of `Link`; pairs are the bounds of a uniform draw."""

    share: float
    fixed_ms: tuple[float, float]
    wait_ms: tuple[float, float]
    busy_ratio: tuple[float, float]
    loss_floor_ratio: tuple[float, float]
    burst_ratio: float


# Magnitudes as operators know them: interleaved DSL and radio schedulers cost tens of ms a round trip, fibre next to nothing.
_LINES = {
    LineType.DATACENTRE: _LineModel(
        share=0.0,
        fixed_ms=(0.05, 0.15),
        wait_ms=(0.005, 0.02),
        busy_ratio=(0.1, 0.4),
        loss_floor_ratio=(0.0, 2e-5),
        burst_ratio=0.0,
    ),
    LineType.FIBRE: _LineModel(
        share=0.35,
        fixed_ms=(0.4, 1.2),
        wait_ms=(0.03, 0.1),
        busy_ratio=(0.2, 0.5),
        loss_floor_ratio=(2e-5, 2e-4),
        burst_ratio=0.002,
    ),
    LineType.CABLE: _LineModel(
        share=0.2,
        fixed_ms=(3.0, 6.0),
        wait_ms=(0.4, 1.2),
        busy_ratio=(0.4, 0.7),
        loss_floor_ratio=(1e-4, 1e-3),
        burst_ratio=0.006,
    ),
    LineType.DSL: _LineModel(
        share=0.3,
        fixed_ms=(5.0, 14.0),
        wait_ms=(0.2, 0.8),
        busy_ratio=(0.3, 0.65),
        loss_floor_ratio=(2e-4, 2e-3),
        burst_ratio=0.008,
    ),
    LineType.MOBILE: _LineModel(
        share=0.15,
        fixed_ms=(10.0, 20.0),
        wait_ms=(2.0, 5.0),
        busy_ratio=(0.4, 0.7),
        loss_floor_ratio=(1e-3, 5e-3),
        burst_ratio=0.02,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A probe, or an anchor, which is also a probe and a target.

    Attributes:
        number: place in `SyntheticInternet.hosts`; anchors come first.
        probe_id: its id as a probe.
        anchor_id: its id as an anchor; None for probes.
        name: FQDN of an anchor, description of a probe.
        city: nearest city of the drawn ones.
        latitude, longitude: WGS84 degrees, as served.
        system, router, line: numbers of its autonomous system, its first router, the line between them.
        asn: AS number of its system.
        line_type: how it is connected.
        address_v4, prefix_v4: public address and announced prefix.
        address_v6, prefix_v6: None without IPv6.
        gateway: private address of the home router in front of it; None without one (datacentres).
        private_address: its own address behind that router.
    """

    number: int
    probe_id: int
    anchor_id: int | None
    name: str
    city: City
    latitude: float
    longitude: float
    system: int
    router: int
    line: int
    asn: int
    line_type: LineType
    address_v4: str
    prefix_v4: str
    address_v6: str | None
    prefix_v6: str | None
    gateway: str | None
    private_address: str | None

    def address(self, af: int) -> str | None:
        """Public address in the family."""
        return self.address_v4 if af == 4 else self.address_v6


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticInternet:
    """A whole synthetic Internet. Every object is numbered by its place in its tuple.

    Attributes:
        seed: it is all a function of this, `probes` and `anchors`.
        systems, routers: as drawn by `testbed.topology`.
        router_v4, router_v6: address of each router.
        links: the links between routers, then the line of each host.
        hosts: the anchors, then the probes.
    """

    seed: int
    systems: tuple[AutonomousSystem, ...]
    routers: tuple[Router, ...]
    router_v4: tuple[str, ...]
    router_v6: tuple[str, ...]
    links: tuple[Link, ...]
    hosts: tuple[Host, ...]

    @property
    def anchors(self) -> tuple[Host, ...]:
        """The hosts that are targets."""
        return tuple(host for host in self.hosts if host.anchor_id is not None)

    @property
    def probes(self) -> tuple[Host, ...]:
        """The hosts that are no anchors."""
        return tuple(host for host in self.hosts if host.anchor_id is None)

    @classmethod
    def generate(cls, seed: int, probes: int, anchors: int) -> SyntheticInternet:
        """Draw an Internet with that many probes, and that many anchors besides.

        Raises:
            InputError: when a number is out of range, or the never-routed addresses do not suffice.
        """
        for what, found, least in (("seed", seed, 0), ("probes", probes, 1), ("anchors", anchors, 1)):
            if found < least:
                raise InputError(
                    "a synthetic Internet that cannot be",
                    where=what,
                    found=str(found),
                    expected=f"at least {least}",
                )
        generator = np.random.default_rng(seed)
        countries = draw_countries(generator, probes + anchors)
        topology = draw_topology(generator, countries)
        plan = AddressPlan()
        router_addresses = [plan.next(router.system) for router in topology.routers]
        links = list(topology.links)
        hosts: list[Host] = []
        for number in range(anchors + probes):
            host, line = _draw_host(
                generator, topology.systems, topology.routers, plan, number, len(links), number < anchors
            )
            hosts.append(host)
            links.append(line)
        return cls(
            seed=seed,
            systems=topology.systems,
            routers=topology.routers,
            router_v4=tuple(v4 for v4, _ in router_addresses),
            router_v6=tuple(v6 for _, v6 in router_addresses),
            links=tuple(links),
            hosts=tuple(hosts),
        )

    def host(self, probe_id: int) -> Host:
        """The host with that probe id.

        Raises:
            UnknownNameError: when there is none.
        """
        number = probe_id - FIRST_PROBE_ID
        if not 0 <= number < len(self.hosts):
            raise UnknownNameError("no such synthetic probe", found=str(probe_id))
        return self.hosts[number]

    def anchor_at(self, address: str) -> Host:
        """The anchor with that address, IPv4 or IPv6.

        Raises:
            UnknownNameError: when there is none.
        """
        for anchor in self.anchors:
            if address in (anchor.address_v4, anchor.address_v6):
                return anchor
        raise UnknownNameError("no synthetic anchor has this address", found=address)


def _draw_host(
    generator: np.random.Generator,
    systems: tuple[AutonomousSystem, ...],
    routers: tuple[Router, ...],
    plan: AddressPlan,
    number: int,
    line: int,
    is_anchor: bool,
) -> tuple[Host, Link]:
    # Anchors also stand at transit providers; homes do not. Larger cities hold more hosts, less than in proportion.
    open_to = [r for r in routers if is_anchor or systems[r.system].role is Role.ACCESS]
    weight = np.array([router.city.population for router in open_to]) ** 0.5
    router = open_to[int(generator.choice(len(open_to), p=weight / weight.sum()))]
    city, system = router.city, systems[router.system]
    away_km, direction = generator.uniform(0.5, 12.0), generator.uniform(0.0, 2.0 * math.pi)
    km_per_degree = 111.2
    latitude = round(city.latitude + away_km * math.cos(direction) / km_per_degree, 4)
    east = away_km * math.sin(direction) / (km_per_degree * math.cos(math.radians(city.latitude)))
    longitude = round(city.longitude + east, 4)
    if is_anchor:
        line_type = LineType.DATACENTRE
    else:
        homes = [kind for kind, model in _LINES.items() if model.share > 0.0]
        line_type = homes[int(generator.choice(len(homes), p=[_LINES[kind].share for kind in homes]))]
    model = _LINES[line_type]
    circle_km = distance_km(latitude, longitude, city.latitude, city.longitude)
    link = Link(
        number=line,
        kind=LinkKind.LINE,
        ends=(number, router.number),
        length_km=float(circle_km * 1.3 + generator.uniform(0.2, 3.0)),
        longitude=longitude,
        fixed_ms=float(generator.uniform(*model.fixed_ms)),
        wait_ms=float(generator.uniform(*model.wait_ms)),
        busy_ratio=float(generator.uniform(*model.busy_ratio)),
        loss_floor_ratio=float(generator.uniform(*model.loss_floor_ratio)),
        burst_ratio=model.burst_ratio,
        carries_v6=True,
    )
    v4, v6 = plan.next(router.system)
    # The first anchor always has IPv6, so that the family exists in the smallest world.
    has_v6 = bool(generator.random() < (0.45 if is_anchor else 0.35)) or number == 0
    home = not is_anchor
    host = Host(
        number=number,
        probe_id=FIRST_PROBE_ID + number,
        anchor_id=FIRST_ANCHOR_ID + number if is_anchor else None,
        name=_anchor_name(city, system.asn, number)
        if is_anchor
        else f"Synthetic {line_type.value} line in {city.name}",
        city=city,
        latitude=latitude,
        longitude=longitude,
        system=router.system,
        router=router.number,
        line=line,
        asn=system.asn,
        line_type=line_type,
        address_v4=v4,
        prefix_v4=str(plan.prefix_v4(router.system)),
        address_v6=v6 if has_v6 else None,
        prefix_v6=str(plan.prefix_v6(router.system)) if has_v6 else None,
        gateway="192.168.1.1" if home else None,
        private_address=f"192.168.1.{2 + int(generator.integers(0, 250))}" if home else None,
    )
    return host, link


def _anchor_name(city: City, asn: int, number: int) -> str:
    """An FQDN like those of Atlas, under .test (RFC 2606), which never resolves."""
    plain = unicodedata.normalize("NFKD", city.name).encode("ascii", "ignore").decode().lower()
    letters = "".join(letter for letter in plain if letter.isalpha())[:3].ljust(3, "x")
    return f"{city.country.lower()}-{letters}{number + 1:03}-as{asn}.anchors.testbed.test"
