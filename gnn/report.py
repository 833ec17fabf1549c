"""Report: the tables of what came of all jobs, as plain values; `gnn.document` puts them together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from gnn.comparison import CALIBRATED, DISTANCE_BANDS, RAW, Asked, Cost, Done, Scored
from gnn.difference import Difference, Outcome, compare, holm
from gnn.prediction import QUANTILES
from gnn.predictor import Kind
from gnn.registry import predictor_class, stated
from gnn.scoring import Target, mean_of
from kg.arrays import Floats, Ints, PathArrays

WORST = 20
"""Pairs that are shown, of those with the most summed error."""

REFERENCE = "reference"
"""The outcome of the best baseline beside itself."""

ERROR_OF: Final[Mapping[str, str]] = {
    Target.RTT: "mae_ms",
    Target.JITTER: "mae_ms",
    Target.ANY_LOSS: "brier",
    Target.LOSS: "loss_rmse",
}
"""The figure of a row that goes with what is compared."""

_NO_DIFFERENCE: Final = {
    "ci_low": None, "ci_high": None, "ratio": None, "ratio_low": None, "ratio_high": None, "p_holm": None, "verdict_why": "",
}  # fmt: skip


def rows_and_gains(
    done: Sequence[Done], cases: Sequence[str], seed: int, *, clusters: str = "clusters"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every model on every case and target beside the best baseline; and graph models beside the MLP and beside boosting.

    Args:
        done: what came of all jobs.
        cases: in the order of the document.
        seed: of the resamples.
        clusters: what clusters are called where a tie is explained.
    """
    rows: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    for case in cases:
        for target in Target:
            jobs = [one for one in done if (case, target) in one.asked]
            if not jobs:
                continue
            variants = _variants(jobs)
            names = [name for name in _scored_in_all(jobs, case, target) if name not in variants]
            best = _best_baseline(jobs, case, target, names)
            errors, cluster_of = _errors(jobs, case, target, names)
            of_best = {} if best is None else _against(best, errors, cluster_of, seed)
            rows += [
                {
                    **_row(
                        jobs, case, target, name, errors[name], best, _as_gain(of_best.get(name), clusters)
                    ),
                    "in_all_jobs": True,
                }
                for name in names
            ]
            # Variants may be in some jobs only: they are set against the best baseline there.
            few = [one for one in jobs if any((name, case, target) in one.scored for name in variants)]
            scored = [name for name in _scored_in_all(few, case, target) if name in variants] if few else []
            if best is not None and scored:
                errors_there, clusters_there = _errors(few, case, target, [*scored, best])
                of_best = _against(best, errors_there, clusters_there, seed)
                rows += [
                    {
                        **_row(
                            few,
                            case,
                            target,
                            name,
                            errors_there[name],
                            best,
                            _as_gain(of_best.get(name), clusters),
                        ),
                        "in_all_jobs": False,
                    }
                    for name in scored
                ]
            learned = [name for name in names if predictor_class(name).kind in (Kind.GNN, Kind.ENSEMBLE)]
            for over in _compared_with(names, best):
                against = _against(over, {name: errors[name] for name in [*learned, over]}, cluster_of, seed)
                gains += [
                    {
                        "model": name,
                        "over": over,
                        "target": str(target),
                        "case": case,
                        **_as_gain(against[name], clusters),
                    }
                    for name in learned
                    if name in against
                ]
    return rows, gains


def _variants(jobs: Sequence[Done]) -> set[str]:
    """What stands beside the model that it is a variant of."""
    names = {name for one in jobs for name in one.costs}
    return {name for name in names if "/" in name and name.partition("/")[0] in names}


def _scored_in_all(jobs: Sequence[Done], case: str, target: Target) -> list[str]:
    names = [name for name, *of in jobs[0].scored if of == [case, target]]
    return [name for name in names if all((name, case, target) in job.scored for job in jobs)]


