"""The past, column-wise. What of it may be seen is in `test_question.py`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from gnn import history
from gnn.protocols.protocol import Question

VALUES = np.array([[1.0, np.nan], [2.0, 20.0], [np.nan, 30.0], [4.0, np.nan]])
SOME_KNOWN = numpy_arrays(
    np.float64, (3, 7), elements=st.one_of(st.just(np.nan), st.floats(0.0, 1e6, allow_subnormal=False))
)


def asking(windows, *, until=None, pairs=2):
    """Ask about all pairs in these windows, given all windows before."""
    windows = np.asarray(windows, dtype=np.int64)
    every = np.ones((len(windows), pairs), dtype=bool)
    return Question(
        windows=windows,
        seen_until=windows if until is None else np.asarray(until, dtype=np.int64),
        seen_past=every,
        seen_now=~every,
        asked=every,
        case=np.zeros(len(windows), dtype=np.int64),
    )


def test_lags_run_from_the_newest_visible_window_back():
    lagged = history.lagged(VALUES, asking([3]), 4)
    np.testing.assert_array_equal(lagged[0, 0], [np.nan, 2.0, 1.0, np.nan])


def test_the_last_known_value_may_be_old():
    np.testing.assert_array_equal(
        history.last_known(VALUES, asking([1, 3, 4])), [[1, np.nan], [2, 30], [4, 30]]
    )


def test_the_same_slot_of_the_day_before_is_one_day_back():
    found = history.same_slot(np.arange(24.0)[:, None], asking([20], pairs=1), 10800)
    np.testing.assert_array_equal(found[0, 0], [12.0, 4.0, np.nan])


def test_a_slot_that_is_still_hidden_is_not_seen():
    found = history.same_slot(np.arange(24.0)[:, None], asking([20], until=[12], pairs=1), 10800)
    np.testing.assert_array_equal(found[0, 0], [np.nan, 4.0, np.nan])


def test_windows_that_do_not_divide_the_day_have_no_slot():
    assert np.isnan(history.same_slot(VALUES, asking([3]), 7 * 3600)).all()


@given(SOME_KNOWN)
def test_the_median_and_its_spread_are_those_of_the_known_values(past):
    middle = history.median(past)
    around = history.spread(past, middle)
    for row, value, wide in zip(past, middle, around, strict=True):
        known = row[np.isfinite(row)]
        if len(known) == 0:
            assert np.isnan(value)
            assert np.isnan(wide)
        else:
            assert value == pytest.approx(np.median(known))
            assert wide == pytest.approx(np.median(np.abs(known - np.median(known))), abs=1e-9)


@given(SOME_KNOWN, numpy_arrays(np.int64, (3, 7), elements=st.integers(0, 5)))
def test_a_weighted_median_is_the_least_known_value_that_half_the_weight_lies_at_or_below(values, weights):
    found = history.weighted_median(values, weights.astype(np.float64))
    for row, weight, value in zip(values, weights, found, strict=True):
        known = [(v, int(w)) for v, w in zip(row, weight, strict=True) if np.isfinite(v) and w > 0]
        total = sum(w for _, w in known)
        below = [v for v, _ in known if 2 * sum(w for u, w in known if u <= v) >= total]
        np.testing.assert_array_equal(value, min(below, default=np.nan))


@given(SOME_KNOWN)
def test_of_equal_weights_it_is_the_lower_median(values):
    found = history.weighted_median(values, np.ones_like(values))
    for row, value in zip(values, found, strict=True):
        known = np.sort(row[np.isfinite(row)])
        np.testing.assert_array_equal(value, known[(len(known) - 1) // 2] if len(known) > 0 else np.nan)


def test_a_mean_halves_the_weight_with_every_half_life():
    past = np.array([[8.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(history.weighted_mean(past, 2.0), [(8.0 + 0.5 * 2.0) / 1.5, np.nan])
    np.testing.assert_allclose(history.mean(past), [5.0, np.nan])


def test_counts_stop_before_the_hidden_windows():
    counts = np.array([[1], [2], [4]])
    assert history.counted(counts, asking([1, 3], pairs=1)).tolist() == [[1.0], [7.0]]


def test_any_loss_is_unknown_where_nothing_was_sent(arrays):
    lossy = history.any_loss(arrays)
    np.testing.assert_array_equal(np.isnan(lossy), arrays.sent == 0)
    np.testing.assert_array_equal(lossy == 1.0, (arrays.sent > 0) & (arrays.received < arrays.sent))
