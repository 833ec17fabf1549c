"""Scoring: how far predictions are from what was measured, on the cells that every model predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np

from domain.application import Application
from gnn.conformal import COVERAGE
from gnn.history import DAY_S
from gnn.prediction import Prediction
from gnn.protocols.protocol import Bools, Question
from kg.arrays import Floats, Ints, PathArrays
from qoe.profile import Profile
from qoe.sensitivity import sensitivity

LEAST_PROBABILITY = 1e-6
"""Probabilities are kept this far from 0 and 1 in the log loss, which one mistaken certainty would make infinite."""

HUBER_MS = 10.0
"""Where Huber's loss turns from squared to linear; half the square below, so it is in ms times this below and above."""

LEAST_SHARE = 0.9
"""A model that predicts a smaller share of the cells that can be scored is scored on none: others would lose theirs for it."""


class Target(StrEnum):
    """What is predicted."""

    RTT = "rtt"
    ANY_LOSS = "any_loss"
    LOSS = "loss"
    JITTER = "jitter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """How good one predictor is on one target. None does not apply, or cannot be computed.

    Attributes:
        mae_ms, medae_ms, rmse_ms, median_relative_error, r2: of the point; relative to the measured value, over cells above 0.
        huber: mean Huber loss (Huber 1964) with its bend at `HUBER_MS`, over that bend: in ms.
        brier, log_loss, auc: of the probability of any loss (Brier 1950).
        loss_mae, loss_rmse: error of the loss ratio. Loss is rare: "never any loss" has nearly the least absolute error there
            is, and says nothing. So the squared error, which an expectation minimises, is what is compared.
        loss_mean: mean measured loss ratio, which is the `loss_mae` of "never any loss".
        qoe_mae_points: mean absolute error of the QoE score, over applications, when this metric is predicted and the others are as measured.
        coverage_90, width_90_ms: share of cells inside the 90 % interval, and its mean width.
        interval_score_ms: mean width plus 20 times by how much a cell is missed, which no interval but the true one makes smallest
            (Gneiting, Raftery 2007, equation 43).
    """

    mae_ms: float | None = None
    medae_ms: float | None = None
    median_relative_error: float | None = None
    rmse_ms: float | None = None
    huber: float | None = None
    r2: float | None = None
    brier: float | None = None
    log_loss: float | None = None
    auc: float | None = None
    loss_mae: float | None = None
    loss_rmse: float | None = None
    loss_mean: float | None = None
    qoe_mae_points: float | None = None
    coverage_90: float | None = None
    width_90_ms: float | None = None
    interval_score_ms: float | None = None


def mean_of(several: Sequence[Metrics], cells: Sequence[int]) -> Metrics:
    """Each metric's mean over several splits and seeds, as many cells as each had counting for it; None where one of them has none."""
    found: dict[str, float | None] = {}
    for name in asdict(several[0]):
        values = [getattr(one, name) for one in several]
        found[name] = (
            None if any(value is None for value in values) else float(np.average(values, weights=cells))
        )
    return Metrics(**found)


def truth(arrays: PathArrays, question: Question, target: Target) -> tuple[Floats, Bools]:
    """(Q, P) what was measured, and where it can be scored."""
    cells = question.cells(arrays)
    if target is Target.RTT:
        return arrays.rtt_ms[question.windows], cells.rtt
    if target is Target.JITTER:
        return arrays.jitter_ms[question.windows], cells.jitter
    if target is Target.LOSS:
        return arrays.loss_ratio[question.windows], cells.loss
    return (arrays.received < arrays.sent)[question.windows].astype(np.float64), cells.loss


def point(prediction: Prediction, target: Target) -> Floats:
    """(Q, P) what is predicted of a target."""
    return {
        Target.RTT: prediction.rtt_ms,
        Target.JITTER: prediction.jitter_ms,
        Target.LOSS: prediction.loss_ratio,
        Target.ANY_LOSS: prediction.any_loss_probability,
    }[target]


def interval(prediction: Prediction, target: Target) -> tuple[Floats, Floats] | None:
    """(Q, P) the bounds of the 90 % interval; None for targets that have none."""
    if target is Target.RTT:
        return prediction.rtt_low_ms, prediction.rtt_high_ms
    if target is Target.JITTER:
        return prediction.jitter_low_ms, prediction.jitter_high_ms
    return None


def error(said: Floats, measured: Floats, target: Target) -> Floats:
    """What is averaged and compared: the absolute error of a median, the squared error of a probability or a mean."""
    if target in (Target.RTT, Target.JITTER):
        return np.abs(said - measured)
    return np.asarray((said - measured) ** 2)


def common_cells(asked: Bools, points: Mapping[str, Floats]) -> tuple[Bools, tuple[str, ...]]:
    """The cells that are scored, and the models that are scored on them.

    Args:
        asked: where there is something to score.
        points: model -> what it predicts, NaN where nothing.
    """
    total = max(int(asked.sum()), 1)
    scored = tuple(
        name for name, said in points.items() if np.isfinite(said[asked]).sum() >= LEAST_SHARE * total
    )
    if not scored:
        return asked & False, ()
    return asked & np.logical_and.reduce([np.isfinite(points[name]) for name in scored]), scored