def _best_baseline(jobs: Sequence[Done], case: str, target: Target, names: Sequence[str]) -> str | None:
    """The baseline with the least error on the calibration cells."""
    before = {
        name: _calibration_error([job.scored[name, case, target] for job in jobs])
        for name in names
        if predictor_class(name).kind is Kind.BASELINE
    }
    known = {name: value for name, value in before.items() if value is not None}
    return min(known, key=known.__getitem__) if known else None


def _calibration_error(scored: Sequence[Scored]) -> float | None:
    """Mean over the jobs that have calibration cells, which are the same ones for all models; None where none has."""
    known = [one.calibration_error for one in scored if np.isfinite(one.calibration_error)]
    return float(np.mean(known)) if known else None


def _compared_with(names: Sequence[str], best: str | None) -> list[str]:
    """What graph models are set against besides: the MLP and boosting."""
    return [name for name in ("mlp", "boosting", "boosting-around") if name in names and name != best]


def heads(
    done: Sequence[Done], cases: Sequence[str], seed: int, *, clusters: str = "clusters"
) -> list[dict[str, Any]]:
    """Every variant of a model beside the model itself, on the cells that both predicted in the jobs that both were in.

    Args:
        done: what came of all jobs.
        cases: in the order of the document.
        seed: of the resamples.
        clusters: what clusters are called where a tie is explained.
    """
    found: list[dict[str, Any]] = []
    for case in cases:
        for target in Target:
            of: dict[str, tuple[Difference, dict[str, Floats], list[Done], int]] = {}
            scored = dict.fromkeys(
                name for one in done for name, *what in one.scored if what == [case, target]
            )
            for name in (name for name in scored if "/" in name):
                both = (name, name.partition("/")[0])
                jobs = [one for one in done if all((model, case, target) in one.scored for model in both)]
                if jobs:
                    errors, cluster_of = _errors(jobs, case, target, both)
                    beside = _against(both[1], errors, cluster_of, seed)[name]
                    of[name] = (beside, errors, jobs, len(cluster_of))
            adjusted = holm({name: beside.p_wilcoxon for name, (beside, *_) in of.items()})
            found += [
                {
                    "model": name,
                    "over": name.partition("/")[0],
                    "target": str(target),
                    "case": case,
                    "seeds": len({job.seed for job in jobs}),
                    "splits": len({job.split for job in jobs}),
                    "cells": cells,
                    "clusters": beside.clusters,
                    "error": float(errors[name].mean()),
                    "error_over": float(errors[name.partition("/")[0]].mean()),
                    **_as_gain(replace(beside, p_holm=adjusted[name]), clusters),
                    "stated": stated(name),
                }
                for name, (beside, errors, jobs, cells) in of.items()
            ]
    return found


def _against(
    reference: str, errors: Mapping[str, Floats], cluster_of: Ints, seed: int
) -> Mapping[str, Difference]:
    """Each model beside the reference; the resamples are the same each time."""
    return compare(errors, cluster_of, reference, np.random.default_rng([seed, 0xB007]))


def _errors(
    jobs: Sequence[Done], case: str, target: Target, names: Sequence[str]
) -> tuple[dict[str, Floats], Ints]:
    """(N,) each model's errors, and the clusters: errors of a cell are averaged over the seeds first, whatever split they are of."""
    keys = np.concatenate([job.asked[case, target].cells for job in jobs])
    cluster_of = np.concatenate([job.asked[case, target].clusters for job in jobs])
    _, first, cell = np.unique(keys, return_index=True, return_inverse=True)
    times = np.bincount(cell)
    errors: dict[str, Floats] = {}
    for name in dict.fromkeys(names):
        every = np.concatenate([job.scored[name, case, target].errors for job in jobs]).astype(np.float64)
        errors[name] = np.bincount(cell, weights=every) / times
    return errors, cluster_of[first]


