"""Graph -> arrays -> predictor: what of the graph is learned on, one model saved, or all of them compared."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from domain.cores import usable_cores
from domain.errors import DataError
from domain.progress import Report, unheard
from domain.selection import Selection
from gnn.artefact import Card, save
from gnn.artefact import card as describe
from gnn.checkpoint import discard
from gnn.comparison import Hear, Job
from gnn.document import about, document_of
from gnn.jobs import run_all
from gnn.kept_jobs import KeptJobs
from gnn.predictor import Kind as PredictorKind
from gnn.predictor import Predictor, counted
from gnn.protocols import PAPER, protocol_named
from gnn.protocols.protocol import Protocol
from gnn.registry import PREDICTORS, VARIANTS, predictor_class
from kg.arrays import Ends, PathArrays, path_arrays
from kg.store import GraphStore
from qoe.profile import load_profile

QUICK_BESIDE = ("last-value", "ewma", "seasonal-median", "nearest-profiles", "boosting-around")
"""Baselines that are quick to learn: beside a model that is trained, and in a quick comparison."""

QUICK_MODELS = ("sage", "mlp")
QUICK_SETTINGS: Mapping[str, int | float] = {
    "steps": 90,
    "rounds": 80,
    "bound_rounds": 40,
    "cells": 40_000,
    "redraws": 2,
}
"""Of networks, and of trees: to see that all works, and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The path graph that was learned on, counted.

    Attributes:
        windows: windows that were read.
        nodes: pairs in the graph of the first row of the test.
        edges: of that row, by edge type.
    """

    windows: int
    nodes: int
    edges: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that was learned, beside baselines.

    Attributes:
        exported: what it was learned on.
        document: every predictor on the same cells (`gnn.report`).
        card: what the saved model says of itself.
        folder: where it was saved.
    """

    exported: Exported
    document: Mapping[str, Any]
    card: Card
    folder: Path


def export(store: GraphStore, selection: Selection, rule: Protocol) -> PathArrays:
    """Read path arrays from the graph, as the protocol views them.

    Where the protocol divides the time, the arrays know the hops, places and networks from before the first window that any of its
    splits does not fit on: what is met later is hidden from validation, calibration and test alike. Where it
    hides pairs, no hop is known: which of them were met on hidden pairs only cannot be told apart.

    Raises:
        EmptyError: when the graph has no state there.
        DataError: when there is too little for the protocol.
    """
    arrays = rule.view(path_arrays(store, selection, timely=rule.timely))
    splits = rule.splits(arrays, seed=0)
    if not rule.in_time:
        return without_hops(arrays)
    first = min(int(split.validation.windows.min()) for split in splits)
    until = datetime.fromtimestamp(int(arrays.window_start_s[first]), tz=UTC)
    return rule.view(path_arrays(store, selection, topology_before=until, timely=rule.timely))


def without_hops(arrays: PathArrays) -> PathArrays:
    """The arrays as if no hop was known."""

    def bare(end: Ends) -> Ends:
        return replace(end, centrality=np.full_like(end.centrality, np.nan))

    return replace(arrays, probe_end=bare(arrays.probe_end), target_end=bare(arrays.target_end))


def serving(rule: Protocol, arrays: PathArrays) -> list[str]:
    """Every model that has something to say under a protocol: baselines first, then those that learn, then those made of others."""
    return sorted(_serving(PREDICTORS, rule, arrays), key=lambda name: bool(predictor_class(name).members))


def _serving(names: Iterable[str], rule: Protocol, arrays: PathArrays) -> list[str]:
    """Those of these that have something to say under a protocol."""
    unmet = rule.splits(arrays, seed=0)[0].test.unmet
    return [name for name in names if not (unmet and predictor_class(name).needs_past)]


def _require_serving(names: Sequence[str], rule: Protocol, arrays: PathArrays) -> None:
    """Before anything is learned, that each has something to say."""
    served = _serving(names, rule, arrays)
    silent = [name for name in names if name not in served]
    if silent:
        raise DataError(
            "a model that has nothing to say of pairs that were never measured",
            where=", ".join(silent),
            found=f"protocol {rule.name}",
            expected=" or ".join(serving(rule, arrays)),
        )


