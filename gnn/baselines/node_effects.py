"""Node effects: each host makes all its paths longer or shorter by as much."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn.baselines.levels import LevelBaseline, Seen, Table, host_effects
from kg.arrays import Floats


def node_effects(table: Table, seen: Seen) -> Floats:
    """(P,) a line over distance, a constant for pairs of unknown place, and an effect of either host."""
    placed = np.isfinite(table.fibre_ms)
    furthest = float(table.fibre_ms[placed].max(initial=1.0))
    fibre = np.where(placed, table.fibre_ms, 0.0) / furthest
    return host_effects(table, seen, np.column_stack([fibre, ~placed]))


class NodeEffects(LevelBaseline):
    """A line over the fibre distance, plus an effect of either host: an additive model of the least absolute errors.

    A host of which nothing is seen has an effect of 0, which is the average one.
    """

    name: ClassVar[str] = "node-effects"
    citation: ClassVar[str] = (
        "Warner, Kenny, Stoto: A New Round Robin Analysis of Variance for Social Interaction Data (Journal of Personality "
        "and Social Psychology 37, 1979), additive effects of both members of a pair"
    )

    def fitted(self, table: Table, seen: Seen) -> Floats:
        """The line and both effects."""
        return node_effects(table, seen)
