from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DataError, LeakError
from gnn.baselines.last_value import LastValue
from gnn.baselines.seasonal_median import SeasonalMedian
from gnn.conformal import COVERAGE, conformal_factor
from gnn.evaluation import Target, area_under_curve, bootstrap_difference, evaluate
from gnn.models.graph_predictor import GraphSettings
from gnn.models.sage import Sage
from gnn.protocols.forecast import Forecast


@pytest.fixture(scope="module")
def compared(make_arrays):
    arrays = make_arrays(probes=10, targets=6, windows=100)
    predictors = [LastValue(), SeasonalMedian(), Sage(GraphSettings(hidden=16, epochs=6))]
    return arrays, predictors, evaluate(arrays, Forecast(), predictors, seed=0)


def test_every_model_stands_in_a_row_of_every_target(compared):
    _, predictors, evaluation = compared
    found = {(row.model, row.target) for row in evaluation.rows}
    assert found == {(one.name, target.value) for one in predictors for target in Target}


def test_all_models_are_scored_on_the_same_cells(compared):
    _, _, evaluation = compared
    for target in Target:
        assert len({row.cells for row in evaluation.rows if row.target == target}) == 1


def test_errors_are_those_of_a_short_count(compared):
    arrays, predictors, evaluation = compared
    split = Forecast().split(arrays)
    truth, asked = arrays.rtt_ms[split.test.windows], split.test.cells(arrays).rtt
    for predictor in predictors:
        told = predictor.predict(arrays, split.test)
        (row,) = [r for r in evaluation.rows if (r.model, r.target) == (predictor.name, "rtt")]
        wrong = np.abs(told.rtt_ms - truth)[asked]
        assert row.mae_ms == pytest.approx(wrong.mean())
        assert row.medae_ms == pytest.approx(np.median(wrong))
        inside = ((told.rtt_low_ms <= truth) & (truth <= told.rtt_high_ms))[asked]
        assert row.coverage_90 == pytest.approx(inside.mean())
        assert 0.8 < row.coverage_90 < 0.98
        assert row.brier is None


def test_the_best_baseline_is_tied_with_itself_and_has_no_interval(compared):
    _, _, evaluation = compared
    for target in (Target.RTT, Target.JITTER):
        rows = [row for row in evaluation.rows if row.target == target and row.kind == "baseline"]
        best = min(rows, key=lambda row: row.mae_ms)
        assert best.tied_with_best
        assert best.ci_low is None
        assert all(
            row.ci_low is not None for row in evaluation.rows if row.target == target and row is not best
        )


def test_the_conclusion_is_a_sentence_that_says_synthetic(compared):
    _, _, evaluation = compared
    assert "sage has a mean absolute RTT error of" in evaluation.conclusion
    assert "beat it" in evaluation.conclusion or "beats it" in evaluation.conclusion
    assert "synthetic" in evaluation.conclusion


def test_too_few_clusters_give_no_interval_and_no_verdict(make_arrays):
    arrays = make_arrays(probes=2, targets=4, windows=24)
    evaluation = evaluate(arrays, Forecast(), [LastValue(), SeasonalMedian()], seed=0)
    other = [row for row in evaluation.rows if row.tied_with_best is not True]
    assert len(other) > 0
    assert all(row.ci_low is None and row.tied_with_best is None for row in other)


def test_a_comparison_without_a_baseline_is_refused(arrays):
    with pytest.raises(DataError, match="baseline"):
        evaluate(arrays, Forecast(), [Sage()], seed=0)


def test_a_leaking_model_stops_the_comparison(arrays):
    class Cheat(LastValue):
        def point(self, values, question, window_s):
            return values[question.windows]

    with pytest.raises(LeakError, match="rtt_ms"):
        evaluate(arrays, Forecast(), [LastValue(), Cheat()], seed=0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30))
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(cases):
    score, happened = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    yes, no = score[happened], score[~happened]
    found = area_under_curve(score, happened)
    if len(yes) == 0 or len(no) == 0:
        assert found is None
    else:
        order = (yes[:, None] > no[None, :]) + 0.5 * (yes[:, None] == no[None, :])
        assert found == pytest.approx(order.mean())


def test_the_bootstrap_draws_whole_clusters():
    generator = np.random.default_rng(0)
    effect = np.repeat(generator.normal(0.3, 1.0, size=40), 50)  # 50 copies say no more than one
    low, high = bootstrap_difference(effect, np.repeat(np.arange(40), 50), np.random.default_rng(1))
    assert low < 0.3 < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(40), rel=0.25)


@given(st.integers(10, 400), st.integers(0, 1000))
def test_the_conformal_factor_covers_what_it_says_and_hardly_more(count, seed):
    scores = np.random.default_rng(seed).permutation(count).astype(float)
    covered = (scores <= conformal_factor(scores)).sum()
    assert covered / count >= COVERAGE
    assert covered <= np.ceil((count + 1) * COVERAGE)


def test_too_few_calibration_cells_give_no_interval():
    assert np.isnan(conformal_factor(np.arange(8.0)))
