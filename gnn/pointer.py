r"""The pointer head: the prediction of RTT is a distribution over candidate values, weighted by a network.

Candidates of a pair are its own past values, what its mates tell (their value now plus an offset), what simple fits to all levels say where
pairs need not have been met, and a few values that the network makes up around the base. Routes flip between a few levels, and paths of one probe move together: pointing at a value that was, or
that a mate speaks of, says that better than a regression can. After Vinyals, Fortunato, Jaitly, Pointer Networks (NeurIPS 2015), with values
in place of positions; trained with the continuous ranked probability score (Gneiting, Raftery, Strictly Proper Scoring Rules, JASA 102,
2007, equation 21), which of weights :math:`w` on sorted values :math:`z` with running sum :math:`F` is

.. math::
    \sum_k w_k |z_k - y| - \sum_k F_k (1 - F_k)(z_{k+1} - z_k)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import HeteroData

from gnn.blocks import NodeTable, in_blocks
from gnn.mates import EDGE_COLUMNS
from gnn.tensors import PAIR, padded

SCALES = (0.02, 0.1, 0.5)
"""How near two compressed values must be to count as alike, narrow to wide."""

NEAR = 0.1
"""The same, where one scale is enough."""

RECENT = 0.8
"""How much less a window of the past counts than the one after it, where the latest matter more."""

MADE_UP = 3
"""Values that the network makes up."""

CORE = 0.75
"""Share of a distribution that the bounds of its interval hold, before it is calibrated. The last of the weight lies far out, on paths that
jump: bounds that hold less of it and are then moved out to cover what they say are narrower, and the paths that jump are still
covered as often as the quiet ones. Of .9, .85, .8, .75 and .7 the narrowest on calibration windows of recorded pings."""

_STEPS = 100
"""Of so many equal parts of the weight the narrowest interval is made."""

_IN_MS = tuple(number for number, name in enumerate(EDGE_COLUMNS) if name.endswith("_ms"))
_OFFSET = EDGE_COLUMNS.index("offset_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointed:
    """A distribution over K candidates of each of M nodes.

    Attributes:
        value_ms: (M, K) candidates.
        weight: (M, K) their weights, which sum to 1.
    """

    value_ms: Tensor
    weight: Tensor

    def sorted(self) -> tuple[Tensor, Tensor]:
        """Candidates ascending, and their weights."""
        value_ms, order = self.value_ms.sort(dim=1)
        return value_ms, self.weight.gather(1, order)

    def crps(self, came_ms: Tensor, unit_ms: float) -> Tensor:
        """(M,) the continuous ranked probability score of what came, (M,), on the scale asinh(RTT / unit): long paths may err more."""
        value_ms, weight = self.sorted()
        value, came = torch.asinh(value_ms / unit_ms), torch.asinh(came_ms / unit_ms)
        running = weight.cumsum(dim=1)[:, :-1]
        within = (running * (1.0 - running) * value.diff(dim=1)).sum(dim=1)
        return (weight * (value - came[:, None]).abs()).sum(dim=1) - within

    def quantiles_ms(self, levels: Tensor) -> Tensor:
        """(M, len(levels)): the distribution read at these levels, between the middles of its steps."""
        # Who is not there stands at the end: where it stood, between its neighbours, it would bend the line.
        there = self.weight > 0.0
        most = self.value_ms.masked_fill(~there, -torch.inf).amax(dim=1, keepdim=True)
        value_ms, weight = Pointed(
            value_ms=torch.where(there, self.value_ms, most), weight=self.weight
        ).sorted()
        running = weight.cumsum(dim=1)
        middle = (running - 0.5 * weight).contiguous()
        wanted = levels.to(middle).expand(len(middle), -1).contiguous()
        above = torch.searchsorted(middle, wanted).clamp(1, middle.shape[1] - 1)
        low, high = middle.gather(1, above - 1), middle.gather(1, above)
        share = ((wanted - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
        return torch.lerp(value_ms.gather(1, above - 1), value_ms.gather(1, above), share)

    def interval_ms(self) -> tuple[Tensor, Tensor, Tensor]:
        """(M,) each: low bound, median and high bound, where the bounds are the nearest to each other that hold `CORE` of the weight.

        RTT has a floor and a long tail: such an interval is narrower than the one that leaves as much below it as above.
        """
        levels = torch.linspace(0.0, 1.0, _STEPS + 1, device=self.weight.device)
        read = self.quantiles_ms(levels)
        held = round(CORE * _STEPS)
        first = (read[:, held:] - read[:, :-held]).argmin(dim=1, keepdim=True)
        low, high = read.gather(1, first)[:, 0], read.gather(1, first + held)[:, 0]
        return low, read[:, _STEPS // 2], high

    def part(self, rows: Tensor) -> Pointed:
        """Of some of the nodes."""
        return Pointed(value_ms=self.value_ms[rows], weight=self.weight[rows])


def edge_features(edge: Tensor, unit_ms: float) -> Tensor:
    """(…, E) raw edge numbers -> (…, 2E) compressed, 0 where unknown, then a mask of what is known."""
    known = torch.isfinite(edge)
    numbers = torch.where(known, edge, 0.0)
    parts = list(numbers.unbind(dim=-1))
    for column in _IN_MS:
        parts[column] = torch.asinh(parts[column] / unit_ms)
    return torch.cat([torch.stack(parts, dim=-1), known.to(edge)], dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mates:
    """What the K mates of M asked nodes tell, over edges of one type.

    Attributes:
        heard: (M, K) nodes.
        there: (M, K) that tell a value.
        edge: (M, K, 2E) features of the edges.
        told: (M, K) candidates, compressed.
        above: (M, K) by how much they are above light in fibre, compressed; 0 where places are unknown.
        trust: (M, K) how much each is trusted, above 0; 0 where there is nobody to tell.
    """

    heard: Tensor
    there: Tensor
    edge: Tensor
    told: Tensor
    above: Tensor
    trust: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointing:
    """A head that has looked at a graph.

    Attributes:
        of: (B, D) features of asked nodes and their numbers (B,) -> what is said of them.
        tables: what all nodes say to each other.
    """

    of: Callable[[Tensor, Tensor], Pointed]
    tables: tuple[NodeTable, ...]


class PointerHead(nn.Module):
    """Weights the candidates.

    Args:
        hidden: D, features of a node.
        relations: edge types to mates; none for a model without a graph.
        unit_ms: differences are compressed by asinh(x / unit).
        width: hidden features of a candidate.
        fits: how many simple fits to all levels say something of each node.
    """

    OWN_FEATURES = 9
    MATE_FEATURES = 5 + 2 * len(EDGE_COLUMNS)
    FIT_FEATURES = 3

    def __init__(
        self,
        *,
        hidden: int,
        relations: tuple[str, ...],
        unit_ms: float,
        fits: int = 0,
        width: int = 24,
    ) -> None:
        super().__init__()
        self.relations, self.unit_ms = relations, unit_ms
        edge = 2 * len(EDGE_COLUMNS)
        of_mates = (len(SCALES) + 2) * len(relations)
        self.own_from_node = nn.Linear(hidden, width)
        self.own_from_features = nn.Linear(self.OWN_FEATURES + of_mates, width, bias=False)
        self.own_score = nn.Linear(width, 1)
        self.mate_from_node = nn.ModuleDict({r: nn.Linear(hidden, width) for r in relations})
        self.mate_from_mate = nn.ModuleDict({r: nn.Linear(hidden, width, bias=False) for r in relations})
        self.mate_from_features = nn.ModuleDict(
            {r: nn.Linear(self.MATE_FEATURES, width, bias=False) for r in relations}
        )
        self.mate_score = nn.ModuleDict({r: nn.Linear(width, 1) for r in relations})
        self.trust = nn.ModuleDict(
            {r: nn.Sequential(nn.Linear(edge, 16), nn.ReLU(), nn.Linear(16, 1)) for r in relations}
        )
        self.fits = fits
        if fits > 0:
            self.fit_from_node = nn.Linear(hidden, width * fits)
            self.fit_from_features = nn.Linear(self.FIT_FEATURES + len(relations), width, bias=False)
            self.fit_score = nn.Linear(width, 1)
        self.made_up = nn.Linear(hidden, 2 * MADE_UP)
        nn.init.zeros_(self.made_up.weight)
        with torch.no_grad():
            self.made_up.bias.copy_(torch.tensor([-0.1, 0.0, 0.1, 0.0, 1.0, 0.0]))

    def forward(self, h: Tensor, data: HeteroData, *, by_block: bool = False) -> Pointing:
        """What is said of the nodes, once it is asked.

        Args:
            h: (N, D) features of all nodes.
            data: their graph, as `gnn.tensors.as_data` makes it.
            by_block: whether they are asked block by block.
        """
        lags = _some_lags(data[PAIR].lag_ms)
        said = {
            relation: NodeTable(self.mate_from_mate[relation](h), by_block=by_block)
            for relation in self.relations
        }
        alike = None
        if lags.shape[1] > 0:
            alike = padded(in_blocks(self._alike, data[PAIR].now_ms, lags)[0])
        return Pointing(
            of=lambda mine, asked: self._point(mine, asked, data, lags, said, alike),
            tables=tuple(said.values()),
        )

    def _point(
        self,
        mine: Tensor,
        asked: Tensor,
        data: HeteroData,
        lags: Tensor,
        said: Mapping[str, NodeTable],
        alike: Tensor | None,
    ) -> Pointed:
        """The candidates of B asked nodes."""
        node = data[PAIR]
        base = node.base_ms[asked]
        made_up = self.made_up(mine)
        moved, scores = [made_up[:, :MADE_UP]], [made_up[:, MADE_UP:]]
        mates = {relation: self._mates(relation, data, asked, base) for relation in self.relations}
        own = torch.asinh((lags[asked] - base[:, None]) / self.unit_ms)
        there = torch.isfinite(own)
        own = torch.where(there, own, 0.0)
        near = {relation: _near(own, of.told) for relation, of in mates.items()}
        if alike is not None:
            columns = self._of_own(own, there, node.lag_age_days[asked][:, : lags.shape[1]])
            columns += self._signatures(alike, mates)
            for relation, of in mates.items():
                trust = of.trust / of.trust.sum(dim=1, keepdim=True).clamp_min(1e-6)
                columns.append((near[relation] @ trust[:, :, None])[..., 0])
            hidden = self.own_from_node(mine)[:, None, :] + self.own_from_features(
                torch.stack(columns, dim=-1)
            )
            moved.append(own)
            scores.append(self.own_score(torch.relu(hidden))[..., 0].masked_fill(~there, -torch.inf))
        if self.fits > 0:
            of_fits, score_of_fits = self._of_fits(mine, data, asked, base, mates)
            moved.append(of_fits)
            scores.append(score_of_fits)
        often = there.to(own) / there.sum(dim=1, keepdim=True).clamp_min(1)
        for relation, of in mates.items():
            was = (often[:, None, :] @ near[relation])[:, 0, :]
            moved.append(of.told)
            scores.append(self._score_of_mates(relation, said[relation], mine, of, was))
        score = torch.cat(scores, dim=1)
        value_ms = (base[:, None] + self.unit_ms * torch.sinh(torch.cat(moved, dim=1))).clamp_min(0.0)
        return Pointed(value_ms=value_ms, weight=torch.softmax(score, dim=1))

    def _of_fits(
        self, mine: Tensor, data: HeteroData, asked: Tensor, base: Tensor, mates: Mapping[str, _Mates]
    ) -> tuple[Tensor, Tensor]:
        """(M, F) what simple fits say, compressed, and their scores: more where mates agree."""
        said = data[PAIR].fits_ms[asked]
        there = torch.isfinite(said)
        told = torch.asinh((torch.where(there, said, base[:, None]) - base[:, None]) / self.unit_ms)
        above = torch.nan_to_num(
            torch.asinh((said - data[PAIR].fibre_ms[asked][:, None]) / self.unit_ms), nan=0.0
        )
        columns = [told, told.abs(), above]
        for of in mates.values():
            near = _near(told, of.told)
            trust = of.trust / of.trust.sum(dim=1, keepdim=True).clamp_min(1e-6)
            columns.append((near @ trust[:, :, None])[..., 0])
        hidden = self.fit_from_node(mine).unflatten(1, (self.fits, -1)) + self.fit_from_features(
            torch.stack(columns, dim=-1)
        )
        return told, self.fit_score(torch.relu(hidden))[..., 0].masked_fill(~there, -torch.inf)

    def _mates(self, relation: str, data: HeteroData, asked: Tensor, base: Tensor) -> _Mates:
        """What mates tell of the asked nodes: their value now and the offset to it."""
        heard, raw = data[PAIR, relation, PAIR].heard[asked], data[PAIR, relation, PAIR].edge[asked]
        edge = edge_features(raw, self.unit_ms)
        value = functional.pad(data[PAIR].now_ms, (0, 1), value=torch.nan)[heard]
        told = torch.asinh((value + raw[..., _OFFSET] - base[:, None]) / self.unit_ms)
        there = torch.isfinite(told)
        trust = torch.exp(self.trust[relation](edge)[..., 0].float().clamp(-8.0, 8.0)) * there
        # No path is faster than light in fibre: how far above that a candidate is says whether it can be.
        above = torch.asinh((value + raw[..., _OFFSET] - data[PAIR].fibre_ms[asked][:, None]) / self.unit_ms)
        above = torch.nan_to_num(above, nan=0.0)
        return _Mates(
            heard=heard, there=there, edge=edge, told=torch.where(there, told, 0.0), above=above, trust=trust
        )

    def _score_of_mates(
        self, relation: str, said: NodeTable, mine: Tensor, of: _Mates, was: Tensor
    ) -> Tensor:
        """(M, K) scores of what the mates tell."""
        near = _near(of.told, of.told)
        agreement = (near @ of.trust[:, :, None])[..., 0] / of.trust.sum(dim=1, keepdim=True).clamp_min(1e-6)
        columns = [of.told, of.told.abs(), of.above, agreement, was]
        features = torch.cat([torch.stack(columns, dim=-1), of.edge], dim=-1)
        hidden = (
            self.mate_from_node[relation](mine)[:, None, :]
            + said.rows(of.heard)
            + self.mate_from_features[relation](features)
        )
        score: Tensor = self.mate_score[relation](torch.relu(hidden))[..., 0]
        return score.masked_fill(~of.there, -torch.inf)

    def _of_own(self, own: Tensor, there: Tensor, age: Tensor) -> list[Tensor]:
        """(M, L) columns of the own past: how far from the base, how long ago, and how often it was so."""
        near = _near(own, own)
        recent = RECENT ** torch.arange(own.shape[1], device=own.device, dtype=own.dtype)
        weights = torch.stack([there.to(own), there * recent], dim=-1)
        often = (near @ weights) / weights.sum(dim=1, keepdim=True).clamp_min(1e-6)
        angle = 2.0 * torch.pi * age
        return [
            own,
            own.abs(),
            torch.log1p(age),
            torch.log1p(24.0 * age),
            angle.sin(),
            angle.cos(),
            (age[:, :1] == age).to(own),
            often[..., 0],
            often[..., 1],
        ]

    def _alike(self, now: Tensor, lags: Tensor) -> tuple[Tensor]:
        """(B, L * (S + 1)) how much nodes were in each past window as they are now, on each scale, and whether that is known."""
        moved = (now[:, None] - lags).abs() / self.unit_ms
        both = torch.isfinite(moved)
        moved = torch.asinh(torch.where(both, moved, 0.0))
        alike = torch.stack(
            [torch.exp(-moved / scale) for scale in SCALES] + [torch.ones_like(moved)], dim=-1
        )
        return ((alike * both[..., None]).flatten(1),)

    def _signatures(self, alike: Tensor, mates: dict[str, _Mates]) -> list[Tensor]:
        """For each past window: how much the mates that are seen now were then as they are now, and how many tell."""
        found: list[Tensor] = []
        for of in mates.values():
            told = functional.embedding_bag(of.heard, alike, per_sample_weights=of.trust, mode="sum")
            told = told.view(len(of.heard), alike.shape[1] // (len(SCALES) + 1), len(SCALES) + 1)
            support = told[..., -1]
            found += [told[..., s] / support.clamp_min(1e-6) for s in range(len(SCALES))]
            found.append(torch.log1p(support))
        return found


def _some_lags(lags: Tensor) -> Tensor:
    """(N, L) without the oldest windows in which nothing is known of anybody."""
    known = torch.isfinite(lags).any(dim=0).nonzero()
    return lags[:, : int(known.max()) + 1 if len(known) > 0 else 0]


def _near(one: Tensor, other: Tensor) -> Tensor:
    """(B, K) and (B, L) compressed values, of which no gradient is wanted -> (B, K, L) how near they are to each other, 1 where alike."""
    return (one[:, :, None] - other[:, None, :]).abs_().div_(-NEAR).exp_()
