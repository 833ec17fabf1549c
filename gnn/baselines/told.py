"""What the mates of a pair tell of it: "your usual, and what I moved by", one estimate a mate (`gnn.mates`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gnn import history
from gnn.inputs import NOBODY, Inputs
from gnn.mates import EDGE_COLUMNS
from gnn.path_graph import MATES
from gnn.protocols.protocol import Bools
from kg.arrays import Floats

PRIOR_SPREAD_MS: Final = 30.0
PRIOR_SUPPORT: Final = 2.0
LEAST_SPREAD_MS: Final = 0.5
POWER: Final = 4.0
"""How fast belief falls with spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What each pair is told in each row, (Q, P, 2 k): first by those with the same probe, then by those with the same target.

    Attributes:
        rtt_ms: the mate's value and the offset to it; NaN where there is no mate, or nothing of it is seen.
        spread_ms: how far such estimates were off.
        correlation: of the moves of both.
        now: 1 where the mate's value is of the asked window, 0 where it is its usual or there is none.
    """

    rtt_ms: Floats
    spread_ms: Floats
    correlation: Floats
    now: Floats

    def believed(self, *, only_now: Bools) -> Floats:
        """(Q, P) weighted median of what is told; NaN where nothing is.

        Args:
            only_now: (Q, P) True where only mates count whose value is of the asked window.
        """
        return history.weighted_median(self._heard(only_now), self._weight)

    def deviation(self, point: Floats, *, only_now: Bools) -> Floats:
        """(Q, P) weighted median of how far from a point, (Q, P), it is; NaN where nothing is told."""
        return history.weighted_median(np.abs(self._heard(only_now) - point[..., None]), self._weight)

    def _heard(self, only_now: Bools) -> Floats:
        return np.where(only_now[..., None] & (self.now == 0.0), np.nan, self.rtt_ms)

    @property
    def _weight(self) -> Floats:
        return 1.0 / (self.spread_ms + LEAST_SPREAD_MS) ** POWER


def told_by_mates(inputs: Inputs) -> Told:
    """What the mates of a path graph tell."""
    now, usual = inputs.values["now_ms"], inputs.values["usual_ms"]
    value = np.where(np.isfinite(now), now, usual)
    found: list[Floats] = []
    # A spread that is from few windows, or few partners, is drawn towards what is usual of spreads.
    for side in MATES:
        heard = np.stack([inputs.graphs[int(graph)][side] for graph in inputs.graph_of])
        edge = inputs.edge_numbers[side].astype(np.float64)
        theirs = np.stack([row[mates] for row, mates in zip(value, heard, strict=True)])
        number = {name: edge[..., place] for place, name in enumerate(EDGE_COLUMNS)}
        rtt = np.where(heard == NOBODY, np.nan, theirs) + number["offset_ms"]
        support = np.expm1(np.where(np.isfinite(rtt), number["log_support"], 0.0))
        spread = np.where(support > 0.0, number["spread_ms"], 0.0)
        spread = (support * spread + PRIOR_SUPPORT * PRIOR_SPREAD_MS) / (support + PRIOR_SUPPORT)
        found.append(np.stack([rtt, spread, number["correlation"], number["seen_now"]]))
    rtt, spread, correlation, seen_now = np.concatenate(found, axis=-1)
    return Told(
        rtt_ms=rtt,
        spread_ms=spread,
        correlation=correlation,
        now=np.where(np.isfinite(rtt), seen_now, 0.0),
    )
