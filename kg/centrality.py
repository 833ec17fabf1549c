"""Centralities of addresses in the hop graph of NTKG, by rustworkx."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import rustworkx as rx
from numpy.typing import NDArray

CENTRALITIES: tuple[str, ...] = ("degree", "pagerank", "core_number")


def centralities(links: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Centralities of every address that has a neighbour.

    Args:
        links: edges between addresses, `source` and `target`; direction and multiplicity are ignored.

    Returns:
        Address -> (C,) in the order of `CENTRALITIES`: number of neighbours; PageRank (Page et al. 1999,
        damping .85); core number (Seidman 1983).
    """
    graph: rx.PyGraph[str, None] = rx.PyGraph(multigraph=False)
    addresses = sorted({*links["source"].to_pylist(), *links["target"].to_pylist()})
    number = {address: index for index, address in enumerate(addresses)}
    graph.add_nodes_from(addresses)
    graph.add_edges_from(
        [
            (number[a], number[b], None)
            for a, b in zip(links["source"].to_pylist(), links["target"].to_pylist(), strict=True)
        ]
    )
    if not addresses:
        return {}
    rank = rx.pagerank(graph.to_directed(), alpha=0.85)
    core: Mapping[int, int] = rx.core_number(graph)  # type: ignore[assignment]  # the stubs say int
    return {
        address: np.array([graph.degree(index), rank[index], core[index]], dtype=np.float64)
        for address, index in number.items()
    }
