"""Intervals that follow how the latest ones did."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from gnn import adaptation
from gnn.adaptation import LEAST_HIDDEN, alphas, hidden_share, rehearsal
from gnn.audit import audit_answers
from gnn.conformal import COVERAGE, calibrate, next_alpha
from gnn.prediction import Prediction
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from tests.gnn.conftest import synthetic_arrays
from tests.gnn.straight_line import Straight

WINDOWS, FIRST, SAID_MS = 60, 20, 100.0


def noisy(later):
    """Noise around 100 ms, so many times as strong from window 20 on."""
    arrays = synthetic_arrays(probes=6, targets=5, windows=WINDOWS, unmeasured=0.05)
    noise = np.random.default_rng(0).normal(size=arrays.rtt_ms.shape)
    noise[FIRST:] *= later
    rtt = np.where(np.isfinite(arrays.rtt_ms), SAID_MS + noise, np.nan)
    return replace(arrays, rtt_ms=rtt, jitter_ms=rtt)


def calm():
    """A calibration on the noise of the first windows."""
    truth = noisy(1.0).rtt_ms
    truth = truth[np.isfinite(truth)]
    said = np.full(len(truth), SAID_MS)
    return calibrate(truth, said - 1.0, said, said + 1.0, np.zeros(len(truth), dtype=np.int64))


class Mouth:
    """Says 100 ms of everything, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, question):
        self.asked.append(question)
        said = np.full(question.asked.shape, SAID_MS)
        values = {field.name: said for field in fields(Prediction)}
        for name in ("rtt", "jitter"):
            values |= {f"{name}_low_ms": said - 1.0, f"{name}_high_ms": said + 1.0}
        return Prediction(**values)


def found(arrays, question, *, first=FIRST):
    mouth = Mouth()
    calibration = calm()
    told = alphas(mouth, arrays, question, {"rtt": calibration, "jitter": calibration}, first)
    return told, mouth


def next_window(arrays, windows, ahead=1):
    """All horizons as one case, as the calibration has one."""
    question = Forecast().question(arrays, np.asarray(windows), ahead)
    return replace(question, case=np.zeros_like(question.case))


@pytest.mark.parametrize(("later", "moved"), [(4.0, -1), (0.2, 1)])
def test_alpha_falls_where_intervals_miss_and_rises_where_they_cover_too_much(later, moved):
    arrays = noisy(later)
    told, _ = found(arrays, next_window(arrays, [FIRST, FIRST + 2, FIRST + 4]))
    for alpha in told.values():
        assert alpha[0] == pytest.approx(1.0 - COVERAGE)  # nothing came before
        assert (np.sign(np.diff(alpha)) == moved).all()


@pytest.mark.parametrize("ahead", [1, 4])
def test_alpha_is_that_of_the_windows_whose_outcome_was_known_when_each_was_asked(ahead):
    arrays = noisy(3.0)
    calibration = calm()
    asked = 50
    chain = {FIRST: 1.0 - COVERAGE}  # window -> alpha after all before it
    for window in range(FIRST, asked + 1):
        # The alpha that the window's intervals were made with is of the windows before its horizon.
        then = chain[max(FIRST, window - ahead + 1)]
        said = np.full(arrays.pairs, SAID_MS)
        low, high = calibration.widen(said - 1.0, said, said + 1.0, 0, then)
        truth = arrays.rtt_ms[window]
        known = np.isfinite(truth)
        missed = float(((truth < low) | (truth > high))[known].mean())
        chain[window + 1] = next_alpha(chain[window], missed, int(known.sum()))
    told, _ = found(arrays, next_window(arrays, [asked], ahead))
    assert told["rtt"][0] == pytest.approx(chain[asked - ahead + 1])


@pytest.mark.parametrize("ahead", [1, 3])
def test_only_windows_from_the_first_on_and_before_the_horizon_are_rehearsed_from_as_far_away(ahead):
    arrays = noisy(1.0)
    _, mouth = found(arrays, next_window(arrays, [30, 35], ahead))
    (asked,) = mouth.asked
    assert asked.windows.min() == FIRST
    assert asked.windows.max() == 35 - ahead
    np.testing.assert_array_equal(asked.windows - asked.seen_until + 1, ahead)


def test_before_the_first_window_nothing_is_rehearsed_and_alpha_stays():
    arrays = noisy(9.0)
    told, mouth = found(arrays, next_window(arrays, [15, FIRST]))
    assert mouth.asked == []
    np.testing.assert_allclose(told["rtt"], 1.0 - COVERAGE)


