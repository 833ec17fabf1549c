from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from gnn import history
from gnn.protocols.protocol import Question

VALUES = np.array([[1.0, np.nan], [2.0, 20.0], [np.nan, 30.0], [4.0, np.nan]])


def test_lags_run_from_the_newest_visible_window_back():
    lagged = history.lagged(VALUES, np.array([3]), 4)
    np.testing.assert_array_equal(lagged[0, 0], [np.nan, 2.0, 1.0, np.nan])


def test_the_last_known_value_may_be_old():
    np.testing.assert_array_equal(
        history.last_known(VALUES, np.array([1, 3, 4])), [[1, np.nan], [2, 30], [4, 30]]
    )


def test_the_same_slot_of_the_day_before_is_one_day_back():
    values = np.arange(24.0)[:, None]
    question = Question(windows=np.array([20]), seen_until=np.array([20]))
    np.testing.assert_array_equal(history.same_slot(values, question, 10800)[0, 0], [12.0, 4.0, np.nan])


def test_a_slot_that_is_still_hidden_is_not_seen():
    values = np.arange(24.0)[:, None]
    question = Question(windows=np.array([20]), seen_until=np.array([12]))
    np.testing.assert_array_equal(history.same_slot(values, question, 10800)[0, 0], [np.nan, 4.0, np.nan])


def test_windows_that_do_not_divide_the_day_have_no_slot():
    question = Question(windows=np.array([3]), seen_until=np.array([3]))
    assert np.isnan(history.same_slot(VALUES, question, 7 * 3600)).all()


@given(
    numpy_arrays(
        np.float64, (3, 7), elements=st.one_of(st.just(np.nan), st.floats(0.0, 1e6, allow_subnormal=False))
    )
)
def test_the_median_is_that_of_the_known_values(past):
    found = history.median(past)
    for row, value in zip(past, found, strict=True):
        known = row[np.isfinite(row)]
        assert np.isnan(value) if len(known) == 0 else value == pytest.approx(np.median(known))


def test_a_mean_halves_the_weight_with_every_half_life():
    past = np.array([[8.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(history.weighted_mean(past, 2.0), [(8.0 + 0.5 * 2.0) / 1.5, np.nan])


def test_counts_stop_before_the_hidden_windows():
    counts = np.array([[1], [2], [4]])
    assert history.counted(counts, np.array([1, 3])).tolist() == [[1.0], [7.0]]
