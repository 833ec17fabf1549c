"""Typed layers: what every graph encoder has in common. The convolution is what differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnn.hearing import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Whom N nodes hear over edges of one type.

    Attributes:
        heard: by each of N, k at most.
        edge: (N, k, E) float32 features of the edges, or None.
    """

    heard: Table
    edge: Tensor | None


Neighbourhood: TypeAlias = Mapping[str, Heard]
"""Edge type -> who is heard."""

MOST_OF_ALL = 0.9
"""Where more hear somebody, all are asked: picking these out would cost more than the others do."""


class TypedLayers(nn.Module):
    r"""Layers of one convolution an edge type, summed, with a residual connection.

    .. math::
        h_i' = h_i + \mathrm{ReLU}\,\mathrm{LN}\Bigl(W_0 h_i + \sum_r \mathrm{conv}_r(h)_i\Bigr)

    The sum over edge types is that of Schlichtkrull et al., Modeling Relational Data with Graph Convolutional Networks (ESWC 2018),
    equation 2.

    Args:
        relations: edge types.
        edge_dims: edge type -> E, for those that have edge features.
        convolution: makes one, of D features to D, given E or None; it has `over_table(h, heard, edge, asked)`, and `of_alone` says whether it
            gives anything to who hears nobody. If not, only who hears somebody is asked.
        position: adds to the features where in the graph a node is; None adds nothing.
        hidden: D.
        layers: hops.
        dropout: of each layer's message.
    """

    def __init__(
        self,
        *,
        relations: tuple[str, ...],
        edge_dims: Mapping[str, int],
        convolution: Callable[[int | None], nn.Module],
        position: nn.Module | None,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.relations, self.dropout, self.position = relations, dropout, position
        self.own = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.heard = nn.ModuleList(
            nn.ModuleDict({relation: convolution(edge_dims.get(relation)) for relation in relations})
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))

    def forward(self, h: Tensor, around: Neighbourhood) -> Tensor:
        """(N, D) float32 and who is heard -> (N, D)."""
        if self.position is not None:
            h = h + self.position(h, around)
        hearing = {
            relation: (around[relation], None) if convolution.of_alone else _hearing(around[relation], len(h))
            for layer in self.heard[:1]
            for relation, convolution in layer.items()  # type: ignore[operator]  # a ModuleDict
        }
        for own, heard, norm in zip(self.own, self.heard, self.norms, strict=True):
            message = own(h)
            for relation in self.relations:
                convolution = heard[relation]  # type: ignore[index]
                of, asked = hearing[relation]
                if asked is None:
                    message = message + convolution.over_table(h, of.heard, of.edge)
                elif len(asked) > 0:
                    told = convolution.over_table(h, of.heard, of.edge, asked)
                    message = message.index_add(0, asked, told.to(message))
            h = h + functional.dropout(torch.relu(norm(message)), self.dropout, self.training)
        return h


def _hearing(of: Heard, nodes: int) -> tuple[Heard, Tensor | None]:
    """Who hears somebody, (B,), and whom; None, and the whole table, where nearly all do."""
    some = (of.heard.heard < nodes).any(dim=1)
    if int(some.sum()) > MOST_OF_ALL * nodes:
        return of, None
    asked = some.nonzero()[:, 0]
    edge = None if of.edge is None else of.edge[asked]
    return Heard(heard=Table(of.heard.heard[asked], nodes), edge=edge), asked
