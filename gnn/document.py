"""Document: all that a comparison found, put together as plain values. `comparison.json` is this, and the page is drawn from it alone."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from gnn.comparison import Done
from gnn.conclusion import COVERAGE_ASKED, COVERAGE_ASKED_OF_FEW_HOSTS, best_rows, conclusion
from gnn.fingerprint import data_hash
from gnn.history import DAY_S
from gnn.protocols.protocol import Protocol, Split
from gnn.report import (
    alike,
    breakdowns,
    curves,
    heads,
    out_of_range,
    quantiles,
    reliabilities,
    rows_and_gains,
    worst_pairs,
)
from gnn.scoring import Target
from gnn.statistical_audit import noise_floor_ms
from kg.arrays import PathArrays

FEW_DAYS: Final = 7
"""With fewer days in the tests a report says how many."""


def document_of(
    arrays: PathArrays,
    rule: Protocol,
    done: Sequence[Done],
    seeds: Sequence[int],
    seed: int,
    seconds: float,
    *,
    quick: bool,
) -> dict[str, Any]:
    """Everything that a report says, as plain values."""
    cases = [
        case
        for case in rule.cases(arrays.window_s)
        if any(key[0] == case for one in done for key in one.asked)
    ]
    clusters = "days of probes" if rule.by_day else "probes"
    rows, gains = rows_and_gains(done, cases, seed, clusters=clusters)
    ran = {one.split for one in done}
    splits = [
        split
        for own in ([seed] if rule.in_time else seeds)
        for split in rule.splits(arrays, seed=own)
        if split.name in ran
    ]
    best = _best(rows, cases)
    return {
        **about(arrays, seeds, seed, seconds, jobs=len(done), quick=quick),
        "protocol": rule.name,
        "about": rule.about,
        "cases": cases,
        "audit": _audit(arrays, splits, done),
        "conclusion": conclusion(
            rows,
            gains,
            cases,
            coverage_asked=COVERAGE_ASKED if rule.pairs_seen is None else COVERAGE_ASKED_OF_FEW_HOSTS,
            synthetic=arrays.synthetic,
        ),
        "notes": _notes(done) + _few_days(arrays, rule, splits),
        "splits": [
            {
                "name": split.name,
                "fit_rows": len(split.fit),
                "validation_rows": len(split.validation),
                "calibration_rows": len(split.calibration),
                "test_rows": len(split.test),
                "test_cells": int(split.test.cells(arrays).rtt.sum()),
            }
            for split in splits
        ],
        "rows": rows,
        "gains": gains,
        "heads": heads(done, cases, seed, clusters=clusters),
        "breakdowns": breakdowns(done),
        "curves": curves(done),
        "reliability": reliabilities(done),
        "quantiles": quantiles(done),
        "worst": [] if best is None else worst_pairs(arrays, done, *best),
        "range": out_of_range(done),
        "paper": None,
    }


def about(
    arrays: PathArrays, seeds: Sequence[int], seed: int, seconds: float, *, jobs: int, quick: bool
) -> dict[str, Any]:
    """What a document is about, and what made it."""
    return {
        "seed": seed,
        "seeds": list(seeds),
        "jobs": jobs,
        "quick": quick,
        "dataset_hash": data_hash(arrays),
        "synthetic": arrays.synthetic,
        "untimely": arrays.untimely,
        "data": {
            "windows": arrays.windows,
            "window_s": arrays.window_s,
            "from": _time(int(arrays.window_start_s[0])),
            "until": _time(int(arrays.window_start_s[-1]) + arrays.window_s),
            "pairs": arrays.pairs,
            "probes": len(np.unique(arrays.probe_id)),
            "targets": len(np.unique(arrays.target.astype(str))),
            "cells": int(arrays.measured.sum()),
        },
        "command": "",
        "versions": {
            "qoetwin": version("qoetwin"),
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "torch-geometric", "scikit-learn")},
        },
        "created": _time(int(time.time())),
        "seconds": round(seconds, 1),
    }


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%MZ}"


def _audit(arrays: PathArrays, splits: Sequence[Split], done: Sequence[Done]) -> dict[str, Any]:
    """The verdicts of all predictors together; a failed one would have stopped the run, unless it is of errors."""
    findings = [
        {"model": name, **asdict(finding)}
        for one in done
        for name, verdict in one.verdicts.items()
        for finding in verdict.findings
    ]
    floors = [noise_floor_ms(arrays, split.test) for split in splits]
    known = [floor for floor in floors if floor is not None]
    return {
        "passed": not findings,
        "findings": findings,
        "windows": len(
            {window for one in done for verdict in one.verdicts.values() for window in verdict.windows}
        ),
        "models": len({name for one in done for name in one.verdicts}),
        "noise_floor_ms": min(known) if known else None,
        "notes": [],
    }


def _best(rows: Sequence[Mapping[str, Any]], cases: Sequence[str]) -> tuple[str, str, str] | None:
    """The first case, the best model on RTT, and the best baseline; this one beside itself where there is no model."""
    if not cases:
        return None
    best, model = best_rows(rows, cases[0], Target.RTT)
    if best is None:
        return None
    return cases[0], (best if model is None else model)["model"], best["model"]


def _notes(done: Sequence[Done]) -> list[str]:
    partial: dict[str, set[str]] = {}
    for one in done:
        for (case, target), asked in one.asked.items():
            for name in asked.partial:
                partial.setdefault(name, set()).add(f"{target} ({case})")
    return [
        f"{name} predicts too few of the cells to be scored on {', '.join(sorted(of))}"
        for name, of in sorted(partial.items())
    ] + [
        f"{', '.join(names)} err by the same in every RTT ({', '.join(cases)})"
        for names, cases in alike(done).items()
    ]


def _few_days(arrays: PathArrays, rule: Protocol, splits: Sequence[Split]) -> list[str]:
    """What is to be kept in mind where days are clusters, and few."""
    days = {day for split in splits for day in (arrays.window_start_s[split.test.windows] // DAY_S).tolist()}
    if not rule.by_day or len(days) >= FEW_DAYS:
        return []
    return [
        f"the tests are of {len(days)} days: what shook all probes on one of them is in every cluster, and in no interval"
    ]
