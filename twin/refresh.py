"""A graph that is kept fresh: only windows that the lake has touched since the last time are built again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from domain.errors import StoreError
from domain.progress import Report, unheard
from domain.window import Window
from ingest.lake import Lake
from ingest.lake_files import DATED, Kind
from kg.store import GraphStore
from qoe.profile import Profile
from twin.building import Built, Origins, build_graph, summarise_lake

BUILT_NAME = "built"

_HOUR_S = 3600
_START = datetime.fromtimestamp(0, tz=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """Up to where a graph was built, and how. A graph that is not as it was left, or is to be built otherwise, is built anew.

    Attributes:
        commit: of the lake, which is in the graph.
        revision: of the graph, after it was built.
        profile: how it was scored.
        origins: which list of prefixes it knows; None for none.
        keep_s: retention; None for none.
        probes: digest of what was known of probes, and since when.
    """

    commit: int
    revision: str
    profile: str
    origins: str | None
    keep_s: float | None
    probes: str


def memory_file(home: Path, window: timedelta) -> Path:
    """Where a home remembers how far its graph is, for windows of a length."""
    return home / BUILT_NAME / f"{window.total_seconds():.0f}.json"


def refresh_graph(
    lake: Lake,
    store: GraphStore,
    profile: Profile,
    window: timedelta,
    memory: Path,
    *,
    origins: Origins | None = None,
    keep: timedelta | None = None,
    report: Report = unheard,
) -> Built | None:
    """Bring the graph up to what the lake holds; only windows that the lake has touched since the last time are built again.

    Args:
        lake: what was ingested.
        store: the graph.
        profile: how quality is scored.
        window: length of a window.
        memory: the file that remembers up to which commit of the lake the graph was built, and how (`memory_file`). Without it, or
            when the graph is another, or what is known of probes, the list of prefixes, the profile or the retention has
            changed, everything is built again.
        origins: who announces which prefix.
        keep: retention, as for `summarise_lake`.
        report: hears how far it is.

    Returns:
        What was written; None when the lake holds nothing new.

    Raises:
        EmptyError: when the lake holds no ping of a known pair.
        StoreError: when the lake cannot be read, or the graph or the memory cannot be written.
    """
    commit = lake.manifest.head()  # what lands from here on is for the next time
    left = _remembered(memory)
    touched = lake.manifest.touched_since(0 if left is None else left.commit)
    now = _Memory(
        commit=commit,
        revision=store.revision(),
        profile=profile.label,
        origins=None if origins is None else origins.words,
        keep_s=None if keep is None else keep.total_seconds(),
        # Reading the history is the dearer part of finding that nothing is new.
        probes=left.probes
        if left is not None and Kind.PROBE not in touched
        else _digest(lake.probe_history()),
    )
    only: list[Window] | None = None
    if left is not None and _without_commit(left) == _without_commit(now):
        only = _windows([hour for kind in DATED for hour in touched.get(kind, ())], window)
        if not only:
            _remember(memory, now)
            return None
    summary = summarise_lake(lake, window, keep=keep, only=only, report=report)
    built = build_graph(summary, store, profile, origins=origins, report=report)
    _remember(memory, _Memory(**asdict(now) | {"revision": store.revision()}))
    return built


def keep_fresh(home: Path, before: str, after: str) -> None:
    """What was written to the graph beside its states needs none of them built again.

    Args:
        home: whose graph it is.
        before: the graph's revision before something was written that no build makes.
        after: and after it.

    Raises:
        StoreError: when the memory cannot be read or written.
    """
    for memory in sorted((home / BUILT_NAME).glob("*.json")):
        left = _remembered(memory)
        if left is not None and left.revision == before:
            _remember(memory, replace(left, revision=after))


def _without_commit(memory: _Memory) -> dict[str, object]:
    return asdict(memory) | {"commit": None}


def _windows(hours: Sequence[int], window: timedelta) -> list[Window]:
    """Spans of whole windows that hold some hours since 1970, in order and apart."""
    length_s = int(window.total_seconds())
    numbers: set[int] = set()
    for hour in hours:
        numbers.update(range(hour * _HOUR_S // length_s, ((hour + 1) * _HOUR_S - 1) // length_s + 1))
    ordered = np.array(sorted(numbers), dtype=np.int64)
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if ordered.size else []
    return [
        Window(start=_START + int(run[0]) * window, end=_START + (int(run[-1]) + 1) * window) for run in runs
    ]


def _digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _remembered(memory: Path) -> _Memory | None:
    """What a file remembers; None when there is none, or it is of another version: then everything is built, and it is written."""
    try:
        return _Memory(**json.loads(memory.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None
    except OSError as error:
        raise StoreError(
            "cannot read how far the graph is", where=str(memory), found=error.strerror
        ) from error


def _remember(memory: Path, what: _Memory) -> None:
    partial = memory.with_suffix(".partial")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            json.dump(asdict(what), stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(memory)
    except OSError as error:
        raise StoreError(
            "cannot note how far the graph is", where=str(memory), found=error.strerror
        ) from error
