r"""Large graphs in bounded memory: nodes in blocks.

What a layer works out for N nodes that hear k others is (N, k, D), for each edge type, kept from forward to backward. Of 300,000 nodes
that is tens of GB. Here it is worked out for one block of nodes after another.

What follows a layer hears its result, (N, D), which alone is kept; the block is worked out once more when gradients are asked for (`in_blocks`):
Chen, Xu, Zhang, Guestrin, Training Deep Nets with Sublinear Memory Cost (2016, arXiv:1604.06174), for nodes in place of layers. A graph
of at most `MOST_AT_ONCE` nodes is one block, and nothing is worked out twice.

Nothing follows the error but its gradients, so these are taken at once, block by block, and nothing is worked out twice at all (`summed`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gnn.hearing import Table
from gnn.tensors import padded

MOST_AT_ONCE = 20_000
"""Nodes that a layer works on all at once: the activations of all layers take some 1.5 GB at most."""

BLOCK = 2048
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
    done = [again(function, *block) for block in _blocks(first, *of_nodes[1:])]
    return tuple(torch.cat(several) for several in zip(*done, strict=True))


def again(function: Callable[..., Any], *given: Any) -> Any:
    """What a function gives, keeping nothing but what it was given: it is called again, with the same draws, for the gradients."""
    return checkpoint(function, *given, use_reentrant=False) if torch.is_grad_enabled() else function(*given)


def summed(
    function: Callable[..., Tensor],
    h: Tensor,
    *of_nodes: Tensor,
    tables: Collection[NodeTable],
    learned: Iterable[Tensor],
) -> Tensor:
    """The sum of what a function gives for each block, whose gradients are taken while it is worked out, and asked for once.

    Args:
        function: takes rows of `h` and of `of_nodes`, and gives one number.
        h: (M, D), whose gradient is wanted.
        of_nodes: further tensors with M rows, which need none.
        tables: what it hears, made for block by block where `parted(M)`.
        learned: the weights that it asks.
    """
    if not parted(len(h)):
        return function(h, *of_nodes)
    if not torch.is_grad_enabled():
        return torch.stack([function(*block) for block in _blocks(h, *of_nodes)]).sum()
    linked = [table for table in tables if table.link is not None]
    links = [link for table in linked if (link := table.link) is not None]
    weights = [weight for weight in learned if weight.requires_grad]
    found: Tensor = _Total.apply(function, of_nodes, linked, h, *links, *weights)
    return found


def parted(asked: int) -> bool:
    """Whether `summed` takes so many nodes block by block: where that is more than one block."""
    return asked > BLOCK


def numbers_in_blocks(nodes: int, device: torch.device) -> Iterator[Tensor]:
    """The numbers of so many nodes, block by block."""
    for (some,) in _blocks(torch.arange(nodes, device=device)):
        yield some


def _blocks(first: Tensor, *of_nodes: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Rows of tensors with as many rows, block by block."""
    # Split and not sliced: the gradient of a split is one tensor, that of slices one of N rows for each.
    count = -(-len(first) // BLOCK)
    parts = [[None] * count if one is None else one.split(BLOCK) for one in (first, *of_nodes)]  # type: ignore[no-untyped-call]  # torch has no types for it
    return zip(*parts, strict=True)


class NodeTable:
    """What N nodes say, to be heard by others.

    Where it is heard block by block the gradients from all blocks are summed in one table; autograd alone would make one of N rows for
    each block.

    Args:
        said: (N, C).
        heard: by all that hear, where they are not taken block by block: who is heard by whom is then found once.
        by_block: whether it is heard block by block; None where a layer would be.
    """

    def __init__(self, said: Tensor, heard: Table | None = None, *, by_block: bool | None = None) -> None:
        self._values, self._heard = padded(said), heard
        self.link: Tensor | None = None
        self.gradient: Tensor | None = None
        if (many(len(said)) if by_block is None else by_block) and self._values.requires_grad:
            self.link = _Summed.apply(self._values, self)
            self._values = self._values.detach()

    def rows(self, heard: Tensor) -> Tensor:
        """(B, k) numbers of nodes, N for nobody -> (B, k, C), zeros for nobody."""
        if self.link is None:
            return self._table(heard).rows(self._values)
        found: Tensor = _Heard.apply(self.link, self._values, heard, self)
        return found

    def sums(self, heard: Tensor, weight: Tensor) -> Tensor:
        """(B, k) numbers of nodes and as many weights -> (B, C) weighted sums."""
        if self.link is None:
            return self._table(heard).sums(self._values, weight)
        return (weight[:, None, :] @ self.rows(heard))[:, 0]

    def _table(self, heard: Tensor) -> Table:
        # What is asked for whole is known already, and so is who is heard by whom.
        if self._heard is not None and heard is self._heard.heard:
            return self._heard
        return Table(heard, len(self._values) - 1)

    def add(self, heard: Tensor, gradient: Tensor) -> None:
        """Take in the gradient of what was heard. Sums of many blocks are float32, also of bfloat16."""
        if self.gradient is None:
            self.gradient = torch.zeros_like(self._values, dtype=torch.float32)
        self.gradient.index_add_(0, heard.flatten(), gradient.flatten(0, -2).float())


class _Summed(torch.autograd.Function):
    """(N + 1, C) -> a number that means nothing, but whose gradient autograd asks for after that of all that was heard."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, table: NodeTable) -> Tensor:
        ctx.table, ctx.dtype = table, values.dtype
        return values.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor | None, None]:
        table = _once(ctx, "table")
        gradient, table.gradient, table.link = table.gradient, None, None
        return None if gradient is None else gradient.to(ctx.dtype), None


def _once(ctx: Any, name: str) -> Any:
    """What is kept for gradients, which is let go of: tables are large, and what was summed is not summed again."""
    kept = getattr(ctx, name)
    if kept is None:
        raise RuntimeError(
            "gradients of what is worked out in blocks are asked for a second time; they are there once"
        )
    setattr(ctx, name, None)
    return kept


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
        _once(ctx, "table").add(heard, gradients[0])
        return gradients[0].new_zeros(()), None, None, None


class _Total(torch.autograd.Function):
    """See `summed`. What comes back for the sum only scales its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[..., Tensor],
        of_nodes: Sequence[Tensor],
        tables: Sequence[NodeTable],
        h: Tensor,
        *asked: Tensor,
    ) -> Tensor:
        # Links of their own: gradients end at the tables here, and go on from there when all are summed.
        links = [link.detach().requires_grad_() for link in asked[: len(tables)]]
        learned = asked[len(tables) :]
        for table, link in zip(tables, links, strict=True):
            table.link = link
        errors, of_h = [], []
        of_learned: list[Tensor | None] = [None] * len(learned)
        for own, *others in _blocks(h, *of_nodes):
            with torch.enable_grad():
                leaf = own.detach().requires_grad_()
                error = function(leaf, *others)
            own_gradient, *gradients = torch.autograd.grad(error, [leaf, *links, *learned], allow_unused=True)
            errors.append(error.detach())
            of_h.append(torch.zeros_like(leaf) if own_gradient is None else own_gradient)
            of_learned = [_sum(*both) for both in zip(of_learned, gradients[len(links) :], strict=True)]
        ctx.kept = tables, torch.cat(of_h), of_learned
        return torch.stack(errors).sum()

    @staticmethod
    def backward(ctx: Any, *scale: Tensor) -> tuple[Tensor | None, ...]:
        tables, of_h, of_learned = _once(ctx, "kept")
        for table in tables:
            if table.gradient is not None:
                table.gradient *= scale[0]
        scaled = [None if one is None else one * scale[0] for one in of_learned]
        return None, None, None, of_h * scale[0], *(torch.zeros_like(scale[0]) for _ in tables), *scaled


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """What no block asked has no gradient, and is not moved."""
    return other if one is None else one if other is None else one + other
