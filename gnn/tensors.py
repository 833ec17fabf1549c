"""Inputs -> torch_geometric: the rows of a question side by side, in one `HeteroData` that has no edges between them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from gnn.inputs import NOBODY, Inputs
from kg.arrays import Floats

PAIR = "pair"
"""The one node type."""

_AT_ONCE = 8192
"""Nodes whose numbers are standardised at once: float64 numbers of all would be many times what comes of them."""


def as_data(
    inputs: Inputs,
    mean: Floats,
    deviation: Floats,
    *,
    most_deviations: float,
    targets: Mapping[str, Floats] | None = None,
) -> HeteroData:
    """The graphs of all rows.

    Args:
        inputs: Q rows of P pairs.
        mean: (F,) of each column, to standardise it.
        deviation: (F,) of each column, above 0.
        most_deviations: standardised inputs are cut here.
        targets: name -> (Q, P), NaN where a cell is not asked; None when predicting.

    Returns:
        N = Q x P nodes with `x` (N, 2F) float32, the standardised numbers (0 where unknown) and then a mask of what is known,
        `category` (N, C) int64, the `values` of the inputs (N,) or (N, L) float32 in ms, NaN where unknown, and the targets (N,). For
        each edge type `heard` (N, k) int64, N where there is nobody, and where it has them `edge` (N, k, E) float32, NaN where unknown.
        `edge_index()` of `gnn.tensors` gives the same as PyG's pairs of nodes.
    """
    rows, pairs, columns = inputs.numbers.shape
    numbers = inputs.numbers.reshape(rows * pairs, columns)
    x = np.empty((rows * pairs, 2 * columns), dtype=np.float32)
    for start in range(0, len(x), _AT_ONCE):
        own = slice(start, start + _AT_ONCE)
        known = np.isfinite(numbers[own])
        standard = (np.where(known, numbers[own], mean) - mean) / deviation
        x[own, :columns] = np.clip(standard, -most_deviations, most_deviations)
        x[own, columns:] = known
    data = HeteroData()
    node = data[PAIR]
    node.x = torch.from_numpy(x)
    category = np.stack(list(inputs.categories.values()), axis=-1)
    node.category = torch.from_numpy(category).repeat(rows, 1)
    for name, values in {**inputs.values, **({} if targets is None else targets)}.items():
        node[name] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).flatten(0, 1)
    first = torch.arange(rows, dtype=torch.int64)[:, None, None] * pairs
    for relation in inputs.graphs[0]:
        heard = torch.from_numpy(np.stack([inputs.graphs[int(graph)][relation] for graph in inputs.graph_of]))
        data[PAIR, relation, PAIR].heard = torch.where(heard == NOBODY, rows * pairs, heard + first).flatten(
            0, 1
        )
        if relation in inputs.edge_numbers:
            numbers = np.ascontiguousarray(inputs.edge_numbers[relation], dtype=np.float32)
            data[PAIR, relation, PAIR].edge = torch.from_numpy(numbers).flatten(0, 1)
    return data


def edge_index(heard: Tensor) -> Tensor:
    """(N, k) -> (2, E): row 0 is heard by row 1, as PyG has it."""
    nodes = heard.shape[0]
    there = heard < nodes
    hearer = torch.arange(nodes, device=heard.device)[:, None].expand_as(heard)
    return torch.stack([heard[there], hearer[there]])


def padded(h: Tensor) -> Tensor:
    """(N, D) -> (N + 1, D): a last row of zeros, which stands for nobody."""
    return torch.cat([h, h.new_zeros((1, h.shape[1]))])
