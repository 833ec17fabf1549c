from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

import ingest.lake
from ingest.lake import Lake


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, under the name by which the processes that it starts find it."""
    monkeypatch.setattr(ingest.lake, "LANDED_BYTES", ingest.lake.LANDED_BYTES)  # it sets them
    monkeypatch.setattr(ingest.lake, "COMPACTED_FILES", ingest.lake.COMPACTED_FILES)
    return importlib.import_module("tests.ingest.kills")


def test_wherever_a_run_is_killed_the_next_finishes_its_work_with_nothing_lost_and_nothing_twice(
    kills: ModuleType, tmp_path: Path
) -> None:
    outcome = kills.kill(15, 1, tmp_path)
    assert outcome["wrong"] == []
    assert set(outcome["kills"]) == {*kills.PHASES, "outside"}


def test_a_lake_that_lacks_a_row_would_be_noticed(kills: ModuleType, tmp_path: Path) -> None:
    kills.ingest_all(tmp_path)
    assert kills.problems(tmp_path) == []
    next(tmp_path.glob("ping/**/*.parquet")).unlink()
    Lake(tmp_path).repair()
    (problem,) = kills.problems(tmp_path)
    assert problem.startswith("ping: Counter")
