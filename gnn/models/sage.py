"""SAGE: a pair hears the mean of its neighbours, one convolution an edge type."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch_geometric.nn import SAGEConv

from gnn.hearing import Table
from gnn.models.graph_predictor import GraphPredictor
from gnn.tensors import padded


class TableSageConv(SAGEConv):  # type: ignore[misc]  # PyG has no types
    """PyG's `SAGEConv` with the mean, over a table of k neighbours: the same numbers, without scattering."""

    of_alone: ClassVar[bool] = False

    def over_table(
        self,
        h: Tensor,
        heard: Table,
        edge: Tensor | None,  # noqa: ARG002  it asks no edge
        asked: Tensor | None = None,  # noqa: ARG002  nor who asks
    ) -> Tensor:
        """(N, D) and a table of B by k -> (B, D'). Who hears nobody gets zeros."""
        count = (heard.heard < len(h)).sum(dim=1, keepdim=True)
        out: Tensor = self.lin_l(heard.sums(padded(h)) / count.clamp_min(1))
        return out


class Sage(GraphPredictor):
    """GraphSAGE on the path graph."""

    name: ClassVar[str] = "sage"
    citation: ClassVar[str] = (
        "Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs, NeurIPS 2017, arXiv:1706.02216"
    )

    def convolution(self, edge_dim: int | None) -> nn.Module:  # noqa: ARG002  the mean asks no edge
        """The mean."""
        return TableSageConv(self.settings.hidden, self.settings.hidden, root_weight=False, bias=False)
