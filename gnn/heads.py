"""Heads: from the features of a node to what is predicted of it, and the losses that they are trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnn.prediction import QUANTILES


class FeatureEncoder(nn.Module):
    """Numbers and hashed categories of a node -> hidden features.

    Args:
        numbers: columns of `x`.
        categories: how many categories a node has.
        buckets: hash buckets of a category; 0 is unknown and stays a zero vector.
        hidden: D.
        dropout: of the output.
        input_dropout: of the inputs.
    """

    def __init__(
        self,
        *,
        numbers: int,
        categories: int,
        buckets: int,
        hidden: int,
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(buckets + 1, 4, padding_idx=0) for _ in range(categories)
        )
        self.linear = nn.Linear(numbers + 4 * categories, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout, self.input_dropout = dropout, input_dropout

    def forward(self, x: Tensor, category: Tensor) -> Tensor:
        """(N, F) float32 and (N, C) int64 -> (N, D)."""
        learned = [table(category[:, i]) for i, table in enumerate(self.embeddings)]
        joined = functional.dropout(torch.cat([x, *learned], dim=-1), self.input_dropout, self.training)
        return functional.dropout(torch.relu(self.norm(self.linear(joined))), self.dropout, self.training)


class LossHead(nn.Module):
    """Probability and size of loss. Begins at no loss.

    Args:
        hidden: D.
    """

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 2)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([-2.0, -1.0]))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) -> (N,) log odds that a packet is lost, and of the share of lost packets, given that one is."""
        any_logit, size_logit = self.last(torch.relu(self.shared(h))).unbind(dim=-1)
        return any_logit, size_logit


class QuantileHead(nn.Module):
    """The `QUANTILES` of a compressed difference from a base.

    The last layer begins at zero, so that training begins at the base: the median is the base itself. The bounds are the
    median minus and plus a softplus, so quantiles never cross.

    Args:
        hidden: D.
    """

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 3)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([0.0, -2.0, -2.0]))

    def forward(self, h: Tensor) -> Tensor:
        """(N, D) -> (N, 3), ascending."""
        middle, below, above = self.last(torch.relu(self.shared(h))).unbind(dim=-1)
        return torch.stack(
            [middle - functional.softplus(below), middle, middle + functional.softplus(above)], dim=-1
        )


def pinball(quantiles: Tensor, values: Tensor) -> Tensor:
    """Mean pinball loss (Koenker, Bassett, Regression Quantiles, Econometrica 46, 1978).

    Args:
        quantiles: (N, 3) predicted `QUANTILES`.
        values: (N,) what came.
    """
    tau = quantiles.new_tensor(QUANTILES)
    over = values[:, None] - quantiles
    return torch.maximum(tau * over, (tau - 1.0) * over).mean()


def loss_of_loss(any_logit: Tensor, size_logit: Tensor, lost: Tensor) -> Tensor:
    """Cross-entropy of any loss, and of its size where there was one.

    Args:
        any_logit: (N,) see `LossHead`.
        size_logit: (N,) likewise.
        lost: (N,) loss ratios.
    """
    any_loss = (lost > 0.0).float()
    size = functional.binary_cross_entropy_with_logits(size_logit, lost, reduction="none")
    return functional.binary_cross_entropy_with_logits(any_logit, any_loss) + (size * any_loss).mean()
