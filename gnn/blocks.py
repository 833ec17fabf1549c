r"""Large graphs in bounded memory: nodes in blocks, whose activations are worked out again when gradients are.

What a layer works out for N nodes that hear k others is (N, k, D), for each edge type, kept from forward to backward. Of 300,000 nodes
that is tens of GB. Here the layer is worked out for one block of nodes after another, and only its result, (N, D), is kept: Chen,
Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost (2016, arXiv:1604.06174), for nodes in place of layers. It costs
one more forward pass. A graph of at most `MOST_AT_ONCE` nodes is one block, and nothing is worked out twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.utils.checkpoint import checkpoint

from gnn.hearing import Table
from gnn.tensors import padded

MOST_AT_ONCE = 20_000
"""Nodes that are worked on all at once: their activations take some 5 GB at most."""

BLOCK = 4096
"""Nodes of a block."""


def many(nodes: int) -> bool:
    """Whether so many nodes are worked on in blocks."""
    return nodes > MOST_AT_ONCE


def in_blocks(function: Callable[..., tuple[Tensor, ...]], *of_nodes: Tensor | None) -> tuple[Tensor, ...]:
    """What a function gives for all nodes.

    Args:
        function: treats each node by itself: takes rows of `of_nodes`, and gives tensors with as many rows. Other nodes are
            heard through a `NodeTable`.
        of_nodes: tensors with a row a node, the first of them not None.
    """
    first = of_nodes[0]
    if first is None or not many(len(first)):
        return function(*of_nodes)
    # Split and not sliced: the gradient of a split is one tensor, that of slices one of N rows for each.
    count = -(-len(first) // BLOCK)
    parts = [[None] * count if one is None else one.split(BLOCK) for one in of_nodes]  # type: ignore[no-untyped-call]  # torch has no types for it
    done = [again(function, *part) for part in zip(*parts, strict=True)]
    return tuple(torch.cat(several) for several in zip(*done, strict=True))


def again(function: Callable[..., Any], *given: Any) -> Any:
    """What a function gives, keeping nothing but what it was given: it is called again, with the same draws, for the gradients."""
    return checkpoint(function, *given, use_reentrant=False) if torch.is_grad_enabled() else function(*given)


class NodeTable:
    """What N nodes say, to be heard by others, block by block.

    Of a large graph the gradients from all blocks are summed in one table; autograd alone would make one of N rows for each block.

    Args:
        said: (N, C).
        heard: by all that hear; of a large graph its rows are asked for in blocks.
    """

    def __init__(self, said: Tensor, heard: Table) -> None:
        self._values, self._heard = padded(said), heard
        self._link: Tensor | None = None
        self.gradient: Tensor | None = None
        if many(len(said)) and self._values.requires_grad:
            self._link = _Summed.apply(self._values, self)
            self._values = self._values.detach()

    def rows(self, heard: Tensor) -> Tensor:
        """(B, k) numbers of nodes, N for nobody -> (B, k, C), zeros for nobody."""
        if self._link is None:
            return self._table(heard).rows(self._values)
        found: Tensor = _Heard.apply(self._link, self._values, heard, self)
        return found

    def sums(self, heard: Tensor, weight: Tensor) -> Tensor:
        """(B, k) numbers of nodes and as many weights -> (B, C) weighted sums."""
        if self._link is None:
            return self._table(heard).sums(self._values, weight)
        return (weight[:, None, :] @ self.rows(heard))[:, 0]

    def _table(self, heard: Tensor) -> Table:
        # What is asked for whole is known already, and so is who is heard by whom.
        return self._heard if heard is self._heard.heard else Table(heard, len(self._values) - 1)

    def add(self, heard: Tensor, gradient: Tensor) -> None:
        """Take in the gradient of what was heard."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self._values)
        self.gradient.index_add_(0, heard.flatten(), gradient.flatten(0, -2))


class _Summed(torch.autograd.Function):
    """(N + 1, C) -> a number that means nothing, but whose gradient autograd asks for after that of all that was heard."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, table: NodeTable) -> Tensor:
        ctx.table = table  # type: ignore[attr-defined]
        return values.new_zeros(())

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> tuple[Tensor | None, None]:
        table: NodeTable = ctx.table  # type: ignore[attr-defined]
        gradient, table.gradient = table.gradient, None
        return gradient, None


class _Heard(torch.autograd.Function):
    """Rows of a table."""

    @staticmethod
    def forward(ctx: Any, link: Tensor, values: Tensor, heard: Tensor, table: NodeTable) -> Tensor:  # noqa: ARG004
        ctx.table = table
        ctx.save_for_backward(heard)
        return values[heard]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (heard,) = ctx.saved_tensors
        ctx.table.add(heard, gradients[0])
        return gradients[0].new_zeros(()), None, None, None
