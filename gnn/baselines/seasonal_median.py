"""Seasonal median: the next window is like the same slot on earlier days."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.past import PastBaseline, base_rate, towards
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays


class SeasonalMedian(PastBaseline):
    """Median of the same slot of the day over all earlier days that may be seen.

    Where no earlier day has a value in that slot it is the median of the pair's last windows, or, when all of those are
    unmeasured, the latest value. Loss is taken from the same windows, and falls back likewise: its probability is the frequency
    of lossy windows drawn towards that of all pairs, its ratio their mean (the median of loss is nearly always 0).
    """

    name: ClassVar[str] = "seasonal-median"
    citation: ClassVar[str] = (
        "Hyndman, Athanasopoulos: Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2, seasonal naive "
        "method; with the median over days in place of the last day"
    )

    def points(self, values: Floats, question: Question, window_s: int) -> tuple[Floats, ...]:
        """The median of the slot, else of the latest windows, else the latest value."""
        return (self._in_slot(history.median, values, question, window_s),)

    def losses(self, arrays: PathArrays, question: Question) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """The frequency of lossy windows and the mean loss ratio, over the same windows as the point."""
        rate = base_rate(arrays, question)

        def frequency(lossy: Floats) -> Floats:
            return towards(np.nansum(lossy, axis=-1), np.isfinite(lossy).sum(axis=-1), rate)

        return (
            (self._in_slot(frequency, history.any_loss(arrays), question, arrays.window_s),),
            (self._in_slot(history.mean, arrays.loss_ratio, question, arrays.window_s),),
        )

    def _in_slot(
        self, taken: Callable[[Floats], Floats], values: Floats, question: Question, window_s: int
    ) -> Floats:
        """(Q, P) what is taken over the slot on earlier days, else over the latest windows, else of the latest value."""
        found = taken(history.same_slot(values, question, window_s))
        recent = taken(history.lagged(values, question, self.windows))
        found = np.where(np.isfinite(found), found, recent)
        latest = taken(history.last_known(values, question)[..., None])
        return np.where(np.isfinite(found), found, latest)
