"""Too good to be true: below the noise of the measurement, or with skill where there is nothing to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain.errors import LeakError
from gnn import history
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.protocols.unseen_pair import UnseenPair
from gnn.registry import predictor_named
from gnn.statistical_audit import audit_statistics, audit_worthless, noise_floor_ms, worthless
from tests.gnn.anchor_mesh import anchor_mesh
from tests.gnn.conftest import synthetic_arrays
from tests.gnn.straight_line import OnGraph, OwnRtt, Straight

pytestmark = pytest.mark.usefixtures("rough_fits", "few_masks")

ARRAYS = synthetic_arrays(probes=10, targets=8, windows=40)
MESH = anchor_mesh(anchors=12, probes=12, windows=3)


def _test(arrays, protocol):
    return protocol.splits(arrays, seed=0)[-1].test


def _predicted(question, rtt_ms, arrays):
    """A prediction of these RTTs, made by a predictor that says nothing else."""
    honest = Straight()
    split = Forecast().splits(arrays, seed=0)[-1]
    honest.fit(arrays, split, Forecast(), seed=0)
    return replace(honest.predict(arrays, question), rtt_ms=rtt_ms)


@pytest.mark.parametrize("noise_ms", [0.3, 3.0])
@pytest.mark.parametrize("name", ["forecast", "imputation"])
def test_the_noise_floor_is_below_what_the_best_of_all_predictors_misses_by_and_not_far_below(name, noise_ms):
    arrays = synthetic_arrays(probes=10, targets=8, windows=40, noise_ms=noise_ms)
    question = _test(arrays, protocol_named(name))
    floor = noise_floor_ms(arrays, question)
    # Noise is exponential: who knows all else misses the median of it by this much in the median.
    noise = np.random.default_rng(0).exponential(noise_ms, size=100_000)
    perfect = float(np.median(np.abs(noise - np.median(noise))))
    assert 0.25 * perfect < floor < perfect


def test_what_all_pairs_of_a_host_have_in_common_is_not_noise():
    shaken = np.random.default_rng(0).normal(0.0, 50.0, size=(ARRAYS.windows, 10))
    together = replace(ARRAYS, rtt_ms=ARRAYS.rtt_ms + shaken[:, ARRAYS.probe_end.host])
    question = _test(ARRAYS, Imputation())
    assert noise_floor_ms(together, question) < 2.0 * noise_floor_ms(ARRAYS, question)


def test_the_noise_is_not_known_of_a_single_window_nor_where_nothing_moves():
    single = anchor_mesh(windows=1)
    assert noise_floor_ms(single, _test(single, UnseenPair())) is None
    still = replace(ARRAYS, rtt_ms=np.where(np.isfinite(ARRAYS.rtt_ms), 10.0, np.nan))
    assert noise_floor_ms(still, _test(still, Forecast())) is None


def test_an_error_below_the_noise_floor_is_found_and_says_both():
    question = _test(ARRAYS, Forecast())
    own = _predicted(question, ARRAYS.rtt_ms[question.windows] + 0.001, ARRAYS)
    with pytest.raises(LeakError, match=r"error: a median RTT error of 0.001 ms is below the noise"):
        audit_statistics(ARRAYS, question, own).require("own")


def test_an_honest_error_is_not_found():
    question = _test(ARRAYS, Forecast())
    last = _predicted(question, history.last_known(ARRAYS.rtt_ms, question), ARRAYS)
    assert audit_statistics(ARRAYS, question, last).passed


def test_few_cells_are_not_judged():
    question = _test(ARRAYS, Forecast())
    few = replace(question, asked=question.asked & (np.arange(ARRAYS.pairs) == 3))
    own = _predicted(few, ARRAYS.rtt_ms[few.windows], ARRAYS)
    assert audit_statistics(ARRAYS, few, own).passed


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_worthless_measurements_are_the_same_ones_elsewhere(name):
    protocol = protocol_named(name)
    arrays = protocol.view(ARRAYS if protocol.in_time else MESH)
    question = _test(arrays, protocol)
    shuffled = worthless(arrays, question, np.random.default_rng(0))
    known = [np.sort(values[np.isfinite(values)]) for values in (arrays.rtt_ms, shuffled.rtt_ms)]
    if protocol.in_time:
        np.testing.assert_array_equal(shuffled.measured, arrays.measured)
        np.testing.assert_array_equal(np.sort(shuffled.rtt_ms, axis=0), np.sort(arrays.rtt_ms, axis=0))
        assert shuffled.sent.sum() == arrays.sent.sum()
    else:  # whole series, in whichever pairs
        assert set(map(tuple, np.nan_to_num(shuffled.rtt_ms.T))) <= set(
            map(tuple, np.nan_to_num(arrays.rtt_ms.T))
        )
        assert len(known[1]) == pytest.approx(len(known[0]), rel=0.05)
    assert (np.isfinite(shuffled.rtt_ms) <= (shuffled.received > 0)).all()
    assert (
        shuffled.rtt_ms[np.isfinite(shuffled.rtt_ms)] != arrays.rtt_ms[np.isfinite(shuffled.rtt_ms)]
    ).mean() > 0.8


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_an_honest_predictor_finds_nothing_where_there_is_nothing_and_one_that_leaks_does(name):
    protocol = protocol_named(name)
    arrays = protocol.view(ARRAYS if protocol.in_time else MESH)
    split = protocol.splits(arrays, seed=0)[-1]
    for seed in range(3):
        honest = audit_worthless(Straight, arrays, split, protocol, seed=seed)
        assert honest.finding is None
        assert honest.error_ms > 0.9 * honest.best_error_ms
    leaky = audit_worthless(OwnRtt, arrays, split, protocol, seed=0)
    assert leaky.most_ms < 0.0
    assert "measurements shuffled so that" in leaky.finding.name


@pytest.mark.parametrize("name", ["forecast", "unseen-pair"])
def test_a_base_from_the_graph_finds_nothing_either(name):
    protocol = protocol_named(name)
    arrays = protocol.view(ARRAYS if protocol.in_time else MESH)
    split = protocol.splits(arrays, seed=0)[-1]
    assert audit_worthless(OnGraph, arrays, split, protocol, seed=0).finding is None


@pytest.mark.parametrize(
    ("name", "small"),
    [
        ("boosting", {"rounds": 20, "bound_rounds": 2, "cells": 2000, "redraws": 1, "least_cells": 10}),
        ("sage", {"hidden": 8, "layers": 1, "steps": 20, "neighbours": 4, "lags": 4, "history": 8}),
    ],
)
def test_real_models_find_nothing_where_there_is_nothing(name, small):
    split = Forecast().splits(ARRAYS, seed=0)[-1]
    told = audit_worthless(
        lambda: predictor_named(name, "forecast", small), ARRAYS, split, Forecast(), seed=0
    )
    assert told.cells > 100
    assert told.finding is None
    assert told.error_ms > 0.9 * told.best_error_ms
