"""Last value: the next window is like the latest one seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.past import PastBaseline, smoothed
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays


class LastValue(PastBaseline):
    """The latest visible value of the pair, however old: the naive (random walk) forecast.

    The loss ratio is that of the pair's latest measured window. The probability of any loss is how often, among the visible
    windows, a window was lossy when the measured one before it was as the latest is, lossy or not: a two-state Markov chain
    (Gilbert 1960, of windows) a pair, smoothed. It takes one step, whatever the horizon and however old the latest window.
    """

    name: ClassVar[str] = "last-value"
    citation: ClassVar[str] = (
        "Hyndman, Athanasopoulos: Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2, naive method"
    )

    def point(self, values: Floats, question: Question, window_s: int) -> Floats:  # noqa: ARG002
        """The latest visible value."""
        return history.last_known(values, question.seen_until)

    def loss(self, arrays: PathArrays, question: Question) -> tuple[Floats, Floats]:
        """How often loss followed on what the latest window had; the loss ratio of the latest window."""
        lossy = history.any_loss(arrays)
        before = np.full_like(lossy, np.nan)
        before[1:] = history.last_known(lossy, np.arange(1, arrays.windows))
        latest = history.last_known(lossy, question.seen_until)
        probability = np.full_like(latest, np.nan)
        for state in (0.0, 1.0):
            followed = (before == state) & np.isfinite(lossy)
            estimate = smoothed(
                history.counted(followed & (lossy == 1.0), question.seen_until),
                history.counted(followed, question.seen_until),
            )
            probability = np.where(latest == state, estimate, probability)
        return probability, history.last_known(arrays.loss_ratio, question.seen_until)