def metrics(
    target: Target,
    said: Floats,
    measured: Floats,
    bounds: tuple[Floats, Floats] | None,
    points_off: Callable[[Floats], Floats] | None,
) -> Metrics:
    """All metrics of N cells.

    Args:
        target: what is predicted.
        said: (N,).
        measured: (N,).
        bounds: (N,) each, of the 90 % interval.
        points_off: gives the absolute error in QoE points of what is said; None where QoE is not known.
    """
    if target is Target.ANY_LOSS:
        safe = np.clip(said, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
        return Metrics(
            brier=float(((said - measured) ** 2).mean()),
            log_loss=float(-np.where(measured > 0.0, np.log(safe), np.log1p(-safe)).mean()),
            auc=area_under_curve(said, measured > 0.0),
        )
    wrong = np.abs(said - measured)
    off = None
    if points_off is not None:
        points = points_off(said)
        known = np.isfinite(points)
        off = float(points[known].mean()) if known.any() else None
    if target is Target.LOSS:
        return Metrics(
            loss_mae=float(wrong.mean()),
            loss_rmse=math.sqrt(float((wrong**2).mean())),
            loss_mean=float(measured.mean()),
            qoe_mae_points=off,
        )
    positive = measured > 0.0
    total = float(((measured - measured.mean()) ** 2).sum())
    bent = np.where(wrong <= HUBER_MS, 0.5 * wrong**2 / HUBER_MS, wrong - 0.5 * HUBER_MS)
    coverage = width = score = None
    if bounds is not None and np.isfinite(bounds[0]).all() and np.isfinite(bounds[1]).all():
        coverage = float(((bounds[0] <= measured) & (measured <= bounds[1])).mean())
        width = float((bounds[1] - bounds[0]).mean())
        missed = np.maximum(np.maximum(bounds[0] - measured, measured - bounds[1]), 0.0)
        score = width + float(missed.mean()) * 2.0 / (1.0 - COVERAGE)
    return Metrics(
        mae_ms=float(wrong.mean()),
        medae_ms=float(np.median(wrong)),
        median_relative_error=float(np.median(wrong[positive] / measured[positive]))
        if positive.any()
        else None,
        rmse_ms=math.sqrt(float((wrong**2).mean())),
        huber=float(bent.mean()),
        r2=1.0 - float((wrong**2).sum()) / total if total > 0.0 else None,
        qoe_mae_points=off,
        coverage_90=coverage,
        width_90_ms=width,
        interval_score_ms=score,
    )


def qoe_points_off(
    arrays: PathArrays, question: Question, target: Target, cells: Bools, profile: Profile
) -> Callable[[Floats], Floats]:
    """How far the QoE score is off when one metric is predicted, and the others are as measured.

    Args:
        arrays: the measurements.
        question: Q rows.
        target: the metric that is predicted.
        cells: (Q, P) which N cells.
        profile: how quality is scored.

    Returns:
        A function of (N,) predicted values that gives (N,) the mean absolute difference in score over the applications, NaN where a metric
        was not measured.
    """
    measured = {
        "rtt_ms": arrays.rtt_ms[question.windows][cells],
        "loss_ratio": arrays.loss_ratio[question.windows][cells],
        "jitter_ms": arrays.jitter_ms[question.windows][cells],
    }
    replaced = {Target.RTT: "rtt_ms", Target.LOSS: "loss_ratio", Target.JITTER: "jitter_ms"}[target]
    applications = list(Application)
    real = [sensitivity(profile, application, **measured).score for application in applications]

    def off(said: Floats) -> Floats:
        told = measured | {replaced: said}
        wrong = [
            np.abs(sensitivity(profile, application, **told).score - score)
            for application, score in zip(applications, real, strict=True)
        ]
        return np.asarray(np.mean(wrong, axis=0))

    return off


def clusters(arrays: PathArrays, question: Question, *, by_day: bool) -> Ints:
    """(Q, P) a number for each probe host, or each probe host and UTC day: errors within one are not independent."""
    host = np.unique(arrays.probe_end.host, return_inverse=True)[1].astype(np.int64)
    if not by_day:
        return np.broadcast_to(host, (len(question), arrays.pairs))
    day = arrays.window_start_s[question.windows] // DAY_S
    return np.asarray(day[:, None] * (host.max() + 1) + host[None, :], dtype=np.int64)


def area_under_curve(score: Floats, happened: Bools) -> float | None:
    """Area under the ROC curve, as the Mann-Whitney statistic; ties count half. None when only one outcome came.

    >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, True, False, True]))
    0.875
    """
    yes, no = int(happened.sum()), int((~happened).sum())
    if yes == 0 or no == 0:
        return None
    _, place, ties = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(ties) - (ties - 1) / 2.0)[place]  # equal scores share the mean of their ranks
    return float((rank[happened].sum() - yes * (yes + 1) / 2.0) / (yes * no))
