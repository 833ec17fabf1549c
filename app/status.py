"""How the schedule of a home is doing, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from app.output import Cell, Row
from app.schedule_state import SCHEDULER, JobState, ScheduleState, is_held, job_lock
from app.settings import LAKE_NAME
from ingest.lake import Lake
from ingest.lake_files import Kind

if TYPE_CHECKING:  # what there is without a configuration needs no pydantic
    from app.config import Config, SourceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How it is.

    Attributes:
        home: about the home: the lake, the graph, whether a scheduler is running.
        sources: a row for each source that is configured, or ever ran.
        failing: whether the last run of any, or of the graph, failed.
    """

    home: dict[str, Cell]
    sources: Sequence[Row]
    failing: bool


def status(home: Path, config: Config | None, now: datetime) -> Status:
    """Look at a home; nothing is changed.

    Args:
        home: where everything is kept.
        config: the sources that are configured; None where there is no configuration.
        now: aware.

    Raises:
        StoreError: when what is kept cannot be read.
    """
    state = ScheduleState(home)
    jobs, graph = state.jobs(), state.graph()
    tables = {} if config is None else {table.name: table for table in config.source}
    names = [*tables, *(name for name in jobs if name not in tables)]
    rows = [_row(name, tables.get(name), jobs.get(name), state, home, now) for name in names]
    about: dict[str, Cell] = {
        "home": str(home),
        "scheduler_running": is_held(home, SCHEDULER, shared=True),
        **_lake(home),
        "graph_built_at": graph.built_at,
        "graph_lake_head": graph.head,
        "graph_windows_until": graph.until,
        "graph_failures": graph.failures,
        "graph_last_error": graph.error,
        "graph_last_error_at": graph.failed_at,
    }
    failing = graph.failures > 0 or any(jobs[name].failures > 0 for name in tables if name in jobs)
    return Status(home=about, sources=rows, failing=failing)


def _lake(home: Path) -> dict[str, Cell]:
    lake = Lake(home / LAKE_NAME)
    counts: dict[str, Cell] = {}
    for kind in Kind:
        lake.files(kind)  # a lake of an earlier version is taken over before its manifest is asked
        counts[f"{kind}_rows"] = sum(entry.rows for entry in lake.manifest.files(kind))
    return {"lake_head": lake.manifest.head(), **counts}


def _row(
    name: str,
    table: SourceTable | None,
    job: JobState | None,
    state: ScheduleState,
    home: Path,
    now: datetime,
) -> Row:
    """A source. Counts are of all its runs, `last_…` of its last one; `lag_s` is what it is behind; `passed_over` are files without results."""
    reached = None if job is None else job.succeeded_at
    coverage = state.coverage(name)
    if coverage:
        newest = max(one.listed for one in coverage.values())
        # What is no longer a measurement of the source gets no newer.
        reached = min(one.until for one in coverage.values() if one.listed == newest)
    passed_over = [*state.passed_over(name).values()]
    running = is_held(home, job_lock(name))
    if table is None or job is None:
        due = None
    else:
        from app.jobs import next_run

        due = next_run(table, job, now)
    return {
        "source": name,
        "kind": table.kind if table is not None else None if job is None else job.kind,
        "running": running,
        "last_success": None if job is None else job.succeeded_at,
        "lag_s": None if reached is None else max(0, round((now - reached).total_seconds())),
        "results_read": 0 if job is None else job.total.results_read,
        "observations": 0 if job is None else job.total.observations,
        "duplicates": 0 if job is None else job.total.duplicates,
        "quarantined": 0 if job is None else job.total.quarantined,
        "last_results_read": 0 if job is None else job.last.results_read,
        "last_observations": 0 if job is None else job.last.observations,
        "next_run": due,
        "failures": 0 if job is None else job.failures,
        "last_error": None if job is None else job.error,
        "last_error_at": None if job is None else job.failed_at,
        "passed_over": len(passed_over),
        "last_passed_over": passed_over[-1].why if passed_over else None,
        "interrupted": job is not None and job.interrupted and not running,
    }
