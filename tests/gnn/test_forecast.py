from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import DataError, UnknownNameError
from gnn.audit import without
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import LEAST_WINDOWS, Forecast


def test_everything_from_the_predicted_window_on_is_hidden(arrays):
    question = Forecast().question(arrays, np.array([5]))
    hidden = question.hidden(arrays, 0)
    assert not hidden[:5].any()
    assert hidden[5:].all()


def test_a_longer_horizon_hides_the_windows_in_between(arrays):
    question = Forecast(horizon=3).question(arrays, np.array([5]))
    assert question.seen_until.tolist() == [3]


def test_the_window_after_the_last_can_be_asked(arrays):
    question = Forecast().question(arrays, np.array([arrays.windows]))
    assert not question.hidden(arrays, 0).any()


@pytest.mark.parametrize("window", [0, 41])
def test_a_window_without_a_past_or_too_far_ahead_is_refused(arrays, window):
    with pytest.raises(DataError, match="reach"):
        Forecast().question(arrays, np.array([window]))


def test_a_horizon_of_nothing_is_refused():
    with pytest.raises(DataError):
        Forecast(horizon=0)


@given(windows=st.integers(LEAST_WINDOWS + 3, 400), horizon=st.integers(1, 3))
@settings(max_examples=30)
def test_the_four_parts_are_disjoint_in_time_order_and_whole(make_arrays, windows, horizon):
    arrays = make_arrays(probes=1, targets=1, windows=windows)
    arrays = replace(arrays, sent=np.full_like(arrays.sent, 9))
    split = Forecast(horizon=horizon).split(arrays)
    parts = [split.fit, split.validation, split.calibration, split.test]
    joined = np.concatenate([part.windows for part in parts])
    assert joined.tolist() == list(range(horizon, windows))
    assert min(len(part) for part in parts) >= 2
    assert abs(len(split.test) / len(joined) - 0.25) < 0.05


def test_too_few_windows_are_named_and_refused(make_arrays):
    with pytest.raises(DataError, match="at least 12"):
        Forecast().split(make_arrays(windows=LEAST_WINDOWS))


def test_windows_in_which_nothing_was_measured_are_asked_of_nobody(arrays):
    silent = np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)
    silent[20:25] = True
    split = Forecast().split(without(arrays, silent))
    asked = np.concatenate([split.fit.windows, split.validation.windows, split.calibration.windows])
    assert not set(range(20, 25)) & set(asked.tolist())


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


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_says_its_horizon(name):
    horizon = protocol_named(name).horizon
    assert horizon is None or horizon >= 1


def test_an_unknown_protocol_is_named():
    with pytest.raises(UnknownNameError, match="prophecy"):
        protocol_named("prophecy")
