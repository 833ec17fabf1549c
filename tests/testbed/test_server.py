from __future__ import annotations

import logging
import socket
import ssl
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import requests
from ripe.atlas.cousteau import (
    AnchorRequest,
    AtlasLatestRequest,
    AtlasResultsRequest,
    Measurement,
    MeasurementRequest,
    Probe,
    ProbeRequest,
)

from domain.errors import InputError, SourceError
from domain.window import Window
from testbed.campaign import FIRST_MSM_ID
from testbed.internet import FIRST_PROBE_ID, SyntheticInternet
from testbed.server import TestbedServer


@pytest.fixture
def where(server: TestbedServer) -> dict[str, Any]:
    return {"server": server.address, "verify": str(server.certificate)}


def get(server: TestbedServer, path: str) -> requests.Response:
    return requests.get(f"https://{server.address}{path}", verify=str(server.certificate), timeout=10)


def test_cousteau_reads_probes_anchors_and_measurements(
    internet: SyntheticInternet, server: TestbedServer, where: dict[str, Any]
) -> None:
    probes = list(ProbeRequest(**where))
    assert [probe["id"] for probe in probes] == [host.probe_id for host in internet.hosts]
    for probe, host in zip(probes, internet.hosts, strict=True):
        assert probe["asn_v4"] == host.asn
        assert probe["geometry"]["coordinates"] == [host.longitude, host.latitude]
        assert probe["country_code"] == host.city.country
    anchors = list(AnchorRequest(**where))
    assert [anchor["probe"] for anchor in anchors] == [host.probe_id for host in internet.anchors]
    assert all(
        anchor["ip_v4"] == host.address_v4 for anchor, host in zip(anchors, internet.anchors, strict=True)
    )
    measurements = list(MeasurementRequest(**where))
    assert [m["id"] for m in measurements] == [m.msm_id for m in server.campaign.measurements]
    assert min(m["id"] for m in measurements) == FIRST_MSM_ID


def test_cousteau_reads_single_objects(internet: SyntheticInternet, where: dict[str, Any]) -> None:
    probe = Probe(id=FIRST_PROBE_ID, **where)
    assert (probe.is_anchor, probe.address_v4) == (True, internet.hosts[0].address_v4)
    measurement = Measurement(id=FIRST_MSM_ID, **where)
    assert (measurement.type, measurement.interval) == ("ping", 1800)


def test_cousteau_reads_results_as_they_are_without_a_socket(
    where: dict[str, Any], window: Window, fetch: Callable[[str], Any]
) -> None:
    for msm_id in (FIRST_MSM_ID, FIRST_MSM_ID + 1):
        asked = {
            "start": window.start,
            "stop": window.end,
            "probe_ids": [FIRST_PROBE_ID + 2, FIRST_PROBE_ID + 7],
        }
        ok, results = AtlasResultsRequest(msm_id=msm_id, **asked, **where).create()
        assert ok
        ids = f"{FIRST_PROBE_ID + 2},{FIRST_PROBE_ID + 7}"
        assert results == fetch(f"/api/v2/measurements/{msm_id}/results/?probe_ids={ids}")


def test_cousteau_reads_the_latest_result_of_each_probe(server: TestbedServer, where: dict[str, Any]) -> None:
    measurement = server.campaign.measurement(FIRST_MSM_ID)
    ok, latest = AtlasLatestRequest(msm_id=FIRST_MSM_ID, **where).create()
    assert ok
    assert len(latest) == len({result["prb_id"] for result in latest}) == len(measurement.participants)
    _, everything = AtlasResultsRequest(msm_id=FIRST_MSM_ID, **where).create()
    last = {result["prb_id"]: result for result in everything}
    assert all(result == last[result["prb_id"]] for result in latest)


@pytest.mark.parametrize("size", [4, 500])
def test_paging_gives_each_object_once(server: TestbedServer, where: dict[str, Any], size: int) -> None:
    internet = server.campaign.internet
    there = {
        ProbeRequest: len(internet.hosts),
        AnchorRequest: len(internet.anchors),
        MeasurementRequest: len(server.campaign.measurements),
    }
    for request, count in there.items():
        asked = request(page_size=size, **where)
        ids = [entry["id"] for entry in asked]
        assert ids == sorted(set(ids))
        assert len(ids) == asked.total_count == count


def test_a_page_is_no_larger_than_the_server_makes_them(internet: SyntheticInternet, window: Window) -> None:
    with TestbedServer(internet, window.start, window.end, events=(), most_page_size=2) as few:
        for wanted in ("", "?page_size=50"):
            page = get(few, f"/api/v2/probes/{wanted}").json()
            assert (len(page["results"]), page["count"]) == (2, len(internet.hosts))
            assert "page=2" in page["next"]


def test_pages_name_their_neighbours_and_keep_the_filters(server: TestbedServer) -> None:
    first = get(server, "/api/v2/measurements/?page_size=2&type=ping").json()
    assert first["previous"] is None
    assert first["next"].startswith(f"https://{server.address}/api/v2/measurements/?")
    second = requests.get(first["next"], verify=str(server.certificate), timeout=10).json()
    assert {entry["type"] for entry in second["results"]} == {"ping"}
    assert requests.get(second["previous"], verify=str(server.certificate), timeout=10).json() == first
    assert get(server, "/api/v2/probes/?page=99").status_code == 404


