"""Autonomous systems, their routers in cities, and the links between them.

Transit systems meet in the largest city of each country (its hub) and peer with each other; access systems serve
the cities of one country, buy transit from two transit systems at the hub, and some peer with their neighbours
there. That is a small Gao-Rexford Internet (Gao and Rexford, "Stable Internet routing without global
coordination", SIGMETRICS 2000): customers, providers, peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domain.errors import InputError
from domain.place import distance_km
from testbed.cities import City

_TRANSIT_ASNS = range(64_496, 64_512)
"""Reserved for documentation (RFC 5398), never assigned."""

_ACCESS_ASNS = range(4_200_000_000, 4_294_967_295)
"""Reserved for private use (RFC 6996), never seen in the public routing system."""


class Role(StrEnum):
    """What an autonomous system is to others."""

    TRANSIT = "transit"
    ACCESS = "access"


class LinkKind(StrEnum):
    """What a link joins. A provider link goes from the customer's router to the provider's."""

    BACKBONE = "backbone"
    PROVIDER = "provider"
    PEERING = "peering"
    LINE = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutonomousSystem:
    """An autonomous system; `country` is None for transit systems, which are everywhere."""

    asn: int
    role: Role
    name: str
    country: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The one router of an autonomous system in a city. `system` counts in `Topology.systems`.

    `silent` routers forward packets and never answer a traceroute.
    """

    number: int
    system: int
    city: City
    silent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cable between two routers, or the line between a host and its router.

    Attributes:
        number: place in `SyntheticInternet.links`.
        kind: what it joins.
        ends: numbers of the routers; for a line, the number of the host, then of the router.
        length_km: of the fibre, longer than the great circle.
        longitude: of its middle, degrees; its day and night follow it.
        fixed_ms: one-way delay besides the fibre's (interleaving, radio, cable scheduling), always there.
        wait_ms: scale of queueing: one-way mean wait at utilisation rho is wait_ms * rho / (1 - rho).
        busy_ratio: utilisation at the daily peak, without fluctuation.
        loss_floor_ratio: loss one way when idle.
        burst_ratio: share of quarter hours in which the line loses packets in bursts.
        carries_v6: False for the few links without IPv6.
    """

    number: int
    kind: LinkKind
    ends: tuple[int, int]
    length_km: float
    longitude: float
    fixed_ms: float
    wait_ms: float
    busy_ratio: float
    loss_floor_ratio: float
    burst_ratio: float
    carries_v6: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Systems, routers and the links between routers, each numbered by its place."""

    systems: tuple[AutonomousSystem, ...]
    routers: tuple[Router, ...]
    links: tuple[Link, ...]


def apart_km(one: City, other: City) -> float:
    """Great-circle distance between two cities."""
    return distance_km(one.latitude, one.longitude, other.latitude, other.longitude)


def middle_longitude(one: float, other: float) -> float:
    """Longitude half way between two, the short way round, in [-180, 180)."""
    turn = (other - one + 180.0) % 360.0 - 180.0
    return (one + turn / 2.0 + 180.0) % 360.0 - 180.0


