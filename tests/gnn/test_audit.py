"""Planted leaks: each must be found, and named; and honest predictors must pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from domain.errors import LeakError
from gnn.audit import Finding, Tampering, Verdict, audit, audit_answers, audit_learning, without
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.protocols.unseen_pair import UnseenPair
from gnn.protocols.unseen_probe import UnseenProbe
from gnn.registry import predictor_named
from gnn.split_audit import split_flaws, two_ids
from tests.gnn.anchor_mesh import anchor_mesh, of_pairs
from tests.gnn.conftest import synthetic_arrays
from tests.gnn.straight_line import OnGraph, OwnRtt, Straight, with_column

ARRAYS = synthetic_arrays(probes=6, targets=5, windows=30)
MESH = anchor_mesh(anchors=10, probes=12, windows=3)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning"),
    pytest.mark.usefixtures("rough_fits", "few_masks"),
]


# --- the ten leaks: 1 own RTT is `OwnRtt`; 2 reverse direction


class WayBack(Straight):
    """Sees the RTT of the way back, which the same packets' path had."""

    def inputs(self, arrays, question):
        here, there = arrays.probe_end.host, arrays.target_end.host
        back = (here[:, None] == there) & (there[:, None] == here) & (arrays.af[:, None] == arrays.af)
        rtt = np.where(back.any(axis=1), arrays.rtt_ms[question.windows][:, back.argmax(axis=1)], np.nan)
        return with_column(super().inputs(arrays, question), "way_back_rtt_ms", rtt)


@dataclass(frozen=True, slots=True)
class OneWay(UnseenPair):
    """Hides pairs as they are named, one way and one address family at a time."""

    def view(self, arrays):
        return arrays

    def splits(self, arrays, *, seed):
        split = UnseenPair.splits(self, arrays, seed=seed)[0]
        part = np.random.default_rng(seed).choice(4, size=arrays.pairs, p=[0.6, 0.1, 0.1, 0.2])
        test = part == 3
        return (
            replace(
                split,
                fit=self.question(arrays, split.fit.windows, part == 0, test),
                validation=self.question(arrays, split.validation.windows, part == 1, test),
                calibration=self.question(arrays, split.calibration.windows, part == 2, test),
                test=self.question(arrays, split.test.windows, test, test),
                sealed=np.broadcast_to(test, arrays.rtt_ms.shape),
            ),
        )

    def redraw(self, fit, arrays, generator):
        asked = fit.asked & (generator.random(fit.asked.shape) < 0.2)
        seen = fit.seen_past | (fit.asked & ~asked)
        return replace(fit, asked=asked, seen_past=seen, seen_now=seen)


# --- 3 edges by RTT likeness


class LikenessEdges(OnGraph):
    """Joins each pair to the one whose RTT is next in the asked window."""

    def inputs(self, arrays, question):
        inputs = super().inputs(arrays, question)
        graphs = []
        for window, graph in zip(question.windows, inputs.graph_of, strict=True):
            order = np.argsort(arrays.rtt_ms[window], kind="stable")
            alike = np.empty((arrays.pairs, 1), dtype=np.int64)
            alike[order, 0] = np.roll(order, 1)
            graphs.append({**inputs.graphs[graph], "alike": alike})
        return replace(inputs, graphs=tuple(graphs), graph_of=np.arange(len(question)))


# --- 4 normalisation over the test set


class TestScale(Straight):
    """Scales by the spread of all windows, those of the test among them."""

    __test__ = False

    def prepare(self, arrays, split):
        return {**super().prepare(arrays, split), "rtt_scale_ms": np.array(np.nanstd(arrays.rtt_ms))}


# --- 5 future window


class FutureWindow(Straight):
    """Smooths over the window after the asked one."""

    def inputs(self, arrays, question):
        later = np.minimum(question.windows + 1, arrays.windows - 1)
        return with_column(super().inputs(arrays, question), "smoothed_rtt_ms", arrays.rtt_ms[later])


