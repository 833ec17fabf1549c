"""Faults are met where and when they are ordered, and the stream says what it does not understand."""

from __future__ import annotations

import ssl
from datetime import timedelta

import orjson
import pytest
import requests
import websocket

from domain.errors import InputError
from domain.window import Window
from testbed.campaign import FIRST_MSM_ID
from testbed.clock import Clock
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer

BUSY = Fault(kind=FaultKind.BUSY, retry_after="7")


def test_each_place_counts_its_requests_by_itself() -> None:
    faults = Faults.listed({(Place.RESULTS, 1): BUSY, (Place.LISTING, 0): BUSY})
    asked = [Place.RESULTS, Place.LISTING, Place.RESULTS, Place.RESULTS, Place.LISTING]
    assert [faults.next(place) for place in asked] == [None, BUSY, BUSY, None, None]
    assert [(place, number) for place, number, _ in faults.met] == [(Place.LISTING, 0), (Place.RESULTS, 1)]
    assert faults.asked(Place.RESULTS) == 3


def test_a_seeded_plan_is_the_same_again_and_keeps_its_ratio() -> None:
    def plan(seed: int) -> list[Fault | None]:
        faults = Faults.seeded(seed, 0.25, [BUSY, Fault(kind=FaultKind.DROP)])
        return [faults.next(Place.RESULTS) for _ in range(1_000)]

    assert plan(3) == plan(3) != plan(4)
    assert 200 < sum(fault is not None for fault in plan(3)) < 300
    assert {fault.kind for fault in plan(3) if fault is not None} == {
        FaultKind.BUSY
    }  # results cannot be dropped


def test_a_fault_that_cannot_be_at_its_place_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot be there: results 3; found drop"):
        Faults.listed({(Place.RESULTS, 3): Fault(kind=FaultKind.DROP)})


def test_a_busy_server_says_when_to_come_back(internet: SyntheticInternet, window: Window) -> None:
    faults = Faults.listed({(Place.LISTING, 0): BUSY})
    with TestbedServer(internet, window.start, window.end, faults=faults) as server:
        url = f"https://{server.address}/api/v2/probes/"
        answers = [requests.get(url, verify=str(server.certificate), timeout=5) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [429, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].json()["error"]["status"] == 429


def test_a_testbed_without_a_clock_has_no_stream(server: TestbedServer) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        websocket.create_connection(
            f"wss://{server.address}/stream/", sslopt={"ca_certs": str(server.certificate)}, timeout=5
        )


def test_the_stream_confirms_what_it_understands_and_names_what_it_does_not(
    internet: SyntheticInternet, window: Window
) -> None:
    clock = Clock(window.start)
    with TestbedServer(internet, window.start, window.end, now=clock.now, events=()) as server:
        trusted = {"ca_certs": str(server.certificate), "cert_reqs": ssl.CERT_REQUIRED}
        stream = websocket.create_connection(f"wss://{server.address}/stream/", sslopt=trusted, timeout=5)
        asked = {"stream_type": "result", "msm": FIRST_MSM_ID}
        replies = []
        for message in (
            ["atlas_subscribe", asked],
            ["atlas_subscribe", {"msm": 77}],
            ["atlas_sing", asked],
            7,
            ["atlas_unsubscribe", asked],
        ):
            stream.send(orjson.dumps(message).decode())
            replies.append(orjson.loads(stream.recv()))
        assert replies[0] == ["atlas_subscribed", asked]
        assert [name for name, _ in replies[1:]] == ["atlas_error"] * 3 + ["atlas_unsubscribed"]
        stream.send(orjson.dumps(["atlas_subscribe", asked]).decode())
        stream.recv()
        clock.advance(timedelta(hours=1))
        name, result = orjson.loads(stream.recv())
        assert (name, result["msm_id"]) == ("atlas_result", FIRST_MSM_ID)
        assert window.start.timestamp() < result["stored_timestamp"] <= clock.now().timestamp()
        server.drop_streams()
        with pytest.raises((websocket.WebSocketException, OSError)):
            list(iter(stream.recv, None))
        stream.close()
