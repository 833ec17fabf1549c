"""Measurements that have little to say: an honest answer, or none, and never a number that is none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import DataError
from gnn.comparison import Job, run
from gnn.protocols import protocol_named
from gnn.report import rows_and_gains
from qoe.profile import load_profile
from tests.gnn.conftest import synthetic_arrays

pytestmark = pytest.mark.usefixtures("rough_fits", "few_masks")

MODELS = ("last-value", "fibre-distance", "boosting-around", "sage")
FEW = {"steps": 2, "hidden": 8, "rounds": 3, "bound_rounds": 3, "cells": 2000, "redraws": 1}


def constant(arrays):
    return replace(arrays, rtt_ms=np.where(np.isfinite(arrays.rtt_ms), 42.0, np.nan))


def silent_target(arrays):
    """One target never answers: all packets to it are lost."""
    dead = arrays.target == arrays.target[1]
    return replace(
        arrays,
        rtt_ms=np.where(dead, np.nan, arrays.rtt_ms),
        jitter_ms=np.where(dead, np.nan, arrays.jitter_ms),
        received=np.where(dead, 0, arrays.received),
    )


def nowhere(arrays):
    """Nobody knows where anything is, nor in which network, nor which hops are there."""

    def unknown(end):
        return replace(
            end,
            latitude=np.full_like(end.latitude, np.nan),
            longitude=np.full_like(end.longitude, np.nan),
            asn=np.zeros_like(end.asn),
            country=np.full_like(end.country, ""),
            centrality=np.full_like(end.centrality, np.nan),
        )

    return replace(arrays, probe_end=unknown(arrays.probe_end), target_end=unknown(arrays.target_end))


def one_probe(arrays):
    del arrays
    return synthetic_arrays(probes=1, targets=8, windows=16)


@pytest.mark.parametrize("change", [constant, silent_target, nowhere, one_probe])
def test_what_has_little_to_say_is_learned_and_answered_in_numbers_or_not_at_all(change):
    arrays = change(synthetic_arrays(probes=4, targets=4, windows=16))
    protocol = protocol_named("imputation")
    split = len(protocol.splits(arrays, seed=0)) - 1
    job = Job(
        arrays=arrays,
        protocol=protocol,
        split=split,
        split_seed=0,
        seed=0,
        models=MODELS,
        profile=load_profile(),
        overrides=FEW,
    )
    fitted = {}
    done = run(job, lambda *_: None, fitted)
    rows, _ = rows_and_gains([done], list(protocol.cases(arrays.window_s)), 0)
    json.dumps(rows, allow_nan=False)
    question = protocol.splits(arrays, seed=0)[split].test
    for predictor in fitted.values():
        told = predictor.predict(arrays, question)
        for name in ("rtt", "jitter"):
            low, middle, high = (getattr(told, f"{name}{bound}_ms") for bound in ("_low", "", "_high"))
            assert not np.isinf([low, middle, high]).any()
            known = np.isfinite(low)
            assert (high - low)[known].min(initial=1.0) > 0.0
            assert ((low <= middle) & (middle <= high))[known].all()
        if change is constant:
            np.testing.assert_allclose(told.rtt_ms[question.cells(arrays).rtt], 42.0, atol=0.5)
        if change is silent_target and predictor.needs_past:
            silent = question.asked & (arrays.target == arrays.target[1])
            assert np.isnan(told.rtt_ms[silent]).all()
            assert not told.in_range[silent].any()


@pytest.mark.parametrize("name", ["forecast", "imputation"])
def test_where_no_packet_was_ever_answered_there_is_nothing_to_learn(name):
    arrays = synthetic_arrays(probes=4, targets=4, windows=16)
    nothing = np.full_like(arrays.rtt_ms, np.nan)
    lost = replace(arrays, rtt_ms=nothing, jitter_ms=nothing, received=np.zeros_like(arrays.received))
    job = Job(
        arrays=lost,
        protocol=protocol_named(name),
        split=0,
        split_seed=0,
        seed=0,
        models=("last-value",),
        profile=load_profile(),
        overrides={},
    )
    with pytest.raises(DataError, match="nothing to learn from"):
        run(job, lambda *_: None)