# --- 6 own minimum RTT


class OwnMinimum(Straight):
    """Takes the least RTT of a pair ever, which is so nearly the distance that it passes for one."""

    def inputs(self, arrays, question):
        least = np.fmin.reduce(arrays.rtt_ms, axis=0)
        return with_column(super().inputs(arrays, question), "least_rtt_ms", least)


# --- 7 target-encoded AS


class EncodedAs(Straight):
    """Codes an AS by the mean RTT of all that was measured to it."""

    def inputs(self, arrays, question):
        mean = np.nanmean(arrays.rtt_ms, axis=0)
        number = np.unique(arrays.target_end.asn, return_inverse=True)[1]
        known = np.isfinite(mean)
        code = np.bincount(number[known], weights=mean[known], minlength=number.max() + 1)
        return with_column(super().inputs(arrays, question), "target_as_code", code[number])


# --- 8 neighbour count of loss


class LossAround(Straight):
    """Counts the pairs of the same probe that lost packets in the asked window, the asked ones among them."""

    def inputs(self, arrays, question):
        number = np.unique(arrays.probe_end.host, return_inverse=True)[1]
        lost = (arrays.received < arrays.sent)[question.windows]
        counts = np.stack([np.bincount(number, weights=row) for row in lost])
        return with_column(super().inputs(arrays, question), "lossy_neighbours", counts[:, number])


# --- 9 one host under two ids


@dataclass(frozen=True, slots=True)
class HidesIds(UnseenProbe):
    """Hides what a probe id measured, and forgets that an anchor is a target too."""

    def view(self, arrays):
        return arrays

    def splits(self, arrays, *, seed):
        split = UnseenProbe.splits(self, arrays, seed=seed)[0]
        ids = np.unique(arrays.probe_id)  # those of anchors come first
        parts = [np.isin(arrays.probe_id, part) for part in np.split(ids, [3, 6, 8])]
        questions = [
            UnseenPair().question(arrays, np.arange(arrays.windows), part, parts[0]) for part in parts
        ]
        return (
            replace(
                split,
                test=questions[0],
                calibration=questions[1],
                validation=questions[2],
                fit=questions[3],
                sealed=np.broadcast_to(parts[0], arrays.rtt_ms.shape),
            ),
        )

    def redraw(self, fit, arrays, generator):
        return UnseenPair().redraw(fit, arrays, generator)


# --- 10 late results


class LateResults(Straight):
    """Takes the window before the asked one for the past, also when it was not over when the forecast was made."""

    def inputs(self, arrays, question):
        before = arrays.rtt_ms[np.maximum(question.windows - 1, 0)]
        return with_column(super().inputs(arrays, question), "latest_stored_rtt_ms", before)


@pytest.mark.parametrize(
    ("leaky", "protocol", "named"),
    [
        (OwnRtt, Forecast(), "column own_rtt_ms"),
        (OwnRtt, Imputation(), "column own_rtt_ms"),
        (OwnRtt, UnseenPair(), "column own_rtt_ms"),
        (OwnRtt, UnseenProbe(), "column own_rtt_ms"),
        (WayBack, UnseenPair(), "column way_back_rtt_ms"),
        (LikenessEdges, Forecast(), "edges alike"),
        (LikenessEdges, Imputation(), "edges alike"),
        (TestScale, Forecast(), "normalisation rtt_scale_ms"),
        (TestScale, UnseenProbe(), "normalisation rtt_scale_ms"),
        (FutureWindow, Forecast(), "column smoothed_rtt_ms"),
        (FutureWindow, Imputation(), "column smoothed_rtt_ms"),
        (OwnMinimum, Forecast(), "column least_rtt_ms"),
        (OwnMinimum, UnseenPair(), "column least_rtt_ms"),
        (EncodedAs, Imputation(), "column target_as_code"),
        (EncodedAs, UnseenPair(), "column target_as_code"),
        (LossAround, Forecast(), "column lossy_neighbours"),
        (LossAround, Imputation(), "column lossy_neighbours"),
        (LateResults, Forecast(), "column latest_stored_rtt_ms"),
    ],
)
def test_a_planted_leak_stops_the_training_and_is_named(leaky, protocol, named):
    predictor = leaky()
    data = ARRAYS if protocol.in_time else MESH
    # Without the view, so that ways back are there to be looked at.
    split = protocol.splits(data, seed=0)[-1]
    with pytest.raises(LeakError, match="sees what is hidden") as refused:
        predictor.fit(data, split, protocol, seed=0)
    blamed = set(refused.value.found.rpartition(": ")[2].split(", "))
    assert blamed - {"normalisation centre"} == {named}  # which is taken from it; and nothing else is blamed
    assert predictor.state() == {}


