"""Centralities of addresses in the graph of adjacent hops, and of ASes in that of adjacent ASes.

Links are taken without direction, each once, and none from a node to itself. What can be computed exactly in reasonable time is, by
rustworkx; where that would take too long, betweenness and closeness are estimated from the shortest paths of some
sources, drawn at random (Brandes and Pich 2007, "Centrality estimation in large networks"; Eppstein and Wang 2001, "Fast
approximation of centrality").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rustworkx as rx
import scipy.sparse as sp
from numpy.typing import NDArray

from kg.scope import without_local

CENTRALITIES: tuple[str, ...] = ("degree", "pagerank", "core_number")
"""Those that learning gets."""

CENTRALITY_SEED = 0
"""Of the generator that draws the sources of estimates."""

SOURCES = 256
"""Sources that betweenness and closeness are estimated from, where they are."""

MOST_WORK = 100_000_000
"""Nodes x links up to which they are exact: about ten seconds."""

_DAMPING = 0.85
_BLOCK = 64
"""Sources whose paths are found together: what fits the cache serves all of them."""

_ONE_THREAD = 1 << 40
"""rustworkx adds betweenness up in the order in which threads are ready, so that it is rounded differently each time. Under
this many nodes it uses one."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph without direction.

    Attributes:
        keys: (N,) the nodes, sorted.
        one, other: (M,) numbers of the two ends of each link, the lesser first, sorted.
    """

    keys: pa.Array
    one: Ints
    other: Ints

    @property
    def nodes(self) -> int:
        return len(self.keys)

    def rustworkx(self) -> rx.PyGraph[None, None]:
        graph: rx.PyGraph[None, None] = rx.PyGraph(multigraph=False)
        graph.add_nodes_from([None] * self.nodes)
        graph.add_edges_from_no_data(list(zip(self.one.tolist(), self.other.tolist(), strict=True)))
        return graph

    def adjacency(self) -> sp.csr_array:
        """(N, N) ones where two nodes are neighbours."""
        ends = (np.concatenate([self.one, self.other]), np.concatenate([self.other, self.one]))
        return sp.csr_array((np.ones(ends[0].shape[0]), ends), shape=(self.nodes, self.nodes))


def node_centralities(
    edges: pa.Table,
    key: str,
    generator: np.random.Generator,
    *,
    sources: int = SOURCES,
    most_work: int = MOST_WORK,
) -> pa.Table:
    """All centralities of every node that has a neighbour, ready for `GraphStore.upsert_nodes`.

    Args:
        edges: `source` and `target`; direction and multiplicity are ignored.
        key: name of the key column in the answer.
        generator: draws the sources, where betweenness and closeness are estimated.
        sources: how many it draws in each component; a component of no more nodes is exact.
        most_work: nodes x links of the whole graph up to which all of it is exact.

    Returns:
        `key` and, as `ontology.ttl` defines them, `degree`, `betweenness`, `closeness`, `pagerank`, `core_number`,
        `connectivity_ratio`, `centrality_method` ("exact", or "sampled from 256 sources"); sorted by key.
    """
    graph = _graph(edges)
    whole = graph.rustworkx()
    labels = _components(whole)
    sizes = np.bincount(labels, minlength=1)[labels] if graph.nodes > 0 else labels
    affordable = graph.nodes * graph.one.shape[0] <= most_work
    exactly = np.full(graph.nodes, True) if affordable else sizes <= sources
    betweenness, closeness = np.zeros(graph.nodes), np.zeros(graph.nodes)
    betweenness[exactly], closeness[exactly] = _exact(graph, whole, exactly)
    if not exactly.all():
        estimated = ~exactly
        between, close = _sampled(graph, labels, estimated, sources, generator)
        betweenness[estimated], closeness[estimated] = between[estimated], close[estimated]
    degree, pagerank, core = _plain(whole)
    return pa.table(
        {
            key: graph.keys,
            "degree": pa.array(degree, pa.int64()),
            "betweenness": betweenness,
            "closeness": closeness,
            "pagerank": pagerank,
            "core_number": pa.array(core, pa.int64()),
            "connectivity_ratio": _connectivity(graph, whole),
            "centrality_method": pc.if_else(
                pa.array(exactly, pa.bool_()), "exact", f"sampled from {sources} sources"
            ),
        }
    )


def centralities(links: pa.Table) -> dict[str, Floats]:
    """Those centralities of addresses that learning gets, of every address that has a neighbour.

    Args:
        links: edges between addresses, `source` and `target`; direction and multiplicity are ignored, and so are
            links with a local address, which is another machine in every network.

    Returns:
        Address -> (C,) in the order of `CENTRALITIES`: number of neighbours; PageRank (Page et al. 1999,
        damping .85); core number (Seidman 1983).
    """
    graph = _graph(without_local(links, "source", "target"))
    rows = np.stack(_plain(graph.rustworkx()), axis=1)
    return dict(zip(graph.keys.to_pylist(), rows, strict=True))


def without_links(keys: pa.ChunkedArray, key: str) -> pa.Table:
    """The centralities of nodes that have no neighbour; columns as `node_centralities` has them."""
    none, nothing = np.zeros(len(keys), np.int64), np.zeros(len(keys))
    return pa.table(
        {
            key: keys,
            "degree": none,
            "betweenness": nothing,
            "closeness": nothing,
            "pagerank": nothing,
            "core_number": none,
            "connectivity_ratio": nothing,
            "centrality_method": pa.array(["exact"] * len(keys), pa.string()),
        }
    )


def _graph(edges: pa.Table) -> _Graph:
    edges = edges.filter(pc.not_equal(edges["source"], edges["target"]))
    source, target = (edges[end].combine_chunks() for end in ("source", "target"))
    keys = pa.concat_arrays([source, target]).unique()
    keys = keys.take(pc.sort_indices(keys))
    numbers = [pc.index_in(end, value_set=keys).to_numpy().astype(np.int64) for end in (source, target)]
    ends = np.unique(np.sort(np.stack(numbers), axis=0), axis=1)
    return _Graph(keys, ends[0], ends[1])


def _plain(graph: rx.PyGraph[None, None]) -> tuple[Floats, Floats, Floats]:
    """(N,) each: degree, PageRank, core number."""
    nodes = range(graph.num_nodes())
    if not nodes:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    rank = rx.pagerank(graph.to_directed(), alpha=_DAMPING)
    core: Mapping[int, int] = rx.core_number(graph)  # type: ignore[assignment]  # the stubs say int
    return (
        np.array([graph.degree(node) for node in nodes], dtype=np.float64),
        np.array([rank[node] for node in nodes]),
        np.array([core[node] for node in nodes], dtype=np.float64),
    )


def _components(graph: rx.PyGraph[None, None]) -> Ints:
    """(N,) number of the connected component of each node."""
    labels = np.zeros(graph.num_nodes(), dtype=np.int64)
    for number, members in enumerate(rx.connected_components(graph)):
        labels[list(members)] = number
    return labels


def _connectivity(graph: _Graph, whole: rx.PyGraph[None, None]) -> Floats:
    """(N,) share of all others that are in the same 2-edge-connected component: what is left without the bridges."""
    bridges = {(min(ends), max(ends)) for ends in rx.bridges(whole)}
    held = rx.PyGraph(multigraph=False)
    held.add_nodes_from([None] * graph.nodes)
    held.add_edges_from_no_data(
        [ends for ends in zip(graph.one.tolist(), graph.other.tolist(), strict=True) if ends not in bridges]
    )
    labels = _components(held)
    return (np.bincount(labels, minlength=1)[labels] - 1) / max(1, graph.nodes - 1)


def _exact(graph: _Graph, whole: rx.PyGraph[None, None], chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Betweenness and closeness of the chosen nodes, which are whole components."""
    part = whole.subgraph(np.flatnonzero(chosen).tolist())
    nodes = range(part.num_nodes())
    between = rx.betweenness_centrality(part, normalized=False, parallel_threshold=_ONE_THREAD)
    close = rx.closeness_centrality(part, wf_improved=True)
    # rustworkx takes the part for all there is; the share reached is one of the whole graph.
    share = (len(nodes) - 1) / max(1, graph.nodes - 1)
    return (
        np.array([between[node] for node in nodes]) * 2.0 * _per_pair(graph.nodes),
        np.array([close[node] for node in nodes]) * share,
    )


