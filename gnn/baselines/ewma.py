"""EWMA: an exponentially weighted moving average of the pair's past."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from gnn import history
from gnn.baselines.past import PastBaseline, base_rate, towards
from gnn.protocols.protocol import Question
from kg.arrays import Floats, PathArrays

HALF_LIVES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Windows after which a value counts half."""


class Ewma(PastBaseline):
    """Mean of the latest windows, the weight halving every h windows: simple exponential smoothing.

    Unmeasured windows keep their place in time. Of six half-lives that is taken, for each target, which erred least on
    the validation windows. Where none of the latest windows was measured it is the latest value. The probability of any loss is
    the same mean of lossy and lossless windows, drawn towards how often all pairs are lossy.
    """

    name: ClassVar[str] = "ewma"
    citation: ClassVar[str] = (
        "Brown: Statistical Forecasting for Inventory Control (1959); Hyndman, Athanasopoulos: Forecasting: Principles "
        "and Practice, 3rd ed. (2021), section 8.1"
    )
    options: ClassVar[tuple[str, ...]] = tuple(f"half_life_{half_life:g}" for half_life in HALF_LIVES)

    def points(self, values: Floats, question: Question, window_s: int) -> tuple[Floats, ...]:  # noqa: ARG002
        """The weighted means, else the latest value."""
        past = history.lagged(values, question, self.windows)
        latest = history.last_known(values, question)
        means = (history.weighted_mean(past, half_life) for half_life in HALF_LIVES)
        return tuple(np.where(np.isfinite(mean), mean, latest) for mean in means)

    def losses(self, arrays: PathArrays, question: Question) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """The same means of lossy windows, drawn towards the rate of all, and of the loss ratio."""
        lossy = history.any_loss(arrays)
        past = history.lagged(lossy, question, self.windows)
        rate = base_rate(arrays, question)
        latest = history.last_known(lossy, question)
        known = np.isfinite(past)
        probabilities: list[Floats] = []
        for half_life in HALF_LIVES:
            weight = np.where(known, 0.5 ** (np.arange(self.windows) / half_life), 0.0)
            summed = (weight * np.where(known, past, 0.0)).sum(axis=-1)
            own = towards(summed, weight.sum(axis=-1), rate)
            probabilities.append(np.where(np.isfinite(own), own, towards(latest, np.isfinite(latest), rate)))
        return tuple(probabilities), self.points(arrays.loss_ratio, question, arrays.window_s)
