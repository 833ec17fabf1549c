"""The whole way on the testbed: a synthetic Atlas is measured through the API that real ones are measured through.

Nothing on the way knows that it is synthetic but the data itself, which says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc

from domain.application import Application
from domain.errors import InputError
from domain.progress import Report
from domain.provenance import Provenance
from domain.selection import Selection
from ingest.atlas import AtlasSource
from ingest.lake import Lake
from ingest.prefixes import read_prefixes
from ingest.probes import Probes
from ingest.summarise import real_rows
from kg.schema import PATH_STATE
from kg.store import GraphStore
from qoe.profile import load_profile
from testbed.announcements import announcements_csv
from testbed.events import Congestion, Event
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from twin.building import Built, Origins
from twin.ingestion import Ingested
from twin.learning import Trained
from twin.pipeline import go_whole_way
from twin.qoe import Answer, qoe

SEED = 7
PROBES, ANCHORS = 32, 10
START = datetime(2026, 1, 5, tzinfo=UTC)
LENGTH = timedelta(days=3)
WINDOW = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """An event that the testbed scheduled: what the answers should show."""

    what: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What came of each step."""

    measurements: int
    probes: Probes
    ingested: Ingested
    built: Built
    counts: dict[str, int]
    trained: Trained
    answers: Sequence[Answer]
    over_time: Sequence[Answer]
    happenings: Sequence[Happening]


def run_demo(lake: Lake, store: GraphStore, models: Path, *, report: Report) -> Demo:
    """Start the testbed, pull three days of it through the Atlas API, and go the whole way.

    Raises:
        InputError: when the home holds real measurements, which synthetic ones must not be mixed with.
    """
    refuse_real_lake(lake)
    _refuse_real_graph(lake, store)
    report("drawing a synthetic Internet", 0, 1)
    internet = SyntheticInternet.generate(SEED, PROBES, ANCHORS)
    with TestbedServer(internet, START, START + LENGTH) as server:
        report("drawing a synthetic Internet", 1, 1)
        source = AtlasSource(server=server.address, verify=server.certificate)
        measurements = sorted(source.find_measurements())
        way = go_whole_way(
            source,
            measurements,
            START,
            START + LENGTH,
            lake=lake,
            store=store,
            models=models,
            window=WINDOW,
            profile=load_profile(),
            origins=_origins(internet, lake.folder.parent / "prefixes.csv"),
            seed=SEED,
            quick=True,  # three days have little to teach
            report=report,
        )
        happenings = [_happening(event) for event in server.truth.events]
    return Demo(
        measurements=len(measurements),
        probes=way.probes,
        ingested=way.ingested,
        built=way.built,
        counts=store.counts(),
        trained=way.trained,
        answers=way.answers,
        over_time=[
            answer
            for window in range(LENGTH // WINDOW)
            for answer in qoe(store, list(Application), Selection(at=START + window * WINDOW))
        ],
        happenings=happenings,
    )


def _origins(internet: SyntheticInternet, path: Path) -> Origins:
    """Who announces which synthetic prefix, through a file as a user would have it."""
    path.write_text(announcements_csv(internet), encoding="utf-8")
    provenance = Provenance(
        reference_name="testbed.prefixes",
        reference_org="qoetwin testbed (synthetic)",
        reference_url_data=None,
        reference_time_fetch=START,
        reference_time_modification=None,
        method=None,
        synthetic=True,
    )
    return Origins(prefixes=read_prefixes(path), provenance=provenance)


def refuse_real_lake(lake: Lake) -> None:
    """Synthetic and real must not be mixed in a lake. To be asked before anything is made in its home.

    Raises:
        InputError: when the lake holds something real.
    """
    _refuse(lake, real_rows(lake))


def _refuse_real_graph(lake: Lake, store: GraphStore) -> None:
    """Nor in a graph, whose lake may have gone."""
    states = store.facts(PATH_STATE, values=("synthetic",))
    _refuse(lake, states.num_rows - pc.sum(states["synthetic"], min_count=0).as_py())


def _refuse(lake: Lake, real: int) -> None:
    if real > 0:
        raise InputError(
            "this home holds real measurements or probes",
            where=str(lake.folder.parent),
            found=f"{real} of them",
            expected="a home of its own for the synthetic ones of the demo",
            next_step="choose another with --home",
        )


def _happening(event: Event) -> Happening:
    what = "a link is congested" if isinstance(event, Congestion) else "a link fails"
    return Happening(what=what, start=event.window.start, end=event.window.end)
