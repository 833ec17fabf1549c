"""Feature encoder and heads, the same for every graph encoder, and the loss they are trained with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

QUANTILES = (0.05, 0.5, 0.95)
"""Low bound, median and high bound of RTT and jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the heads say of N nodes.

    Attributes:
        rtt, jitter: (N, 3) the `QUANTILES` of the compressed difference from the base, ascending.
        any_loss_logit: (N,) log odds that a packet is lost.
        loss_size_logit: (N,) log odds of the share of lost packets, given that one is lost.
    """

    rtt: Tensor
    jitter: Tensor
    any_loss_logit: Tensor
    loss_size_logit: Tensor


class FeatureEncoder(nn.Module):
    """Numbers and hashed categories of a node -> hidden features.

    Args:
        numbers: columns of `x`.
        categories: how many categories a node has.
        buckets: hash buckets of a category; 0 is unknown and stays a zero vector.
        hidden: D.
        dropout: of the inputs and of the output.
    """

    def __init__(self, *, numbers: int, categories: int, buckets: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(
            nn.Embedding(buckets + 1, 4, padding_idx=0) for _ in range(categories)
        )
        self.linear = nn.Linear(numbers + 4 * categories, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = dropout

    def forward(self, x: Tensor, category: Tensor) -> Tensor:
        """(N, F) float32 and (N, C) int64 -> (N, D)."""
        learned = [table(category[:, i]) for i, table in enumerate(self.embeddings)]
        joined = functional.dropout(torch.cat([x, *learned], dim=-1), self.dropout / 2, self.training)
        return functional.dropout(torch.relu(self.norm(self.linear(joined))), self.dropout, self.training)


class Heads(nn.Module):
    """Quantiles of RTT and jitter, probability and size of loss.

    The last layers begin at zero, so that training begins at the base: the median is the base itself. The bounds are the
    median minus and plus a softplus, so quantiles never cross.

    Args:
        hidden: D.
    """

    def __init__(self, *, hidden: int) -> None:
        super().__init__()
        self.shared = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 8)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([0.0, -2.0, -2.0, 0.0, -2.0, -2.0, -2.0, -1.0]))

    def forward(self, h: Tensor) -> Outputs:
        """(N, D) -> what the heads say."""
        out = self.last(torch.relu(self.shared(h)))
        return Outputs(
            rtt=_ascending(out[:, 0:3]),
            jitter=_ascending(out[:, 3:6]),
            any_loss_logit=out[:, 6],
            loss_size_logit=out[:, 7],
        )


def _ascending(raw: Tensor) -> Tensor:
    middle, below, above = raw.unbind(dim=-1)
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
