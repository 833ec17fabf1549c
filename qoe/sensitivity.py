"""The sensitivity score: what the three metrics of a path leave of an application's quality.

    score = 100 * (1 - sum over metrics m of w_m * min(1, x_m / anchor_m))

with the weights w of AI-NDT's Table I. The prototype of that paper feeds |z-scores| into x and floors the result at
.1; here x is the measured value in its unit, and a useless path scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.application import Application
from domain.path_quality import PathQuality
from qoe.profile import Metric, Profile

METRICS: tuple[Metric, ...] = tuple(Metric)
UNKNOWN_METRIC = -1
_LOSS = METRICS.index(Metric.LOSS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of N paths.

    Attributes:
        score: (N,) 0..100, NaN where it is not known.
        cost: (N, 3) points that each of `METRICS` takes away; NaN where not known.
        limiting: (N,) index in `METRICS` of the metric that takes most; -1 where nothing is taken or known.
        missing: (N,) index in `METRICS` of a metric that is not known where the score is not, loss before the others,
            since without it nothing was sent; else -1.
    """

    score: NDArray[np.float64]
    cost: NDArray[np.float64]
    limiting: NDArray[np.int64]
    missing: NDArray[np.int64]


def sensitivity(
    profile: Profile,
    application: Application,
    *,
    rtt_ms: NDArray[np.float64],
    loss_ratio: NDArray[np.float64],
    jitter_ms: NDArray[np.float64],
) -> Scores:
    """Score N paths for an application.

    Where nothing came back (`loss_ratio` 1) the score is 0, and all of it is the cost of loss: RTT and jitter have no
    value then, since RFC 2681, section 2.4, calls such a delay undefined. Where a metric is unknown otherwise, so is the
    score: the weight of what was not measured is not given to what was.

    Args:
        profile: weights and anchors.
        application: the application.
        rtt_ms: (N,) round-trip time, NaN where unknown.
        loss_ratio: (N,) round-trip loss, 0..1, NaN where unknown.
        jitter_ms: (N,) jitter, NaN where unknown.
    """
    nothing_came_back = loss_ratio == 1.0
    weights = profile.weights[application]
    cost = np.empty((loss_ratio.shape[0], len(METRICS)))
    for column, (metric, value) in enumerate(zip(METRICS, (rtt_ms, loss_ratio, jitter_ms), strict=True)):
        spent = np.minimum(1.0, value / profile.anchors[metric])
        cost[:, column] = 100.0 * np.where(nothing_came_back, metric is Metric.LOSS, weights[metric] * spent)
    # A sum of rounded shares can pass 100 by an ulp.
    score = np.clip(100.0 - cost.sum(axis=1), 0.0, 100.0)
    unknown = np.isnan(cost)
    incomplete = unknown.any(axis=1)
    worst = np.where(unknown, -np.inf, cost).argmax(axis=1)
    takes = ~incomplete & (cost.max(axis=1, initial=0.0) > 0.0)
    return Scores(
        score=score,
        cost=cost,
        limiting=np.where(takes, worst, UNKNOWN_METRIC),
        missing=np.where(
            incomplete, np.where(unknown[:, _LOSS], _LOSS, unknown.argmax(axis=1)), UNKNOWN_METRIC
        ),
    )


def score_of(profile: Profile, application: Application, quality: PathQuality) -> float | None:
    """Score of one path, 0..100; None where it is not known."""
    rtt_ms, loss_ratio, jitter_ms = (
        np.array([np.nan if value is None else value])
        for value in (quality.rtt_ms, quality.loss_ratio, quality.jitter_ms)
    )
    scores = sensitivity(profile, application, rtt_ms=rtt_ms, loss_ratio=loss_ratio, jitter_ms=jitter_ms)
    score = float(scores.score[0])
    return None if np.isnan(score) else score
