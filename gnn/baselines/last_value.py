"""Last value: the next window is like the latest one seen."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.past import PastBaseline, base_rate, towards
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays


class LastValue(PastBaseline):
    """The latest visible value of the pair, however old: the naive (random walk) forecast.

    The loss ratio is that of the pair's latest measured window. The probability of any loss is how often, among the visible
    windows, a window was lossy when the measured one before it was as the latest is, lossy or not: a two-state Markov chain
    (Gilbert 1960, of windows) a pair, drawn towards the chain of all pairs. It takes one step, whatever the horizon and however
    old the latest window.
    """

    name: ClassVar[str] = "last-value"
    citation: ClassVar[str] = (
        "Hyndman, Athanasopoulos: Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2, naive method"
    )

    def points(self, values: Floats, question: Question, window_s: int) -> tuple[Floats, ...]:  # noqa: ARG002
        """The latest visible value."""
        return (history.last_known(values, question),)

    def losses(self, arrays: PathArrays, question: Question) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """How often loss followed on what the latest window had; the loss ratio of the latest window."""
        lossy = question.shown(history.any_loss(arrays))
        known = np.isfinite(lossy)
        rows = np.where(known, np.arange(arrays.windows)[:, None], 0)
        filled = np.take_along_axis(lossy, np.maximum.accumulate(rows, axis=0), axis=0)
        before = np.concatenate([np.full((1, arrays.pairs), np.nan), filled[:-1]])
        latest = history.last_known(lossy, question)
        rate = base_rate(arrays, question)
        probability = np.full_like(latest, np.nan)
        for state in (0.0, 1.0):
            followed = known & (before == state)
            counted = history.counted(followed, question)
            lost = history.counted(followed & (lossy == 1.0), question)
            # The chain of all pairs, itself drawn towards how often any window is lossy.
            everyone = (lost.sum(axis=1, keepdims=True) + rate) / (counted.sum(axis=1, keepdims=True) + 1.0)
            own = np.where(counted > 0.0, towards(lost, counted, everyone), everyone)
            probability = np.where(latest == state, own, probability)
        return (probability,), (history.last_known(arrays.loss_ratio, question),)
