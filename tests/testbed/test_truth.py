from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from domain.errors import UnknownNameError
from domain.path_state import Pair
from domain.place import distance_km, fibre_rtt_ms
from domain.window import Window
from testbed.chance import Ints
from testbed.events import Congestion, LinkFailure, schedule
from testbed.internet import SyntheticInternet
from testbed.truth import Truth


def every(window: Window, minutes: int = 10) -> Ints:
    return np.arange(int(window.start.timestamp()), int(window.end.timestamp()), minutes * 60)


def pairs(internet: SyntheticInternet, af: int = 4) -> list[Pair]:
    return [
        Pair(probe_id=host.probe_id, target=target, af=af)
        for anchor in internet.anchors
        if (target := anchor.address(af)) is not None
        for host in internet.hosts
        if host is not anchor and host.address(af) is not None
    ]


def failure(truth: Truth) -> LinkFailure:
    return next(event for event in truth.events if isinstance(event, LinkFailure))


def congestion(truth: Truth) -> Congestion:
    return next(event for event in truth.events if isinstance(event, Congestion))


@pytest.mark.parametrize("af", [4, 6])
def test_no_floor_is_under_the_light_in_fibre_and_no_expected_rtt_under_the_floor(
    internet: SyntheticInternet, truth: Truth, window: Window, af: int
) -> None:
    at_s = every(window, 120)
    found = pairs(internet, af)
    assert found
    for pair in found:
        host, target = internet.host(pair.probe_id), internet.anchor_at(pair.target)
        circle_km = distance_km(host.latitude, host.longitude, target.latitude, target.longitude)
        floor = truth.floor_ms(pair, at_s)
        assert (floor > fibre_rtt_ms(circle_km)).all()
        assert (truth.rtt_ms(pair, at_s) > floor).all()
        assert ((truth.loss_ratio(pair, at_s) >= 0.0) & (truth.loss_ratio(pair, at_s) < 1.0)).all()


def test_the_truth_at_a_time_does_not_depend_on_what_else_is_asked(
    internet: SyntheticInternet, truth: Truth, window: Window
) -> None:
    at_s = every(window)
    pair = pairs(internet)[7]
    whole = truth.rtt_ms(pair, at_s)
    order = np.random.default_rng(1).permutation(len(at_s))
    assert (truth.rtt_ms(pair, at_s[order]) == whole[order]).all()
    assert all(truth.rtt_ms(pair, at_s[i : i + 1])[0] == whole[i] for i in range(0, len(at_s), 37))


def test_paths_over_a_failed_link_take_a_detour_only_while_it_is_down(
    internet: SyntheticInternet, truth: Truth
) -> None:
    event = failure(truth)
    begin, end = int(event.window.start.timestamp()), int(event.window.end.timestamp())
    rerouted = 0
    for pair in pairs(internet):
        before, first, last, after = (truth.links(pair, s) for s in (begin - 1, begin, end - 1, end))
        assert before == after
        assert first == last
        assert event.link not in first
        if event.link in before:
            rerouted += 1
            assert truth.route(pair, begin) != truth.route(pair, begin - 1)
            floors = truth.floor_ms(pair, np.array([begin - 1, begin]))
            assert floors[0] != floors[1]
        else:
            assert first == before
    assert rerouted > 0


def test_pairs_that_share_a_congested_link_slow_down_together_and_others_do_not(
    internet: SyntheticInternet, truth: Truth
) -> None:
    event = congestion(truth)
    calm = Truth(internet, tuple(other for other in truth.events if other is not event))
    at_s = every(event.window)
    slower = {}
    for pair in pairs(internet):
        crosses = not set(event.links).isdisjoint(truth.links(pair, int(at_s[0])))
        change = truth.rtt_ms(pair, at_s) - calm.rtt_ms(pair, at_s)
        if crosses:
            slower[pair] = change
            assert change.min() > 1.0
            assert change.mean() > 5.0
            assert (truth.loss_ratio(pair, at_s) >= calm.loss_ratio(pair, at_s)).all()
        else:
            assert (change == 0.0).all()
    assert len(slower) >= 2
    together = np.corrcoef(np.stack(list(slower.values())))
    assert together.min() > 0.99


