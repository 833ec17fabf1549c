"""Comparison: every predictor on the same cells, over splits and seeds, each next to the best baseline.

Which baseline is best is chosen, for each target, on the calibration cells: chosen on the test it would be the luckiest of several there,
and a model would be set against luck. A job is one split and one seed; many of them are run by `gnn.jobs`.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gnn.audit import Verdict, audit_answers
from gnn.conformal import equal_parts, reliability
from gnn.history import DAY_S
from gnn.neighbours import chord_km, on_sphere
from gnn.prediction import Prediction
from gnn.predictor import Kind, Learned, Predictor
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from gnn.registry import predictor_class, predictor_named
from gnn.scoring import (
    Metrics,
    Target,
    clusters,
    common_cells,
    error,
    interval,
    metrics,
    point,
    qoe_points_off,
    truth,
)
from gnn.shared_work import clock_s
from gnn.statistical_audit import audit_statistics
from kg.arrays import UNKNOWN_ASN, Floats, Ints, PathArrays
from qoe.profile import Profile

Hear = Callable[[str, str, int, int], None]
"""Told in which split, and which model of it is learned next; and how many of how many were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a predictor took in one job; one that is made of others with what these took."""

    learned: Learned
    predict_seconds: float
    peak_memory_mb: float

    def with_members(self, members: Collection[Cost]) -> Cost:
        """Of one that is made of others, which had learned and answered before it."""
        took = sum(one.learned.seconds or 0.0 for one in (self, *members))
        return replace(
            self,
            learned=replace(self.learned, seconds=took),
            predict_seconds=sum(one.predict_seconds for one in (self, *members)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One predictor, case and target in one job.

    Attributes:
        metrics: on the common cells.
        errors: (N,) float32, what is averaged and compared, of the common cells in order.
        calibration_error: mean error on the calibration cells, by which the best baseline is chosen; NaN where there are none.
    """

    metrics: Metrics
    errors: Floats
    calibration_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The common cells of one case and target in one job.

    Attributes:
        cells: (N,) a number for each cell, the same in every job: window x pairs + pair.
        clusters: (N,) likewise for its cluster.
        asked: how many could be scored.
        partial: models that predict too few of them to be scored.
    """

    cells: Ints
    clusters: Ints
    asked: int
    partial: tuple[str, ...]


RAW, CALIBRATED = "raw", "calibrated"
"""Bounds of intervals before and after they are calibrated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """What is shown of one predictor's RTT, and probability of loss, in one job: sums that add up over jobs.

    Attributes:
        groups: (by, group) -> (7,) cells; summed absolute error in ms; cells with an interval, those inside it, and the summed width
            in ms; cells with a QoE score, and the summed absolute error in QoE points.
        pairs: (4, P) cells, summed absolute error, measured and predicted RTT of each pair.
        reliability: rows of mean predicted probability, observed frequency, cells.
        quantiles: RAW and CALIBRATED -> (2, 3) cells that are measured at or below the lower bound, the point and the upper bound;
            and the cells that have such a bound.
    """

    groups: Mapping[tuple[str, str], Floats]
    pairs: Floats
    reliability: tuple[tuple[float, float, int], ...]
    quantiles: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of one job, in so many seconds."""

    split: str
    seed: int
    scored: Mapping[tuple[str, str, Target], Scored]
    asked: Mapping[tuple[str, Target], Asked]
    details: Mapping[tuple[str, str], Detail]
    costs: Mapping[str, Cost]
    verdicts: Mapping[str, Verdict]
    test_cells: int
    out_of_range: Mapping[str, tuple[int, int, float]]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One split and one seed.

    Attributes:
        arrays: the measurements, as the protocol views them.
        protocol: who is hidden.
        split: number of the split.
        split_seed: what the splits are drawn with.
        seed: of learning.
        models: names in the registry.
        profile: how quality is scored.
        overrides: settings of models that differ from their usual ones.
        checkpoint: folder in which interrupted trainings are kept; None keeps nothing.
    """

    arrays: PathArrays
    protocol: Protocol
    split: int
    split_seed: int
    seed: int
    models: tuple[str, ...]
    profile: Profile
    overrides: Mapping[str, int | float]
    checkpoint: Path | None = None


