"""The ensemble: what it makes of its members, and that it is saved with them."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import ArtefactError, DataError
from gnn import artefact
from gnn.audit import audit_answers, without
from gnn.inputs import columns_only
from gnn.models.ensemble import MEMBERS, OF_LOSS, Ensemble
from gnn.of_members import VALUES
from gnn.predictor import Lesson
from gnn.protocols.imputation import Imputation
from gnn.registry import predictor_class, predictor_named
from tests.gnn.conftest import synthetic_arrays
from tests.gnn.straight_line import Straight

TINY = {
    "hidden": 4,
    "layers": 1,
    "heads": 1,
    "steps": 1,
    "neighbours": 2,
    "lags": 2,
    "history": 4,
    "moves": 1,
    "rounds": 2,
    "bound_rounds": 2,
    "cells": 200,
    "redraws": 1,
    "least_cells": 5,
}
BOUNDS = ("_low", "", "_high")
LOSS = ("any_loss_probability", "loss_ratio")


def said(of, *, in_range=None):
    """Inputs of an ensemble: member -> what it says of each value, a number for all of 2 x 3 cells; NaN is nothing."""
    columns = {
        f"{name} {value}": np.full((2, 3), of.get(name, {}).get(value, np.nan), dtype=float)
        for name in Ensemble.members
        for value in VALUES
    }
    for name in Ensemble.members:
        columns[f"{name} in_range"] = np.full((2, 3), float((in_range or {}).get(name, True)))
    return columns_only(columns)


def same(number, **of_values):
    """What each value is of a member that says one number of everything, but for these."""
    return dict.fromkeys(VALUES, number) | of_values


class Voice(Straight):
    """A member that is quick to learn: a straight line, so many times as loud, and one ratio for all loss."""

    def __init__(self, loudness, ratio):
        super().__init__()
        self.loudness, self.ratio = loudness, ratio

    def answer(self, inputs):
        told = super().answer(inputs)
        loud = {f"rtt{bound}_ms": self.loudness * getattr(told, f"rtt{bound}_ms") for bound in BOUNDS}
        return replace(told, **loud, **{name: np.full(told.rtt_ms.shape, self.ratio) for name in LOSS})


@cache
def data():
    arrays = synthetic_arrays(probes=6, targets=5, windows=16)
    return arrays, Imputation().splits(arrays, seed=0)[-1]


def learned(members):
    """An ensemble of these members, which learn here, but are not audited one by one."""
    arrays, split = data()
    for member in members.values():
        member.learn(Lesson(arrays=without(arrays, split.sealed), split=split, protocol=Imputation(), seed=0))
    ensemble = Ensemble()
    ensemble.reuse(members)
    return ensemble


@cache
def of_voices():
    """A fitted ensemble of quick members, these, and the audit's verdict."""
    members = {name: Voice(1.0 + 0.01 * number, 0.1 * number) for number, name in enumerate(Ensemble.members)}
    ensemble = learned({**members, "somebody-else": Voice(1e3, 1.0)})
    learning, verdict = ensemble.fit(*data(), Imputation(), seed=0)
    assert learning.parameters == 0
    return ensemble, members, verdict


@cache
def of_its_own():
    """An ensemble of its real members, as small as they can be. Its intervals are those of the one of quick members."""
    ensemble = learned({name: predictor_named(name, "imputation", TINY) for name in Ensemble.members})
    ensemble.calibrated = of_voices()[0].calibrated
    return ensemble


def test_rtt_and_jitter_are_the_mean_of_the_graph_models_and_boosting_has_no_say():
    told = Ensemble().answer(
        said({name: same(10.0 * number) for number, name in enumerate(MEMBERS)} | {OF_LOSS: same(1e6)})
    )
    for value in set(VALUES) - set(LOSS):
        np.testing.assert_allclose(getattr(told, value), 15.0)
    assert told.in_range.all()
    assert (told.reason == "").all()


def test_in_loss_boosting_has_as_much_say_as_all_graph_models_together():
    told = Ensemble().answer(
        said({name: same(0.1 * number) for number, name in enumerate(MEMBERS)} | {OF_LOSS: same(0.75)})
    )
    for value in LOSS:
        np.testing.assert_allclose(getattr(told, value), (0.15 + 0.75) / 2.0)


def test_a_member_with_nothing_to_say_is_left_out_of_the_mean():
    silent, *others = MEMBERS
    told = Ensemble().answer(said({name: same(0.4) for name in others} | {OF_LOSS: same(0.8)}))
    np.testing.assert_allclose(told.rtt_ms, 0.4)
    np.testing.assert_allclose(told.loss_ratio, 0.6)
    alone = Ensemble().answer(said({OF_LOSS: same(0.8)}))
    np.testing.assert_allclose(alone.any_loss_probability, 0.8)
    assert np.isnan(alone.rtt_ms).all()
    without_boosting = Ensemble().answer(said({silent: same(0.2)}))
    np.testing.assert_allclose(without_boosting.loss_ratio, 0.2)


