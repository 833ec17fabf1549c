"""Protocols: who is hidden from whom, and that nothing is hidden by half."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest

from domain.errors import DataError, UnknownNameError
from gnn.audit import without
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import Forecast
from gnn.protocols.hosts import both_directions, host_pair
from gnn.protocols.imputation import Imputation
from gnn.protocols.unseen_pair import UnseenPair
from gnn.protocols.unseen_probe import SEEN, UnseenProbe
from gnn.split_audit import split_flaws
from tests.gnn.anchor_mesh import anchor_mesh, of_pairs
from tests.gnn.conftest import synthetic_arrays

OVER_TIME = synthetic_arrays(probes=6, targets=5, windows=40)
MESH = anchor_mesh()
ONE_WINDOW = anchor_mesh(windows=1)
DATA = {
    "forecast": OVER_TIME,
    "imputation": OVER_TIME,
    "unseen-pair": MESH,
    "unseen-probe": MESH,
}
EVERY = sorted(PROTOCOLS)


def _cells(arrays, question):
    asked = np.zeros((arrays.windows, arrays.pairs), dtype=bool)
    for window, pairs in zip(question.windows, question.asked, strict=True):
        asked[window] |= pairs
    return asked


def _drawn(protocol, arrays, split, seed=0):
    unsealed = without(arrays, split.sealed)
    return protocol.redraw(split.fit, unsealed, np.random.default_rng(seed))


def _seen(arrays, question, row):
    return ~question.hidden(arrays, row).all(axis=0)


def _same(one, other):
    for name in ("windows", "seen_until", "seen_past", "seen_now", "asked", "case", "held_out"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_makes_the_same_split_and_another_seed_another(name):
    protocol, arrays = protocol_named(name), protocol_named(name).view(DATA[name])
    one, again, other = (protocol.splits(arrays, seed=seed)[-1] for seed in (3, 3, 4))
    for part in ("fit", "validation", "calibration", "test"):
        _same(getattr(one, part), getattr(again, part))
    _same(_drawn(protocol, arrays, one), _drawn(protocol, arrays, again))
    np.testing.assert_array_equal(one.sealed, again.sealed)
    if name != "forecast":  # nothing is drawn there
        assert (one.test.asked != other.test.asked).any()


@pytest.mark.parametrize("name", EVERY)
def test_each_part_asks_cells_of_its_own_and_the_test_only_what_is_sealed(name):
    protocol, arrays = protocol_named(name), protocol_named(name).view(DATA[name])
    for split in protocol.splits(arrays, seed=0):
        drawn = _drawn(protocol, arrays, split)
        parts = [_cells(arrays, q) for q in (drawn, split.validation, split.calibration, split.test)]
        for one, other in combinations(parts, 2):
            assert not (one & other).any()
        assert not (parts[3] & ~split.sealed).any()
        for question, asked in zip(
            (drawn, split.validation, split.calibration, split.test), parts, strict=True
        ):
            assert asked.any()
            assert question.cells(arrays).rtt.any()
            assert set(question.case) <= set(range(len(protocol.cases(arrays.window_s))))
        for asked in parts[:3]:
            assert not (asked & split.sealed).any()


@pytest.mark.parametrize("name", EVERY)
def test_a_fitted_question_has_cells_to_learn_from_before_it_is_redrawn(name):
    protocol, arrays = protocol_named(name), protocol_named(name).view(DATA[name])
    for split in protocol.splits(arrays, seed=0):
        assert split.fit.cells(without(arrays, split.sealed)).rtt.any()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_split_has_a_flaw(name, seed):
    protocol = protocol_named(name)
    for data in (DATA[name], ONE_WINDOW) if name.startswith("unseen") else (DATA[name],):
        arrays = protocol.view(data)
        for split in protocol.splits(arrays, seed=seed):
            assert split_flaws(arrays, split, _drawn(protocol, arrays, split, seed), protocol) == ()


@pytest.mark.parametrize("name", ["unseen-pair", "unseen-probe"])
def test_hosts_are_hidden_in_both_directions_and_both_families_also_where_directions_are_apart(name):
    protocol = protocol_named(name)  # without its view, ways back are pairs of their own
    split = protocol.splits(MESH, seed=0)[0]
    hosts = host_pair(MESH)
    asked_ways = 0
    for question in (_drawn(protocol, MESH, split), split.validation, split.calibration, split.test):
        for row in range(len(question)):
            asked = np.isin(hosts, hosts[question.asked[row]])
            assert not (asked & _seen(MESH, question, row)).any()
            asked_ways = max(asked_ways, int(np.bincount(hosts[question.asked[row]]).max(initial=0)))
    assert asked_ways == 4  # there and back, over IPv4 and IPv6
    assert split_flaws(MESH, split, _drawn(protocol, MESH, split), protocol) == ()


def test_a_pair_and_its_way_back_are_viewed_as_one_and_keep_all_their_packets():
    merged, column = both_directions(MESH)
    assert len(merged.probe_id) == len(np.unique(np.stack([host_pair(MESH), MESH.af]), axis=1).T)
    assert merged.sent.sum() == MESH.sent.sum()
    back = np.flatnonzero(np.bincount(column) == 2)[0]
    with np.errstate(invalid="ignore"):
        both = MESH.rtt_ms[:, column == back]
        expected = np.where(
            np.isfinite(both).all(axis=1), both.mean(axis=1), np.nanmax(both, axis=1, initial=-1.0)
        )
    expected[expected < 0.0] = np.nan
    np.testing.assert_allclose(merged.rtt_ms[:, back], expected)
    again, _ = both_directions(merged)
    assert again.pairs == merged.pairs


def test_a_hidden_host_is_seen_in_exactly_k_pairs_of_hosts_whatever_its_ids():
    protocol = UnseenProbe()
    arrays = protocol.view(MESH)
    split = protocol.splits(arrays, seed=0)[0]
    here, there = arrays.probe_end.host, arrays.target_end.host
    for question in (split.validation, split.calibration, split.test):
        for row in range(len(question)):
            seen, asked = _seen(arrays, question, row), question.asked[row]
            partners = {
                int(host): set(there[seen & (here == host)]) | set(here[seen & (there == host)])
                for host in np.union1d(here[asked], there[asked])
            }
            for pair in np.flatnonzero(asked):
                ends = [len(partners[int(host)]) for host in (here[pair], there[pair])]
                assert min(ends) == SEEN[int(question.case[row])]
    sealed = split.sealed[0]
    hidden = np.setdiff1d(np.union1d(here, there), np.union1d(here[~sealed], there[~sealed]))
    assert len(hidden) == round(0.2 * 30)
    assert not split.test.asked[:, np.isin(here, hidden) & np.isin(there, hidden)].any()


def test_the_same_cells_are_asked_whatever_k_is():
    protocol = UnseenProbe()
    arrays = protocol.view(MESH)
    split = protocol.splits(arrays, seed=0)[0]
    for question in (split.validation, split.calibration, split.test):
        asked = [question.asked[question.case == case] for case in range(len(SEEN))]
        np.testing.assert_array_equal(asked[0], asked[1])
        np.testing.assert_array_equal(asked[0], asked[2])
        windows = [question.windows[question.case == case].tolist() for case in range(len(SEEN))]
        assert windows[0] == windows[1] == windows[2]


def test_hosts_are_hidden_when_learned_on_as_they_are_in_the_test():
    protocol = UnseenProbe()
    arrays = protocol.view(MESH)
    split = protocol.splits(arrays, seed=0)[0]
    drawn = _drawn(protocol, arrays, split)
    assert set(drawn.case) == set(range(len(SEEN)))
    assert drawn.asked.any(axis=1).mean() > 0.8
    assert not (drawn.asked & split.sealed[0]).any()


def test_imputation_sees_earlier_windows_whole_and_hides_both_ways_of_two_hosts_together():
    for split in Imputation().splits(OVER_TIME, seed=0):
        for question in (split.calibration, split.test):
            for row in range(len(question)):
                hidden = question.hidden(OVER_TIME, row)
                assert not hidden[: question.windows[row]].any()
                assert (hidden[question.windows[row]] == question.asked[row]).all()
        hosts = host_pair(OVER_TIME)
        for asked in split.test.asked:
            assert not set(hosts[asked]) & set(hosts[~asked])


def test_imputation_hides_half_and_draws_each_epoch_anew():
    split = Imputation().splits(OVER_TIME, seed=0)[-1]
    assert 0.4 < split.test.asked.mean() < 0.6
    one, other = (_drawn(Imputation(), OVER_TIME, split, seed) for seed in (0, 1))
    assert (one.asked != other.asked).any()
    for row in range(len(one)):
        np.testing.assert_array_equal(one.asked[row], ~one.seen_now[row])


def test_forecasts_alone_count_the_days_of_a_probe_apart():
    assert [name for name in EVERY if protocol_named(name).by_day] == ["forecast"]


@pytest.mark.parametrize(
    ("window_s", "horizons", "cases"),
    [
        (10800, (1, 2, 4, 8), ("next window", "6 h ahead", "12 h ahead", "24 h ahead")),
        (3600, (1, 6, 12, 24), ("next window", "6 h ahead", "12 h ahead", "24 h ahead")),
        (21600, (1, 2, 4), ("next window", "12 h ahead", "24 h ahead")),
        (86400, (1,), ("next window",)),
    ],
)
def test_forecasts_are_of_the_next_window_and_up_to_a_day_ahead(window_s, horizons, cases):
    assert Forecast().horizons(window_s) == horizons
    assert Forecast().cases(window_s) == cases
    arrays = replace(OVER_TIME, window_s=window_s)
    for split in Forecast().splits(arrays, seed=0):
        ahead = split.test.windows - split.test.seen_until + 1
        np.testing.assert_array_equal(ahead, np.array(horizons)[split.test.case])
        assert set(ahead) == {h for h in horizons if h <= split.test.windows.max()}
        drawn = _drawn(Forecast(), arrays, split)
        assert (drawn.windows - drawn.seen_until + 1 <= horizons[-1]).all()
        assert set(split.validation.case) == {0}


def test_origins_roll_and_each_test_ends_where_the_next_begins():
    for protocol in (Forecast(), Imputation()):
        splits = protocol.splits(OVER_TIME, seed=0)
        assert len(splits) == 3
        assert len({split.name for split in splits}) == 3
        for split in splits:
            parts = (split.fit, split.validation, split.calibration, split.test)
            for one, other in pairwise(parts):
                assert one.windows.max() < other.windows.min()
        for one, other in pairwise(splits):
            assert one.test.windows.max() + 1 == other.test.windows.min()
        assert splits[-1].test.windows.max() == OVER_TIME.windows - 1


@pytest.mark.parametrize(
    ("name", "arrays", "found"),
    [
        ("forecast", synthetic_arrays(windows=11), "11 measured windows of 10800 s; expected at least 12"),
        ("imputation", ONE_WINDOW, "1 measured windows of 10800 s; expected at least 12"),
        ("unseen-pair", anchor_mesh(anchors=10, probes=0), "45 with an RTT; expected at least 60"),
        ("unseen-probe", anchor_mesh(anchors=15, probes=4), "19 with an RTT; expected at least 20"),
        (
            "unseen-probe",
            of_pairs(MESH, MESH.probe_id == MESH.probe_id[0]),
            "1 with an RTT; expected at least 20",
        ),
        (
            "unseen-pair",
            of_pairs(MESH, MESH.probe_id == MESH.probe_id[0]),
            "23 with an RTT; expected at least 60",
        ),
    ],
)
def test_too_little_to_learn_from_is_said_with_what_there_is(name, arrays, found):
    protocol = protocol_named(name)
    with pytest.raises(DataError, match=found):
        protocol.splits(protocol.view(arrays), seed=0)


@pytest.mark.parametrize("name", EVERY)
def test_nothing_measured_at_all_is_too_little(name):
    protocol = protocol_named(name)
    nothing = without(DATA[name], np.ones_like(DATA[name].sent, dtype=bool))
    with pytest.raises(DataError, match="too few"):
        protocol.splits(protocol.view(nothing), seed=0)


@pytest.mark.parametrize("name", ["forecast", "imputation"])
def test_one_probe_is_enough_where_time_is_divided(name):
    arrays = synthetic_arrays(probes=1, targets=4)
    protocol = protocol_named(name)
    for split in protocol.splits(arrays, seed=0):
        assert split.test.cells(arrays).rtt.any()
        assert split_flaws(arrays, split, _drawn(protocol, arrays, split), protocol) == ()


@pytest.mark.parametrize("name", ["unseen-pair", "unseen-probe"])
def test_one_window_is_enough_where_hosts_are_divided(name):
    protocol = protocol_named(name)
    arrays = protocol.view(ONE_WINDOW)
    split = protocol.splits(arrays, seed=0)[0]
    assert set(split.test.windows) == {0}
    assert split.test.cells(arrays).rtt.any()
    assert _drawn(protocol, arrays, split).cells(without(arrays, split.sealed)).rtt.any()


def test_windows_in_which_nothing_was_measured_are_asked_of_nobody():
    gap = np.zeros_like(OVER_TIME.sent, dtype=bool)
    gap[20:24] = True
    for protocol in (Forecast(), Imputation()):
        for split in protocol.splits(without(OVER_TIME, gap), seed=0):
            for question in (split.fit, split.validation, split.calibration, split.test):
                assert not np.isin(question.windows, np.arange(20, 24)).any()


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_measured_can_be_asked_of_every_protocol(name):
    protocol = protocol_named(name)
    arrays = protocol.view(DATA[name])
    windows = np.array([arrays.windows - 1, arrays.windows, arrays.windows + 1])
    question = protocol.ask(arrays, windows)
    assert set(question.windows) == set(windows)
    assert set(question.case) <= set(range(len(protocol.cases(arrays.window_s))))


def test_pairs_that_were_never_measured_are_asked_and_those_that_were_are_seen():
    arrays = UnseenPair().view(MESH)
    never = np.zeros_like(arrays.sent, dtype=bool)
    never[:, ::7] = True
    question = UnseenPair().ask(without(arrays, never), np.array([4, 5]))
    np.testing.assert_array_equal(question.asked, np.broadcast_to(never[0], question.asked.shape))
    np.testing.assert_array_equal(question.seen_now, np.broadcast_to(~never[0], question.asked.shape))


def test_a_protocol_that_nobody_knows_is_refused_with_those_that_are_known():
    with pytest.raises(
        UnknownNameError, match="forecast or imputation or paper or unseen-pair or unseen-probe"
    ):
        protocol_named("crystal-ball")
