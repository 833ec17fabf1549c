"""Report: what came of all jobs, as one document of plain values. `comparison.json` is this, and the page is drawn from it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from gnn.comparison import Asked, Cost, Done, Scored
from gnn.difference import LEAST_CLUSTERS, Difference, Outcome, compare
from gnn.predictor import Kind
from gnn.registry import predictor_class, stated
from gnn.scoring import Target, mean_of
from kg.arrays import Floats, PathArrays

WORST = 20
"""Pairs that are shown, of those with the most summed error."""

REFERENCE = "reference"
"""The outcome of the best baseline beside itself."""

_NO_DIFFERENCE: Final = {
    "ci_low": None, "ci_high": None, "ratio": None, "ratio_low": None, "ratio_high": None, "p_holm": None,
}  # fmt: skip


def rows_and_gains(
    done: Sequence[Done], cases: Sequence[str], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every model on every case and target beside the best baseline; and graph models beside the MLP."""
    rows: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    for case in cases:
        for target in Target:
            jobs = [one for one in done if (case, target) in one.asked]
            if not jobs:
                continue
            names = _scored_in_all(jobs, case, target)
            best = _best_baseline(jobs, case, target, names)
            of_best = {} if best is None else _differences(jobs, case, target, names, best, seed)
            rows += [_row(jobs, case, target, name, best, of_best.get(name)) for name in names]
            # Variants are in one job: they are set against the best baseline there.
            few = [one for one in jobs if len(one.costs) > len(names)]
            variants = (
                [name for name in _scored_in_all(few, case, target) if name not in names] if few else []
            )
            if best is not None and variants:
                of_best = _differences(few, case, target, [*variants, best], best, seed)
                rows += [_row(few, case, target, name, best, of_best.get(name)) for name in variants]
            learned = [name for name in names if predictor_class(name).kind in (Kind.GNN, Kind.ENSEMBLE)]
            for over in _compared_with(names, best):
                against = _differences(jobs, case, target, [*learned, over], over, seed)
                gains += [
                    {
                        "model": name,
                        "over": over,
                        "target": str(target),
                        "case": case,
                        **_as_gain(against[name]),
                    }
                    for name in learned
                    if name in against
                ]
    return rows, gains


def _scored_in_all(jobs: Sequence[Done], case: str, target: Target) -> list[str]:
    names = [name for name, *of in jobs[0].scored if of == [case, target]]
    return [name for name in names if all((name, case, target) in job.scored for job in jobs)]


def _best_baseline(jobs: Sequence[Done], case: str, target: Target, names: Sequence[str]) -> str | None:
    """The baseline with the least error on the calibration cells, mean over the jobs."""
    before = {
        name: float(np.mean([job.scored[name, case, target].calibration_error for job in jobs]))
        for name in names
        if predictor_class(name).kind is Kind.BASELINE
    }
    known = {name: value for name, value in before.items() if np.isfinite(value)}
    return min(known, key=known.__getitem__) if known else None


def _compared_with(names: Sequence[str], best: str | None) -> list[str]:
    """What graph models are set against besides: the MLP and boosting."""
    return [name for name in ("mlp", "boosting", "boosting-around") if name in names and name != best]


def _differences(
    jobs: Sequence[Done], case: str, target: Target, names: Sequence[str], reference: str, seed: int
) -> Mapping[str, Difference]:
    """Each model beside the reference: errors of a cell are averaged over the seeds first, whatever split they are of."""
    keys = np.concatenate([job.asked[case, target].cells for job in jobs])
    cluster_of = np.concatenate([job.asked[case, target].clusters for job in jobs])
    _, first, cell = np.unique(keys, return_index=True, return_inverse=True)
    times = np.bincount(cell)
    errors: dict[str, Floats] = {}
    for name in dict.fromkeys(names):
        every = np.concatenate([job.scored[name, case, target].errors for job in jobs]).astype(np.float64)
        errors[name] = np.bincount(cell, weights=every) / times
    return compare(errors, cluster_of[first], reference, np.random.default_rng([seed, 0xB007]))


def _as_gain(difference: Difference) -> dict[str, Any]:
    return {
        "difference": difference.mean,
        "ci_low": difference.ci_low,
        "ci_high": difference.ci_high,
        "ratio": difference.ratio,
        "ratio_low": difference.ratio_low,
        "ratio_high": difference.ratio_high,
        "p_holm": difference.p_holm,
        "verdict": str(difference.outcome),
    }


