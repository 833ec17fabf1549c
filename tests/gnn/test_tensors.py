"""Inputs as tensors."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnn.inputs import NOBODY, Inputs
from gnn.tensors import PAIR, as_data, edge_index, padded

ROWS, PAIRS, COLUMNS, K, E = 3, 4, 2, 2, 5


def inputs(seed=0):
    """Two graphs, of which the first holds in the first and the last row."""
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(ROWS, PAIRS, COLUMNS))
    numbers[generator.random(numbers.shape) < 0.3] = np.nan
    graphs = tuple(
        {one: generator.integers(NOBODY, PAIRS, (PAIRS, K)) for one in ("probe", "near")} for _ in range(2)
    )
    edge = generator.normal(size=(ROWS, PAIRS, K, E)).astype(np.float32)
    edge[generator.random(edge.shape) < 0.3] = np.nan
    return Inputs(
        columns=("a_ms", "b"),
        numbers=numbers,
        categories={"as": np.arange(PAIRS), "country": np.zeros(PAIRS, dtype=np.int64)},
        graphs=graphs,
        graph_of=np.array([0, 1, 0]),
        edge_columns=tuple("abcde"),
        edge_numbers={"probe": edge},
        values={
            "now_ms": generator.normal(size=(ROWS, PAIRS)),
            "lag_ms": generator.normal(size=(ROWS, PAIRS, 6)),
        },
    )


MEAN, DEVIATION = np.array([0.5, -0.5]), np.array([2.0, 0.1])


def data_of(given, **more):
    return as_data(given, MEAN, DEVIATION, most_deviations=3.0, **more)


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_numbers_are_standardised_and_cut_and_what_is_unknown_is_0_with_a_mask(seed):
    given = inputs(seed)
    x = data_of(given)[PAIR].x.numpy().reshape(ROWS, PAIRS, 2 * COLUMNS)
    known = np.isfinite(given.numbers)
    np.testing.assert_array_equal(x[..., COLUMNS:], known)
    wanted = np.clip((given.numbers - MEAN) / DEVIATION, -3.0, 3.0)
    np.testing.assert_allclose(x[..., :COLUMNS], np.where(known, wanted, 0.0), rtol=1e-6)


@given(st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_rows_lie_side_by_side_and_nobody_hears_across_them(seed):
    given = inputs(seed)
    data = data_of(given)
    for relation in ("probe", "near"):
        heard = data[PAIR, relation, PAIR].heard.numpy()
        for row in range(ROWS):
            table = given.graphs[given.graph_of[row]][relation]
            wanted = np.where(table == NOBODY, ROWS * PAIRS, row * PAIRS + table)
            np.testing.assert_array_equal(heard[row * PAIRS : (row + 1) * PAIRS], wanted)
        one, hearer = edge_index(data[PAIR, relation, PAIR].heard)
        assert (one // PAIRS == hearer // PAIRS).all()


def test_pyg_gets_each_pair_of_heard_and_hearer_once_and_in_order():
    heard = torch.tensor([[1, 3], [3, 3], [0, 1]])  # 3 nodes: 3 is nobody
    assert edge_index(heard).tolist() == [[1, 0, 1], [0, 2, 2]]


def test_edge_numbers_go_with_those_that_are_heard_and_stay_unknown_where_they_are():
    given = inputs()
    data = data_of(given)
    edge = data[PAIR, "probe", PAIR].edge.numpy().reshape(ROWS, PAIRS, K, E)
    np.testing.assert_array_equal(edge, given.edge_numbers["probe"])
    assert "edge" not in data[PAIR, "near", PAIR]


def test_values_targets_and_categories_are_by_node():
    given = inputs()
    target = np.arange(12.0).reshape(ROWS, PAIRS)
    node = data_of(given, targets={"rtt": target})[PAIR]
    assert node.lag_ms.shape == (ROWS * PAIRS, 6)
    np.testing.assert_allclose(node.now_ms, given.values["now_ms"].ravel(), rtol=1e-6)
    np.testing.assert_array_equal(node.rtt, target.ravel())
    assert node.category.tolist() == [[pair, 0] for _ in range(ROWS) for pair in range(PAIRS)]
    assert {tensor.dtype for tensor in (node.x, node.now_ms, node.lag_ms, node.rtt)} == {torch.float32}
    assert "rtt" not in data_of(given)[PAIR]


def test_nobody_is_a_row_of_zeros():
    h = torch.arange(6.0).reshape(3, 2)
    assert padded(h)[torch.tensor([2, 3])].tolist() == [[4.0, 5.0], [0.0, 0.0]]
