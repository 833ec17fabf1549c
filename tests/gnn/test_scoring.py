"""Scoring, against formulas written out."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.application import Application
from gnn.prediction import Prediction
from gnn.protocols.forecast import Forecast
from gnn.scoring import (
    HUBER_MS,
    LEAST_PROBABILITY,
    Metrics,
    Target,
    area_under_curve,
    clusters,
    common_cells,
    error,
    interval,
    mean_of,
    metrics,
    point,
    qoe_points_off,
    truth,
)
from qoe.profile import load_profile
from qoe.sensitivity import sensitivity

PROFILE = load_profile()
in_ms = st.integers(0, 50_000).map(lambda hundredths: hundredths / 100.0)
cells = st.lists(st.tuples(in_ms, in_ms, in_ms), min_size=2, max_size=20)


def said_of(arrays, question):
    """A number of its own in every field."""
    shape = (len(question), arrays.pairs)
    return Prediction(**{f.name: np.full(shape, float(n)) for n, f in enumerate(fields(Prediction))})


@given(cells)
def test_metrics_of_rtt_are_those_of_their_formulas(rows):
    said, measured, wide = (np.array(column) for column in zip(*rows, strict=True))
    found = metrics(Target.RTT, said, measured, (said - wide, said + wide), None)
    wrong = [abs(s - m) for s, m, _ in rows]
    count = len(rows)
    assert found.mae_ms == pytest.approx(sum(wrong) / count)
    assert found.medae_ms == pytest.approx(np.median(wrong))
    assert found.rmse_ms == pytest.approx((sum(w * w for w in wrong) / count) ** 0.5)
    relative = [w / m for w, (_, m, _) in zip(wrong, rows, strict=True) if m > 0.0]
    wanted = np.median(relative) if relative else None
    assert found.median_relative_error == (wanted if wanted is None else pytest.approx(wanted))
    huber = [0.5 * w * w if w <= HUBER_MS else HUBER_MS * (w - 0.5 * HUBER_MS) for w in wrong]
    assert found.huber == pytest.approx(sum(huber) / count / HUBER_MS)
    assert found.coverage_90 == pytest.approx(np.mean([s - h <= m <= s + h for s, m, h in rows]))
    assert found.width_90_ms == pytest.approx(2.0 * wide.mean(), abs=1e-9)
    missed = [max(s - h - m, m - s - h, 0.0) for s, m, h in rows]
    assert found.interval_score_ms == pytest.approx(found.width_90_ms + 20.0 * np.mean(missed))
    total = ((measured - measured.mean()) ** 2).sum()
    if total > 1e-3:
        assert found.r2 == pytest.approx(1.0 - sum(w * w for w in wrong) / total)
    assert (found.brier, found.log_loss, found.loss_mae, found.qoe_mae_points) == (None,) * 4


def test_of_one_value_only_r2_is_not_known_and_of_no_interval_no_coverage():
    same = np.full(3, 20.0)
    found = metrics(Target.JITTER, same + 1.0, same, (same, np.array([30.0, np.nan, 30.0])), None)
    assert (found.r2, found.coverage_90, found.width_90_ms) == (None, None, None)
    assert metrics(Target.RTT, same, 0.0 * same, None, None).median_relative_error is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=20))
def test_metrics_of_any_loss_are_those_of_their_formulas_and_a_mistaken_certainty_costs_no_infinity(rows):
    said, came = np.array([s for s, _ in rows]), np.array([float(c) for _, c in rows])
    found = metrics(Target.ANY_LOSS, said, came, None, None)
    assert found.brier == pytest.approx(np.mean([(s - c) ** 2 for s, c in rows]))
    kept = np.clip(said, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    wanted = [-np.log(s) if c else -np.log(1.0 - s) for s, (_, c) in zip(kept, rows, strict=True)]
    assert found.log_loss == pytest.approx(np.mean(wanted), rel=1e-6)
    assert found.auc == area_under_curve(said, came > 0.0)


def test_the_error_of_loss_is_squared_so_that_never_any_loss_is_not_the_best():
    measured = np.array([0.0] * 19 + [0.4])
    never, mean = (metrics(Target.LOSS, np.full(20, s), measured, None, None) for s in (0.0, measured.mean()))
    assert never.loss_mae < mean.loss_mae
    assert never.loss_rmse > mean.loss_rmse
    assert never.loss_mae == pytest.approx(never.loss_mean)
    assert error(np.array([0.5]), np.array([0.2]), Target.LOSS) == pytest.approx([0.09])
    assert error(np.array([0.5]), np.array([0.2]), Target.RTT) == pytest.approx([0.3])


def test_each_target_has_its_truth_its_point_and_its_interval(arrays):
    question = Forecast().question(arrays, np.array([20, 30]))
    told, scored = said_of(arrays, question), question.cells(arrays)
    lost = (arrays.sent - arrays.received)[[20, 30]]
    number = {field.name: float(n) for n, field in enumerate(fields(Prediction))}
    for target, name, asked, values, bounds in (
        (Target.RTT, "rtt_ms", scored.rtt, arrays.rtt_ms, ("rtt_low_ms", "rtt_high_ms")),
        (Target.JITTER, "jitter_ms", scored.jitter, arrays.jitter_ms, ("jitter_low_ms", "jitter_high_ms")),
        (Target.LOSS, "loss_ratio", scored.loss, arrays.loss_ratio, None),
        (Target.ANY_LOSS, "any_loss_probability", scored.loss, None, None),
    ):
        measured, where = truth(arrays, question, target)
        np.testing.assert_array_equal(where, asked)
        wanted = lost > 0 if values is None else values[[20, 30]]
        np.testing.assert_array_equal(measured[where], wanted[where])
        assert (point(told, target) == number[name]).all()
        found = interval(told, target)
        if bounds is None:
            assert found is None
        else:
            for one, bound in zip(found, bounds, strict=True):
                assert (one == number[bound]).all()


def test_cells_are_those_that_all_models_predict_and_who_predicts_little_is_left_out():
    asked = np.ones((1, 20), dtype=bool)
    asked[0, 0] = False
    whole, most, little = (np.ones((1, 20)) for _ in range(3))
    most[0, 5], little[0, :8] = np.nan, np.nan
    found, scored = common_cells(asked, {"whole": whole, "most": most, "little": little})
    assert scored == ("whole", "most")
    wanted = asked.copy()
    wanted[0, 5] = False
    np.testing.assert_array_equal(found, wanted)
    found, scored = common_cells(asked, {"little": little})
    assert scored == ()
    assert not found.any()
    assert common_cells(asked & False, {"whole": whole})[1] == ()


@pytest.mark.parametrize(
    ("target", "name"), [(Target.RTT, "rtt_ms"), (Target.LOSS, "loss_ratio"), (Target.JITTER, "jitter_ms")]
)
def test_points_off_are_those_of_the_score_with_one_metric_predicted_and_the_others_measured(
    arrays, target, name
):
    question = Forecast().question(arrays, np.array([30]))
    scored = question.cells(arrays).jitter
    measured = {
        "rtt_ms": arrays.rtt_ms[[30]][scored],
        "loss_ratio": arrays.loss_ratio[[30]][scored],
        "jitter_ms": arrays.jitter_ms[[30]][scored],
    }
    off = qoe_points_off(arrays, question, target, scored, PROFILE)
    np.testing.assert_array_equal(off(measured[name]), 0.0)
    said = np.minimum(measured[name] * 1.5 + 0.02, 1.0 if name == "loss_ratio" else np.inf)
    wanted = [
        abs(
            sensitivity(PROFILE, one, **(measured | {name: said})).score
            - sensitivity(PROFILE, one, **measured).score
        )
        for one in Application
    ]
    np.testing.assert_allclose(off(said), np.mean(wanted, axis=0))
    assert metrics(target, said, measured[name], None, off).qoe_mae_points == pytest.approx(np.mean(wanted))


def test_where_a_metric_was_not_measured_points_off_are_not_known(arrays):
    question = Forecast().question(arrays, np.array([30]))
    scored = question.cells(arrays).rtt
    unknown = replace(arrays, jitter_ms=np.full_like(arrays.jitter_ms, np.nan))
    off = qoe_points_off(unknown, question, Target.RTT, scored, PROFILE)
    said = arrays.rtt_ms[[30]][scored] + 5.0
    assert np.isnan(off(said)).all()
    assert metrics(Target.RTT, said, said, None, off).qoe_mae_points is None


def test_clusters_are_probe_hosts_or_probe_hosts_and_days(arrays):
    question = Forecast().question(arrays, np.array([9, 12, 20]))
    host = arrays.probe_end.host
    day = arrays.window_start_s[question.windows] // 86400
    for by_day in (False, True):
        found = clusters(arrays, question, by_day=by_day)
        assert found.shape == (3, arrays.pairs)
        named = {}
        for row in range(3):
            for pair in range(arrays.pairs):
                key = (int(host[pair]), int(day[row]) if by_day else 0)
                assert named.setdefault(key, found[row, pair]) == found[row, pair]
        assert len(set(named.values())) == len(named)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(rows):
    score, happened = np.array([s for s, _ in rows]), np.array([h for _, h in rows])
    yes, no = score[happened], score[~happened]
    found = area_under_curve(score, happened)
    if len(yes) == 0 or len(no) == 0:
        assert found is None
    else:
        order = (yes[:, None] > no[None, :]) + 0.5 * (yes[:, None] == no[None, :])
        assert found == pytest.approx(order.mean())


def test_a_mean_over_splits_is_of_each_metric_by_their_cells_and_unknown_where_one_is():
    one, other = Metrics(mae_ms=1.0, r2=0.5), Metrics(mae_ms=3.0)
    wanted = {**asdict(Metrics()), "mae_ms": 2.5}
    assert asdict(mean_of([one, other], [10, 30])) == wanted