def test_a_split_in_which_the_way_back_is_seen_stops_the_training():
    protocol = OneWay()
    split = protocol.splits(MESH, seed=0)[0]
    with pytest.raises(
        LeakError, match="split: test sees the way back or the other address family"
    ) as refused:
        Straight().fit(MESH, split, protocol, seed=0)
    assert "fit sees the way back" in refused.value.found
    assert (
        "split: the way back or the other address family of a tested pair is not sealed"
        in refused.value.found
    )
    assert "column" not in refused.value.found


def test_hiding_the_ids_of_a_host_and_not_the_host_stops_the_training():
    protocol = HidesIds()
    split = protocol.splits(MESH, seed=0)[0]
    with pytest.raises(
        LeakError, match="split: test sees more pairs of a hidden host than its case"
    ) as refused:
        Straight().fit(MESH, split, protocol, seed=0)
    assert "a tested host is not sealed in both roles and under all its ids" in refused.value.found


@pytest.mark.parametrize("name", ["imputation", "unseen-pair", "unseen-probe"])
def test_an_anchor_whose_addresses_are_taken_for_two_hosts_stops_the_training(name):
    host = MESH.target_end.host.copy()
    host[(MESH.target == MESH.target[0]) & (MESH.probe_id % 2 == 0)] = -1
    data = replace(MESH, target_end=replace(MESH.target_end, host=host))
    if name == "imputation":
        host = ARRAYS.probe_end.host.copy()
        host[:2] = -1
        data = replace(ARRAYS, probe_end=replace(ARRAYS.probe_end, host=host))
    protocol = protocol_named(name)
    split = protocol.splits(data, seed=0)[0]
    with pytest.raises(LeakError, match=r"split: .* has two hosts"):
        Straight().fit(data, split, protocol, seed=0)


def test_results_that_are_told_again_under_another_id_are_one_host():
    twice = np.concatenate([np.arange(MESH.pairs), np.flatnonzero(MESH.probe_id == MESH.probe_id[0])])
    copied = np.arange(len(twice)) >= MESH.pairs
    again = of_pairs(MESH, twice)
    again = replace(
        again,
        probe_id=np.where(copied, 9999, again.probe_id),
        probe_end=replace(again.probe_end, host=np.where(copied, 9999, again.probe_end.host)),
    )
    assert two_ids(MESH) == ()
    assert two_ids(again) == (f"hosts {MESH.probe_id[0]} and 9999 have the same results",)
    coarse = replace(again, rtt_ms=np.round(again.rtt_ms))
    assert two_ids(coarse) == ()  # two machines in one place may have the same whole numbers


def test_a_node_of_a_table_is_one_host_as_probe_and_as_target():
    as_nodes = replace(
        ARRAYS,
        target=np.array([f"node:{host}" for host in ARRAYS.probe_id % 5 + 1], dtype=object),
        target_end=replace(ARRAYS.target_end, host=ARRAYS.probe_id % 5 + 1),
        probe_end=replace(ARRAYS.probe_end, host=ARRAYS.probe_id),
    )
    assert two_ids(as_nodes) == ()
    other = replace(as_nodes, target_end=replace(as_nodes.target_end, host=as_nodes.target_end.host + 100))
    assert "probe 1 and target node:1 are two hosts" in two_ids(other)