def test_windows_in_which_nothing_was_measured_are_not_rehearsed():
    arrays = noisy(1.0)
    silent = arrays.rtt_ms.copy()
    silent[25:28] = np.nan
    sent = np.where(np.isfinite(silent), 9, 0)
    arrays = replace(arrays, rtt_ms=silent, jitter_ms=silent, sent=sent, received=sent)
    _, mouth = found(arrays, next_window(arrays, [35]))
    assert not np.isin(mouth.asked[0].windows, [25, 26, 27]).any()


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_window_is_rehearsed_with_as_much_hidden_as_it_hides_itself_the_same_each_time(share):
    arrays = noisy(1.0)
    hidden = np.zeros((1, arrays.pairs), dtype=bool)
    hidden[0, : round(share * arrays.pairs)] = True
    question = Imputation().question(arrays, np.array([40]), hidden)
    one, again = (rehearsal(arrays, question, np.arange(FIRST, 40), 1) for _ in range(2))
    assert not (one.asked & one.seen_now).any()
    assert (one.asked | one.seen_now).all()
    assert one.asked.mean() == pytest.approx(share, abs=0.05)
    np.testing.assert_array_equal(one.asked, again.asked)
    part = rehearsal(arrays, question, np.arange(30, 40), 1)
    np.testing.assert_array_equal(part.asked, one.asked[10:])


def test_where_all_of_a_window_is_seen_a_tenth_is_hidden_to_be_asked_and_all_where_nothing_is():
    arrays = noisy(1.0)
    hidden = np.zeros((2, arrays.pairs), dtype=bool)
    hidden[1] = True
    question = Imputation().question(arrays, np.array([40, 40]), hidden)
    np.testing.assert_array_equal(hidden_share(question), [LEAST_HIDDEN, 1.0])
    (seen, unseen) = (rehearsal(arrays, question.part([row]), np.arange(FIRST, 40), 1) for row in range(2))
    assert seen.asked.mean() == pytest.approx(LEAST_HIDDEN, abs=0.05)
    assert unseen.asked.all()
    assert not unseen.seen_now.any()


@pytest.mark.parametrize("ahead", [1, 3])
def test_alpha_of_a_window_does_not_depend_on_what_else_is_asked(ahead, monkeypatch):
    monkeypatch.setattr(adaptation, "MOST_WINDOWS", 8)
    monkeypatch.setattr(adaptation, "SHARED_WINDOWS", 3)
    arrays = noisy(3.0)
    windows = np.arange(FIRST, WINDOWS)
    together, mouth = found(arrays, next_window(arrays, windows, ahead))
    for row, window in enumerate(windows):
        alone, own = found(arrays, next_window(arrays, [window], ahead))
        for name in together:
            assert alone[name][0] == together[name][row]
        if window >= FIRST + 8 + 3:  # what was long ago is not looked at
            assert window - 8 - 3 < own.asked[0].windows.min() <= window - 8
    assert len(mouth.asked) < len(windows) / 2  # windows after each other share a rehearsal


def test_alpha_of_a_window_of_which_nothing_is_seen_does_not_depend_on_one_of_which_half_is():
    arrays = noisy(3.0)
    hidden = np.ones((2, arrays.pairs), dtype=bool)
    hidden[0, ::2] = False
    question = Imputation().question(arrays, np.array([40, 41]), hidden)
    together, _ = found(arrays, question)
    for row in range(2):
        alone, _ = found(arrays, question.part(slice(row, row + 1)))
        for name in together:
            assert alone[name][0] == together[name][row]


def test_what_is_hidden_is_not_looked_at():
    arrays = noisy(2.0)
    question = next_window(arrays, [40, 50], np.array([2, 2]))
    changed = arrays.rtt_ms.copy()
    changed[49:] = 1e4
    one, _ = found(arrays, question)
    other, _ = found(replace(arrays, rtt_ms=changed, jitter_ms=changed), question)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("protocol", [Forecast(), Imputation()], ids=["forecast", "imputation"])
def test_answers_with_intervals_that_follow_do_not_move_with_what_is_hidden(protocol):
    arrays = synthetic_arrays(probes=6, targets=5, windows=40)
    split = protocol.splits(arrays, seed=0)[-1]
    predictor = Straight()
    predictor.fit(arrays, split, protocol, seed=0)
    told = predictor.predict(arrays, split.test)
    assert np.unique(np.round(told.rtt_high_ms - told.rtt_ms, 6)).size > 1
    assert audit_answers(predictor, arrays, split.test).passed
