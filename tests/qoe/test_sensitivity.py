"""The weighted score: worked examples, laws, and what happens to the unknown."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.application import Application
from domain.path_quality import PathQuality
from qoe.profile import Metric, load_profile
from qoe.sensitivity import METRICS, Scores, score_of, sensitivity

PROFILE = load_profile()
NAN = float("nan")


def scored(application: Application, *paths: tuple[float, float, float]) -> Scores:
    rtt_ms, loss_ratio, jitter_ms = np.array(paths, dtype=float).T
    return sensitivity(PROFILE, application, rtt_ms=rtt_ms, loss_ratio=loss_ratio, jitter_ms=jitter_ms)


def one(application: Application, rtt_ms: float | None, loss_ratio: float, jitter_ms: float | None) -> float:
    quality = PathQuality(rtt_ms=rtt_ms, loss_ratio=loss_ratio, jitter_ms=jitter_ms)
    score = score_of(PROFILE, application, quality)
    assert score is not None
    return score


def test_a_call_worked_out_by_hand() -> None:
    # .3 * 100/500 + .2 * .03/.15 + .5 * 20/100 = .06 + .04 + .10 = .20
    assert one(Application.VOIP, 100.0, 0.03, 20.0) == pytest.approx(80.0)


def test_a_transfer_worked_out_by_hand() -> None:
    # .1 * 1 (600 ms is beyond 500) + .8 * .075/.15 + .1 * 0 = .1 + .4 = .5
    assert one(Application.FILE_TRANSFER, 600.0, 0.075, 0.0) == pytest.approx(50.0)


def test_a_perfect_path_scores_100_and_limits_by_nothing() -> None:
    for application in Application:
        result = scored(application, (0.0, 0.0, 0.0))
        assert result.score.tolist() == [100.0]
        assert result.limiting.tolist() == [-1]


def test_where_nothing_came_back_the_score_is_0_and_not_unknown() -> None:
    for application in Application:
        assert one(application, None, 1.0, None) == 0.0
        result = scored(application, (NAN, 1.0, NAN))
        assert METRICS[result.limiting[0]] is Metric.LOSS, (
            "RTT and jitter were not measured, and limit nothing"
        )
        assert result.cost.tolist() == [[0.0, 100.0, 0.0]]


def test_an_unknown_metric_makes_the_score_unknown_and_is_named() -> None:
    result = scored(Application.WEB, (10.0, 0.0, NAN), (NAN, 0.5, 1.0), (10.0, NAN, 1.0))
    assert np.isnan(result.score).all()
    assert [METRICS[i] for i in result.missing] == [Metric.JITTER, Metric.RTT, Metric.LOSS]
    nothing_sent = scored(Application.WEB, (NAN, NAN, NAN))
    assert METRICS[nothing_sent.missing[0]] is Metric.LOSS
    assert result.limiting.tolist() == [-1, -1, -1]
    unknown = PathQuality(rtt_ms=10.0, loss_ratio=0.0, jitter_ms=None)
    assert score_of(PROFILE, Application.WEB, unknown) is None


def test_the_limiting_metric_is_the_one_that_costs_most_points() -> None:
    result = scored(Application.VOIP, (500.0, 0.0, 50.0), (100.0, 0.15, 0.0), (0.0, 0.0, 90.0))
    assert [METRICS[i] for i in result.limiting] == [Metric.RTT, Metric.LOSS, Metric.JITTER]
    assert result.cost[0].tolist() == pytest.approx([30.0, 0.0, 25.0])


def test_the_weights_are_those_of_table_i() -> None:
    table = {
        Application.WEB: (0.5, 0.3, 0.2),
        Application.VIDEO: (0.2, 0.5, 0.3),
        Application.VOIP: (0.3, 0.2, 0.5),
        Application.GAMING: (0.6, 0.2, 0.2),
        Application.FILE_TRANSFER: (0.1, 0.8, 0.1),
    }
    assert {a: tuple(PROFILE.weights[a][m] for m in METRICS) for a in Application} == table


applications = st.sampled_from(list(Application))
rtts = st.floats(0.0, 5000.0)
ratios = st.floats(0.0, 0.999)
jitters = st.floats(0.0, 1000.0)


@given(
    application=applications,
    path=st.tuples(rtts, ratios, jitters),
    metric=st.integers(0, 2),
    more=st.floats(0, 100),
)
def test_a_worse_path_never_scores_better(
    application: Application, path: tuple[float, float, float], metric: int, more: float
) -> None:
    worse = list(path)
    worse[metric] = min(worse[metric] + more, 0.999) if metric == 1 else worse[metric] + more
    assert one(application, *worse) <= one(application, *path)


@given(application=applications, path=st.tuples(rtts, ratios, jitters))
def test_scores_lie_between_0_and_100_and_costs_add_up_to_the_rest(
    application: Application, path: tuple[float, float, float]
) -> None:
    result = scored(application, path)
    assert 0.0 <= result.score[0] <= 100.0
    assert result.score[0] + result.cost[0].sum() == pytest.approx(100.0)


@given(application=applications, loss=st.floats(0.0, 1.0))
def test_more_loss_never_scores_better_up_to_all_lost(application: Application, loss: float) -> None:
    rows = sorted({0.0, loss, 0.999, 1.0})
    scores = [
        one(application, None if row == 1.0 else 30.0, row, None if row == 1.0 else 3.0) for row in rows
    ]
    assert all(better >= worse for better, worse in pairwise(scores))


@given(paths=st.lists(st.tuples(rtts, ratios, jitters), min_size=1, max_size=8), application=applications)
def test_many_paths_score_as_each_alone(
    paths: list[tuple[float, float, float]], application: Application
) -> None:
    assert scored(application, *paths).score.tolist() == [one(application, *path) for path in paths]
