"""Centralities: against plain Python over all shortest paths, and estimates against the exact ones."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.centrality import CENTRALITIES, centralities, node_centralities
from kg.schema import AS, IP
from kg.tables import node_schema

Edges = list[tuple[int, int]]
NAMES = ("degree", "betweenness", "closeness", "pagerank", "core_number", "connectivity_ratio")


def table(edges: Edges) -> pa.Table:
    return pa.table(
        {
            "source": pa.array([a for a, _ in edges], pa.int64()),
            "target": pa.array([b for _, b in edges], pa.int64()),
        }
    )


def found(edges: Edges, **how: Any) -> dict[int, dict[str, Any]]:
    generator = np.random.default_rng(how.pop("seed", 0))
    rows = node_centralities(table(edges), "asn", generator, **how).to_pylist()
    return {row.pop("asn"): row for row in rows}


def ring(nodes: int) -> Edges:
    return [(n, (n + 1) % nodes) for n in range(nodes)]


def test_a_star_worked_out_by_hand() -> None:
    star = found([(1, 2), (1, 3), (1, 4), (1, 5)])
    assert star[1] | {"pagerank": None} == {
        "degree": 4,
        "betweenness": 1.0,  # all six pairs of others meet there
        "closeness": 1.0,
        "pagerank": None,
        "core_number": 1,
        "connectivity_ratio": 0.0,  # any link that fails cuts one off
        "centrality_method": "exact",
    }
    assert star[2]["betweenness"] == 0.0
    assert star[2]["closeness"] == pytest.approx(4 / 7)  # to 1 it is one, to the three others two
    assert sum(row["pagerank"] for row in star.values()) == pytest.approx(1.0)


def test_connectivity_is_the_share_that_no_single_failure_cuts_off() -> None:
    two_rings_and_a_bridge = [*ring(4), (3, 10), (10, 11), (11, 12), (12, 10)]
    nodes = found(two_rings_and_a_bridge)
    assert nodes[0]["connectivity_ratio"] == pytest.approx(3 / 6)
    assert nodes[10]["connectivity_ratio"] == pytest.approx(2 / 6)
    assert all(row["connectivity_ratio"] == 1.0 for row in found(ring(5)).values())


def test_direction_repetition_and_links_to_itself_count_nothing() -> None:
    assert found([(1, 2), (2, 1), (1, 2), (2, 3), (3, 3), (9, 9)]) == found([(2, 1), (3, 2)])


def test_a_graph_without_links_has_no_centralities() -> None:
    assert found([]) == {}
    assert found([(1, 1)]) == {}
    assert (
        centralities(pa.table({"source": pa.array([], pa.string()), "target": pa.array([], pa.string())}))
        == {}
    )


def test_the_answer_is_ready_to_be_written_to_both_kinds_of_nodes() -> None:
    for node_type, ends in ((AS, pa.array([1, 2], pa.int64())), (IP, pa.array(["192.0.2.1", "192.0.2.2"]))):
        edges = pa.table({"source": ends[:1], "target": ends[1:]})
        written = node_centralities(edges, node_type.key.name, np.random.default_rng(0))
        schema = node_schema(node_type)
        assert all(schema.field(column.name).type == column.type for column in written.schema)
        assert {*NAMES, "centrality_method"} < set(written.column_names)


_edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


def by_hand(edges: Edges) -> dict[int, dict[str, float]]:
    """Betweenness, closeness, core number and connectivity by trying everything."""
    links = {frozenset(edge) for edge in edges if edge[0] != edge[1]}
    nodes = sorted({node for link in links for node in link})

    def near(of: set[frozenset[int]]) -> dict[int, set[int]]:
        return {node: {m for link in of if node in link for m in link - {node}} for node in nodes}

    def distances(start: int, neighbours: dict[int, set[int]]) -> tuple[dict[int, int], dict[int, int]]:
        distance, paths, queue = {start: 0}, {start: 1}, deque([start])
        while queue:
            node = queue.popleft()
            for other in neighbours[node]:
                if other not in distance:
                    distance[other], paths[other] = distance[node] + 1, 0
                    queue.append(other)
                if distance[other] == distance[node] + 1:
                    paths[other] += paths[node]
        return distance, paths

    neighbours = near(links)
    trees = {node: distances(node, neighbours) for node in nodes}
    n = len(nodes)
    answer = {}
    for node in nodes:
        distance, _ = trees[node]
        between = 0.0
        for a, b in itertools.combinations([other for other in nodes if other != node], 2):
            (from_a, paths_a), (from_b, paths_b) = trees[a], trees[b]
            if b in from_a and node in from_a and from_a[node] + from_b[node] == from_a[b]:
                between += paths_a[node] * paths_b[node] / paths_a[b]
        total, reach = sum(distance.values()), len(distance) - 1
        always = set(nodes)
        for link in [None, *links]:
            always &= set(distances(node, near(links - {link}))[0])
        core = max(k for k in range(n) if node in _core(neighbours, k))
        answer[node] = {
            "degree": len(neighbours[node]),
            "betweenness": between / ((n - 1) * (n - 2) / 2) if n > 2 else 0.0,
            "closeness": reach / total * reach / (n - 1),
            "core_number": core,
            "connectivity_ratio": (len(always) - 1) / (n - 1),
        }
    return answer


def _core(neighbours: dict[int, set[int]], k: int) -> set[int]:
    kept = set(neighbours)
    while weak := {node for node in kept if len(neighbours[node] & kept) < k}:
        kept -= weak
    return kept


@given(edges=_edges)
def test_exact_centralities_are_what_plain_python_finds_by_trying_all(edges: Edges) -> None:
    expected = by_hand(edges)
    nodes = found(edges)
    assert set(nodes) == set(expected)
    for node, row in expected.items():
        assert {name: nodes[node][name] for name in row} == pytest.approx(row)


@given(edges=_edges, most_work=st.sampled_from([0, 10**9]), sources=st.sampled_from([2, 10]))
def test_with_every_node_as_a_source_the_estimate_is_exact(
    edges: Edges, most_work: int, sources: int
) -> None:
    expected = found(edges)
    nodes = found(edges, most_work=most_work, sources=sources)
    for node, row in nodes.items():
        if row["centrality_method"] == "exact" or sources == 10:
            assert {name: row[name] for name in NAMES} == pytest.approx(
                {name: expected[node][name] for name in NAMES}
            )


def _random(nodes: int, links: int, seed: int) -> Edges:
    generator = np.random.default_rng(seed)
    return [(int(a), int(b)) for a, b in generator.integers(0, nodes, (links, 2))]


def test_sampling_itself_is_exact_when_all_are_drawn() -> None:
    from kg.centrality import _components, _graph, _sampled

    graph = _graph(table([*_random(150, 220, 1), (900, 901), (901, 902)]))
    labels = _components(graph.rustworkx())
    everyone = np.full(graph.nodes, True)
    between, close = _sampled(graph, labels, everyone, graph.nodes, np.random.default_rng(0))
    exact = node_centralities(
        table([*_random(150, 220, 1), (900, 901), (901, 902)]), "asn", np.random.default_rng(0)
    )
    assert between == pytest.approx(exact["betweenness"].to_numpy(), abs=1e-12)
    assert close == pytest.approx(exact["closeness"].to_numpy(), abs=1e-12)


def test_a_large_component_is_sampled_and_says_so_while_a_small_one_beside_it_stays_exact() -> None:
    edges = [*_random(300, 900, 2), (900, 901), (901, 902)]
    nodes = found(edges, most_work=0, sources=100)
    exact = found(edges)
    assert nodes[901] == exact[901]
    assert nodes[901]["centrality_method"] == "exact"
    big = [node for node in nodes if node < 900 and nodes[node]["centrality_method"] != "exact"]
    assert len(big) > 250
    assert {nodes[node]["centrality_method"] for node in big} == {"sampled from 100 sources"}
    for name in ("betweenness", "closeness"):
        one, other = ([rows[node][name] for node in big] for rows in (nodes, exact))
        assert np.corrcoef(one, other)[0, 1] > 0.9
        assert np.mean(one) == pytest.approx(np.mean(other), rel=0.1)


def test_betweenness_and_the_mean_distance_behind_closeness_are_right_on_average() -> None:
    edges = ring(40)
    exact = found(edges)[0]
    turns = [found(edges, most_work=0, sources=10, seed=seed) for seed in range(40)]
    rows = [row for turn in turns for row in turn.values()]
    assert np.mean([row["betweenness"] for row in rows]) == pytest.approx(exact["betweenness"], rel=0.02)
    assert np.mean([1 / row["closeness"] for row in rows]) == pytest.approx(1 / exact["closeness"], rel=0.02)


def test_the_same_seed_draws_the_same_sources_and_the_order_of_edges_is_no_matter() -> None:
    edges = _random(300, 900, 3)
    one = found(edges, most_work=0, sources=20, seed=1)
    assert one == found(edges[::-1], most_work=0, sources=20, seed=1)
    assert one != found(edges, most_work=0, sources=20, seed=2)
    assert found(edges) == found([(b, a) for a, b in edges])


def test_learning_gets_its_centralities_without_local_addresses() -> None:
    links = pa.table(
        {
            "source": ["192.168.1.1", "198.18.0.1", "198.18.0.2", "2001:db8::1"],
            "target": ["198.18.0.1", "198.18.0.2", "198.18.0.3", "fe80::1"],
        }
    )
    rows = centralities(links)
    assert set(rows) == {"198.18.0.1", "198.18.0.2", "198.18.0.3"}
    row = dict(zip(CENTRALITIES, rows["198.18.0.2"].tolist(), strict=True))
    assert (row["degree"], row["core_number"]) == (2.0, 1.0)
    assert row["pagerank"] == pytest.approx(0.486, abs=0.001)
