"""One small synthetic Internet, its campaign of three days, and a server, for all tests of the package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest

from domain.window import Window, parse_time
from testbed.api import Api
from testbed.campaign import Campaign
from testbed.events import schedule
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from testbed.truth import Truth
from testbed.weather import Weather


@pytest.fixture(scope="session")
def window() -> Window:
    start = parse_time("2026-11-01T00:00Z")
    return Window(start=start, end=start + timedelta(days=3))


@pytest.fixture(scope="session")
def internet() -> SyntheticInternet:
    return SyntheticInternet.generate(7, 16, 5)


@pytest.fixture(scope="session")
def truth(internet: SyntheticInternet, window: Window) -> Truth:
    return Truth(internet, schedule(internet, window))


@pytest.fixture(scope="session")
def campaign(internet: SyntheticInternet, window: Window) -> Campaign:
    return Campaign.plan(internet, window)


@pytest.fixture(scope="session")
def api(campaign: Campaign, truth: Truth) -> Api:
    return Api(campaign, Weather(campaign.internet, truth.events))


@pytest.fixture(scope="session")
def raw(api: Api) -> Callable[[str], bytes]:
    """Ask the API without a socket."""

    def answered(url: str) -> bytes:
        path, _, query = url.partition("?")
        body = api.answer(path, query, "testbed.test").body
        return body if isinstance(body, bytes) else b"".join(body)

    return answered


@pytest.fixture(scope="session")
def fetch(raw: Callable[[str], bytes]) -> Callable[[str], Any]:
    """Ask the API without a socket, the answer read as JSON."""
    return lambda url: orjson.loads(raw(url))


@pytest.fixture(scope="session")
def results(campaign: Campaign, fetch: Callable[[str], Any]) -> dict[str, list[dict[str, Any]]]:
    """Every result of the campaign, by type."""
    found: dict[str, list[dict[str, Any]]] = {"ping": [], "traceroute": []}
    for measurement in campaign.measurements:
        found[measurement.type.value] += fetch(f"/api/v2/measurements/{measurement.msm_id}/results/")
    return found


@pytest.fixture(scope="session")
def server(internet: SyntheticInternet, window: Window) -> Iterator[TestbedServer]:
    with TestbedServer(internet, window.start, window.end) as running:
        yield running
