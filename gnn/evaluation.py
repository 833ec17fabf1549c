"""Evaluation: every predictor on the same cells, each next to the best baseline.

Which baseline is best is chosen, for each target, on the validation and calibration windows: chosen on the test it would
be the luckiest of several there, and a model would be set against luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import numpy as np

from domain.errors import DataError
from gnn.audit import Verdict, audit_answers
from gnn.history import DAY_S
from gnn.prediction import Prediction
from gnn.predictor import Kind, Learned, Predictor
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from kg.arrays import Floats, Ints, PathArrays

LEAST_CLUSTERS = 30
"""Fewer clusters say too little about a difference."""

DAYS_OF_A_WEEK = 7
"""A test of fewer days is said to be one."""

RESAMPLES = 2000
LEAST_PROBABILITY = 1e-6
"""Probabilities are kept this far from 0 and 1 in the log loss, which one mistaken certainty would make infinite."""


class Target(StrEnum):
    """What is predicted."""

    RTT = "rtt"
    ANY_LOSS = "any_loss"
    LOSS = "loss"
    JITTER = "jitter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One predictor on one target over the test windows. None does not apply, or cannot be computed.

    Attributes:
        model, kind, target: which.
        cells: scored pair-windows, the same for every model; `cells_left_out` could be scored but at least one model
            did not predict them.
        mae_ms, medae_ms, rmse_ms, median_relative_error, r2: of the point; relative to the measured value, over cells above 0.
        brier, log_loss, auc: of the probability of any loss.
        loss_mae, loss_rmse: error of the loss ratio. Loss is rare: "never any loss" has nearly the least absolute error there
            is, and says nothing. So the squared error, which an expectation minimises, is what is compared.
        loss_mean: mean measured loss ratio, which is the `loss_mae` of "never any loss".
        coverage_90, width_90_ms: share of cells inside the 90 % interval, and its mean width.
        ci_low, ci_high: 95 % bootstrap interval of the difference in error (MAE, Brier score, mean squared error of the loss
            ratio) to the best baseline of this target, over clusters probe x day; negative is better than the baseline. None
            for that baseline itself, and below `LEAST_CLUSTERS`; `clusters` counts them. What shook all probes on a day is
            outside the interval.
        test_days, test_probes: UTC days of the test windows, and probe hosts of the scored cells.
        tied_with_best: the interval of the difference holds 0; True for the best baseline itself, which is the one that was
            best before the test and need not be the best in it.
        epochs, parameters: what learning took.
        fit_seconds: of learning alone; the audit is left out.
    """

    model: str
    kind: str
    target: str
    cells: int
    cells_left_out: int
    mae_ms: float | None = None
    medae_ms: float | None = None
    median_relative_error: float | None = None
    rmse_ms: float | None = None
    r2: float | None = None
    brier: float | None = None
    log_loss: float | None = None
    auc: float | None = None
    loss_mae: float | None = None
    loss_rmse: float | None = None
    loss_mean: float | None = None
    coverage_90: float | None = None
    width_90_ms: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    clusters: int = 0
    test_days: int = 0
    test_probes: int = 0
    tied_with_best: bool | None = None
    epochs: int | None = None
    fit_seconds: float | None = None
    parameters: int | None = None

    def as_json(self) -> dict[str, str | int | float | bool | None]:
        """The row as `comparison.json` has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What came of comparing predictors.

    Attributes:
        protocol: name of the protocol.
        seed: of learning and of the bootstrap.
        rows: one a predictor and target.
        verdicts: audit of each predictor, inputs and answers together, on distinct windows.
        conclusion: in words, a sentence for each predictor that is not a baseline.
        synthetic: True when the data was; then no figure is a claim of accuracy.
    """

    protocol: str
    seed: int
    rows: tuple[Row, ...]
    verdicts: Mapping[str, Verdict]
    conclusion: str
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """A predictor's answers on the test question, and what they took."""

    predictor: Predictor
    prediction: Prediction
    learned: Learned


