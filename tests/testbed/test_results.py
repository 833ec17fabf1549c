from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ripe.atlas.sagan import Result

from domain.path_state import Pair
from domain.place import distance_km, fibre_rtt_ms
from domain.window import Window, parse_time
from testbed import atlas_json
from testbed.campaign import FIRST_MSM_ID, Campaign
from testbed.internet import SyntheticInternet
from testbed.truth import Truth
from testbed.weather import Weather

Fetch = Callable[[str], Any]
Raw = Callable[[str], bytes]
Results = dict[str, list[dict[str, Any]]]
START_S = int(parse_time("2026-11-01T00:00Z").timestamp())
SPAN_S = 3 * 86_400
PING, TRACEROUTE = FIRST_MSM_ID, FIRST_MSM_ID + 1


def rtts(result: dict[str, Any]) -> list[float]:
    return [reply["rtt"] for reply in result["result"] if "rtt" in reply and "dup" not in reply]


@pytest.fixture(scope="module")
def whole(raw: Raw) -> dict[int, list[bytes]]:
    return {
        msm_id: raw(f"/api/v2/measurements/{msm_id}/results/?format=txt").splitlines()
        for msm_id in (PING, TRACEROUTE)
    }


@settings(max_examples=30)
@given(
    msm_id=st.sampled_from([PING, TRACEROUTE]),
    cuts=st.lists(st.integers(0, SPAN_S - 1), min_size=1, max_size=5, unique=True),
    backwards=st.booleans(),
)
def test_any_slices_in_any_order_give_the_same_bytes(
    raw: Raw, whole: dict[int, list[bytes]], msm_id: int, cuts: list[int], backwards: bool
) -> None:
    bounds = [START_S, *(START_S + cut for cut in sorted(cuts)), START_S + SPAN_S]
    slices = list(pairwise(bounds))
    asked = {}
    for start, stop in reversed(slices) if backwards else slices:
        url = f"/api/v2/measurements/{msm_id}/results/?format=txt&start={start}&stop={stop - 1}"
        asked[start, stop] = raw(url).splitlines()
    assert [line for part in slices for line in asked[part]] == whole[msm_id]


def test_a_result_does_not_depend_on_when_the_campaign_began(
    internet: SyntheticInternet, truth: Truth, window: Window, fetch: Fetch
) -> None:
    later = Campaign.plan(
        internet, Window(start=window.start + timedelta(hours=31), end=window.end + timedelta(days=9))
    )
    measurement = later.measurement(PING)
    hosts = np.array(measurement.participants)
    start_s, stop_s = int(later.window.start.timestamp()), int(window.end.timestamp()) - 1
    found = [
        result
        for who, at_s in later.moments(measurement, hosts, start_s, stop_s, 100)
        for result in atlas_json.results(later, Weather(internet, truth.events), measurement, who, at_s)
    ]
    assert found == fetch(f"/api/v2/measurements/{PING}/results/?start={start_s}")


@settings(max_examples=15)
@given(data=st.data())
def test_asking_for_some_probes_gives_exactly_their_results(
    campaign: Campaign, fetch: Fetch, data: st.DataObject
) -> None:
    msm_id = data.draw(st.sampled_from([PING, TRACEROUTE]))
    everybody = [host.probe_id for host in campaign.internet.hosts]
    asked = data.draw(st.lists(st.sampled_from(everybody), min_size=1, unique=True))
    url = f"/api/v2/measurements/{msm_id}/results/"
    some = fetch(f"{url}?probe_ids={','.join(map(str, asked))}")
    assert some == [result for result in fetch(url) if result["prb_id"] in asked]


def test_a_slice_includes_both_of_its_ends(fetch: Fetch) -> None:
    url = f"/api/v2/measurements/{PING}/results"
    moment = fetch(url)[40]["timestamp"]
    inside = fetch(f"{url}?start={moment}&stop={moment}")
    assert inside
    assert {result["timestamp"] for result in inside} == {moment}
    assert fetch(f"{url}?start={moment + 1}&stop={moment}") == []


