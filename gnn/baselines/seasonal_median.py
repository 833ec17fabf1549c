"""Seasonal median: the next window is like the same slot on earlier days."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.past import HISTORY_WINDOWS, PastBaseline
from gnn.protocols.protocol import Question
from kg.arrays import Floats


class SeasonalMedian(PastBaseline):
    """Median of the same slot of the day over all earlier days that may be seen.

    Where no earlier day has a value in that slot it is the median of the pair's last windows, or, when all of those are
    unmeasured, the latest value.
    """

    name: ClassVar[str] = "seasonal-median"
    citation: ClassVar[str] = (
        "Hyndman, Athanasopoulos: Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2, seasonal naive "
        "method; with the median over days in place of the last day"
    )

    def point(self, values: Floats, question: Question, window_s: int) -> Floats:
        """The median of the slot, else of the latest windows, else the latest value."""
        point = history.median(history.same_slot(values, question, window_s))
        recent = history.median(history.lagged(values, question.seen_until, HISTORY_WINDOWS))
        point = np.where(np.isfinite(point), point, recent)
        return np.where(np.isfinite(point), point, history.last_known(values, question.seen_until))