def test_states_whose_time_is_in_doubt_stop_the_training_of_a_forecast_and_of_nothing_else():
    doubtful = replace(ARRAYS, doubtful=3)
    split = Forecast().splits(doubtful, seed=0)[0]
    with pytest.raises(LeakError, match="split: 3 states with results whose time is in doubt"):
        Straight().fit(doubtful, split, Forecast(), seed=0)
    split = Imputation().splits(doubtful, seed=0)[0]
    Straight().fit(doubtful, split, Imputation(), seed=0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: replace(s, sealed=np.zeros_like(s.sealed)), "the test asks cells that are not sealed"),
        (lambda s: replace(s, validation=s.test), "validation asks sealed cells"),
        (lambda s: replace(s, calibration=s.test), "calibration reaches into the windows of the test"),
        (lambda s: replace(s, calibration=s.validation), "validation and calibration ask the same cells"),
        (lambda s: replace(s, fit=s.calibration), "fit and calibration ask the same cells"),
    ],
)
def test_a_split_whose_parts_overlap_is_refused(change, named):
    split = change(Forecast().splits(ARRAYS, seed=0)[-1])
    drawn = Forecast().redraw(split.fit, ARRAYS, np.random.default_rng(0))
    assert named in {flaw.name for flaw in split_flaws(ARRAYS, split, drawn, Forecast())}
    with pytest.raises(LeakError, match=named):
        Straight().fit(ARRAYS, split, Forecast(), seed=0)


def test_a_question_that_was_made_to_show_what_it_asks_is_found_out():
    split = Imputation().splits(ARRAYS, seed=0)[-1]
    split.test.seen_now[:] = True  # the masks are frozen, what is in them is not
    found = {flaw.name for flaw in split_flaws(ARRAYS, split, split.fit, Imputation())}
    assert found == {"test sees what it asks"}


# --- leaks that try not to be seen


class NearUsual(Straight):
    """Sees its own RTT only where that is nearly as usual."""

    def inputs(self, arrays, question):
        inputs = super().inputs(arrays, question)
        own = arrays.rtt_ms[question.windows]
        near = np.abs(own - inputs.column("usual_ms")) < 3.0
        return with_column(inputs, "near_usual_ms", np.where(near, own, np.nan))


class Coarse(Straight):
    """Sees its own RTT in hundreds of ms."""

    def inputs(self, arrays, question):
        return with_column(
            super().inputs(arrays, question), "hundreds", np.round(arrays.rtt_ms[question.windows] / 100.0)
        )


class AnyLater(Straight):
    """Sees whether a pair is ever measured again."""

    def inputs(self, arrays, question):
        later = np.arange(arrays.windows)[:, None] >= question.windows[:, None, None]
        return with_column(
            super().inputs(arrays, question), "lives_on", (later & arrays.measured).any(axis=1)
        )


class MeasuredNow(Straight):
    """Sees whether the pair is measured in the asked window."""

    def inputs(self, arrays, question):
        return with_column(super().inputs(arrays, question), "is_measured", arrays.measured[question.windows])


class OtherRow(Straight):
    """Sees what the last row of a question may see, also in rows before it: a leak only when several are asked."""

    def inputs(self, arrays, question):
        own = arrays.rtt_ms[question.windows]
        before = (question.windows < question.seen_until.max())[:, None]
        return with_column(super().inputs(arrays, question), "batch_rtt_ms", np.where(before, own, np.nan))


class EdgeNumbers(OnGraph):
    """Weighs edges by how alike two pairs move in the asked window."""

    def inputs(self, arrays, question):
        inputs = super().inputs(arrays, question)
        numbers = inputs.edge_numbers["probe"].copy()
        numbers[..., 0] += arrays.rtt_ms[question.windows][:, :, None]
        return replace(inputs, edge_numbers={**inputs.edge_numbers, "probe": numbers})


