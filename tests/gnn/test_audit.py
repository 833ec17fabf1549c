"""Planted leaks: each must be refused, and named."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from domain.errors import LeakError
from gnn import history
from gnn.audit import Tampering, audit, audit_answers, without
from gnn.baselines.last_value import LastValue
from gnn.models.sage import Sage
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_named


def _with_column(inputs, name, values):
    return replace(
        inputs,
        columns=(*inputs.columns, name),
        numbers=np.concatenate([inputs.numbers, values[..., None]], axis=-1),
    )


class OwnRtt(LastValue):
    """Sees the RTT that it is asked for."""

    def inputs(self, arrays, question):
        return _with_column(super().inputs(arrays, question), "own_rtt_ms", arrays.rtt_ms[question.windows])


class FutureLag(LastValue):
    """Counts its lags from one window too late."""

    def inputs(self, arrays, question):
        lag = history.lagged(arrays.rtt_ms, question.seen_until + 1, 1)[..., 0]
        return _with_column(super().inputs(arrays, question), "rtt_lag_1", lag)


class MeasuredNow(LastValue):
    """Sees whether the pair is measured in the asked window."""

    def inputs(self, arrays, question):
        measured = (arrays.sent[question.windows] > 0).astype(float)
        return _with_column(super().inputs(arrays, question), "is_measured", measured)


class NeighbourRtt(LastValue):
    """Sees the mean RTT of the asked window over all pairs, itself among them."""

    def inputs(self, arrays, question):
        mean = np.nanmean(arrays.rtt_ms[question.windows], axis=1, keepdims=True)
        mean = np.where(np.isfinite(mean), mean, 0.0) * np.ones((1, arrays.pairs))
        return _with_column(super().inputs(arrays, question), "window_mean_rtt_ms", mean)


class LikenessEdges(Sage):
    """Joins pairs whose RTT is alike in the asked window."""

    def inputs(self, arrays, question):
        inputs = super().inputs(arrays, question)
        order = np.argsort(arrays.rtt_ms[question.windows[0]], kind="stable")
        alike = np.stack([order[:-1], order[1:]])
        graphs = tuple({**graph, "alike": alike} for graph in inputs.graphs)
        return replace(inputs, graphs=graphs)


class WholeSpanScale(LastValue):
    """Scales by the spread of all windows, those of the test among them."""

    def prepare(self, arrays, split):
        return {**super().prepare(arrays, split), "rtt_scale_ms": np.array(np.nanstd(arrays.rtt_ms))}


class Spy(LastValue):
    """Keeps the arrays aside in `inputs` and looks at them in `answer`."""

    kept: ClassVar[list] = []

    def inputs(self, arrays, question):
        self.kept[:] = [arrays.rtt_ms[question.windows]]
        return super().inputs(arrays, question)

    def answer(self, inputs):
        return replace(super().answer(inputs), rtt_ms=self.kept[0])


class OtherWindow(LastValue):
    """Sees the value of each asked window that lies before what a later one may see: a leak only when many are asked."""

    def point(self, values, question, window_s):
        own = values[question.windows]
        seen = (question.windows < question.seen_until.max())[:, None] & np.isfinite(own)
        return np.where(seen, own, super().point(values, question, window_s))


class OtherWindowAnswer(OtherWindow):
    """The same, behind the back of its inputs."""

    def inputs(self, arrays, question):
        self.kept = super().inputs(arrays, question).column("rtt_ms")
        return LastValue().inputs(arrays, question)

    def answer(self, inputs):
        return replace(super().answer(inputs), rtt_ms=self.kept)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize(
    ("leaky", "named"),
    [
        (OwnRtt, "column own_rtt_ms"),
        (FutureLag, "column rtt_lag_1"),
        (MeasuredNow, "column is_measured"),
        (NeighbourRtt, "column window_mean_rtt_ms"),
        (LikenessEdges, "edges alike"),
        (WholeSpanScale, "normalisation rtt_scale_ms"),
    ],
)
def test_a_planted_leak_is_refused_by_name_and_nothing_is_learned(arrays, leaky, named):
    predictor = leaky()
    with pytest.raises(LeakError, match=named) as refused:
        predictor.fit(arrays, Forecast().split(arrays), seed=0)
    assert refused.value.found.endswith(named)  # and nothing else is blamed


def test_a_predictor_that_looks_past_its_inputs_is_caught_by_its_answers(arrays):
    split = Forecast().split(arrays)
    spy = Spy()
    spy.fit(arrays, split, seed=0)  # its inputs are clean
    verdict = audit_answers(spy, arrays, split.test)
    with pytest.raises(LeakError, match="answer rtt_ms"):
        verdict.require(spy.name)


def test_a_leak_between_the_windows_of_one_question_is_refused(arrays):
    split = Forecast().split(arrays)
    with pytest.raises(LeakError, match="column rtt_ms"):
        OtherWindow().fit(arrays, split, seed=0)
    sly = OtherWindowAnswer()
    sly.fit(arrays, split, seed=0)  # its inputs are clean
    with pytest.raises(LeakError, match="answer rtt_ms"):
        audit_answers(sly, arrays, split.test).require(sly.name)


@pytest.mark.parametrize("name", sorted(PREDICTORS))
@pytest.mark.parametrize("horizon", [1, 9])
def test_honest_predictors_pass(arrays, name, horizon):
    verdict = audit(predictor_named(name), arrays, Forecast(horizon=horizon).split(arrays))
    assert verdict.passed
    assert len(verdict.windows) >= 11


@pytest.mark.parametrize("name", sorted(PREDICTORS))
def test_pairs_first_measured_later_make_no_edges_and_leak_nothing(arrays, name):
    unborn = np.zeros_like(arrays.sent, dtype=bool)
    unborn[:20, ::3] = True
    late = without(arrays, unborn)
    assert audit(predictor_named(name), late, Forecast().split(late)).passed


def test_findings_say_what_was_done_to_the_hidden_values(arrays):
    verdict = audit(MeasuredNow(), arrays, Forecast().split(arrays))
    assert {finding.tampering for finding in verdict.findings} == {Tampering.DELETED, Tampering.ADDED}


def test_learning_never_sees_the_test_windows(arrays):
    seen = []

    class Watched(LastValue):
        def learn(self, arrays, split, *, seed, progress):
            seen.append(arrays)
            return super().learn(arrays, split, seed=seed, progress=progress)

    split = Forecast().split(arrays)
    Watched().fit(arrays, split, seed=0)
    assert not (seen[0].sent[split.test.windows] > 0).any()
    assert np.isnan(seen[0].rtt_ms[split.test.windows]).all()