def _as_gain(difference: Difference | None, clusters: str) -> dict[str, Any]:
    if difference is None:
        return {**_NO_DIFFERENCE, "difference": None, "verdict": None}
    return {
        "difference": difference.mean,
        "ci_low": difference.ci_low,
        "ci_high": difference.ci_high,
        "ratio": difference.ratio,
        "ratio_low": difference.ratio_low,
        "ratio_high": difference.ratio_high,
        "p_holm": difference.p_holm,
        "verdict": str(difference.outcome),
        "verdict_why": difference.why_tied(clusters),
    }


def _row(
    jobs: Sequence[Done],
    case: str,
    target: Target,
    name: str,
    errors: Floats,
    best: str | None,
    gain: Mapping[str, Any],
) -> dict[str, Any]:
    """One model, case and target. Its error is the mean over all cells, as differences are; all else a mean over jobs by their cells."""
    asked: list[Asked] = [job.asked[case, target] for job in jobs]
    scored: list[Scored] = [job.scored[name, case, target] for job in jobs]
    costs: list[Cost] = [job.costs[name] for job in jobs]
    counts = [len(one.cells) for one in asked]
    found = mean_of([one.metrics for one in scored], counts)
    width = None
    if best is not None and found.width_90_ms is not None:
        of_best = mean_of([job.scored[best, case, target].metrics for job in jobs], counts).width_90_ms
        width = None if not of_best else found.width_90_ms / of_best
    error = float(errors.mean())
    cells = np.unique(np.concatenate([one.cells for one in asked]))
    beside = {key: gain[key] for key in _NO_DIFFERENCE}
    verdict: str | None = gain["verdict"]
    tied = None if verdict in (None, Outcome.TOO_FEW_CLUSTERS) else verdict == Outcome.TIED
    if name == best:
        verdict, tied = REFERENCE, True
    return {
        "model": name,
        "kind": str(predictor_class(name).kind),
        "target": str(target),
        "case": case,
        "seeds": len({job.seed for job in jobs}),
        "splits": len({job.split for job in jobs}),
        "cells": len(cells),
        "cells_left_out": sum(one.asked - len(one.cells) for one in asked),
        "calibration_error": _calibration_error(scored),
        **asdict(found),
        ERROR_OF[target]: math.sqrt(error) if target is Target.LOSS else error,
        "coverage_90_least_decile": _least_of_deciles(jobs, case, name) if target is Target.RTT else None,
        "width_against_best": width,
        **beside,
        "clusters": len(np.unique(np.concatenate([one.clusters for one in asked]))),
        "verdict": verdict,
        "tied_with_best": tied,
        "epochs": _mean([cost.learned.epochs for cost in costs]),
        "epochs_to_converge": _mean([cost.learned.best_epoch for cost in costs]),
        "fit_seconds": _mean([cost.learned.seconds for cost in costs]),
        "predict_seconds": _mean([cost.predict_seconds for cost in costs]),
        "peak_memory_mb": max(cost.peak_memory_mb for cost in costs),
        "parameters": costs[0].learned.parameters,
        "stated": stated(name),
        "by_split": [
            {"split": job.split, "seed": job.seed, "error": float(one.errors.mean())}
            for job, one in zip(jobs, scored, strict=True)
        ],
    }


def _least_of_deciles(jobs: Sequence[Done], case: str, name: str) -> float | None:
    """The least coverage of RTT in a decile of what is predicted, cells of all jobs together."""
    sums: dict[str, Floats] = {}
    for job in jobs:
        for (by, group), values in job.details[name, case].groups.items():
            if by == "decile":
                sums[group] = sums.get(group, np.zeros(7)) + values
    known = [inside / bounded for _, _, bounded, inside, *_ in sums.values() if bounded > 0.0]
    return float(min(known)) if known else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def breakdowns(done: Sequence[Done]) -> list[dict[str, Any]]:
    """Error, coverage and width of RTT by distance, country, AS, hour, decile of the prediction, and window.

    Groups are in the order of their names, distances in their own.
    """
    sums: dict[tuple[str, str, str, str], Floats] = {}
    for job in done:
        for (model, case), detail in job.details.items():
            for (by, group), values in detail.groups.items():
                key = (model, case, by, group)
                sums[key] = sums.get(key, np.zeros(7)) + values
    return [
        {
            "model": model,
            "target": str(Target.RTT),
            "case": case,
            "by": by,
            "group": group,
            "cells": int(cells),
            "mae_ms": float(error / cells),
            "coverage_90": float(inside / bounded) if bounded else None,
            "width_90_ms": float(width / bounded) if bounded else None,
            "qoe_mae_points": float(points / scored) if scored else None,
        }
        for (model, case, by, group), of in sorted(sums.items(), key=_in_order)
        for cells, error, bounded, inside, width, scored, points in [of]
    ]


