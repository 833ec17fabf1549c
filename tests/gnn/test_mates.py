"""Mates, against loops that say the same more slowly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.place import FIBRE_KM_PER_MS, distance_km
from gnn import history, mates
from gnn.inputs import NOBODY
from gnn.mates import EDGE_COLUMNS
from gnn.neighbours import heard_by, on_sphere
from gnn.protocols.unseen_pair import UnseenPair
from tests.gnn.anchor_mesh import anchor_mesh, of_pairs
from tests.gnn.conftest import synthetic_arrays

ARRAYS = synthetic_arrays(probes=5, targets=4, windows=2)
MESH = anchor_mesh(anchors=8, probes=2, windows=1, measured=1.0)
FOLDED = UnseenPair().view(MESH)
AT = {name: number for number, name in enumerate(EDGE_COLUMNS)}


def level_of(arrays, *, hidden=0.0, seed=0):
    """Usual RTT of each pair, a share of them unknown."""
    gone = np.random.default_rng(seed).random(arrays.pairs) < hidden
    return np.where(gone, np.nan, arrays.rtt_ms[0])


def through(arrays, level, *, now=None, k=3):
    hosts = mates.hosts_of(arrays, level, k)
    heard, numbers = mates.through_hosts(
        arrays, hosts, np.isfinite(level), usual=level, now=level if now is None else now, neighbours=k
    )
    return hosts, heard, numbers


def ends(arrays, pair):
    return int(arrays.probe_end.host[pair]), int(arrays.target_end.host[pair])


def place_of(arrays):
    found = {}
    for end in (arrays.target_end, arrays.probe_end):
        found |= {int(h): (x, y) for h, x, y in zip(end.host, end.latitude, end.longitude, strict=True)}
    return found


@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_over_time_a_mate_tells_its_usual_difference_its_spread_and_how_both_moved(seed, lags, k):
    generator = np.random.default_rng(seed)
    shape = (ARRAYS.pairs, lags)
    past = np.where(generator.random(shape) < 0.4, np.nan, generator.uniform(1.0, 300.0, shape))
    usual, now = history.median(past), np.where(generator.random(ARRAYS.pairs) < 0.5, np.nan, 50.0)
    every = np.ones(ARRAYS.pairs, dtype=bool)
    heard = heard_by(ARRAYS, every, every, neighbours=k, near_km=500.0)["probe"]
    place = on_sphere(ARRAYS.target_end)
    found = mates.temporal(ARRAYS, heard, past=past, usual=usual, now=now, far=place, unit_ms=20.0)
    end = ARRAYS.target_end
    for pair, row in enumerate(heard):
        for number, mate in enumerate(row):
            edge = dict(zip(EDGE_COLUMNS, found[pair, number], strict=True))
            if mate == NOBODY:
                assert np.isnan(list(edge.values())).all()
                continue
            mine, theirs = past[pair] - usual[pair], past[mate] - usual[mate]
            both = np.isfinite(mine) & np.isfinite(theirs)
            wanted = {
                "offset_ms": usual[pair] - usual[mate],
                "log_support": np.log1p(both.sum()),
                "spread_ms": np.abs(mine - theirs)[both].mean() if both.any() else np.nan,
                "seen_now": float(np.isfinite(now[mate])),
                "move_ms": now[mate] - usual[mate],
                "far_megametres": np.nan,
                "same_family": 1.0,
                "unlike_ms": np.nan,
            }
            both_ends = [end.latitude[pair], end.longitude[pair], end.latitude[mate], end.longitude[mate]]
            if np.isfinite(both_ends).all():
                wanted["far_megametres"] = distance_km(*both_ends) / 1000.0
            for name, value in wanted.items():
                assert edge[name] == pytest.approx(value, rel=1e-4, abs=1e-3, nan_ok=True), name
            moves = [np.arcsinh(one / 20.0) for one in (mine, theirs)]
            centred = [(one - np.nanmean(one))[both] if both.any() else one[both] for one in moves]
            norm = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
            if norm > 1e-4:
                assert edge["correlation"] == pytest.approx((centred[0] * centred[1]).sum() / norm, abs=1e-3)


def naive_offset(table, unlike, host, stand_in, third):
    """How much further a host is than its stand-in to a third: offset, deviation and the effective number of partners."""
    partners = [
        j for j in range(len(table)) if np.isfinite(table[host, j]) and np.isfinite(table[stand_in, j])
    ]
    difference = {j: table[host, j] - table[stand_in, j] for j in partners}
    for _ in range(2):
        if partners:
            mean, deviation = np.mean(list(difference.values())), np.std(list(difference.values()))
            low, high = mean - 2.0 * deviation, mean + 2.0 * deviation
            difference = {j: min(max(d, low), high) for j, d in difference.items()}
    weight = {j: 1.0 / (max(unlike[j, third], 0.0) + 3.0) ** 2 for j in partners if j != third}
    total = sum(weight.values())
    if total == 0.0:
        return 0.0, unlike[host, stand_in], 0.0
    offset = sum(w * difference[j] for j, w in weight.items()) / total
    square = sum(w * difference[j] ** 2 for j, w in weight.items()) / total
    effective = total**2 / sum(w**2 for w in weight.values())
    return offset, np.sqrt(max(square - offset**2, 0.0)), effective


@pytest.mark.parametrize("hidden", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("arrays", [MESH, FOLDED], ids=["both ways", "folded"])
def test_through_hosts_a_mate_tells_how_much_further_its_host_is_to_those_both_were_measured_with(
    arrays, hidden
):
    level = level_of(arrays, hidden=hidden)
    hosts, heard, numbers = through(arrays, level)
    ids = np.unique(np.concatenate([arrays.probe_end.host, arrays.target_end.host]))
    # RTT of two hosts: over IPv4 where it is known, from the first's probe where it is.
    seen = {(*ends(arrays, p), int(arrays.af[p])): level[p] for p in range(arrays.pairs) if level[p] > 0.0}
    table = np.full((len(ids), len(ids)), np.nan)
    for i, one in enumerate(ids):
        for j, other in enumerate(ids):
            ways = [
                seen.get(key) for key in ((one, other, 4), (other, one, 4), (one, other, 6), (other, one, 6))
            ]
            forth = [way for way in ways[:2] if way is not None] or [
                way for way in ways[2:] if way is not None
            ]
            if forth:
                table[i, j] = forth[0]
    checked = 0
    for side, kept_at in (("probe", 0), ("target", 1)):
        for pair in range(arrays.pairs):
            kept, swapped = ends(arrays, pair)[kept_at], ends(arrays, pair)[1 - kept_at]
            for number, mate in enumerate(heard[side][pair]):
                if mate == NOBODY:
                    assert np.isnan(numbers[side][pair, number]).all()
                    continue
                assert mate != pair
                assert np.isfinite(level[mate])
                assert kept in ends(arrays, mate)  # in whichever role
                (stand_in,) = set(ends(arrays, mate)) - {kept}
                a, s, b = (int(np.searchsorted(ids, one)) for one in (swapped, stand_in, kept))
                offset, spread, effective = naive_offset(table, hosts.unlike, a, s, b)
                edge = numbers[side][pair, number]
                assert edge[AT["offset_ms"]] == pytest.approx(offset, rel=1e-3, abs=1e-2)
                assert edge[AT["spread_ms"]] == pytest.approx(spread, rel=1e-2, abs=0.1)
                assert edge[AT["log_support"]] == pytest.approx(np.log1p(effective), rel=1e-3)
                assert edge[AT["unlike_ms"]] == pytest.approx(hosts.unlike[a, s], rel=1e-5)
                checked += 1
    assert checked > 50


def test_what_differs_is_measured_between_the_hosts_that_differ_whichever_their_role():
    _, heard, numbers = through(FOLDED, level_of(FOLDED))
    place, turned = place_of(FOLDED), 0
    for side, kept_at in (("probe", 0), ("target", 1)):
        for pair in range(FOLDED.pairs):
            kept, swapped = ends(FOLDED, pair)[kept_at], ends(FOLDED, pair)[1 - kept_at]
            for number, mate in enumerate(heard[side][pair]):
                if mate != NOBODY:
                    (other,) = set(ends(FOLDED, mate)) - {kept}
                    turned += ends(FOLDED, mate)[kept_at] != kept
                    far = distance_km(*place[swapped], *place[other]) / 1000.0
                    assert numbers[side][pair, number, AT["far_megametres"]] == pytest.approx(far, abs=1e-3)
    assert turned > 50


def test_the_fibre_offset_is_how_much_longer_light_takes():
    _, heard, numbers = through(FOLDED, level_of(FOLDED))
    place = place_of(FOLDED)

    def light_ms(pair):
        here, there = ends(FOLDED, pair)
        return 2.0 * distance_km(*place[here], *place[there]) / FIBRE_KM_PER_MS

    for pair in (0, 11, 40):
        mate = heard["target"][pair, 0]
        wanted = light_ms(pair) - light_ms(mate)
        assert numbers["target"][pair, 0, AT["fibre_offset_ms"]] == pytest.approx(wanted, abs=1e-2)


@given(st.integers(0, 2**16), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=15, deadline=None)
def test_stand_ins_are_the_hosts_most_alike_the_most_first_and_never_itself(seed, hidden):
    hosts = mates.hosts_of(MESH, level_of(MESH, hidden=hidden, seed=seed), 2)
    for host, row in enumerate(hosts.stand_ins):
        assert host not in row
        assert len(set(row.tolist())) == len(row)
        unlike = hosts.unlike[host, row]
        assert (np.diff(unlike) >= 0.0).all()
        left = np.setdiff1d(np.arange(len(hosts.unlike)), [*row, host])
        assert len(left) == 0 or unlike.max() <= hosts.unlike[host, left].min()
    off = ~np.eye(len(hosts.unlike), dtype=bool)
    np.testing.assert_allclose(hosts.unlike, hosts.unlike.T, atol=1e-6)
    assert (hosts.unlike[off] >= 0.0).all()


def test_hosts_without_common_partners_are_as_unlike_as_they_are_far_and_of_unknown_place_very():
    nothing = mates.hosts_of(MESH, np.full(MESH.pairs, np.nan), 2)
    place = place_of(MESH)
    ids = sorted(place)
    apart = 2.0 * distance_km(*place[ids[0]], *place[ids[3]]) / FIBRE_KM_PER_MS
    assert nothing.unlike[0, 3] == pytest.approx(apart, abs=1e-2)
    lost = [
        replace(end, latitude=np.full_like(end.latitude, np.nan)) for end in (MESH.probe_end, MESH.target_end)
    ]
    nowhere = mates.hosts_of(
        replace(MESH, probe_end=lost[0], target_end=lost[1]), np.full(MESH.pairs, np.nan), 2
    )
    assert nowhere.unlike[0, 3] == 100.0


def test_a_mate_is_of_the_same_family_where_that_speaks_and_of_the_other_where_only_that_does():
    level = level_of(FOLDED)
    _, heard, numbers = through(FOLDED, level)
    there = heard["probe"] != NOBODY
    assert (numbers["probe"][there][:, AT["same_family"]] == 1.0).all()
    _, heard, numbers = through(FOLDED, np.where(FOLDED.af == 6, np.nan, level))
    for side in ("probe", "target"):
        there = heard[side] != NOBODY
        assert there[FOLDED.af == 6].any()
        assert (FOLDED.af[heard[side][there]] == 4).all()
        own = np.broadcast_to(FOLDED.af[:, None], there.shape)[there]
        np.testing.assert_array_equal(numbers[side][there][:, AT["same_family"]], own == 4)


def test_the_value_of_the_asked_pair_over_neither_family_is_in_what_its_mates_tell():
    """Both families of the pair of hosts are hidden, as protocols do; everything else tells the pair."""
    hosts = {ends(FOLDED, p) for p in range(FOLDED.pairs)}
    for asked in sorted(hosts)[:3]:
        own = np.array([ends(FOLDED, p) == asked for p in range(FOLDED.pairs)])
        level = np.where(own, np.nan, level_of(FOLDED))
        _, heard, numbers = through(FOLDED, level)
        for side in ("probe", "target"):
            assert not np.isin(heard[side], np.flatnonzero(own)).any()
            told = level[heard[side]] + numbers[side][:, :, AT["offset_ms"]]
            there = heard[side][own] != NOBODY
            assert np.isfinite(told[own][there]).all()
        best = np.nanmedian(
            np.concatenate(
                [(level[heard[side]] + numbers[side][:, :, AT["offset_ms"]])[own].ravel() for side in heard]
            )
        )
        assert best == pytest.approx(float(np.mean(level_of(FOLDED)[own])), abs=12.0)


def test_nobody_speaks_nobody_is_a_mate_and_one_pair_alone_has_none():
    _, heard, numbers = through(FOLDED, np.full(FOLDED.pairs, np.nan))
    for side in heard:
        assert (heard[side] == NOBODY).all()
        assert np.isnan(numbers[side]).all()
    alone = of_pairs(FOLDED, np.array([0]))
    _, heard, _ = through(alone, level_of(alone))
    assert (heard["probe"] == NOBODY).all()
    assert (heard["target"] == NOBODY).all()