def train(
    store: GraphStore,
    model: str,
    protocol: str,
    folder: Path,
    *,
    selection: Selection,
    seed: int = 0,
    quick: bool = False,
    report: Report = unheard,
) -> Trained:
    """Export the graph, learn a model on the protocol's latest split next to quick baselines, and save it.

    An interrupted training goes on where it was, from the folder beside the model's that ends in `.training`, where also networks are
    kept that were through before it, as members of an ensemble are. A quick one takes few steps (`QUICK_SETTINGS`), and its document says so.

    Raises:
        UnknownNameError: when there is no such model or protocol.
        EmptyError: when the graph has no state there.
        DataError: when there is too little to learn from, or the model has nothing to say under the protocol.
        LeakError: when a predictor would see what it is asked.
        ArtefactError: when the model cannot be saved.
    """
    rule = protocol_named(protocol)
    kind = predictor_class(model)
    report("exporting the graph", 0, 1)
    arrays = export(store, selection, rule)
    _require_serving([model], rule, arrays)
    splits = rule.splits(arrays, seed=seed)
    beside = [name for name in _serving(QUICK_BESIDE, rule, arrays) if name != model]
    models = tuple(dict.fromkeys([*beside, *kind.members, model]))
    report("exporting the graph", 1, 1)
    checkpoint = folder.with_name(f"{folder.name}.training")
    job = Job(
        arrays=arrays,
        protocol=rule,
        split=len(splits) - 1,
        split_seed=seed,
        seed=seed,
        models=models,
        profile=load_profile(),
        overrides=QUICK_SETTINGS if quick else {},
        checkpoint=checkpoint,
    )
    fitted: dict[str, Predictor] = {}
    started = time.perf_counter()
    done = run_all([job], 1, _hearing([job], f"learning {model}, {rule.name} (%)", report), fitted=fitted)
    report(f"learning {model}, {rule.name} (%)", 100, 100)
    document = document_of(arrays, rule, done, [seed], seed, time.perf_counter() - started, quick=quick)
    predictor = fitted[model]
    nodes, edges = counted(predictor, arrays, splits[-1].test.part(slice(0, 1)))
    card = describe(
        predictor,
        arrays,
        protocol=rule.name,
        model=model,
        split=splits[-1].name,
        seed=seed,
        verdict=done[0].verdicts[model],
        code_version=version("qoetwin"),
    )
    save(predictor, card, folder)
    discard(checkpoint)
    return Trained(
        exported=Exported(windows=arrays.windows, nodes=nodes, edges=edges),
        document=document,
        card=card,
        folder=folder,
    )


