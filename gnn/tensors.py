"""Inputs -> torch_geometric: one `HeteroData` a window, which batch into block-diagonal graphs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.utils import to_torch_csr_tensor

from gnn.inputs import Inputs
from kg.arrays import Floats, Ints

PAIR = "pair"
"""The one node type."""


def windows_as_data(
    inputs: Inputs,
    mean: Floats,
    deviation: Floats,
    *,
    most_deviations: float,
    targets: Mapping[str, Floats] | None = None,
) -> list[HeteroData]:
    """The graph of each window.

    Args:
        inputs: Q windows of P pairs.
        mean: (F,) of each column, to standardise it.
        deviation: (F,) of each column, above 0.
        most_deviations: standardised inputs are cut here.
        targets: name -> (Q, P), NaN where a cell is not asked; None when predicting.

    Returns:
        Q graphs with `x` (P, 2F) float32, the standardised numbers (0 where unknown) and then a mask of what is known,
        `category` (P, C) int64, for each edge type `adj_t` (P, P) in CSR, row the hearer, and the targets (P,).
    """
    known = np.isfinite(inputs.numbers)
    standard = (np.where(known, inputs.numbers, mean) - mean) / deviation
    standard = np.clip(standard, -most_deviations, most_deviations)
    x = torch.from_numpy(np.concatenate([standard, known], axis=-1).astype(np.float32))
    category = torch.from_numpy(np.stack(list(inputs.categories.values()), axis=-1))
    pairs = x.shape[1]
    adjacency = [
        {relation: _adjacency(edge, pairs) for relation, edge in graph.items()} for graph in inputs.graphs
    ]
    windows: list[HeteroData] = []
    for row, graph in enumerate(inputs.graph_of):
        data = HeteroData()
        data[PAIR].x = x[row]
        data[PAIR].category = category
        for relation, adj_t in adjacency[int(graph)].items():
            data[PAIR, relation, PAIR].adj_t = adj_t
        for name, values in ({} if targets is None else targets).items():
            data[PAIR][name] = torch.from_numpy(values[row].astype(np.float32))
        windows.append(data)
    return windows


def _adjacency(edge: Ints, pairs: int) -> Tensor:
    """(P, P) CSR with a one where the row's pair hears the column's."""
    hears = torch.from_numpy(np.ascontiguousarray(edge[::-1]))
    with warnings.catch_warnings():
        # torch says once that CSR is in beta and that it does not check indices. These come right from the path graph.
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support|invariant checks)", UserWarning)
        adjacency: Tensor = to_torch_csr_tensor(hears, size=(pairs, pairs))
    return adjacency