def _in_order(item: tuple[tuple[str, str, str, str], Floats]) -> tuple[str, str, str, int, str]:
    """What breakdowns are sorted by: as text 1000 km come before 500 km."""
    (model, case, by, group), _ = item
    return model, case, by, DISTANCE_BANDS.index(group) if by == "distance" else 0, group


def curves(done: Sequence[Done]) -> list[dict[str, Any]]:
    """Validation loss by epoch, of each model that has epochs (boosting has trees instead); None where it is no finite number."""
    return [
        {
            "model": model,
            "split": job.split,
            "seed": job.seed,
            "validation": [loss if math.isfinite(loss) else None for loss in cost.learned.losses],
            "best_epoch": cost.learned.best_epoch,
        }
        for job in done
        for model, cost in job.costs.items()
        if cost.learned.epochs is not None and cost.learned.losses
    ]


def reliabilities(done: Sequence[Done]) -> list[dict[str, Any]]:
    """How often there was loss where it was said to be so likely; of the first seed, bins of all splits side by side."""
    found: list[dict[str, Any]] = []
    first = min(job.seed for job in done)
    bins: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
    for job in done:
        for key, detail in job.details.items():
            if job.seed == first:
                bins.setdefault(key, []).extend(detail.reliability)
    for (model, case), of in sorted(bins.items()):
        ordered = sorted(of)
        found.append(
            {
                "model": model,
                "target": str(Target.ANY_LOSS),
                "case": case,
                "predicted": [one[0] for one in ordered],
                "observed": [one[1] for one in ordered],
                "cells": [one[2] for one in ordered],
            }
        )
    return found


def quantiles(done: Sequence[Done]) -> list[dict[str, Any]]:
    """How many cells are measured at or below the bounds and the point of RTT, of all jobs together, before and after calibration.

    After it, the nominal levels are those of an interval that misses as much on both sides. `gnn.conformal` chooses how much it misses on
    which side, so that only the sum of the two is promised.
    """
    sums: dict[tuple[str, str, str], Floats] = {}
    for job in done:
        for (model, case), detail in job.details.items():
            for of, counts in detail.quantiles.items():
                sums[model, case, of] = sums.get((model, case, of), np.zeros((2, 3))) + counts
    return [
        {
            "model": model,
            "case": case,
            "of": of,
            "nominal": list(QUANTILES),
            "observed": [
                float(below / cells) if cells else None for below, cells in zip(*counts, strict=True)
            ],
            "cells": [int(cells) for cells in counts[1]],
        }
        for of in (RAW, CALIBRATED)
        for (model, case, own), counts in sorted(sums.items())
        if own == of
    ]


def worst_pairs(
    arrays: PathArrays, done: Sequence[Done], case: str, model: str, baseline: str
) -> list[dict[str, Any]]:
    """The pairs with the most summed error of a model, and what is to be seen of them."""
    own, other = (
        sum(
            (job.details[name, case].pairs for job in done if (name, case) in job.details),
            np.zeros((4, arrays.pairs)),
        )
        for name in (model, baseline)
    )
    order = np.argsort(-own[1], kind="stable")[:WORST]
    found: list[dict[str, Any]] = []
    for pair in order:
        cells, wrong, measured, predicted = own[:, pair]
        if cells == 0.0:
            continue
        beside = float(other[1, pair] / other[0, pair]) if other[0, pair] > 0.0 else None
        found.append(
            {
                "model": model,
                "baseline": baseline,
                "probe": int(arrays.probe_id[pair]),
                "target": str(arrays.target[pair]),
                "af": int(arrays.af[pair]),
                "case": case,
                "cells": int(cells),
                "mae_ms": float(wrong / cells),
                "baseline_mae_ms": beside,
                "measured_ms": float(measured / cells),
                "predicted_ms": float(predicted / cells),
                "why": _why(
                    arrays, int(pair), float(wrong / cells), beside, float((predicted - measured) / cells)
                ),
            }
        )
    return found


