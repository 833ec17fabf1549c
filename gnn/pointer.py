r"""The pointer head: the prediction of RTT is a distribution over candidate values, weighted by a network.

Candidates of a pair are its own past values, what its mates tell (their value now plus an offset), and a few values that the
network makes up around the base. Routes flip between a few levels, and paths of one probe move together: pointing at a value that was, or
that a mate speaks of, says that better than a regression can. After Vinyals, Fortunato, Jaitly, Pointer Networks (NeurIPS 2015), with values
in place of positions; trained with the continuous ranked probability score (Gneiting, Raftery, Strictly Proper Scoring Rules, JASA 102,
2007, equation 21), which of weights :math:`w` on sorted values :math:`z` with running sum :math:`F` is

.. math::
    \sum_k w_k |z_k - y| - \sum_k F_k (1 - F_k)(z_{k+1} - z_k)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import HeteroData

from gnn.mates import EDGE_COLUMNS
from gnn.tensors import PAIR, padded

SCALES = (0.02, 0.1, 0.5)
"""How near two compressed values must be to count as alike, narrow to wide."""

MADE_UP = 3
"""Values that the network makes up."""

_OFFSET, _SPREAD, _MOVE = (EDGE_COLUMNS.index(name) for name in ("offset_ms", "spread_ms", "move_ms"))
_SEEN = EDGE_COLUMNS.index("seen_now")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointed:
    """A distribution over K candidates of each of M nodes.

    Attributes:
        moved: (M, K) candidates, as compressed difference from the base: asinh((candidate - base) / unit).
        weight: (M, K) their weights, which sum to 1.
    """

    moved: Tensor
    weight: Tensor

    def sorted(self) -> tuple[Tensor, Tensor]:
        """Candidates ascending, and their weights."""
        moved, order = self.moved.sort(dim=1)
        return moved, self.weight.gather(1, order)

    def crps(self, values: Tensor) -> Tensor:
        """(M,) the continuous ranked probability score of what came, (M,), compressed."""
        moved, weight = self.sorted()
        running = weight.cumsum(dim=1)[:, :-1]
        within = (running * (1.0 - running) * moved.diff(dim=1)).sum(dim=1)
        return (weight * (moved - values[:, None]).abs()).sum(dim=1) - within

    def quantiles(self, levels: Tensor) -> Tensor:
        """(M, len(levels)): the distribution read at these levels, between the middles of its steps."""
        moved, weight = self.sorted()
        running = weight.cumsum(dim=1)
        middle = (running - 0.5 * weight).contiguous()
        wanted = levels.to(middle).expand(len(middle), -1).contiguous()
        above = torch.searchsorted(middle, wanted).clamp(1, middle.shape[1] - 1)
        low, high = middle.gather(1, above - 1), middle.gather(1, above)
        share = ((wanted - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
        return torch.lerp(moved.gather(1, above - 1), moved.gather(1, above), share)


def edge_features(edge: Tensor, unit_ms: float) -> tuple[Tensor, Tensor]:
    """(…, E) raw edge numbers -> (…, 2E) compressed, 0 where unknown, then a mask of what is known; and that mask of the offset."""
    known = torch.isfinite(edge)
    numbers = torch.where(known, edge, 0.0)
    parts = list(numbers.unbind(dim=-1))
    for column in (_OFFSET, _SPREAD, _MOVE):
        parts[column] = torch.asinh(parts[column] / unit_ms)
    return torch.cat([torch.stack(parts, dim=-1), known.float()], dim=-1), known[..., _OFFSET]


class PointerHead(nn.Module):
    """Weights the candidates.

    Args:
        hidden: D, features of a node.
        relations: edge types to mates; none for a model without a graph.
        unit_ms: differences are compressed by asinh(x / unit).
        width: hidden features of a candidate.
        dropout: share of the candidates that are not there while training.
    """

    OWN_FEATURES = 2 + 5 + 2
    MATE_FEATURES = 2 + 2 * len(EDGE_COLUMNS) + 1

    def __init__(
        self, *, hidden: int, relations: tuple[str, ...], unit_ms: float, width: int = 24, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.relations, self.unit_ms, self.dropout = relations, unit_ms, dropout
        signatures = len(SCALES) * len(relations)
        self.own_from_node = nn.Linear(hidden, width)
        self.own_from_features = nn.Linear(self.OWN_FEATURES + signatures + len(relations), width, bias=False)
        self.own_score = nn.Linear(width, 1)
        self.mate_from_node = nn.ModuleDict({r: nn.Linear(hidden, width) for r in relations})
        self.mate_from_mate = nn.ModuleDict({r: nn.Linear(hidden, width, bias=False) for r in relations})
        self.mate_from_features = nn.ModuleDict(
            {r: nn.Linear(self.MATE_FEATURES, width, bias=False) for r in relations}
        )
        self.mate_score = nn.ModuleDict({r: nn.Linear(width, 1) for r in relations})
        self.trust = nn.ModuleDict(
            {r: nn.Sequential(nn.Linear(2 * len(EDGE_COLUMNS), 16), nn.ReLU(), nn.Linear(16, 1)) for r in relations}
        )
        self.made_up = nn.Linear(hidden, 2 * MADE_UP)
        nn.init.zeros_(self.made_up.weight)
        with torch.no_grad():
            self.made_up.bias.copy_(torch.tensor([-0.1, 0.0, 0.1, 0.0, 1.0, 0.0]))

    def forward(self, h: Tensor, data: HeteroData, asked: Tensor) -> Pointed:
        """What is said of the asked nodes.

        Args:
            h: (N, D) features of all nodes.
            data: their graph, as `gnn.tensors.as_data` makes it.
            asked: (M,) numbers of the asked nodes.
        """
        node = data[PAIR]
        base = node.base_ms[asked]
        mine = h[asked]
        out = self.made_up(mine)
        moved, scores = [out[:, :MADE_UP]], [out[:, MADE_UP:]]
        lags = node.lag_ms
        depth = int(torch.isfinite(lags).any(dim=0).nonzero().max()) + 1 if bool(torch.isfinite(lags).any()) else 0
        lags = lags[:, :depth]
        features, spoken = {}, {}
        for relation in self.relations:
            heard = data[PAIR, relation, PAIR].heard[asked]
            edge, has = edge_features(data[PAIR, relation, PAIR].edge[asked], self.unit_ms)
            features[relation] = (heard, edge, has & (heard < len(h)))
        if depth > 0:
            own_moved, own_score = self._own(mine, data, asked, lags, features)
            moved.append(own_moved)
            scores.append(own_score)
        padded_h = padded(h) if self.relations else h
        for relation in self.relations:
            heard, edge, there = features[relation]
            value = functional.pad(node.now_ms, (0, 1), value=torch.nan)[heard]
            offset = functional.pad(data[PAIR, relation, PAIR].edge[asked][..., _OFFSET], (0, 0))
            told = torch.asinh((value + offset - base[:, None]) / self.unit_ms)
            there = there & torch.isfinite(told)
            told = torch.where(there, told, 0.0)
            spoken[relation] = (told, there)
            near = torch.exp(-(told[:, :, None] - told[:, None, :]).abs() / 0.1) * there[:, None, :]
            agreement = near.sum(dim=2) / there.sum(dim=1, keepdim=True).clamp_min(1)
            own = torch.cat([told[..., None], told.abs()[..., None], edge, agreement[..., None]], dim=-1)
            hidden = (
                self.mate_from_node[relation](mine)[:, None, :]
                + padded(self.mate_from_mate[relation](h))[heard]
                + self.mate_from_features[relation](own)
            )
            score = self.mate_score[relation](torch.relu(hidden))[..., 0]
            moved.append(told)
            scores.append(score.masked_fill(~there, -torch.inf))
        del padded_h
        score = torch.cat(scores, dim=1)
        if self.training and self.dropout > 0.0:
            gone = torch.rand_like(score) < self.dropout
            gone[:, 1] = False  # so that one is left: the made-up one in the middle
            score = score.masked_fill(gone, -torch.inf)
        return Pointed(moved=torch.cat(moved, dim=1), weight=torch.softmax(score, dim=1))

    def _own(
        self,
        mine: Tensor,
        data: HeteroData,
        asked: Tensor,
        lags: Tensor,
        features: dict[str, tuple[Tensor, Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """The own past as candidates."""
        node = data[PAIR]
        own = lags[asked]
        there = torch.isfinite(own)
        compressed = torch.where(there, torch.asinh((own - node.base_ms[asked, None]) / self.unit_ms), 0.0)
        near = torch.exp(-(compressed[:, :, None] - compressed[:, None, :]).abs() / 0.05) * there[:, None, :]
        usual = near.sum(dim=2) / there.sum(dim=1, keepdim=True).clamp_min(1)
        recent = 0.8 ** torch.arange(lags.shape[1], device=lags.device, dtype=lags.dtype) * there
        of_late = (near * recent[:, None, :]).sum(dim=2) / recent.sum(dim=1, keepdim=True).clamp_min(1e-6)
        age = node.lag_age_days[asked][:, : lags.shape[1]]
        angle = 2.0 * torch.pi * age
        columns = [
            compressed,
            compressed.abs(),
            torch.log1p(age),
            torch.log1p(24.0 * age),
            angle.sin(),
            angle.cos(),
            (age[:, :1] == age).float(),
            usual,
            of_late,
        ]
        columns += self._signatures(data, lags, features)
        hidden = self.own_from_node(mine)[:, None, :] + self.own_from_features(torch.stack(columns, dim=-1))
        score = self.own_score(torch.relu(hidden))[..., 0]
        return compressed, score.masked_fill(~there, -torch.inf)

    def _signatures(
        self, data: HeteroData, lags: Tensor, features: dict[str, tuple[Tensor, Tensor, Tensor]]
    ) -> list[Tensor]:
        """For each past window: how much the mates that are seen now were then as they are now, and how many tell."""
        node = data[PAIR]
        moved = (node.now_ms[:, None] - lags).abs() / self.unit_ms
        both = torch.isfinite(moved)
        moved = torch.asinh(torch.where(both, moved, 0.0))
        alike = torch.stack([torch.exp(-moved / scale) for scale in SCALES] + [torch.ones_like(moved)], dim=-1)
        alike = (alike * both[..., None]).flatten(1)  # (N, L * (S + 1))
        alike = padded(alike)
        found: list[Tensor] = []
        for relation, (heard, edge, there) in features.items():
            trust = torch.exp(self.trust[relation](edge)[..., 0].clamp(-8.0, 8.0)) * there
            told = functional.embedding_bag(heard, alike, per_sample_weights=trust, mode="sum")
            told = told.view(len(heard), lags.shape[1], len(SCALES) + 1)
            support = told[..., -1]
            found += [told[..., s] / support.clamp_min(1e-6) for s in range(len(SCALES))]
            found.append(torch.log1p(support))
        return found
