"""Routes: the shortest valley-free path over the links that are up.

Valley-free (Gao, "On inferring autonomous system relationships in the Internet", ToN 2001, section 3): a path climbs
from customers to providers, crosses at most one peering, then descends. It is found as a shortest path in a
graph of two storeys, where climbing happens on the first, the descent on the second, and only a peering or a provider's link to
a customer leads from the first to the second. Among the valley-free paths the one with the least fibre delay is
taken; each step into another system costs as much as `_CROSSING_MS` of fibre, which stands for the preference of short AS
paths. Routes are the same in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import rustworkx

from domain.errors import DataError
from domain.place import FIBRE_KM_PER_MS
from testbed.chance import Ints
from testbed.internet import SyntheticInternet
from testbed.topology import Link, LinkKind

_CROSSING_MS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """The routes of all R routers to one router.

    Attributes:
        length: (R,) number of links on the route; -1 where there is no route.
        links: (R, H) link numbers from the router on, -1 after the last.
        routers: (R, H + 1) router numbers, the router itself first, -1 after the last.
    """

    length: Ints
    links: Ints
    routers: Ints


class Routes:
    """Routes of an Internet under any set of failed links; computed when first asked for, then kept."""

    def __init__(self, internet: SyntheticInternet) -> None:
        self._internet = internet
        self._graphs: dict[tuple[int, frozenset[int]], rustworkx.PyDiGraph] = {}
        self._tables: dict[tuple[int, int, frozenset[int]], RouteTable] = {}
        self._between = {
            frozenset(link.ends): link.number for link in internet.links if link.kind is not LinkKind.LINE
        }

    def towards(self, router: int, af: int, failed: frozenset[int] = frozenset()) -> RouteTable:
        """Routes of every router to `router`, in a family, while the links of these numbers are down."""
        key = (router, af, failed)
        if key not in self._tables:
            self._tables[key] = self._search(*key)
        return self._tables[key]

    def checked(self, router: int, af: int, failed: frozenset[int]) -> RouteTable:
        """As `towards`, where every router must have a route.

        Raises:
            DataError: when the failed links cut routers off.
        """
        table = self.towards(router, af, failed)
        cut_off = int((table.length < 0).sum())
        if cut_off > 0:
            raise DataError(
                "failed links leave routers of the synthetic Internet without a route",
                where=f"router {router}, IPv{af}, links {sorted(failed)} down",
                found=f"{cut_off} routers cut off",
                expected="none",
                next_step="let links fail that have a detour",
            )
        return table

    def _graph(self, af: int, failed: frozenset[int]) -> rustworkx.PyDiGraph:
        key = (af, failed)
        if key not in self._graphs:
            count = len(self._internet.routers)
            graph = rustworkx.PyDiGraph()
            graph.add_nodes_from(range(2 * count))
            for link in self._internet.links:
                up = link.number not in failed and (af == 4 or link.carries_v6)
                if link.kind is not LinkKind.LINE and up:
                    graph.add_edges_from(_steps(link, count))
            self._graphs[key] = graph
        return self._graphs[key]

    def _search(self, target: int, af: int, failed: frozenset[int]) -> RouteTable:
        count = len(self._internet.routers)
        graph = self._graph(af, failed)
        # A valley-free path read backwards is valley-free: one search from the target serves all routers.
        lengths = rustworkx.digraph_dijkstra_shortest_path_lengths(graph, target, float, None)
        paths = rustworkx.digraph_dijkstra_shortest_paths(graph, target, None, float)
        found: list[list[int]] = []
        for router in range(count):
            ends = [node for node in (router, router + count) if node in lengths]
            if router == target:
                found.append([target])
            elif ends:
                best = min(ends, key=lambda node: float(lengths[node]))
                found.append([node % count for node in reversed(list(paths[best]))])
            else:
                found.append([])
        most = max(len(path) for path in found)
        routers = np.full((count, most), -1, dtype=np.int64)
        links = np.full((count, most - 1), -1, dtype=np.int64)
        for router, path in enumerate(found):
            routers[router, : len(path)] = path
            for step, (one, other) in enumerate(pairwise(path)):
                links[router, step] = self._between[frozenset((one, other))]
        length = np.array([len(path) - 1 for path in found], dtype=np.int64)
        return RouteTable(length=length, links=links, routers=routers)


def _steps(link: Link, count: int) -> list[tuple[int, int, float]]:
    """The directed edges of a link in the two-storey graph: node r climbs, node r + count descends."""
    one, other = link.ends
    cost = link.length_km / FIBRE_KM_PER_MS + link.fixed_ms
    if link.kind is LinkKind.BACKBONE:
        return [
            (a + storey, b + storey, cost) for a, b in ((one, other), (other, one)) for storey in (0, count)
        ]
    cost += _CROSSING_MS
    if link.kind is LinkKind.PEERING:
        return [(one, other + count, cost), (other, one + count, cost)]
    return [(one, other, cost), (other, one + count, cost), (other + count, one + count, cost)]