def test_filters_keep_what_they_name(
    internet: SyntheticInternet, server: TestbedServer, where: dict[str, Any]
) -> None:
    country = internet.probes[3].city.country
    found = list(ProbeRequest(country_code=country, **where))
    assert [p["id"] for p in found] == [h.probe_id for h in internet.hosts if h.city.country == country]
    found = list(ProbeRequest(is_anchor=True, **where))
    assert [p["id"] for p in found] == [h.probe_id for h in internet.anchors]
    asn = internet.probes[0].asn
    assert {p["asn_v4"] for p in ProbeRequest(asn_v4=asn, **where)} == {asn}
    wanted = [FIRST_PROBE_ID + 1, FIRST_PROBE_ID + 4, 1]
    assert [p["id"] for p in ProbeRequest(id__in=wanted, **where)] == wanted[:2]
    traces = list(MeasurementRequest(type="traceroute", af=6, tags="mesh,anchoring", **where))
    assert traces
    assert {(m["type"], m["af"]) for m in traces} == {("traceroute", 6)}
    assert list(MeasurementRequest(tags="nobody", **where)) == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/measurements/?search=ripe",
        "/api/v2/measurements/?type=dns",
        "/api/v2/measurements/?af=5",
        "/api/v2/measurements/?page_size=0",
        "/api/v2/probes/?id__in=1,x",
        "/api/v2/probes/?is_anchor=perhaps",
        f"/api/v2/measurements/{FIRST_MSM_ID}/results/?start=yesterday",
        f"/api/v2/measurements/{FIRST_MSM_ID}/results/?format=xml",
    ],
)
def test_what_is_not_understood_is_refused_as_atlas_does(server: TestbedServer, path: str) -> None:
    answer = get(server, path)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["status"], error["code"], error["title"]) == (400, 102, "Bad Request")
    assert error["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api/v2/",
        "/api/v2/probes/1/",
        "/api/v2/anchors/1",
        "/api/v2/measurements/1001/",
        "/api/v2/probes/x/",
    ]
    + [f"/api/v2/measurements/1001/{part}" for part in ("results/", "latest/")],
)
def test_what_is_not_there_is_a_404_as_at_atlas(server: TestbedServer, path: str) -> None:
    answer = get(server, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == 404
    assert answer.json()["error"]["title"] == "Not Found"


def test_nothing_can_be_written(server: TestbedServer) -> None:
    url, trusted = f"https://{server.address}/api/v2/measurements/", str(server.certificate)
    assert requests.post(url, json={"definitions": []}, verify=trusted, timeout=10).status_code == 405


def test_a_slash_at_the_end_changes_nothing(server: TestbedServer) -> None:
    for path in ("probes", "anchors", f"probes/{FIRST_PROBE_ID}", f"measurements/{FIRST_MSM_ID}/latest"):
        assert get(server, f"/api/v2/{path}").json() == get(server, f"/api/v2/{path}/").json()


def test_a_connection_is_kept_for_many_requests(server: TestbedServer) -> None:
    context = ssl.create_default_context(cafile=str(server.certificate))
    host, port = server.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
        connection.makefile("rb") as answers,
    ):
        for _ in range(3):
            connection.sendall(
                f"GET /api/v2/probes/{FIRST_PROBE_ID}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            )
            assert answers.readline().startswith(b"HTTP/1.1 200")
            length = 0
            while (line := answers.readline().strip()) != b"":
                name, _, value = line.partition(b": ")
                length = int(value) if name == b"Content-Length" else length
            assert length > 0
            answers.read(length)


def test_many_clients_are_answered_at_once_with_the_same_bytes(server: TestbedServer) -> None:
    path = f"/api/v2/measurements/{FIRST_MSM_ID}/results/?format=txt"
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda _: get(server, path).content, range(4)))
    assert len(bodies[0].splitlines()) > 1000
    assert set(bodies) == {bodies[0]}


def test_only_its_own_authority_vouches_for_it(server: TestbedServer) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{server.address}/api/v2/probes/", timeout=10)
    port = server.address.split(":")[1]
    answer = requests.get(
        f"https://localhost:{port}/api/v2/probes/", verify=str(server.certificate), timeout=10
    )
    assert answer.ok
    key = server.certificate.parent / "server.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_server_that_is_closed_leaves_nothing_behind(
    internet: SyntheticInternet, window: Window, caplog: pytest.LogCaptureFixture
) -> None:
    server = TestbedServer(internet, window.start, window.end)
    with pytest.raises(SourceError, match="with statement"):
        _ = server.address
    with requests.Session() as session:
        with server:
            address, folder = server.address, server.certificate.parent
            url = f"https://{address}/api/v2/probes/"
            assert session.get(url, verify=str(server.certificate), timeout=10).ok
        assert not folder.exists()
    ours = [record for record in caplog.records if record.name.startswith("testbed")]
    assert [record for record in ours if record.levelno >= logging.WARNING] == []
    with (
        pytest.raises(ConnectionError),
        socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 2),
    ):
        pass


def test_a_port_that_is_taken_is_named(
    internet: SyntheticInternet, server: TestbedServer, window: Window
) -> None:
    port = int(server.address.split(":")[1])
    with (
        pytest.raises(SourceError, match=f"cannot listen: 127.0.0.1:{port}"),
        TestbedServer(internet, window.start, window.end, port=port),
    ):
        pass


def test_intervals_and_events_are_arguments(internet: SyntheticInternet, window: Window) -> None:
    quiet = TestbedServer(internet, window.start, window.end, events=(), ping_interval=timedelta(minutes=4))
    assert quiet.truth.events == ()
    assert quiet.campaign.measurement(FIRST_MSM_ID).interval_s == 240
    with pytest.raises(InputError, match="too short"):
        TestbedServer(internet, window.start, window.end, ping_interval=timedelta(seconds=5))
