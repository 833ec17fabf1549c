"""What a question lets be seen: one rule, and everything that reads the past keeps to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DataError
from gnn import history
from gnn.protocols.protocol import Question
from tests.gnn.conftest import synthetic_arrays

WINDOWS, PAIRS, ROWS = 12, 6, 7
ARRAYS = synthetic_arrays(probes=3, targets=2, windows=WINDOWS)


def _drawn(seed: int) -> Question:
    """Random masks, random windows, the window after the last one among them."""
    generator = np.random.default_rng(seed)
    windows = generator.integers(0, WINDOWS + 1, size=ROWS)
    asked = generator.random((ROWS, PAIRS)) < 0.5
    held_out = generator.random((WINDOWS, PAIRS)) < 0.3
    return Question(
        windows=windows,
        seen_until=generator.integers(0, windows + 1),
        seen_past=generator.random((ROWS, PAIRS)) < 0.7,
        seen_now=~asked & (generator.random((ROWS, PAIRS)) < 0.7),
        asked=asked,
        case=np.zeros(ROWS, dtype=np.int64),
        held_out=held_out if seed % 3 > 0 else None,
        unmet=seed % 2 == 0,
    )


READINGS = (
    lambda values, question: history.lagged(values, question, 4),
    lambda values, question: history.last_known(values, question),
    lambda values, question: history.same_slot(values, question, 10800),
    lambda values, question: history.counted(values > 20.0, question),
    lambda values, question: question.now(values),
    lambda values, question: question.seen_before(values > 20.0),
)

questions = st.integers(0, 100_000).map(_drawn)


def _cells() -> np.ndarray:
    """(W, P) a number of its own in each cell, that says the window and the pair."""
    return np.arange(WINDOWS * PAIRS, dtype=np.float64).reshape(WINDOWS, PAIRS)


def _is(found: np.ndarray, visible: np.ndarray) -> None:
    """The values found are exactly those of the visible cells."""
    np.testing.assert_array_equal(np.sort(found[np.isfinite(found)]), np.sort(_cells()[visible]))


@given(questions)
def test_a_cell_that_is_asked_is_hidden(question):
    for row, window in enumerate(question.windows):
        if window < WINDOWS:
            assert question.hidden(ARRAYS, row)[window, question.asked[row]].all()


@given(questions)
def test_everything_after_the_asked_window_is_hidden_and_so_is_what_is_held_out(question):
    for row, window in enumerate(question.windows):
        hidden = question.hidden(ARRAYS, row)
        assert hidden[window + 1 :].all()
        assert hidden[question.seen_until[row] : window].all()
        assert question.held_out is None or hidden[question.held_out].all()


@given(questions)
def test_the_past_is_what_is_not_hidden_before_the_asked_window_and_the_present_what_is_not_in_it(question):
    lagged = history.lagged(_cells(), question, WINDOWS)
    now = question.now(_cells())
    last, latest = (
        history.last_known(_cells(), question),
        history.last_known_row(np.isfinite(_cells()), question),
    )
    counted = history.counted(np.ones((WINDOWS, PAIRS), dtype=bool), question)
    before = question.seen_before(np.ones((WINDOWS, PAIRS), dtype=bool))
    for row, window in enumerate(question.windows):
        visible = ~question.hidden(ARRAYS, row)
        past, present = visible.copy(), visible.copy()
        past[window:] = False
        present[:window] = False
        _is(lagged[row], past)
        _is(now[row], present)
        np.testing.assert_array_equal(counted[row], past.sum(axis=0))
        np.testing.assert_array_equal(before[row], past.any(axis=0))
        newest = np.where(past.any(axis=0), WINDOWS - 1 - past[::-1].argmax(axis=0), -1)
        np.testing.assert_array_equal(latest[row], newest)
        expected = np.where(newest >= 0, _cells()[newest, np.arange(PAIRS)], np.nan)
        np.testing.assert_array_equal(last[row], expected)


@given(questions, st.sampled_from([10800, 21600, 43200]))
def test_the_same_slot_is_a_day_or_days_before_and_not_hidden(question, window_s):
    slots = history.DAY_S // window_s
    found = history.same_slot(_cells(), question, window_s)
    for row, window in enumerate(question.windows):
        past = ~question.hidden(ARRAYS, row)
        past[window:] = False
        past[(np.arange(WINDOWS) - window) % slots != 0] = False
        _is(found[row], past)


@given(questions)
def test_what_is_hidden_changes_nothing_that_is_read(question):
    values = _cells()
    for row in range(ROWS):
        one = question.part(slice(row, row + 1))
        other = np.where(question.hidden(ARRAYS, row), -values - 1.0, values)
        for read in READINGS:
            np.testing.assert_array_equal(read(values, one), read(other, one))


@given(questions)
def test_a_scored_cell_is_asked_and_measured_and_was_met_before_unless_unmet(question):
    there = question.part(np.flatnonzero(question.windows < WINDOWS))
    cells = there.cells(ARRAYS)
    for scored in (cells.rtt, cells.jitter, cells.loss):
        assert not (scored & ~there.asked).any()
    assert not (cells.jitter & ~cells.rtt).any()
    assert np.isfinite(ARRAYS.rtt_ms[there.windows][cells.rtt]).all()
    if not question.unmet:
        for row in np.flatnonzero(cells.rtt.any(axis=1)):
            visible = ~there.hidden(ARRAYS, row) & np.isfinite(ARRAYS.rtt_ms)
            visible[there.windows[row] :] = False
            assert visible[:, cells.rtt[row]].any(axis=0).all()


@given(questions, st.integers(1, ROWS))
def test_a_question_in_parts_is_the_question(question, rows):
    parts = list(question.parts(rows))
    assert sum(len(part) for part in parts) == ROWS
    for name in ("windows", "seen_until", "seen_past", "seen_now", "asked", "case"):
        whole = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(whole, getattr(question, name))


@given(questions)
def test_a_question_that_shows_what_it_asks_cannot_be_made(question):
    with pytest.raises(DataError, match="shows what it asks"):
        replace(question, seen_now=np.ones_like(question.asked), asked=np.ones_like(question.asked))
    with pytest.raises(DataError, match="sees the window"):
        replace(question, seen_until=question.windows + 1)