def test_where_no_member_says_anything_nor_does_the_ensemble():
    told = Ensemble().answer(said({}, in_range=dict.fromkeys(MEMBERS, False)))
    for value in VALUES:
        assert np.isnan(getattr(told, value)).all()
    assert not told.in_range.any()
    assert (told.reason != "").all()


def test_one_graph_model_out_of_its_range_puts_the_ensemble_out_of_range_and_boosting_does_not():
    every = {name: same(1.0) for name in Ensemble.members}
    told = Ensemble().answer(said(every, in_range={MEMBERS[2]: False}))
    assert not told.in_range.any()
    assert (told.reason == "a member is out of its range").all()
    np.testing.assert_allclose(told.rtt_ms, 1.0)
    assert Ensemble().answer(said(every, in_range={OF_LOSS: False})).in_range.all()


@given(
    st.lists(
        st.tuples(st.floats(0.0, 500.0), st.floats(0.0, 50.0), st.floats(0.0, 50.0), st.booleans()),
        min_size=len(MEMBERS),
        max_size=len(MEMBERS),
    )
)
def test_quantiles_of_members_in_order_stay_in_order(drawn):
    of = {
        name: {
            "rtt_ms": middle,
            "rtt_low_ms": middle - down,
            "rtt_high_ms": middle + up,
            "jitter_ms": up,
            "jitter_low_ms": 0.0,
            "jitter_high_ms": up + down,
        }
        for name, (middle, down, up, speaks) in zip(MEMBERS, drawn, strict=True)
        if speaks
    }
    told = Ensemble().answer(said(of))
    for name in ("rtt", "jitter"):
        low, middle, high = (getattr(told, f"{name}{bound}_ms") for bound in BOUNDS)
        assert np.isfinite(middle).all() == bool(of)
        assert not (low > middle + 1e-9).any()
        assert not (middle > high + 1e-9).any()


def test_what_fitted_members_say_is_averaged_and_its_own_intervals_hold_the_mean():
    arrays, split = data()
    ensemble, members, verdict = of_voices()
    assert verdict.passed
    told = ensemble.raw(arrays, split.test)
    by = {name: member.raw(arrays, split.test) for name, member in members.items()}
    np.testing.assert_allclose(told.rtt_high_ms, np.mean([by[name].rtt_high_ms for name in MEMBERS], axis=0))
    np.testing.assert_allclose(told.loss_ratio, (0.15 + 0.4) / 2.0)
    calibrated = ensemble.predict(arrays, split.test)
    low, middle, high = (getattr(calibrated, f"rtt{bound}_ms") for bound in BOUNDS)
    known = np.isfinite(low)
    assert known.any()
    assert ((low >= 0.0) & (low <= middle) & (middle <= high))[known].all()
    np.testing.assert_array_equal(middle, told.rtt_ms)
    audit_answers(ensemble, arrays, split.test.part(slice(0, 1))).require("ensemble")


def test_without_all_of_its_members_it_learns_nothing_and_names_those_that_are_missing():
    _, members, _ = of_voices()
    ensemble = Ensemble()
    ensemble.reuse({name: member for name, member in members.items() if name != "sage"})
    with pytest.raises(DataError, match=r"fitted with all of its members.*missing: sage"):
        ensemble.fit(*data(), Imputation(), seed=0)


def test_it_is_saved_with_its_members_and_predicts_bit_for_bit_what_it_did(tmp_path):
    arrays, split = data()
    ensemble = of_its_own()
    card = artefact.card(
        ensemble,
        arrays,
        protocol="imputation",
        model="ensemble",
        split=split.name,
        seed=0,
        verdict=of_voices()[2],
        code_version="0.1.0",
    )
    artefact.save(ensemble, card, tmp_path)
    loaded, about = artefact.load(tmp_path)
    assert about == card
    assert loaded.config() == ensemble.config()
    assert loaded.columns == ensemble.columns
    before, after = ensemble.predict(arrays, split.test), loaded.predict(arrays, split.test)
    for field in fields(before):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    assert np.isfinite(before.rtt_high_ms).any()
    assert np.isfinite(before.any_loss_probability).any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state, columns: (state | {"stranger.weight": np.zeros(1)}, columns), "stranger.weight"),
        (lambda state, columns: (state, (*columns, "stranger.rtt_lag_1")), "stranger.rtt_lag_1"),
        (
            lambda state, columns: (
                {key: value for key, value in state.items() if not key.startswith("sage.")},
                columns,
            ),
            "sage",
        ),
    ],
    ids=["an array too many", "a column too many", "a member too few"],
)
def test_what_another_ensemble_has_learned_is_refused(change, named):
    ensemble = of_its_own()
    made = Ensemble.configured(ensemble.config())
    with pytest.raises(ArtefactError, match=named):
        made.restore(*change(dict(ensemble.state()), ensemble.columns))


def test_each_of_its_members_keeps_its_own_settings():
    config = Ensemble().config() | {"sage.hidden": 7, "boosting-around.rounds": 3}
    assert Ensemble.configured(config).config() == config
    assert predictor_class("sage")().config()["hidden"] != 7
