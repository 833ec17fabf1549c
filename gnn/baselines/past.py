"""What the baselines share that look at the pair's own past alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.simple import TARGETS, SimpleBaseline
from gnn.inputs import Inputs
from gnn.prediction import reasons
from gnn.protocols.protocol import Bools, Question
from kg.arrays import Floats, PathArrays, Strings


class PastBaseline(SimpleBaseline):
    """A value taken from the pair's own past; each says of itself what it takes, also of loss."""

    needs_past: ClassVar[bool] = True

    @abstractmethod
    def points(self, values: Floats, question: Question, window_s: int) -> tuple[Floats, ...]:
        """(Q, P) the value expected in each of the `options`, from what is seen of the (W, P) values; NaN where there is none."""

    @abstractmethod
    def losses(self, arrays: PathArrays, question: Question) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """(Q, P) the probability of any loss and the loss ratio, in each of the `options`; NaN where no packet was seen sent."""

    def measures(self, arrays: PathArrays, question: Question) -> dict[str, Floats]:
        """The points, and around them the median absolute deviation of the latest windows."""
        rtt = self.points(arrays.rtt_ms, question, arrays.window_s)
        jitter = self.points(arrays.jitter_ms, question, arrays.window_s)
        told = zip(TARGETS, (rtt, jitter, *self.losses(arrays, question)), strict=True)
        found = {
            self.named(target, option): values
            for target, several in told
            for option, values in zip(self.options, several, strict=True)
        }
        for name, values in (("rtt", arrays.rtt_ms), ("jitter", arrays.jitter_ms)):
            past = history.lagged(values, question, self.windows)
            found[f"{name}_spread_ms"] = history.spread(past, history.median(past))
        found["windows_sent"] = history.counted(arrays.sent > 0, question)
        return found

    def reasons(self, known: Bools, inputs: Inputs) -> Strings:
        """It never answered, or was never even asked."""
        return reasons(known, inputs.column("windows_sent") > 0)


def smoothed(lossy: Floats, counted: Floats) -> Floats:
    """The probability of one more lossy window, when so many of those counted were; it is never 0 and never 1.

    Krichevsky, Trofimov: The performance of universal encoding (IEEE Trans. Inf. Theory 27, 1981), (k + 1/2) / (n + 1): the
    mean of Jeffreys' posterior.
    """
    return (lossy + 0.5) / (counted + 1.0)


def base_rate(arrays: PathArrays, question: Question) -> Floats:
    """(Q, 1) how often a window of any pair was lossy, of all that is seen before; never 0 and never 1."""
    lossy = history.any_loss(arrays)
    return smoothed(
        history.counted(lossy == 1.0, question).sum(axis=1, keepdims=True),
        history.counted(arrays.sent > 0, question).sum(axis=1, keepdims=True),
    )


def towards(lossy: Floats, counted: Floats, rate: Floats) -> Floats:
    """The probability of one more lossy window, drawn towards a rate that weighs as much as one window; NaN where none is counted.

    The mean of a beta posterior whose prior is what all pairs do (empirical Bayes; Efron, Morris: Data analysis using Stein's
    estimator, JASA 70, 1975). Of a few windows without loss it says far less loss than Jeffreys' prior does.
    """
    return np.where(counted > 0.0, (lossy + rate) / (counted + 1.0), np.nan)