@pytest.mark.parametrize(
    ("leaky", "named", "how"),
    [
        (NearUsual, "column near_usual_ms", None),
        (Coarse, "column hundreds", None),
        (AnyLater, "column lives_on", None),
        (MeasuredNow, "column is_measured", {Tampering.ADDED, Tampering.DELETED}),
        (OtherRow, "column batch_rtt_ms", None),
        (EdgeNumbers, "edge column probe offset_ms", None),
    ],
)
def test_a_leak_that_tries_not_to_be_seen_is_named(leaky, named, how):
    verdict = audit(leaky(), ARRAYS, Forecast().splits(ARRAYS, seed=0)[-1], Forecast())
    assert {f"{finding.kind} {finding.name}" for finding in verdict.findings} == {named}
    assert how is None or {finding.tampering for finding in verdict.findings} == how


class Spy(Straight):
    """Keeps the arrays aside in `inputs` and looks at them in `answer`."""

    def inputs(self, arrays, question):
        self.kept = arrays.rtt_ms[question.windows]
        return super().inputs(arrays, question)

    def answer(self, inputs):
        return replace(super().answer(inputs), rtt_ms=self.kept)


def test_a_predictor_that_looks_past_its_inputs_is_caught_by_its_answers():
    split = Forecast().splits(ARRAYS, seed=0)[-1]
    spy = Spy()
    spy.fit(ARRAYS, split, Forecast(), seed=0)  # its inputs are clean
    verdict = audit_answers(spy, ARRAYS, split.test)
    with pytest.raises(LeakError, match="answer rtt_ms"):
        verdict.require(spy.name)
    honest = Straight()
    honest.fit(ARRAYS, split, Forecast(), seed=0)
    assert audit_answers(honest, ARRAYS, split.test).passed


class Rememberer(Straight):
    """Remembers from the audit what it tunes by."""

    def inputs(self, arrays, question):
        if arrays.measured[-1].any():
            self.remembered = np.nanmedian(arrays.rtt_ms[-1])
        return super().inputs(arrays, question)

    def learn(self, lesson):
        learned = super().learn(lesson)
        self._state["bias_ms"] = np.array(self.remembered)
        return learned


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_nothing_that_is_learned_stopped_tuned_or_calibrated_depends_on_what_is_sealed(name):
    protocol = protocol_named(name)
    arrays = protocol.view(ARRAYS if protocol.in_time else MESH)
    split = protocol.splits(arrays, seed=0)[-1]
    verdict = audit_learning(Straight, arrays, split, protocol, seed=0)
    assert verdict.passed
    assert verdict.deleted > 0


def test_what_was_remembered_from_the_audit_and_learned_from_is_found():
    split = Forecast().splits(ARRAYS, seed=0)[-1]
    verdict = audit_learning(Rememberer, ARRAYS, split, Forecast(), seed=0)
    with pytest.raises(LeakError, match="learned bias_ms"):
        verdict.require("rememberer")


class Widener(Straight):
    """Widens its intervals by what it remembers from the audit."""

    def inputs(self, arrays, question):
        if arrays.measured[-1].any():
            self.remembered = arrays
        return super().inputs(arrays, question)

    def _calibrate(self, arrays, split, protocol):
        return super()._calibrate(self.remembered, replace(split, calibration=split.test), protocol)


def test_intervals_that_are_calibrated_on_what_is_sealed_are_found():
    split = Forecast().splits(ARRAYS, seed=0)[-1]
    verdict = audit_learning(Widener, ARRAYS, split, Forecast(), seed=0)
    with pytest.raises(LeakError, match=r"learned calibration\.rtt\."):
        verdict.require("widener")


REAL = {
    "boosting": {"rounds": 3, "bound_rounds": 2, "cells": 200, "redraws": 1, "least_cells": 5},
    "sage": {"hidden": 4, "layers": 1, "steps": 2, "neighbours": 2, "lags": 2, "moves": 1, "history": 6},
}
"""Models that are really compared, as small as they still learn from all that they usually do."""


