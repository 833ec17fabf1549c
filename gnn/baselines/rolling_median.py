"""Rolling median: the next window is like the middle of the latest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

import numpy as np

from gnn import history
from gnn.baselines.past import PastBaseline, base_rate, towards
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays

SPANS: Final = (3, 5, 8, 16, 32, 56)
"""Windows that the median is taken over."""


class RollingMedian(PastBaseline):
    """Median of the latest windows, however many of them were measured; where none was, the latest value.

    Of six spans that is taken, for each target, which erred least on the validation windows. Of loss it is the mean (the median
    is nearly always 0), and the frequency of lossy windows drawn towards that of all pairs.
    """

    name: ClassVar[str] = "rolling-median"
    citation: ClassVar[str] = "Tukey: Exploratory Data Analysis (1977), chapter 7, running medians"
    options: ClassVar[tuple[str, ...]] = tuple(f"of_{span}" for span in SPANS)

    def points(self, values: Floats, question: Question, window_s: int) -> tuple[Floats, ...]:  # noqa: ARG002
        """The medians, else the latest value."""
        return self._over_spans(history.median, values, question)

    def losses(self, arrays: PathArrays, question: Question) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """Frequency and mean over the same windows."""
        rate = base_rate(arrays, question)

        def frequency(lossy: Floats) -> Floats:
            return towards(np.nansum(lossy, axis=-1), np.isfinite(lossy).sum(axis=-1), rate)

        return (
            self._over_spans(frequency, history.any_loss(arrays), question),
            self._over_spans(history.mean, arrays.loss_ratio, question),
        )

    def _over_spans(
        self, taken: Callable[[Floats], Floats], values: Floats, question: Question
    ) -> tuple[Floats, ...]:
        past = history.lagged(values, question, max(SPANS))
        latest = taken(history.last_known(values, question)[..., None])
        several = (taken(past[..., :span]) for span in SPANS)
        return tuple(np.where(np.isfinite(one), one, latest) for one in several)
