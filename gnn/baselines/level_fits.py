"""Level fits: what simple fits to all levels that are seen say of every pair, asked ones among them.

Where pairs need not have been met these are what a stronger model starts from: columns of boosting, and candidates of the pointer head.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gnn.baselines.levels import LevelBaseline, Table, level_seen
from gnn.baselines.low_rank import LowRank
from gnn.baselines.nearest_places import NearestPlaces
from gnn.baselines.node_effects import NodeEffects
from gnn.baselines.vivaldi import Vivaldi
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays

LEVEL_FITS: Final[tuple[type[LevelBaseline], ...]] = (NodeEffects, LowRank, Vivaldi, NearestPlaces)


def level_fits(arrays: PathArrays, question: Question) -> Floats:
    """(Q, P, F) RTT in ms that each of `LEVEL_FITS` says, NaN where it says nothing."""
    table = Table.of(arrays)
    said = np.full((len(question), arrays.pairs, len(LEVEL_FITS)), np.nan)
    for row, level in enumerate(level_seen(arrays.rtt_ms, question)):
        seen = table.seen(level)
        if len(seen.pairs) > 0:
            for number, fit in enumerate(LEVEL_FITS):
                said[row, :, number] = np.maximum(fit().fitted(table, seen), 0.0)
    return said