@pytest.mark.parametrize("name", sorted(REAL))
def test_nothing_that_a_real_model_learns_depends_on_what_is_sealed(name, monkeypatch):
    monkeypatch.setattr("gnn.audit.MOST_ROWS", 1)  # its inputs are audited elsewhere
    arrays = synthetic_arrays(probes=4, targets=3, windows=16)
    split = Forecast().splits(arrays, seed=0)[-1]
    verdict = audit_learning(
        lambda: predictor_named(name, "forecast", REAL[name]), arrays, split, Forecast(), seed=0
    )
    assert verdict.passed
    assert min(verdict.perturbed, verdict.deleted, verdict.added) > 0


def test_a_lesson_has_no_test_and_none_of_what_is_sealed():
    seen = []

    class Watched(Straight):
        def learn(self, lesson):
            seen.append(lesson)
            return super().learn(lesson)

    split = Imputation().splits(ARRAYS, seed=0)[-1]
    Watched().fit(ARRAYS, split, Imputation(), seed=0)
    assert len(seen[0].split.test) == 0
    assert not seen[0].arrays.measured[split.sealed].any()
    assert np.isnan(seen[0].arrays.jitter_ms[split.sealed]).all()


# --- the honest


@pytest.mark.parametrize("kind", [Straight, OnGraph])
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_honest_predictors_pass_under_every_protocol(name, kind):
    protocol = protocol_named(name)
    arrays = protocol.view(ARRAYS if protocol.in_time else MESH)
    for split in protocol.splits(arrays, seed=0)[-1:]:
        verdict = audit(kind(), arrays, split, protocol)
        assert verdict.findings == ()
        assert len(verdict.windows) >= 8
        assert min(verdict.perturbed, verdict.deleted, verdict.added) > 0


@pytest.mark.parametrize("name", ["unseen-pair", "unseen-probe"])
def test_honest_predictors_pass_in_a_single_window_and_where_directions_are_apart(name):
    protocol = protocol_named(name)
    for data in (anchor_mesh(anchors=10, probes=12, windows=1), MESH):
        split = protocol.splits(data, seed=1)[0]
        assert audit(OnGraph(), data, split, protocol).findings == ()


@pytest.mark.parametrize("name", ["forecast", "imputation"])
def test_pairs_first_measured_later_make_no_edges_and_leak_nothing(name):
    unborn = np.zeros_like(ARRAYS.sent, dtype=bool)
    unborn[:20, ::3] = True
    late = without(ARRAYS, unborn)
    protocol = protocol_named(name)
    assert audit(OnGraph(), late, protocol.splits(late, seed=0)[-1], protocol).passed


class OfOthers(Straight):
    """Is said to be made of others."""

    members = ("straight",)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_what_is_made_of_others_is_audited_in_the_last_row_that_these_are_audited_in(rows, monkeypatch):
    monkeypatch.setattr("gnn.audit.ROW_PAIRS", rows * ARRAYS.pairs)
    split = Imputation().splits(ARRAYS, seed=0)[-1]
    members, own = (audit(kind(), ARRAYS, split, Imputation()).windows for kind in (Straight, OfOthers))
    sizes = [
        min(rows, len(question)) for question in (split.fit, split.validation, split.calibration, split.test)
    ]
    assert len(members) == sum(sizes)
    assert own == tuple(members[end - 1] for end in np.cumsum(sizes))


def test_verdicts_are_added_up_and_only_findings_are_refused():
    leak = Finding(kind="error", name="too good to be true", window=4)
    passed = Verdict(windows=(1, 2), findings=(), perturbed=5, deleted=6, added=7)
    passed.require("honest")
    both = passed.with_other(Verdict(windows=(2,), findings=(leak,), deleted=1))
    assert (both.windows, both.perturbed, both.deleted, both.added) == ((1, 2, 2), 5, 7, 7)
    with pytest.raises(LeakError, match="error: too good to be true") as refused:
        both.require("lucky")
    assert "changed" not in refused.value.found