class _Builder:
    """Collects systems, routers and links while a topology is drawn."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.systems: list[AutonomousSystem] = []
        self.routers: list[Router] = []
        self.links: list[Link] = []
        self.joined: set[tuple[int, int]] = set()

    def system(self, asn: int, role: Role, name: str, country: str | None) -> int:
        self.systems.append(AutonomousSystem(asn=asn, role=role, name=name, country=country))
        return len(self.systems) - 1

    def router(self, system: int, city: City) -> Router:
        router = Router(
            number=len(self.routers),
            system=system,
            city=city,
            silent=bool(self.generator.random() < 0.06),
        )
        self.routers.append(router)
        return router

    def join(self, one: Router, other: Router, kind: LinkKind, *, needed: bool = True) -> None:
        """Lay a link unless there is one; those not needed for reachability may lack IPv6."""
        key = (min(one.number, other.number), max(one.number, other.number))
        if key in self.joined:
            return
        self.joined.add(key)
        circle_km = apart_km(one.city, other.city)
        # Terrestrial fibre follows roads, which costs more on short hauls than on long ones.
        detour = self.generator.uniform(1.1, 1.3) if circle_km > 2_000.0 else self.generator.uniform(1.2, 1.7)
        hot = kind is LinkKind.PEERING
        self.links.append(
            Link(
                number=len(self.links),
                kind=kind,
                ends=(one.number, other.number),
                length_km=float(circle_km * detour + self.generator.uniform(2.0, 15.0)),
                longitude=middle_longitude(one.city.longitude, other.city.longitude),
                fixed_ms=0.02,
                wait_ms=float(self.generator.uniform(0.1, 0.8)),
                busy_ratio=float(
                    self.generator.uniform(0.5, 0.88) if hot else self.generator.uniform(0.35, 0.8)
                ),
                loss_floor_ratio=float(self.generator.uniform(0.0, 4e-5)),
                burst_ratio=0.0,
                carries_v6=needed or bool(self.generator.random() < 0.6),
            )
        )


def _nearest(routers: list[Router]) -> Iterator[tuple[Router, Router]]:
    """The pairs of a minimum spanning tree, then each router with its two nearest: a backbone with detours."""
    inside, outside = routers[:1], routers[1:]
    while outside:
        one, other = min(
            ((i, o) for i in inside for o in outside), key=lambda pair: apart_km(pair[0].city, pair[1].city)
        )
        yield one, other
        inside.append(other)
        outside.remove(other)
    for router in routers:
        near = sorted(
            (other for other in routers if other is not router), key=lambda r: apart_km(router.city, r.city)
        )
        for other in near[:2]:
            yield router, other


def draw_topology(generator: np.random.Generator, countries: tuple[tuple[City, ...], ...]) -> Topology:
    """Draw systems, routers and links for the cities of the countries (largest city first).

    Raises:
        InputError: when there are no countries.
    """
    if not countries:
        raise InputError("no country to build networks in", expected="at least one")
    builder = _Builder(generator)
    transits = [
        builder.system(_TRANSIT_ASNS[index], Role.TRANSIT, f"Synthetic Transit {index + 1}", None)
        for index in range(min(len(_TRANSIT_ASNS), 3 + len(countries) // 8))
    ]
    at_hub: list[list[Router]] = []
    for cities in countries:
        present = max(2, int(generator.binomial(len(transits), 0.7)))
        chosen = sorted(generator.choice(transits, size=present, replace=False).tolist())
        at_hub.append([builder.router(system, cities[0]) for system in chosen])
    of_system = {
        system: [r for routers in at_hub for r in routers if r.system == system] for system in transits
    }
    for system, routers in of_system.items():
        if not routers:  # a transit system that won no hub still exists, at the first one
            router = builder.router(system, countries[0][0])
            at_hub[0].append(router)
            routers.append(router)
        for one, other in _nearest(routers):
            builder.join(one, other, LinkKind.BACKBONE)
    for place, system in enumerate(transits):
        for peer in transits[place + 1 :]:
            pairs = sorted(
                ((one, other) for one in of_system[system] for other in of_system[peer]),
                key=lambda pair: (apart_km(pair[0].city, pair[1].city), pair[0].number, pair[1].number),
            )
            same_city = [pair for pair in pairs if pair[0].city == pair[1].city]
            meet = same_city if same_city else pairs[:1]
            for count, index in enumerate(generator.permutation(len(meet))[:4]):
                here, there = meet[index]
                builder.join(here, there, LinkKind.PEERING, needed=count == 0)
    access = iter(_ACCESS_ASNS)
    for cities, upstream in zip(countries, at_hub, strict=True):
        at_exchange: list[Router] = []
        for index in range(int(generator.integers(1, 4))):
            country = cities[0].country
            system = builder.system(
                next(access), Role.ACCESS, f"Synthetic Access {country} {index + 1}", country
            )
            routers = [builder.router(system, city) for city in cities]
            for one, other in _nearest(routers):
                builder.join(one, other, LinkKind.BACKBONE)
            for provider in generator.permutation(len(upstream))[:2]:
                builder.join(routers[0], upstream[provider], LinkKind.PROVIDER)
            for neighbour in at_exchange:
                if generator.random() < 0.6:
                    builder.join(routers[0], neighbour, LinkKind.PEERING, needed=False)
            at_exchange.append(routers[0])
    return Topology(
        systems=tuple(builder.systems), routers=tuple(builder.routers), links=tuple(builder.links)
    )