def test_pairs_that_share_a_hot_link_are_correlated_on_an_ordinary_day(
    internet: SyntheticInternet, window: Window
) -> None:
    calm = Truth(internet, ())
    at_s = every(window)
    hours = at_s // 3600 % 24
    series, crossed = [], []
    for pair in pairs(internet):
        queueing = calm.rtt_ms(pair, at_s) - calm.floor_ms(pair, at_s)
        # What the hour of the day explains is taken out: only shared fluctuation is left.
        daily = np.array([queueing[hours == hour].mean() for hour in range(24)])
        series.append(queueing - daily[hours])
        crossed.append(set(calm.links(pair, int(at_s[0]))))
    likeness = np.corrcoef(np.stack(series))
    shared, apart = [], []
    for i in range(len(series)):
        for j in range(i):
            if not crossed[i] & crossed[j]:
                apart.append(likeness[i, j])
            elif len(crossed[i] & crossed[j]) * 2 >= max(len(crossed[i]), len(crossed[j])):
                shared.append(likeness[i, j])
    assert np.median(shared) > 0.5
    assert abs(np.median(apart)) < 0.1


def test_the_network_is_busier_in_the_local_evening_than_in_the_morning(
    internet: SyntheticInternet, truth: Truth, window: Window
) -> None:
    at_s = every(Window(start=window.start, end=window.start + timedelta(days=30)), 60)
    for link in internet.links[::9]:
        local = (at_s / 3600.0 + link.longitude / 15.0) % 24.0
        ratio = Truth(internet, ()).utilisation_ratio(link.number, at_s)
        evening, morning = ratio[(local > 19) & (local < 22)].mean(), ratio[(local > 7) & (local < 10)].mean()
        assert evening > morning + 0.3 * link.busy_ratio


def test_the_events_lie_within_the_window_apart_from_each_other(truth: Truth, window: Window) -> None:
    down, busy = failure(truth).window, congestion(truth).window
    assert window.start < down.start < down.end <= busy.start < busy.end < window.end


@pytest.mark.parametrize(("seed", "probes", "anchors"), [(0, 1, 1), (15, 3, 2), (6, 40, 12)])
def test_worlds_of_any_size_have_events(seed: int, probes: int, anchors: int, window: Window) -> None:
    down, busy = schedule(SyntheticInternet.generate(seed, probes, anchors), window)
    assert down.link not in busy.links


def test_pairs_that_do_not_exist_are_refused(internet: SyntheticInternet, truth: Truth) -> None:
    anchor = internet.anchors[0]
    itself = Pair(probe_id=anchor.probe_id, target=anchor.address_v4, af=4)
    mixed = Pair(probe_id=internet.probes[0].probe_id, target=anchor.address_v4, af=6)
    for pair in (itself, mixed):
        with pytest.raises(UnknownNameError, match="no such synthetic pair"):
            truth.rtt_ms(pair, np.array([0]))


def test_a_path_is_its_links_crossed_twice(internet: SyntheticInternet, truth: Truth, window: Window) -> None:
    at_s = every(Window(start=window.start, end=window.start + timedelta(days=1)))
    for pair in pairs(internet)[::5]:
        links = [internet.links[number] for number in truth.links(pair, int(at_s[0]))]
        ratios = [truth.utilisation_ratio(link.number, at_s) for link in links]
        floor = sum(2.0 * (fibre_rtt_ms(link.length_km) / 2.0 + link.fixed_ms) for link in links)
        waits = sum(2.0 * link.wait_ms * r / (1.0 - r) for link, r in zip(links, ratios, strict=True))
        assert truth.floor_ms(pair, at_s) == pytest.approx(floor, rel=1e-12)
        assert truth.rtt_ms(pair, at_s) == pytest.approx(floor + waits, rel=1e-12)
        idle = 1.0 - np.prod([(1.0 - link.loss_floor_ratio) ** 2 for link in links])
        loss = truth.loss_ratio(pair, at_s)
        assert (loss >= idle * (1.0 - 1e-9)).all()
        calm = np.all([ratio < 0.8 for ratio in ratios], axis=0)
        # Where no link is nearly full only a burst on a line adds to the floor, and most quarter hours have none.
        assert np.median(loss[calm]) == pytest.approx(idle, rel=1e-6)