def run(job: Job, hear: Hear, keep: dict[str, Predictor] | None = None) -> Done:
    """Fit every model of a job, and score all.

    Args:
        job: what.
        hear: told before each model.
        keep: gets the fitted predictors, where somebody wants them.

    Raises:
        LeakError: when a predictor sees what is hidden from it, before or after learning.
        DataError: when there is too little data.
    """
    arrays, protocol = job.arrays, job.protocol
    began = time.perf_counter()
    split = protocol.splits(arrays, seed=job.split_seed)[job.split]
    told: dict[str, Prediction] = {}
    calibrating: dict[str, Prediction] = {}
    raw: dict[str, Prediction] = {}
    costs: dict[str, Cost] = {}
    verdicts: dict[str, Verdict] = {}
    fitted: dict[str, Predictor] = {} if keep is None else keep
    for number, name in enumerate(job.models):
        hear(f"{split.name}, seed {job.seed}", name, number, len(job.models))
        predictor = predictor_named(name, protocol.name, job.overrides)
        predictor.reuse(fitted)
        learned, verdict = predictor.fit(arrays, split, protocol, seed=job.seed, checkpoint=job.checkpoint)
        answers = audit_answers(predictor, arrays, split.test)
        answers.require(name)
        started = clock_s()
        told[name] = predictor.predict(arrays, split.test)
        seconds = clock_s() - started
        verdicts[name] = verdict.with_other(answers).with_other(
            audit_statistics(arrays, split.test, told[name])
        )
        raw[name] = predictor.raw(arrays, split.test)
        calibrating[name] = predictor.raw(arrays, split.calibration)
        fitted[name] = predictor
        costs[name] = Cost(
            learned=learned,
            predict_seconds=seconds,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        ).with_members([costs[member] for member in predictor.members])
    scored, asked, cells = _scored(job, split, told, calibrating)
    nowhere = np.zeros_like(split.test.asked)
    details = {
        (name, case): _detail(
            *(arrays, split.test, told[name], raw[name], job.profile),
            *(
                cells[case, of] if (name, case, of) in scored else nowhere
                for of in (Target.RTT, Target.ANY_LOSS)
            ),
        )
        for name, case in dict.fromkeys((name, case) for name, case, _ in scored)
    }
    return Done(
        split=split.name,
        seed=job.seed,
        scored=scored,
        asked=asked,
        details=details,
        costs=costs,
        verdicts=verdicts,
        test_cells=int(split.test.cells(arrays).rtt.sum()),
        out_of_range=_out_of_range(arrays, split.test, told),
        seconds=time.perf_counter() - began,
    )


def _scored(
    job: Job, split: Split, told: Mapping[str, Prediction], calibrating: Mapping[str, Prediction]
) -> tuple[
    dict[tuple[str, str, Target], Scored], dict[tuple[str, Target], Asked], dict[tuple[str, Target], Bools]
]:
    """Every model on every case and target; what was asked there; and (Q, P) the common cells."""
    arrays, test = job.arrays, split.test
    scored: dict[tuple[str, str, Target], Scored] = {}
    asked: dict[tuple[str, Target], Asked] = {}
    common: dict[tuple[str, Target], Bools] = {}
    numbers = test.windows[:, None] * arrays.pairs + np.arange(arrays.pairs)[None, :]
    cluster = clusters(arrays, test, by_day=job.protocol.by_day)
    for case, title in enumerate(job.protocol.cases(arrays.window_s)):
        rows = (test.case == case)[:, None]
        for target in Target:
            measured, could = truth(arrays, test, target)
            could = could & rows
            points = {name: point(prediction, target) for name, prediction in told.items()}
            cells, names = common_cells(could, points)
            if not cells.any():
                continue
            common[title, target] = cells
            asked[title, target] = Asked(
                cells=numbers[cells],
                clusters=cluster[cells],
                asked=int(could.sum()),
                partial=tuple(name for name in told if name not in names),
            )
            off = None
            if target is not Target.ANY_LOSS:
                off = qoe_points_off(arrays, test, target, cells, job.profile)
            before = _calibration_errors(arrays, split.calibration, case, target, calibrating, names)
            for name in names:
                bounds = interval(told[name], target)
                scored[name, title, target] = Scored(
                    metrics=metrics(
                        target,
                        points[name][cells],
                        measured[cells],
                        None if bounds is None else (bounds[0][cells], bounds[1][cells]),
                        off,
                    ),
                    errors=error(points[name][cells], measured[cells], target).astype(np.float32),
                    calibration_error=before[name],
                )
    return scored, asked, common


def _calibration_errors(
    arrays: PathArrays,
    question: Question,
    case: int,
    target: Target,
    told: Mapping[str, Prediction],
    names: Sequence[str],
) -> dict[str, float]:
    """Mean error of each model on the calibration cells that all of them predict."""
    measured, could = truth(arrays, question, target)
    points = {name: point(told[name], target) for name in names}
    cells = could & (question.case == case)[:, None]
    cells = cells & np.logical_and.reduce([np.isfinite(said) for said in points.values()])
    if not cells.any():
        return dict.fromkeys(names, np.nan)
    return {name: float(error(said[cells], measured[cells], target).mean()) for name, said in points.items()}