def _sampled(
    graph: _Graph, labels: Ints, chosen: NDArray[np.bool_], most: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """(N,) betweenness and closeness, estimated in the components that the chosen nodes are.

    With every node as a source they are exact.
    """
    adjacency = graph.adjacency()
    betweenness, closeness = np.zeros(graph.nodes), np.zeros(graph.nodes)
    for label in np.unique(labels[chosen]):
        members = np.flatnonzero(labels == label)
        size = members.shape[0]
        drawn = np.sort(generator.choice(members, size=min(most, size), replace=False))
        dependency, distance = np.zeros(graph.nodes), np.zeros(graph.nodes)
        for first in range(0, drawn.shape[0], _BLOCK):
            for total, part in zip(
                (dependency, distance),
                _shortest_paths(adjacency, drawn[first : first + _BLOCK]),
                strict=True,
            ):
                total += part
        # A node is at no distance from itself and depends on nobody then: only the other sources say something of it.
        others = np.full(size, float(drawn.shape[0]))
        others[np.isin(members, drawn)] -= 1.0
        betweenness[members] = dependency[members] * (size - 1) / np.maximum(others, 1.0)
        mean = distance[members] / np.maximum(others, 1.0)
        closeness[members] = (size - 1) / max(1, graph.nodes - 1) / np.maximum(mean, 1.0)
    return betweenness * _per_pair(graph.nodes), closeness


def _per_pair(nodes: int) -> float:
    """One over the ordered pairs of two others."""
    return 1.0 / max(1, (nodes - 1) * (nodes - 2))


def _shortest_paths(adjacency: sp.csr_array, sources: Ints) -> tuple[Floats, Floats]:
    """What the shortest paths from S sources add up to: Brandes's algorithm (2001), all sources level by level together.

    Returns:
        (N,) dependency of the sources on each node: for each source the share of its shortest paths to each other node
        that go through this one, summed. (N,) distances from the sources, summed; 0 from those that do not reach it.
    """
    nodes, columns = adjacency.shape[0], np.arange(sources.shape[0])
    paths = np.zeros((nodes, columns.shape[0]))
    distance = np.full(paths.shape, -1, dtype=np.int32)
    paths[sources, columns], distance[sources, columns] = 1.0, 0
    levels: list[Ints] = [np.unique(sources)]
    while levels[-1].shape[0] > 0:
        rows, level = levels[-1], len(levels)
        frontier = np.where(distance[rows] == level - 1, paths[rows], 0.0)
        near = np.unique(adjacency[rows].indices)
        arriving = adjacency[near][:, rows] @ frontier
        fresh = (distance[near] < 0) & (arriving > 0.0)
        reached = fresh.any(axis=1)
        near, fresh, arriving = near[reached], fresh[reached], arriving[reached]
        distance[near] = np.where(fresh, level, distance[near])
        paths[near] = np.where(fresh, arriving, paths[near])
        levels.append(near.astype(np.int64))
    dependency = np.zeros(paths.shape)
    for level in range(len(levels) - 2, 0, -1):
        rows, before = levels[level], levels[level - 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.where(distance[rows] == level, (1.0 + dependency[rows]) / paths[rows], 0.0)
        gained = paths[before] * (adjacency[before][:, rows] @ weight)
        dependency[before] += np.where(distance[before] == level - 1, gained, 0.0)
    dependency[sources, columns] = 0.0
    return dependency.sum(axis=1), np.maximum(distance, 0).sum(axis=1).astype(np.float64)
