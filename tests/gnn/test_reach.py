"""What a predictor learned from, and what is out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain.errors import ArtefactError
from gnn.protocols.forecast import Forecast
from gnn.protocols.unseen_pair import UnseenPair
from gnn.reach import ALONE, NEW_PROBE_AS, NEW_TARGET_AS, TOO_FAR, Reach


@pytest.fixture
def split(arrays):
    return Forecast().splits(arrays, seed=0)[-1]


def test_nothing_that_was_learned_from_is_out_of_reach(arrays, split):
    assert (Reach.of(arrays, split.fit).beyond(arrays, split.test) == "").all()


def test_an_as_that_was_not_there_is_named_and_an_unknown_one_is_not(arrays, split):
    reach = Reach.of(arrays, split.fit)
    asn = arrays.probe_end.asn.copy()
    asn[0], asn[1] = 65000, 0
    moved = replace(arrays, probe_end=replace(arrays.probe_end, asn=asn))
    beyond = reach.beyond(moved, split.test)
    assert (beyond[:, 0] == NEW_PROBE_AS).all()
    assert (beyond[:, 1:] == "").all()
    asn = arrays.target_end.asn.copy()
    asn[5] = 65000
    moved = replace(arrays, target_end=replace(arrays.target_end, asn=asn))
    assert (reach.beyond(moved, split.test)[:, 5] == NEW_TARGET_AS).all()


def test_further_than_any_pair_that_was_learned_from_is_said(arrays, split):
    reach = Reach.of(arrays, split.fit)
    latitude, longitude = arrays.target_end.latitude.copy(), arrays.target_end.longitude.copy()
    latitude[7], longitude[7] = -45.0, -170.0
    moved = replace(arrays, target_end=replace(arrays.target_end, latitude=latitude, longitude=longitude))
    beyond = reach.beyond(moved, split.test)
    assert (beyond[:, 7] == TOO_FAR).all()
    assert (np.delete(beyond, 7, axis=1) == "").all()


def test_a_pair_of_which_nothing_and_nobody_near_is_seen_is_alone(arrays):
    question = UnseenPair().question(
        arrays, np.array([3]), np.ones(arrays.pairs, dtype=bool), np.zeros(arrays.pairs, dtype=bool)
    )
    reach = Reach(
        probe_asns=np.unique(arrays.probe_end.asn),
        target_asns=np.unique(arrays.target_end.asn),
        most_km=np.inf,
    )
    assert (reach.beyond(arrays, question) == ALONE).all()
    one = np.arange(arrays.pairs) == 0
    question = UnseenPair().question(arrays, np.array([3]), ~one, ~one & False)
    beyond = reach.beyond(arrays, question)
    shares = (arrays.probe_end.host == arrays.probe_end.host[0]) | (
        arrays.target_end.host == arrays.target_end.host[0]
    )
    assert (beyond[0][shares] == "").all()
    assert (beyond[0][~shares] == ALONE).all()


def test_it_comes_back_as_it_was_saved_and_nothing_else_does(arrays, split):
    reach = Reach.of(arrays, split.fit)
    again = Reach.from_state(reach.state(), where="a model")
    np.testing.assert_array_equal(again.probe_asns, reach.probe_asns)
    assert again.most_km == reach.most_km
    for wrong in ({"most_km": np.array(np.nan)}, {"probe_asns": np.array([1.0])}, {"more": np.array(1.0)}):
        with pytest.raises(ArtefactError, match="reach"):
            Reach.from_state(reach.state() | wrong, where="a model")
