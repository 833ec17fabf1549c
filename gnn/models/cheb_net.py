"""ChebNet: a pair filters what it hears by polynomials of the graph's Laplacian, one filter an edge type."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import ChebConv

from gnn.blocks import again, many
from gnn.hearing import Table
from gnn.models.graph_predictor import GraphPredictor
from gnn.tensors import padded


class TableChebConv(ChebConv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's `ChebConv`, over a table of k neighbours: the same numbers, without scattering.

    .. math::
        h' = \sum_{k=1}^{K} W_k T_k(\hat L) h, \quad T_1 = h, \quad T_2 = \hat L h, \quad T_k = 2 \hat L T_{k-1} - T_{k-2}

    with :math:`\hat L = -D^{-1/2} A D^{-1/2}`, the symmetric Laplacian scaled by its largest possible eigenvalue, 2.
    """

    of_alone: ClassVar[bool] = True

    def over_table(self, h: Tensor, heard: Table, edge: Tensor | None) -> Tensor:  # noqa: ARG002  it asks no edge
        """(N, D) and a table of k -> (N, D'). Polynomials need all nodes at once; of many, they are not kept."""
        out: Tensor = again(self._filtered, h, heard) if many(len(h)) else self._filtered(h, heard)
        return out

    def _filtered(self, h: Tensor, heard: Table) -> Tensor:
        nodes = len(h)
        there = heard.heard < nodes
        # PyG takes the degree of the one who is heard: how many hear it.
        degree = torch.bincount(heard.heard.flatten(), minlength=nodes + 1)[:nodes].to(h)
        root = torch.where(degree > 0, degree.clamp_min(1).rsqrt(), 0.0)
        weight = -functional.pad(root, (0, 1))[heard.heard] * root[:, None] * there

        def filtered(x: Tensor) -> Tensor:
            return heard.sums(padded(x), weight)

        before = now = h
        out: Tensor = self.lins[0](h)
        for order, linear in enumerate(self.lins[1:], start=1):
            before, now = now, filtered(now) if order == 1 else 2.0 * filtered(now) - before
            out = out + linear(now)
        return out


class ChebNet(GraphPredictor):
    """Chebyshev filters on the path graph."""

    name: ClassVar[str] = "cheb-net"
    citation: ClassVar[str] = (
        "Defferrard, Bresson, Vandergheynst: Convolutional Neural Networks on Graphs with Fast Localized Spectral Filtering, "
        "NeurIPS 2016, arXiv:1606.09375"
    )

    def convolution(self, edge_dim: int | None) -> nn.Module:  # noqa: ARG002  polynomials ask no edge
        """A filter of `settings.order` polynomials."""
        return TableChebConv(self.settings.hidden, self.settings.hidden, K=self.settings.order, bias=False)