def _row(
    jobs: Sequence[Done],
    case: str,
    target: Target,
    name: str,
    best: str | None,
    difference: Difference | None,
) -> dict[str, Any]:
    asked: list[Asked] = [job.asked[case, target] for job in jobs]
    scored: list[Scored] = [job.scored[name, case, target] for job in jobs]
    costs: list[Cost] = [job.costs[name] for job in jobs]
    found = mean_of([one.metrics for one in scored])
    width = None
    if best is not None and found.width_90_ms is not None:
        of_best = mean_of([job.scored[best, case, target].metrics for job in jobs]).width_90_ms
        width = None if not of_best else found.width_90_ms / of_best
    cells = np.unique(np.concatenate([one.cells for one in asked]))
    verdict = tied = None
    beside = dict(_NO_DIFFERENCE)
    if name == best:
        verdict, tied = REFERENCE, True
    elif difference is not None:
        gain = _as_gain(difference)
        beside = {key: gain[key] for key in beside}
        verdict = str(difference.outcome)
        tied = None if difference.outcome is Outcome.TOO_FEW_CLUSTERS else difference.outcome is Outcome.TIED
    return {
        "model": name,
        "kind": str(predictor_class(name).kind),
        "target": str(target),
        "case": case,
        "seeds": len({job.seed for job in jobs}),
        "splits": len({job.split for job in jobs}),
        "cells": len(cells),
        "cells_left_out": sum(one.asked - len(one.cells) for one in asked),
        **asdict(found),
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


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def breakdowns(done: Sequence[Done]) -> list[dict[str, Any]]:
    """Error, coverage and width of RTT by distance, country, AS, hour, decile of the prediction, and window."""
    sums: dict[tuple[str, str, str, str], Floats] = {}
    for job in done:
        for (model, case), detail in job.details.items():
            for (by, group), values in detail.groups.items():
                key = (model, case, by, group)
                sums[key] = sums.get(key, np.zeros(4)) + np.array(values)
    return [
        {
            "model": model,
            "target": str(Target.RTT),
            "case": case,
            "by": by,
            "group": group,
            "cells": int(cells),
            "mae_ms": error / cells,
            "coverage_90": inside / cells,
            "width_90_ms": width / cells,
        }
        for (model, case, by, group), (cells, error, inside, width) in sorted(sums.items())
    ]


def curves(done: Sequence[Done]) -> list[dict[str, Any]]:
    """Validation loss by epoch, of each model that has epochs."""
    return [
        {
            "model": model,
            "split": job.split,
            "seed": job.seed,
            "validation": list(cost.learned.losses),
            "best_epoch": cost.learned.best_epoch,
        }
        for job in done
        for model, cost in job.costs.items()
        if cost.learned.losses
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


def worst_pairs(
    arrays: PathArrays, done: Sequence[Done], case: str, model: str, baseline: str
) -> list[dict[str, Any]]:
    """The pairs that a model's error is largest on, and what is to be seen of them."""
    own = sum((job.details[model, case].pairs for job in done), np.zeros((4, arrays.pairs)))
    other = sum((job.details[baseline, case].pairs for job in done), np.zeros((4, arrays.pairs)))
    order = np.argsort(-own[1], kind="stable")[:WORST]
    found: list[dict[str, Any]] = []
    for pair in order:
        cells, wrong, measured, predicted = own[:, pair]
        if cells == 0.0:
            continue
        beside = float(other[1, pair] / other[0, pair]) if other[0, pair] > 0.0 else None
        found.append(
            {
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
    """What is to be seen of a pair that is predicted badly: how it moves, what is known of it, and how others do."""
    series = arrays.rtt_ms[:, pair]
    known = series[np.isfinite(series)]
    said: list[str] = []
    if len(known) > 2:
        middle, low, high = np.median(known), *np.quantile(known, [0.1, 0.9])
        jumps = float(np.median(np.abs(np.diff(known))))
        if high - low > 0.5 * mae_ms:
            said.append(f"it moves between {low:.0f} and {high:.0f} ms (middle {middle:.0f})")
        if jumps > 0.25 * mae_ms:
            said.append(f"by {jumps:.0f} ms from one window to the next in the median")
        if len(known) < 0.5 * len(series):
            said.append(f"measured in {len(known)} of {len(series)} windows only")
    if abs(bias_ms) > 0.7 * mae_ms:
        said.append(f"predicted {'above' if bias_ms > 0 else 'below'} what came nearly always")
    ends = {"probe": arrays.probe_end, "target": arrays.target_end}
    unknown = [name for name, end in ends.items() if not np.isfinite(end.latitude[pair])]
    if unknown:
        said.append(f"place of the {' and the '.join(unknown)} unknown")
    if beside_ms is not None and beside_ms < 0.8 * mae_ms:
        said.append("the baseline does better here")
    return "; ".join(said) or "nothing of it stands out"


def conclusion(rows: Sequence[Mapping[str, Any]], case: str, *, synthetic: bool) -> str:
    """In words: the best graph model beside the best baseline and the MLP, on RTT and on loss."""
    sentences: list[str] = []
    for target, what, unit, key in (
        (Target.RTT, "mean absolute RTT error", " ms", "mae_ms"),
        (Target.ANY_LOSS, "Brier score of any loss", "", "brier"),
    ):
        own = [
            row for row in rows if row["target"] == target and row["case"] == case and row[key] is not None
        ]
        best = next((row for row in own if row["verdict"] == REFERENCE), None)
        learned = [row for row in own if row["kind"] in (Kind.GNN, Kind.ENSEMBLE)]
        if best is None:
            continue
        if not learned:
            sentences.append(f"The best baseline is {best['model']}, with a {what} of {best[key]:.3g}{unit}.")
            continue
        row = min(learned, key=lambda one: float(one[key]))
        sentences.append(
            f"{row['model']} has a {what} of {row[key]:.3g}{unit}, {_beside(row, best, key, unit)}."
        )
        luckier = min((one for one in own if one["kind"] == Kind.BASELINE), key=lambda one: float(one[key]))
        if luckier[key] < best[key]:
            sentences.append(
                f"{best['model']} was the best baseline before the test; in it {luckier['model']} came to {luckier[key]:.3g}{unit}."
            )
        without = next((one for one in own if one["kind"] == Kind.MLP), None)
        if without is not None:
            sentences.append(f"The same network without the graph comes to {without[key]:.3g}{unit}.")
        if target is Target.RTT and row["medae_ms"] is not None and best["medae_ms"] is not None:
            # A mean can be won or lost on a few paths that jump. These are medians over cells, and no test of a difference.
            sentences.append(
                f"In the median cell the error is {row['medae_ms']:.3g} against {best['medae_ms']:.3g} ms."
            )
    if not sentences:
        sentences.append("Nothing could be scored.")
    if synthetic:
        sentences.append(
            "The data is synthetic: these figures say nothing about the accuracy on the Internet."
        )
    return " ".join(sentences)


def _beside(row: Mapping[str, Any], best: Mapping[str, Any], key: str, unit: str) -> str:
    against = f"against {best[key]:.3g}{unit} of the best baseline, {best['model']}"
    verdict = row["verdict"]
    if verdict == Outcome.TOO_FEW_CLUSTERS:
        return f"{against}; {row['clusters']} clusters are too few to tell the two apart (at least {LEAST_CLUSTERS})"
    ratio = ""
    if row["ratio"] is not None:
        ratio = f", a ratio of {row['ratio']:.3f}"
        if row["ratio_low"] is not None:
            ratio += f" ({row['ratio_low']:.3f} to {row['ratio_high']:.3f} at 95 %)"
    words = {
        Outcome.BETTER: "it beats it",
        Outcome.WORSE: "it does not beat it, and is worse",
        Outcome.TIED: "it does not beat it; the two are tied",
    }
    return f"{against}{ratio}: {words.get(verdict, 'they were not set against each other')}"


def out_of_range(done: Sequence[Done]) -> dict[str, Any]:
    """How many cells the models say are in and out of their range, and why."""
    sums: dict[str, list[float]] = {}
    for job in done:
        for reason, (cells, wrong) in job.out_of_range.items():
            of = sums.setdefault(reason, [0, 0.0])
            of[0] += cells
            of[1] += wrong
    return {
        "in_range": int(sums.get("", [0, 0.0])[0]),
        "out_of_range": int(sum(cells for reason, (cells, _) in sums.items() if reason)),
        "reasons": [
            {"reason": reason, "cells": int(cells), "mae_ms": wrong / cells if cells else None}
            for reason, (cells, wrong) in sorted(sums.items())
            if reason
        ],
    }