def test_every_host_measures_every_other_once_an_interval_and_never_outside_the_window(
    campaign: Campaign, results: Results
) -> None:
    by_pair: dict[tuple[int, int], list[int]] = defaultdict(list)
    for result in [*results["ping"], *results["traceroute"]]:
        by_pair[result["msm_id"], result["prb_id"]].append(result["timestamp"])
    expected = {
        (m.msm_id, campaign.internet.hosts[number].probe_id)
        for m in campaign.measurements
        for number in m.participants
    }
    assert set(by_pair) == expected
    for (msm_id, _), times in by_pair.items():
        interval_s = campaign.measurement(msm_id).interval_s
        assert min(times) >= START_S
        assert max(times) < START_S + SPAN_S
        assert abs(len(times) - SPAN_S // interval_s) <= 1
        gaps = np.diff(times)
        assert abs(gaps - interval_s).max() < 4
    first = {times[0] - START_S for times in by_pair.values()}
    assert len(first) > 50


def test_measured_rtts_average_to_the_truth_and_never_beat_the_light(
    internet: SyntheticInternet, truth: Truth, results: Results
) -> None:
    by_pair: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for result in results["ping"]:
        by_pair[Pair(probe_id=result["prb_id"], target=result["dst_addr"], af=result["af"])].append(result)
    scores = []
    for pair, found in by_pair.items():
        at_s = np.array([result["timestamp"] for result in found for _ in rtts(result)])
        measured = np.array([rtt for result in found for rtt in rtts(result)])
        host, target = internet.host(pair.probe_id), internet.anchor_at(pair.target)
        circle_km = distance_km(host.latitude, host.longitude, target.latitude, target.longitude)
        assert measured.min() > fibre_rtt_ms(circle_km)
        assert (measured >= truth.floor_ms(pair, at_s) - 1e-6).all()
        error = (measured - truth.rtt_ms(pair, at_s)).sum()
        scores.append(error / np.sqrt((truth.rtt_sd_ms(pair, at_s) ** 2).sum()))
    # Standard scores of independent sums: near normal, whatever the pair.
    assert abs(np.mean(scores)) < 4.0 / math.sqrt(len(scores))
    assert 0.8 < np.std(scores) < 1.2
    assert np.abs(scores).max() < 4.5


def test_losses_are_as_frequent_as_the_truth_says_for_each_pair(truth: Truth, results: Results) -> None:
    by_pair: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    for result in results["ping"]:
        by_pair[Pair(probe_id=result["prb_id"], target=result["dst_addr"], af=result["af"])].append(result)
    lost = expected = spread = 0.0
    for pair, found in by_pair.items():
        sent = np.array([result["sent"] for result in found])
        gone = sent - np.array([result["rcvd"] for result in found])
        ratio = truth.loss_ratio(pair, np.array([result["timestamp"] for result in found]))
        variance = (sent * ratio * (1.0 - ratio)).sum()
        assert abs(gone.sum() - (sent * ratio).sum()) < 6.0 * math.sqrt(variance) + 3.0
        lost, expected, spread = lost + gone.sum(), expected + (sent * ratio).sum(), spread + variance
    assert lost > 100
    assert abs(lost - expected) < 4.0 * math.sqrt(spread)


def test_losses_come_in_bursts(results: Results) -> None:
    lost = np.array(
        [[reply.get("x") == "*" for reply in r["result"]] for r in results["ping"] if len(r["result"]) == 3]
    )
    alone = lost.mean()
    assert lost[lost[:, 0], 1].mean() > 10.0 * alone


def test_a_ping_says_of_itself_what_its_packets_say(results: Results) -> None:
    seen = {"lost": 0, "all lost": 0, "unsent": 0, "twice": 0}
    for result in results["ping"]:
        answered = rtts(result)
        unsent = sum("error" in reply for reply in result["result"])
        twice = sum("dup" in reply for reply in result["result"])
        assert result["rcvd"] == len(answered)
        assert result["sent"] == 3 - unsent
        assert result["dup"] == twice
        assert len(result["result"]) == 3 + twice
        if answered:
            assert result["min"] == min(answered)
            assert result["max"] == max(answered)
            assert result["avg"] == pytest.approx(sum(answered) / len(answered), abs=1e-9)
        else:
            assert (result["min"], result["avg"], result["max"]) == (-1, -1, -1)
        assert ("ttl" in result) == bool(answered)
        seen["lost"] += len(answered) < result["sent"]
        seen["all lost"] += not answered
        seen["unsent"] += unsent
        seen["twice"] += twice
    assert all(count > 0 for count in seen.values()), seen
    assert seen["unsent"] < 0.01 * len(results["ping"])
    assert seen["twice"] < 0.01 * len(results["ping"])


def test_a_traceroute_shows_the_true_route_but_for_the_silent(
    internet: SyntheticInternet, truth: Truth, results: Results
) -> None:
    silent = {
        address
        for router in internet.routers
        if router.silent
        for address in (internet.router_v4[router.number], internet.router_v6[router.number])
    }
    routes: dict[tuple[Pair, bool], tuple[str, ...]] = {}
    down = truth.events[0].window
    gave_up = 0
    for result in results["traceroute"]:
        pair = Pair(probe_id=result["prb_id"], target=result["dst_addr"], af=result["af"])
        during = down.start.timestamp() <= result["timestamp"] < down.end.timestamp()
        if (pair, during) not in routes:
            routes[pair, during] = truth.route(pair, result["timestamp"])
        route = routes[pair, during]
        hops = result["result"]
        if hops[-1]["hop"] == 255:
            gave_up += 1
            assert all(reply == {"x": "*"} for hop in hops[-6:] for reply in hop["result"])
            hops = hops[:-1]
        else:
            assert any(reply.get("from") == pair.target for reply in hops[-1]["result"])
        assert [hop["hop"] for hop in hops] == list(range(1, len(hops) + 1))
        for hop in hops:
            assert len(hop["result"]) == 3
            answered = {reply["from"] for reply in hop["result"] if "from" in reply}
            there = route[min(hop["hop"], len(route)) - 1]
            assert answered <= {there}
            assert answered.isdisjoint(silent)
    assert 0 < gave_up < 0.05 * len(results["traceroute"])


def test_some_traceroutes_change_their_way_during_the_failure(truth: Truth, results: Results) -> None:
    down = truth.events[0].window
    seen: dict[tuple[int, int, bool], set[tuple[str, ...]]] = defaultdict(set)
    for result in results["traceroute"]:
        during = down.start.timestamp() <= result["timestamp"] < down.end.timestamp()
        answers = (reply["from"] for hop in result["result"] for reply in hop["result"] if "from" in reply)
        seen[result["msm_id"], result["prb_id"], during].add(tuple(dict.fromkeys(answers)))
    changed = [key for key in seen if key[2] and not seen[key] & seen[key[0], key[1], False]]
    assert changed


def test_the_ttl_tells_how_many_routers_answers_pass(truth: Truth, results: Results) -> None:
    for result in results["ping"][::97]:
        if "ttl" in result:
            pair = Pair(probe_id=result["prb_id"], target=result["dst_addr"], af=result["af"])
            assert result["ttl"] == 64 - (len(truth.route(pair, result["timestamp"])) - 1)


def test_sagan_reads_every_result_and_agrees(results: Results) -> None:
    for result in [*results["ping"][::23], *results["traceroute"][::7]]:
        read = Result.get(result, on_error=Result.ACTION_IGNORE, on_malformation=Result.ACTION_FAIL)
        assert read.probe_id == result["prb_id"]
        assert read.destination_address == result["dst_addr"]
        assert int(read.created.timestamp()) == result["timestamp"]
        if result["type"] == "ping":
            assert read.packets_received == result["rcvd"]
        else:
            assert read.destination_ip_responded == (result["result"][-1]["hop"] != 255)


def test_every_object_says_that_it_is_synthetic(results: Results, fetch: Fetch) -> None:
    objects = [*results["ping"], *results["traceroute"]]
    for kind in ("probes", "anchors", "measurements"):
        listed = fetch(f"/api/v2/{kind}/")["results"]
        objects += listed
        objects += [fetch(f"/api/v2/{kind}/{entry['id']}/") for entry in listed]
    assert all(entry["synthetic"] is True for entry in objects)
    for probe in fetch("/api/v2/probes/")["results"]:
        assert {"name": "synthetic", "slug": "synthetic"} in probe["tags"]


def test_results_have_the_keys_of_current_firmware(results: Results) -> None:
    common = {
        "af", "dst_addr", "dst_name", "from", "fw", "group_id", "lts", "msm_id", "msm_name", "mver", "prb_id",
        "proto", "result", "size", "src_addr", "stored_timestamp", "timestamp", "type", "synthetic",
    }  # fmt: skip
    ping = {"avg", "dup", "max", "min", "rcvd", "sent", "step"}
    assert all(set(result) - {"ttl"} == common | ping for result in results["ping"])
    assert all(set(result) == common | {"endtime", "paris_id"} for result in results["traceroute"])
    assert all(result["fw"] >= 5080 for result in results["ping"])
    assert all(result["stored_timestamp"] > result["timestamp"] for result in results["ping"])
