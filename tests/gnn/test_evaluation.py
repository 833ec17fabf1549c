from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DataError, LeakError
from gnn.baselines.last_value import LastValue
from gnn.baselines.seasonal_median import SeasonalMedian
from gnn.conformal import COVERAGE, conformal_factor
from gnn.evaluation import Row, Target, _conclusion, area_under_curve, bootstrap_difference, evaluate
from gnn.models.graph_predictor import GraphSettings
from gnn.models.sage import Sage
from gnn.predictor import Kind
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class


@pytest.fixture(scope="module")
def compared(make_arrays):
    arrays = make_arrays(probes=10, targets=6, windows=100)
    kinds = [predictor_class(name) for name in PREDICTORS]
    small = GraphSettings(hidden=16, epochs=6)
    predictors = [kind(small) if kind.kind is Kind.GNN else kind() for kind in kinds]
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


def test_the_error_of_loss_is_squared_so_that_never_any_loss_is_not_the_best(compared):
    arrays, predictors, evaluation = compared
    split = Forecast().split(arrays)
    truth, asked = arrays.loss_ratio[split.test.windows], split.test.cells(arrays).loss
    for predictor in predictors:
        (row,) = [r for r in evaluation.rows if (r.model, r.target) == (predictor.name, "loss")]
        wrong = (predictor.predict(arrays, split.test).loss_ratio - truth)[asked]
        assert row.loss_mae == pytest.approx(np.abs(wrong).mean())
        assert row.loss_rmse == pytest.approx(np.sqrt((wrong**2).mean()))
        assert row.loss_mean == pytest.approx(truth[asked].mean())
    best, *others = sorted(
        (row for row in evaluation.rows if row.target == "loss"), key=lambda row: row.ci_low is not None
    )
    for row in others:
        assert row.ci_low < row.loss_rmse**2 - best.loss_rmse**2 < row.ci_high


def test_the_best_baseline_of_each_target_is_tied_with_itself_and_has_no_interval(compared):
    _, _, evaluation = compared
    for target in Target:
        rows = [row for row in evaluation.rows if row.target == target]
        (best,) = [row for row in rows if row.ci_low is None]
        assert best.kind == "baseline"
        assert best.tied_with_best


def test_the_best_baseline_is_chosen_before_the_test_though_another_wins_it(arrays):
    begins = Forecast().split(arrays).test.windows[0]
    slot = np.arange(arrays.windows) % 8  # eight windows of 3 h a day
    level = np.where(np.arange(arrays.windows) < begins, 100.0 + 20.0 * (slot % 2), 300.0)
    rtt = np.where(np.isfinite(arrays.rtt_ms), level[:, None], np.nan)
    evaluation = evaluate(replace(arrays, rtt_ms=rtt), Forecast(), [LastValue(), SeasonalMedian()], seed=0)
    last, seasonal = (row for row in evaluation.rows if row.target == "rtt")
    assert (seasonal.model, seasonal.tied_with_best, seasonal.ci_low) == ("seasonal-median", True, None)
    assert last.mae_ms < seasonal.mae_ms
    assert last.tied_with_best is not True
    assert "The best baseline is seasonal-median" in evaluation.conclusion


def test_the_span_and_the_probes_of_the_test_are_said(compared):
    arrays, _, evaluation = compared
    starts = arrays.window_start_s[Forecast().split(arrays).test.windows]
    for row in evaluation.rows:
        assert row.test_days == len(set((starts // 86400).tolist()))
        assert row.test_probes == 10
    assert f"on 10 probes over {evaluation.rows[0].test_days} days" in evaluation.conclusion
    assert evaluation.conclusion.endswith("say nothing about the accuracy on the Internet.")


def test_each_audited_window_counts_once(compared):
    arrays, _, evaluation = compared
    split = Forecast().split(arrays)
    ends = [part.windows[i] for part in parts_of(split) for i in (0, len(part) // 2, -1)]
    for verdict in evaluation.verdicts.values():
        assert verdict.windows == tuple(sorted(set(ends)))


def parts_of(split):
    return [split.fit, split.validation, split.calibration, split.test]


def test_the_seconds_of_learning_do_not_hold_those_of_the_audit(arrays, monkeypatch):
    clock = [0.0]

    class Slow(LastValue):
        def inputs(self, arrays, question):
            clock[0] += 1.0
            return super().inputs(arrays, question)

    monkeypatch.setattr("gnn.predictor.time.perf_counter", lambda: clock[0])
    learned, _ = Slow().fit(arrays, Forecast().split(arrays), seed=0)
    assert learned.seconds == 2.0  # constants and calibration; the audit asks for inputs dozens of times


def rtt_row(model, kind, **figures):
    return Row(model=model, kind=kind, target="rtt", cells=500, cells_left_out=0, test_probes=40, **figures)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"ci_low": -3.0, "ci_high": -1.0}, " (difference -3 to -1 ms at 95 %): it beats it."),
        (
            {"ci_low": -3.0, "ci_high": 1.0},
            " (difference -3 to +1 ms at 95 %): it does not beat it; the two are tied.",
        ),
        (
            {"ci_low": 1.0, "ci_high": 3.0},
            " (difference +1 to +3 ms at 95 %): it does not beat it, and is worse.",
        ),
        ({"clusters": 12}, "; 12 clusters of probe and day are too few to tell the two apart (at least 30)."),
    ],
)
@pytest.mark.parametrize(
    ("days", "reach"),
    [
        (1, " This is on 40 probes over one day: what shook all of them at once is outside the interval."),
        (6, " This is on 40 probes over 6 days: what shook all of them at once is outside the interval."),
        (7, ""),
    ],
)
def test_the_conclusion_says_what_the_interval_says_and_no_more(figures, said, days, reach):
    if figures.get("ci_low") is None:  # then there is no interval that anything could be outside of
        reach = reach.replace(": what shook all of them at once is outside the interval", "")
    rows = [
        rtt_row(
            "last-value", "baseline", mae_ms=9.0, medae_ms=0.7, ci_low=-1.0, ci_high=1.0, tied_with_best=True
        ),
        rtt_row(
            "seasonal-median", "baseline", mae_ms=10.0, medae_ms=0.5, tied_with_best=True, test_days=days
        ),
        rtt_row("sage", "gnn", mae_ms=8.0, medae_ms=0.6, **figures),
    ]
    assert _conclusion(rows, synthetic=False) == (
        "sage has a mean absolute RTT error of 8 ms against 10 ms of the best baseline, seasonal-median"
        f"{said} In the median pair-window the error is 0.6 against 0.5 ms."
        f" seasonal-median was the best baseline before the test; in it last-value came to 9 ms.{reach}"
    )


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
