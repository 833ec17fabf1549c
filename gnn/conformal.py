"""Conformal calibration: intervals widened until they cover what they say, on windows kept for that.

Split conformal prediction: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (2005), section 4.2; for
quantiles: Romano, Patterson, Candès, Conformalized Quantile Regression (NeurIPS 2019), with the score divided by a width as
in Sesia, Candès, A comparison of some conformal quantile regression methods (Stat 9, 2020), so that quiet paths keep narrow
intervals. The guarantee asks for exchangeable windows, which time does not give: coverage is measured on the test, not claimed.
"""

from __future__ import annotations

import math

import numpy as np

from kg.arrays import Floats

COVERAGE = 0.90
"""What all intervals aim to cover."""


def conformal_factor(scores: Floats) -> float:
    """The score that `COVERAGE` of new cells stay under, with the finite-sample correction; NaN where too few are known.

    Args:
        scores: (N,) how far outside its interval each calibration cell is, in units of the interval's own scale.

    >>> conformal_factor(np.arange(1.0, 20.0))
    18.0
    """
    rank = math.ceil((len(scores) + 1) * COVERAGE)
    if rank > len(scores):
        return math.nan
    return float(np.partition(scores, rank - 1)[rank - 1])


def scores(values: Floats, low: Floats, high: Floats, scale: Floats) -> Floats:
    """(N,) how far each value lies outside [low, high], negative inside, in units of its scale."""
    return np.asarray(np.maximum(low - values, values - high) / scale)