def _detail(
    arrays: PathArrays,
    question: Question,
    told: Prediction,
    raw: Prediction,
    profile: Profile,
    cells: Bools,
    cells_of_loss: Bools,
) -> Detail:
    """What is shown of one predictor in one case, on the (Q, P) cells that it is scored on: of RTT, and of loss."""
    measured, _ = truth(arrays, question, Target.RTT)
    row, pair = np.nonzero(cells)
    said, came = told.rtt_ms[cells], measured[cells]
    low, high = told.rtt_low_ms[cells], told.rtt_high_ms[cells]
    wrong = np.abs(said - came)
    bounded = np.isfinite(low) & np.isfinite(high)
    points = qoe_points_off(arrays, question, Target.RTT, cells, profile)(said)
    shown: Floats = np.stack(
        [
            np.ones_like(wrong),
            wrong,
            bounded,
            (low <= came) & (came <= high),
            np.where(bounded, high - low, 0.0),
            np.isfinite(points),
            np.nan_to_num(points),
        ]
    )
    groups = {
        (by, str(label)): shown[:, labels == label].sum(axis=1)
        for by, labels in _labels(arrays, question, row, pair, said).items()
        for label in np.unique(labels)
    }
    sums: Floats = np.stack(
        [
            np.bincount(pair, weights=weights, minlength=arrays.pairs)
            for weights in (np.ones_like(wrong), wrong, came, said)
        ]
    )
    lossy, _ = truth(arrays, question, Target.ANY_LOSS)
    bins: tuple[tuple[float, float, int], ...] = ()
    if cells_of_loss.any():
        found = reliability(told.any_loss_probability[cells_of_loss], lossy[cells_of_loss] > 0.0)
        bins = tuple(
            zip(found.predicted.tolist(), found.observed.tolist(), found.cells.tolist(), strict=True)
        )
    quantiles = {
        name: _at_or_below(came, (one.rtt_low_ms[cells], one.rtt_ms[cells], one.rtt_high_ms[cells]))
        for name, one in ((RAW, raw), (CALIBRATED, told))
    }
    return Detail(groups=groups, pairs=sums, reliability=bins, quantiles=quantiles)


def _at_or_below(came: Floats, bounds: Sequence[Floats]) -> Floats:
    """(2, B) how many of the (N,) measured values lie at or below each bound, and how many have one."""
    return np.array(
        [[(came <= bound).sum() for bound in bounds], [np.isfinite(bound).sum() for bound in bounds]],
        dtype=np.float64,
    )


DECILES = tuple(f"{number:02d}" for number in range(1, 11))

DISTANCES_KM = (0.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)

DISTANCE_BANDS = (
    *(f"{low:g} to {high:g} km" for low, high in pairwise(DISTANCES_KM)),
    f"over {DISTANCES_KM[-1]:g} km",
    "unknown",
)
"""Names of what lies between and beyond these distances, the nearest first."""


def _labels(arrays: PathArrays, question: Question, row: Ints, pair: Ints, said: Floats) -> dict[str, Any]:
    """By what errors are shown: (N,) labels of each kind."""
    kilometres = chord_km(on_sphere(arrays.probe_end), on_sphere(arrays.target_end))
    band = np.searchsorted(DISTANCES_KM, kilometres, side="right") - 1
    distance = np.array(DISTANCE_BANDS)[np.where(np.isfinite(kilometres), band, len(DISTANCE_BANDS) - 1)]
    start_s = arrays.window_start_s[0] + question.windows * arrays.window_s
    asn = arrays.probe_end.asn
    return {
        "distance": distance[pair],
        "country": np.where(arrays.probe_end.country == "", "unknown", arrays.probe_end.country).astype(str)[
            pair
        ],
        "asn": np.where(asn == UNKNOWN_ASN, "unknown", np.char.add("AS", asn.astype(str)))[pair],
        "hour": np.char.add(np.char.zfill((start_s % DAY_S // 3600).astype(str), 2), ":00")[row],
        "decile": np.array(DECILES)[equal_parts(said, len(DECILES))],
        "window": np.datetime_as_string(start_s.astype("datetime64[s]"), unit="m")[row],
    }


def _out_of_range(
    arrays: PathArrays, question: Question, told: Mapping[str, Prediction]
) -> dict[str, tuple[int, int, float]]:
    """Reason -> cells that the first graph model (or the first model) gives it for, those it predicts all the same, their summed error."""
    name = next((name for name in told if predictor_class(name).kind is Kind.GNN), next(iter(told)))
    measured, could = truth(arrays, question, Target.RTT)
    wrong = np.abs(told[name].rtt_ms - measured)
    found: dict[str, tuple[int, int, float]] = {}
    for reason in np.unique(told[name].reason[could].astype(str)):
        of = wrong[could & (told[name].reason == reason)]
        found[str(reason)] = (len(of), int(np.isfinite(of).sum()), float(np.nansum(of)))
    return found
