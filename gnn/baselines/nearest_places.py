"""Nearest places: what the pairs have whose ends are nearest to the ends of the asked one."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from scipy.spatial import cKDTree

from domain.place import EARTH_RADIUS_KM
from gnn import history
from gnn.baselines.fibre_distance import fibre_line
from gnn.baselines.levels import LevelBaseline, Seen, Table
from kg.arrays import Floats

NEAREST: Final = 20
NEAR_KM: Final = 150.0
"""Pairs as near as this count alike; further ones less, by the square of the distance."""


class NearestPlaces(LevelBaseline):
    """Weighted median of the nearest pairs' levels, each moved along the line of `fibre-distance` to the distance of the asked pair.

    Two pairs are as far apart as the root of the summed squares of the distances between their ends, whichever way around is less.
    """

    name: ClassVar[str] = "nearest-places"
    citation: ClassVar[str] = (
        "Cover, Hart: Nearest Neighbor Pattern Classification (IEEE Transactions on Information Theory 13, 1967); of places: "
        "Padmanabhan, Subramanian: An Investigation of Geographic Mapping Techniques for Internet Hosts (SIGCOMM 2001)"
    )
    lacking: ClassVar[str] = "the place of the probe or of the target is not known"

    def fitted(self, table: Table, seen: Seen) -> Floats:
        """The weighted median."""
        point = np.full(len(table.here), np.nan)
        placed, known = np.isfinite(table.fibre_ms), np.isfinite(seen.fibre_ms)
        if not known.any():
            return point
        intercept, slope = fibre_line(seen)
        left = seen.level[known] - (intercept + slope * seen.fibre_ms[known])
        here, there = seen.here[known], seen.there[known]
        both_ways = np.concatenate(
            [
                np.concatenate([table.place[here], table.place[there]], axis=1),
                np.concatenate([table.place[there], table.place[here]], axis=1),
            ]
        )
        asked = np.concatenate([table.place[table.here], table.place[table.there]], axis=1)[placed]
        apart, nearest = cKDTree(both_ways).query(asked, k=range(1, min(NEAREST, len(both_ways)) + 1))
        weight = 1.0 / np.maximum(apart * EARTH_RADIUS_KM, NEAR_KM) ** 2
        told = history.weighted_median(left[nearest % len(left)], weight)
        point[placed] = intercept + slope * table.fibre_ms[placed] + told
        return point