def compare(
    store: GraphStore,
    protocol: str,
    *,
    models: Sequence[str] | None = None,
    seeds: int = 3,
    seed: int = 0,
    quick: bool = False,
    processes: int | None = None,
    selection: Selection,
    kept: KeptJobs | None = None,
    report: Report = unheard,
) -> dict[str, Any]:
    """Compare models and baselines under a protocol, over its splits and several seeds.

    Args:
        store: the graph.
        protocol: who is hidden from whom.
        models: their names; None for every one that serves the protocol, and each graph model also with a plain head, and without a base
            (these once, on the last split with the first seed).
        seeds: how many.
        seed: the first.
        quick: one seed, the last split, few models and few steps: to see that all works.
        processes: jobs side by side; None for one a core.
        selection: which paths and windows.
        kept: jobs that are through, so that a comparison that is interrupted goes on with them; None keeps nothing.
        report: hears how far it is.

    Returns:
        The document (`gnn.report`) of plain values.

    Raises:
        UnknownNameError: when there is no such model or protocol.
        EmptyError: when the graph has no state there.
        DataError: when there is too little, no baseline among the models, or one that has nothing to say under the protocol.
        LeakError: when a predictor would see what it is asked.
        ArtefactError: when a job cannot be kept, or one that was is damaged.
    """
    if protocol == PAPER:
        return _paper(
            store, selection, list(range(seed, seed + (1 if quick else seeds))), quick=quick, report=report
        )
    rule = protocol_named(protocol)
    for name in models or ():
        predictor_class(name)
    report("exporting the graph", 0, 1)
    arrays = export(store, selection, rule)
    report("exporting the graph", 1, 1)
    every = models is None
    _require_serving(models or (), rule, arrays)
    names = _with_members(serving(rule, arrays) if models is None else models)
    if quick and every:
        names = [name for name in names if name in (*QUICK_BESIDE, *QUICK_MODELS)]
    if not any(predictor_class(name).kind is PredictorKind.BASELINE for name in names):
        raise DataError(
            "nothing to compare with", found="no baseline among the models", expected="at least one baseline"
        )
    splits = len(rule.splits(arrays, seed=seed))
    chosen = [seed] if quick else list(range(seed, seed + seeds))
    # Splits in time are the same for every seed; those of pairs or hosts are drawn by it.
    jobs = [
        Job(
            arrays=arrays,
            protocol=rule,
            split=split,
            split_seed=seed if rule.in_time else own,
            seed=own,
            models=tuple(names),
            profile=load_profile(),
            overrides=QUICK_SETTINGS if quick else {},
        )
        for own in chosen
        for split in ([splits - 1] if quick else range(splits))
    ]
    if every and not quick:
        variants = [
            f"{name}/{one}"
            for name in names
            if predictor_class(name).kind is PredictorKind.GNN
            for one in VARIANTS
        ]
        last = splits - 1  # of the first seed; the longest job begins first
        jobs[last] = replace(jobs[last], models=(*names, *variants))
        jobs.insert(0, jobs.pop(last))
    started = time.perf_counter()
    before = [None if kept is None else kept.read(job) for job in jobs]
    left = [job for job, one in zip(jobs, before, strict=True) if one is None]
    what = f"learning, {rule.name} (%)"
    hear = _hearing(left, what, report)
    now = iter(run_all(left, usable_cores() if processes is None else processes, hear, kept=kept))
    done = [next(now) if one is None else one for one in before]
    report(what, 100, 100)
    document = document_of(arrays, rule, done, chosen, seed, time.perf_counter() - started, quick=quick)
    if every and not quick:
        document["notes"].append("variants of models (/plain, /direct): one seed, one split")
    if len(left) < len(jobs):
        earlier_s = sum(one.seconds for one in before if one is not None)
        document["notes"].append(
            f"an interrupted comparison went on: {len(jobs) - len(left)} of {len(jobs)} jobs are from before, {earlier_s:.0f} s of one core"
        )
    return document


def _hearing(jobs: Sequence[Job], what: str, report: Report) -> Hear:
    """Tells how far jobs are, in percent of what their models take."""
    total = max(1, sum(predictor_class(name).effort for job in jobs for name in job.models))
    began = 0

    def hear(_of: str, name: str, _number: int, _all: int) -> None:
        nonlocal began
        report(what, 100 * began // total, 100)
        began += predictor_class(name).effort

    return hear


def _paper(
    store: GraphStore, selection: Selection, seeds: Sequence[int], *, quick: bool, report: Report
) -> dict[str, Any]:
    """The document of the paper's set-up: its race, and no row that could be taken for a prediction.

    No audit is run, as nothing is hidden that it could change; it is not passed, and its finding is what is known to leak.
    """
    from gnn.paper.networks import RaceConfig
    from gnn.paper.race import QUICK, race

    started = time.perf_counter()
    arrays = path_arrays(store, selection)
    config = QUICK if quick else RaceConfig()
    raced = race(arrays, seeds=seeds, report=report, config=config)
    paper = raced.plain()
    finding = {
        "model": "every network with the paper's features",
        "kind": "column",
        "name": "average RTT and loss of a node are its input and its target",
        "tampering": None,
        "window": None,
    }
    return {
        **about(arrays, seeds, seeds[0], time.perf_counter() - started, jobs=len(seeds), quick=quick),
        "protocol": PAPER,
        "about": "Nothing is hidden: what is asked of a node is among its inputs, and edges are drawn from it.",
        "cases": [],
        "audit": {
            "passed": False, "findings": [finding], "windows": 0, "models": 0, "noise_floor_ms": None,
            "notes": [],
        },
        "conclusion": raced.concluded,
        "notes": [],
        "splits": [],
        "rows": [],
        "gains": [],
        "heads": [],
        "breakdowns": [],
        "curves": [],
        "reliability": [],
        "quantiles": [],
        "worst": [],
        "range": {"in_range": 0, "out_of_range": 0, "reasons": []},
        "paper": paper,
    }  # fmt: skip


def _with_members(names: Sequence[str]) -> list[str]:
    """The models, and before those that are made of others these."""
    every = [member for name in names for member in (*predictor_class(name).members, name)]
    return sorted(dict.fromkeys(every), key=lambda name: bool(predictor_class(name).members))
