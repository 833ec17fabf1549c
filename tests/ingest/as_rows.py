"""Arrow tables of observations as the testbed writes down what it expects: plain rows, times in whole seconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from ingest.batch import Parsed

Row = dict[str, Any]


def rows(table: pa.Table) -> list[Row]:
    """The rows, in order of measurement, time and probe."""
    found = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
    return sorted(found, key=lambda row: (row["msm_id"], row["timestamp"], row["probe_id"]))


def once(found: Iterable[Parsed], kind: str) -> list[Row]:
    """The rows of what was read, each result once, as a lake would keep it."""
    kept: dict[tuple[object, ...], Row] = {}
    for parsed in found:
        for row in rows(getattr(parsed, kind)):
            kept.setdefault((row["msm_id"], row["probe_id"], row["timestamp"], row["target"]), row)
    return sorted(kept.values(), key=lambda row: (row["msm_id"], row["timestamp"], row["probe_id"]))


def assert_same(found: list[Row], expected: list[Row]) -> None:
    """The same rows; means may differ in the last bit."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if "rtt_avg_ms" in one:
            mean = other["rtt_avg_ms"]
            assert one["rtt_avg_ms"] == (None if mean is None else pytest.approx(mean, rel=1e-9))
            one = {**one, "rtt_avg_ms": mean}
        assert one == other


def _plain(value: Any) -> Any:
    return int(value.timestamp()) if isinstance(value, datetime) else value
