"""The command line, run in this process as a user would run it, and a small synthetic Atlas to run it on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.cli import main
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer

START = datetime(2026, 1, 5, tzinfo=UTC)
LENGTH = timedelta(hours=48)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Run]


@pytest.fixture
def qoetwin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `qoetwin` with arguments."""

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["qoetwin", *map(str, arguments)])
        monkeypatch.setattr(sys, "warnoptions", ["error"])  # warnings stay errors here
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Run(code=code if isinstance(code, int) else 0, out=said.out, err=said.err)

    return run


@pytest.fixture(scope="session")
def atlas() -> Iterator[TestbedServer]:
    """A small synthetic Atlas over https."""
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
        orjson.dumps(record)
        for measurement in source.measurements()
        for batch in source.results(measurement["id"], START, START + LENGTH)
        for record in batch.records
    ]
    (folder / "results.ndjson.bz2").write_bytes(bz2.compress(b"\n".join(results) + b"\n", 1))
    (folder / "probes.json").write_bytes(orjson.dumps([*source.anchors(), *source.probes()]))
    return folder


@pytest.fixture(scope="session")
def built(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a graph of one-hour windows."""
    from ingest.lake import Lake
    from kg.store import open_store
    from qoe.profile import load_profile
    from twin.pipeline import build_graph, ingest_files, load_probes

    home = tmp_path_factory.mktemp("built")
    lake = Lake(home / "lake")
    load_probes(lake, records / "probes.json")
    ingest_files(lake, [records / "results.ndjson.bz2"])
    with open_store("sqlite", home, create=True) as store:
        build_graph(lake, store, timedelta(hours=1), load_profile())
    return home
