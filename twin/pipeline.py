"""The data's way, on one page. A stranger starts here.

    Atlas result --parse--> observation --land--> lake --summarise--> path state --upsert--> knowledge graph
    knowledge graph --score--> QoE per application --answer--> `twin.qoe`
    knowledge graph --export--> path arrays --learn--> predictor beside its baselines

Each step is a function; what passes between two steps is one named type. Only the first three know the lake: from
the graph on, everything comes from the graph alone.

    twin.ingestion    outside -> lake         sources give `Parsed` batches, which land
    twin.building     lake -> graph           a `Summary` of the lake becomes nodes, facts and scores
    twin.refresh      lake -> graph, again    of the windows that changed
    twin.learning     graph -> predictor      `PathArrays` of the graph are learned on, and the model is saved
    twin.qoe          graph -> answers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from domain.application import Application
from domain.progress import Report, unheard
from domain.selection import Selection
from ingest.lake import Lake
from ingest.probes import Probes
from kg.store import GraphStore
from qoe.profile import Profile
from twin.building import Built, Origins, build_graph, summarise_lake
from twin.ingestion import Ingested, ingest_atlas, sync_probes
from twin.learning import Trained, train
from twin.qoe import Answer, GroupBy, qoe

if TYPE_CHECKING:  # cousteau, which it imports, is only for those who ask the API
    from ingest.atlas import AtlasSource


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeWay:
    """What each step came to."""

    ingested: Ingested
    probes: Probes
    built: Built
    trained: Trained
    answers: Sequence[Answer]


def go_whole_way(
    atlas: AtlasSource,
    measurements: Sequence[int],
    start: datetime,
    stop: datetime,
    *,
    lake: Lake,
    store: GraphStore,
    models: Path,
    window: timedelta,
    profile: Profile,
    origins: Origins | None = None,
    predictor: str = "sage",
    protocol: str = "forecast",
    seed: int = 0,
    quick: bool = False,
    report: Report = unheard,
) -> WholeWay:
    """From the Atlas API to answers, as `qoetwin demo` goes it; the command line has each step by itself.

    Args:
        atlas: who is asked.
        measurements: ids of ping and traceroute measurements.
        start: results whose probes began then or later; aware.
        stop: and before that; aware.
        lake: where observations are kept.
        store: the graph.
        models: the folder that gets the saved model.
        window: length of a window.
        profile: how quality is scored.
        origins: who announces which prefix; without it, no hop is in an AS.
        predictor: what is learned.
        protocol: who is hidden from it.
        seed: of all that is drawn.
        quick: it learns in few steps.
        report: hears how far it is.

    Returns:
        What each step came to; the answers are by country.

    Raises:
        QoetwinError: as each step.
    """
    ingested = ingest_atlas(lake, atlas, measurements, start, stop, report=report)
    probes = sync_probes(lake, atlas, report=report)
    summary = summarise_lake(lake, window, report=report)
    built = build_graph(summary, store, profile, origins=origins, report=report)
    saved = models / f"{predictor}-{protocol}"
    trained = train(
        store,
        predictor,
        protocol,
        saved,
        selection=Selection(),
        seed=seed,
        quick=quick,
        report=report,
    )
    answers = qoe(store, list(Application), Selection(), group_by=GroupBy.COUNTRY)
    return WholeWay(ingested=ingested, probes=probes, built=built, trained=trained, answers=answers)