def evaluate(
    arrays: PathArrays,
    protocol: Protocol,
    predictors: Sequence[Predictor],
    *,
    seed: int,
    progress: Callable[[str, int, int, float], None] | None = None,
) -> Evaluation:
    """Fit each predictor, audit it, and score all on the cells that all of them predict.

    Args:
        arrays: the measurements.
        protocol: says what is hidden.
        predictors: at least one baseline among them; fitted in place.
        seed: of all randomness.
        progress: told model, epoch, of how many, validation loss.

    Raises:
        LeakError: when a predictor sees what is hidden from it, before or after learning.
        DataError: when there is no baseline, or too little data.
    """
    if not any(predictor.kind is Kind.BASELINE for predictor in predictors):
        raise DataError(
            "nothing to compare with", found="no baseline among the models", expected="at least one baseline"
        )
    split = protocol.split(arrays)
    verdicts: dict[str, Verdict] = {}
    scored: list[_Scored] = []
    for predictor in predictors:
        name = predictor.name
        learned, verdict = predictor.fit(
            arrays,
            split,
            seed=seed,
            progress=None if progress is None else _told(progress, name),
        )
        answers = audit_answers(predictor, arrays, split.test)
        answers.require(name)
        audited = {*verdict.windows, *answers.windows}
        verdicts[name] = Verdict(windows=tuple(sorted(audited)), findings=())
        scored.append(
            _Scored(
                predictor=predictor,
                prediction=predictor.predict(arrays, split.test),
                learned=learned,
            )
        )
    best = _best_baselines(arrays, split, predictors)
    rows = [row for target in Target for row in _rows(arrays, split.test, target, scored, best[target], seed)]
    return Evaluation(
        protocol=protocol.name,
        seed=seed,
        rows=tuple(rows),
        verdicts=verdicts,
        conclusion=_conclusion(rows, arrays.synthetic),
        synthetic=arrays.synthetic,
    )


def _told(progress: Callable[[str, int, int, float], None], name: str) -> Callable[[int, int, float], None]:
    return lambda epoch, of, loss: progress(name, epoch, of, loss)


def _best_baselines(
    arrays: PathArrays, split: Split, predictors: Sequence[Predictor]
) -> dict[Target, str | None]:
    """For each target the baseline with the least error before the test, None where no cell can be scored there."""
    baselines = [predictor for predictor in predictors if predictor.kind is Kind.BASELINE]
    questions = (split.validation, split.calibration)
    told = [[baseline.predict(arrays, question) for question in questions] for baseline in baselines]
    best: dict[Target, str | None] = {}
    for target in Target:
        wrong = np.zeros(len(baselines))
        cells = 0
        for part, question in enumerate(questions):
            truth, asked = _truth(arrays, question, target)
            points = [_point(predictions[part], target) for predictions in told]
            same = asked & np.logical_and.reduce([np.isfinite(point) for point in points])
            wrong += [_error(point[same], truth[same], target).sum() for point in points]
            cells += int(same.sum())
        best[target] = baselines[int(wrong.argmin())].name if cells > 0 else None
    return best


