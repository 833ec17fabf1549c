"""What tests share: the recorded measurements, if they are there, and a small synthetic Atlas."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# How long an example takes is no matter of right or wrong.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

if TYPE_CHECKING:
    from testbed.server import TestbedServer
    from tests.neo4j.guard import TestDatabase

START = datetime(2026, 1, 5, tzinfo=UTC)
LENGTH = timedelta(hours=48)

RECORDED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded measurements, which are not part of the project."""
    if not RECORDED.is_dir():
        message = (
            "the recorded measurements are not part of the project; everything else is tested without them"
        )
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED


@pytest.fixture(scope="session")
def atlas() -> Iterator[TestbedServer]:
    """A small synthetic Atlas over https."""
    from testbed.internet import SyntheticInternet
    from testbed.server import TestbedServer

    internet = SyntheticInternet.generate(3, 6, 3)
    with TestbedServer(internet, START, START + LENGTH, traceroute_interval=timedelta(hours=12)) as server:
        yield server


@pytest.fixture(scope="session")
def records(atlas: TestbedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `results.ndjson.bz2` and `probes.json`, saved from the synthetic Atlas as a user would save them."""
    import bz2

    import orjson

    from ingest.atlas import AtlasSource

    folder = tmp_path_factory.mktemp("records")
    source = AtlasSource(server=atlas.address, verify=atlas.certificate)
    results = [
        record
        for measurement in source.measurements()
        for batch in source.results(measurement["id"], START, START + LENGTH)
        for record in batch.records
    ]
    (folder / "results.ndjson.bz2").write_bytes(bz2.compress(b"\n".join(results) + b"\n", 1))
    (folder / "probes.json").write_bytes(orjson.dumps([*source.anchors(), *source.probes()]))
    return folder


@pytest.fixture(scope="session")
def prefixes(atlas: TestbedServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who announces which prefix of the synthetic Internet, as a user would have it."""
    from testbed.announcements import announcements_csv

    path = tmp_path_factory.mktemp("prefixes") / "prefixes.csv"
    path.write_text(announcements_csv(atlas.truth.internet), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def built(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a graph of one-hour windows."""
    from ingest.lake import Lake
    from kg.store import open_store
    from qoe.profile import load_profile
    from twin.building import build_graph, summarise_lake
    from twin.ingestion import ingest_files, load_probes

    home = tmp_path_factory.mktemp("built")
    lake = Lake(home / "lake")
    load_probes(lake, records / "probes.json")
    ingest_files(lake, [records / "results.ndjson.bz2"])
    with open_store("sqlite", home, create=True) as store:
        build_graph(summarise_lake(lake, timedelta(hours=1)), store, load_profile())
    return home


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestDatabase]:
    """A Neo4j that tests may empty: started once in each process, when the first test asks for it, and stopped at the end."""
    from domain.credentials import Credentials
    from tests.neo4j.guard import HOW_TO_RUN, TestDatabase
    from tests.neo4j.server import SMALL, USER, Neo4jServer, NoServerError

    if address := os.environ.get("NEO4J_URI"):
        if "PYTEST_XDIST_WORKER" in os.environ:
            pytest.fail(
                "several processes would empty the database that NEO4J_URI names; run pytest with -n 0"
            )
        user, password = os.environ.get("NEO4J_USER", USER), os.environ.get("NEO4J_PASSWORD", "")
        given = TestDatabase(
            address=address, credentials=Credentials(user=user, password=password), server=None
        )
        given.guard()
        yield given
        return
    server = Neo4jServer(home=tmp_path_factory.mktemp("neo4j"), java=SMALL)
    try:
        server.start()
    except NoServerError as error:
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(f"{error}; {HOW_TO_RUN}")
        pytest.skip(f"{error}; {HOW_TO_RUN}")
    try:
        credentials = Credentials(user=USER, password=server.password)
        yield TestDatabase(address=server.uri, credentials=credentials, server=server)
    finally:
        server.kill()  # its folder goes with it