def _why(arrays: PathArrays, pair: int, mae_ms: float, beside_ms: float | None, bias_ms: float) -> str:
    """What is to be seen of a pair that is predicted badly: how it moves, what is known of it, and how others do.

    Args:
        arrays: the measurements, of all windows: it is told afterwards, and nobody learns from it.
        pair: which.
        mae_ms: mean absolute error of the model, in ms.
        beside_ms: that of the baseline; None where it says nothing.
        bias_ms: mean of what was predicted less what was measured, in ms.
    """
    series = arrays.rtt_ms[:, pair]
    known = series[np.isfinite(series)]
    said: list[str] = []
    if len(known) > 2:
        middle, low, high = np.median(known), *np.quantile(known, [0.1, 0.9])
        step = float(np.median(np.abs(np.diff(known))))
        if high - low > 0.5 * mae_ms:
            said.append(
                f"it moves: eight windows of ten are between {low:.0f} and {high:.0f} ms, half below {middle:.0f}"
            )
        if step > 0.25 * mae_ms:
            said.append(
                f"half of its steps from one measured window to the next are of {step:.0f} ms or more"
            )
    if len(known) < 0.5 * len(series):
        said.append(f"measured in only {len(known)} of {len(series)} windows")
    if abs(bias_ms) > 0.7 * mae_ms:
        said.append(
            f"mostly to one side: predicted {abs(bias_ms):.0f} ms too {'high' if bias_ms > 0 else 'low'} on average"
        )
    ends = {"probe": arrays.probe_end, "target": arrays.target_end}
    unknown = [name for name, end in ends.items() if not np.isfinite(end.latitude[pair])]
    if unknown:
        said.append(f"place of the {' and the '.join(unknown)} unknown")
    if beside_ms is not None and beside_ms < 0.8 * mae_ms:
        said.append("the baseline does better here")
    return "; ".join(said) or "nothing of it stands out"


def out_of_range(done: Sequence[Done]) -> dict[str, Any]:
    """How many cells the models say are in and out of their range, and why."""
    sums: dict[str, Floats] = {}
    for job in done:
        for reason, counted in job.out_of_range.items():
            sums[reason] = sums.get(reason, np.zeros(3)) + counted
    return {
        "in_range": int(sums[""][0]) if "" in sums else 0,
        "out_of_range": int(sum(cells for reason, (cells, *_) in sums.items() if reason)),
        "reasons": [
            {"reason": reason, "cells": int(cells), "mae_ms": float(wrong / told) if told else None}
            for reason, (cells, told, wrong) in sorted(sums.items())
            if reason
        ],
    }


def alike(done: Sequence[Done]) -> dict[tuple[str, ...], list[str]]:
    """Models whose RTT errs by the same in every cell of a case, and the cases: to a reader they are one row."""
    found: dict[tuple[str, ...], list[str]] = {}
    for case in dict.fromkeys(case for one in done for _, case, _ in one.scored):
        same: dict[tuple[bytes, ...], list[str]] = {}
        for name in _scored_in_all(done, case, Target.RTT):
            errors = tuple(one.scored[name, case, Target.RTT].errors.tobytes() for one in done)
            same.setdefault(errors, []).append(name)
        for names in same.values():
            if len(names) > 1:
                found.setdefault(tuple(names), []).append(case)
    return found
