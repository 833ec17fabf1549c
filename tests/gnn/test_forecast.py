"""Forecast: what is its own. What all protocols do is in `test_protocols.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnn.protocols.forecast import HORIZONS, Forecast


def test_everything_from_the_predicted_window_on_is_hidden(arrays):
    hidden = Forecast().question(arrays, np.array([5])).hidden(arrays, 0)
    assert not hidden[:5].any()
    assert hidden[5:].all()


def test_a_longer_horizon_hides_the_windows_in_between(arrays):
    question = Forecast().question(arrays, np.array([5, 5, 1]), np.array([1, 3, 4]))
    assert question.seen_until.tolist() == [5, 3, 0]


def test_the_window_after_the_last_can_be_asked_from_all_that_is_measured(arrays):
    question = Forecast().question(arrays, np.array([arrays.windows]))
    assert not question.hidden(arrays, 0).any()


@pytest.mark.parametrize("hours", [1, 3, 6, 12, 24])
def test_horizons_are_those_of_the_day_that_windows_of_that_length_have(hours):
    horizons = Forecast().horizons(hours * 3600)
    whole = [int(one.total_seconds()) // (hours * 3600) for one in HORIZONS]
    assert horizons == (1, *[one for one in whole if one > 1])
    assert len(Forecast().cases(hours * 3600)) == len(horizons)


def test_a_case_is_the_least_horizon_that_reaches_so_far(arrays):
    horizons = Forecast().horizons(arrays.window_s)
    ahead = np.arange(1, 12)
    question = Forecast().question(arrays, np.full(len(ahead), 30), ahead)
    for distance, case in zip(ahead, question.case, strict=True):
        reached = [number for number, one in enumerate(horizons) if one >= distance]
        assert case == min(reached, default=len(horizons) - 1)


def test_what_is_learned_is_asked_from_the_window_before_or_further_away_and_never_nearer(arrays):
    split = Forecast().splits(arrays, seed=0)[-1]
    drawn = Forecast().redraw(split.fit, arrays, np.random.default_rng(0))
    ahead = drawn.windows - drawn.seen_until + 1
    np.testing.assert_array_equal(drawn.windows, split.fit.windows)
    assert ahead.min() == 1
    assert 1 < ahead.max() <= Forecast().horizons(arrays.window_s)[-1]


def test_a_window_of_nothing_but_loss_is_asked_for_loss_and_not_for_rtt(arrays):
    rtt, sent, received = arrays.rtt_ms.copy(), arrays.sent.copy(), arrays.received.copy()
    rtt[10, 0], sent[10, 0], received[10, 0] = np.nan, 9, 0
    changed = replace(arrays, rtt_ms=rtt, sent=sent, received=received)
    cells = Forecast().question(changed, np.array([10])).cells(changed)
    assert cells.loss[0, 0]
    assert not cells.rtt[0, 0]


def test_a_pair_is_asked_from_its_second_value_on(arrays):
    rtt = arrays.rtt_ms.copy()
    rtt[:, 0] = np.nan
    rtt[[12, 20], 0] = 50.0
    changed = replace(arrays, rtt_ms=rtt)
    cells = Forecast().question(changed, np.arange(1, 40)).cells(changed)
    assert (np.flatnonzero(cells.rtt[:, 0]) + 1).tolist() == [20]