def _rows(
    arrays: PathArrays,
    question: Question,
    target: Target,
    scored: Sequence[_Scored],
    best: str | None,
    seed: int,
) -> list[Row]:
    """One target: measure, and set every other predictor against the best baseline."""
    truth, asked = _truth(arrays, question, target)
    points = [_point(one.prediction, target) for one in scored]
    same = asked & np.logical_and.reduce([np.isfinite(point) for point in points])
    if not same.any():
        return []
    errors = [_error(point[same], truth[same], target) for point in points]
    compared = {one.predictor.name: error for one, error in zip(scored, errors, strict=True)}
    clusters = _clusters(arrays, question)[same]
    days = len(np.unique(arrays.window_start_s[question.windows] // DAY_S))
    probes = len(np.unique(arrays.probe_end.host[same.any(axis=0)]))
    rows: list[Row] = []
    for one, point, error in zip(scored, points, errors, strict=True):
        row = Row(
            model=one.predictor.name,
            kind=one.predictor.kind.value,
            target=target.value,
            cells=int(same.sum()),
            cells_left_out=int(asked.sum() - same.sum()),
            clusters=len(np.unique(clusters)),
            test_days=days,
            test_probes=probes,
            epochs=one.learned.epochs,
            fit_seconds=None if one.learned.seconds is None else round(one.learned.seconds, 3),
            parameters=one.learned.parameters,
        )
        row = _with_errors(row, target, point[same], truth[same])
        row = _with_interval(row, target, one.prediction, same, truth)
        if one.predictor.name == best:
            row = replace(row, tied_with_best=True)
        elif best is not None and row.clusters >= LEAST_CLUSTERS:
            low, high = bootstrap_difference(error - compared[best], clusters, np.random.default_rng(seed))
            row = replace(row, ci_low=low, ci_high=high, tied_with_best=low <= 0.0 <= high)
        rows.append(row)
    return rows


def _truth(arrays: PathArrays, question: Question, target: Target) -> tuple[Floats, Bools]:
    """(Q, P) what was measured, and where it can be scored."""
    cells = question.cells(arrays)
    if target is Target.RTT:
        return arrays.rtt_ms[question.windows], cells.rtt
    if target is Target.JITTER:
        return arrays.jitter_ms[question.windows], cells.jitter
    if target is Target.LOSS:
        return arrays.loss_ratio[question.windows], cells.loss
    return (arrays.received < arrays.sent)[question.windows].astype(np.float64), cells.loss


def _point(prediction: Prediction, target: Target) -> Floats:
    if target is Target.RTT:
        return prediction.rtt_ms
    if target is Target.JITTER:
        return prediction.jitter_ms
    if target is Target.LOSS:
        return prediction.loss_ratio
    return prediction.any_loss_probability


def _error(point: Floats, truth: Floats, target: Target) -> Floats:
    """What is averaged and compared: the absolute error of a median, the squared error of a probability (Brier 1950) or a mean."""
    if target in (Target.RTT, Target.JITTER):
        return np.abs(point - truth)
    return np.asarray((point - truth) ** 2)


def _with_errors(row: Row, target: Target, point: Floats, truth: Floats) -> Row:
    if target is Target.ANY_LOSS:
        safe = np.clip(point, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
        return replace(
            row,
            brier=float(((point - truth) ** 2).mean()),
            log_loss=float(-np.where(truth > 0.0, np.log(safe), np.log1p(-safe)).mean()),
            auc=area_under_curve(point, truth > 0.0),
        )
    wrong = np.abs(point - truth)
    if target is Target.LOSS:
        return replace(
            row,
            loss_mae=float(wrong.mean()),
            loss_rmse=math.sqrt(float((wrong**2).mean())),
            loss_mean=float(truth.mean()),
        )
    positive = truth > 0.0
    total = float(((truth - truth.mean()) ** 2).sum())
    return replace(
        row,
        mae_ms=float(wrong.mean()),
        medae_ms=float(np.median(wrong)),
        median_relative_error=(
            float(np.median(wrong[positive] / truth[positive])) if positive.any() else None
        ),
        rmse_ms=math.sqrt(float((wrong**2).mean())),
        r2=1.0 - float((wrong**2).sum()) / total if total > 0.0 else None,
    )


def _with_interval(row: Row, target: Target, prediction: Prediction, same: Bools, truth: Floats) -> Row:
    """Coverage and width, where the predictor gives an interval for every scored cell."""
    if target is Target.RTT:
        low, high = prediction.rtt_low_ms[same], prediction.rtt_high_ms[same]
    elif target is Target.JITTER:
        low, high = prediction.jitter_low_ms[same], prediction.jitter_high_ms[same]
    else:
        return row
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return row
    inside = (low <= truth[same]) & (truth[same] <= high)
    return replace(row, coverage_90=float(inside.mean()), width_90_ms=float((high - low).mean()))


def _clusters(arrays: PathArrays, question: Question) -> Ints:
    """(Q, P) a number for each probe host and UTC day: errors within one are not independent."""
    day = arrays.window_start_s[question.windows] // DAY_S
    host = np.unique(arrays.probe_end.host, return_inverse=True)[1].astype(np.int64)
    return np.asarray((day - day.min())[:, None] * (host.max() + 1) + host[None, :], dtype=np.int64)


def bootstrap_difference(
    difference: Floats, clusters: Ints, generator: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the mean difference: whole clusters are drawn again, with replacement.

    Davison, Hinkley: Bootstrap Methods and their Application (1997), section 3.8; percentile interval.

    Args:
        difference: (N,) paired differences in error.
        clusters: (N,) which cluster each belongs to.
        generator: draws the clusters.
    """
    number = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(number, weights=difference)
    counts = np.bincount(number).astype(np.float64)
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=RESAMPLES)
    low, high = np.quantile((drawn @ sums) / (drawn @ counts), [0.025, 0.975])
    return float(low), float(high)


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


def _conclusion(rows: Sequence[Row], synthetic: bool) -> str:
    """A sentence on the RTT of each predictor that is no baseline, and how far the figures reach."""
    rtt = [row for row in rows if row.target == Target.RTT]
    best = next((row for row in rtt if row.kind == Kind.BASELINE and _is_best(row)), None)
    if best is not None:
        sentences = _sentences(rtt, best)
    elif rtt:
        sentences = ["No RTT was measured before the test to choose a baseline by."]
    else:
        sentences = ["No RTT could be scored."]
    if synthetic:
        sentences.append(
            "The data is synthetic: these figures say nothing about the accuracy on the Internet."
        )
    return " ".join(sentences)


def _sentences(rtt: Sequence[Row], best: Row) -> list[str]:
    """The models against the best baseline; else that baseline alone."""
    models = [row for row in rtt if row.kind != Kind.BASELINE]
    sentences = [_sentence(row, best) for row in models]
    if not models:
        sentences.append(
            f"The best baseline is {best.model}, with a mean absolute RTT error of {best.mae_ms:.3g} ms."
        )
    luckier = min((row for row in rtt if row.kind == Kind.BASELINE), key=_mae)
    if _mae(luckier) < _mae(best):
        sentences.append(
            f"{best.model} was the best baseline before the test; in it {luckier.model} came to {luckier.mae_ms:.3g} ms."
        )
    if best.test_days < DAYS_OF_A_WEEK:
        days = "one day" if best.test_days == 1 else f"{best.test_days} days"
        outside = ""
        if any(row.ci_low is not None for row in models):
            outside = ": what shook all of them at once is outside the interval"
        sentences.append(f"This is on {best.test_probes} probes over {days}{outside}.")
    return sentences


def _mae(row: Row) -> float:
    return math.inf if row.mae_ms is None else row.mae_ms


def _is_best(row: Row) -> bool:
    """The one that others are set against: tied with itself, without an interval."""
    return row.tied_with_best is True and row.ci_low is None


def _sentence(row: Row, best: Row) -> str:
    against = (
        f"{row.model} has a mean absolute RTT error of {row.mae_ms:.3g} ms "
        f"against {best.mae_ms:.3g} ms of the best baseline, {best.model}"
    )
    if row.ci_low is None or row.ci_high is None:
        verdict = f"; {row.clusters} clusters of probe and day are too few to tell the two apart (at least {LEAST_CLUSTERS})"
    else:
        verdict = f" (difference {row.ci_low:+.3g} to {row.ci_high:+.3g} ms at 95 %): {_verdict(row.ci_low, row.ci_high)}"
    # A mean can be won or lost on a few paths that jump. These are medians over all cells of each, and no test of a difference.
    middle = f"In the median pair-window the error is {row.medae_ms:.3g} against {best.medae_ms:.3g} ms."
    return f"{against}{verdict}. {middle}"


def _verdict(ci_low: float, ci_high: float) -> str:
    if ci_high < 0.0:
        return "it beats it"
    if ci_low > 0.0:
        return "it does not beat it, and is worse"
    return "it does not beat it; the two are tied"
