"""Fibre distance: RTT is a line over how long light takes in fibre."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from gnn.baselines.levels import LevelBaseline, Seen, Table, least_absolute
from kg.arrays import Floats


def fibre_line(seen: Seen) -> tuple[float, float]:
    """What a path takes at distance 0 in ms, and how much longer than light in straight fibre; the distance costs nothing at the least.

    Where no pair has both places known the line is flat.
    """
    placed = np.isfinite(seen.fibre_ms)
    level, fibre = seen.level[placed], seen.fibre_ms[placed]
    if len(level) == 0 or np.ptp(fibre) == 0.0:
        return float(np.median(seen.level)), 0.0
    intercept, slope = least_absolute(csr_array(np.column_stack([np.ones_like(fibre), fibre])), level)
    if slope < 0.0:
        return float(np.median(level)), 0.0
    return float(intercept), float(slope)


class FibreDistance(LevelBaseline):
    """RTT is a constant plus a factor times the time of light in fibre over the great circle, both fitted to the pairs seen.

    The line of the least absolute errors, one a row. A pair whose places are not known has none.
    """

    name: ClassVar[str] = "fibre-distance"
    citation: ClassVar[str] = (
        "Padmanabhan, Subramanian: An Investigation of Geographic Mapping Techniques for Internet Hosts (SIGCOMM 2001), "
        "section 4.3, delay against distance"
    )
    lacking: ClassVar[str] = "the place of the probe or of the target is not known"

    def fitted(self, table: Table, seen: Seen) -> Floats:
        """The line at each pair's distance."""
        intercept, slope = fibre_line(seen)
        return intercept + slope * table.fibre_ms
