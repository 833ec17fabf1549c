"""Level fits: what simple fits to all levels that are seen say of every pair, asked ones among them.

Where pairs need not have been met these are what a stronger model starts from: columns of boosting, and candidates of the pointer head.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from gnn.baselines.levels import LevelBaseline, Table, level_seen
from gnn.baselines.low_rank import LowRank
from gnn.baselines.nearest_places import NearestPlaces
from gnn.baselines.node_effects import NodeEffects
from gnn.baselines.vivaldi import Vivaldi
from gnn.fingerprint import arrays_hash
from gnn.protocols.protocol import Question
from gnn.shared_work import SharedWork
from kg.arrays import Floats, PathArrays

LEVEL_FITS: Final[tuple[type[LevelBaseline], ...]] = (NodeEffects, LowRank, Vivaldi, NearestPlaces)


_shared = SharedWork(512 * 2**20)
"""Models that are compared learn under the same masks, and the fits take half the time of their inputs. A mask of 20,000 pairs takes 0.6 MB."""


def level_fits(arrays: PathArrays, question: Question) -> Floats:
    """(Q, P, F) RTT in ms that each of `LEVEL_FITS` says, NaN where it says nothing."""
    table = Table.of(arrays)
    of_table = arrays_hash(table.here, table.there, table.place, table.fibre_ms)
    said = np.empty((len(question), arrays.pairs, len(LEVEL_FITS)))
    for row, level in enumerate(level_seen(arrays.rtt_ms, question)):
        said[row] = _shared.once(of_table + arrays_hash(level), partial(_fitted, table, level))
    return said


def _fitted(table: Table, level: Floats) -> Floats:
    """(P, F) what the fits to these levels, (P,), say: all that they see is the table and what is not NaN."""
    said = np.full((len(level), len(LEVEL_FITS)), np.nan)
    seen = table.seen(level)
    if len(seen.pairs) > 0:
        for number, fit in enumerate(LEVEL_FITS):
            said[:, number] = np.maximum(fit().fitted(table, seen), 0.0)
    return said
