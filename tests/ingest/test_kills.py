from __future__ import annotations

from pathlib import Path

import pytest

import ingest.lake
from ingest.lake import Lake
from tests.ingest.killed_works import WORKS
from tests.ingest.kills import LANDING, Work, ingest_all, kill, problems


def test_wherever_a_run_is_killed_the_next_finishes_its_work_with_nothing_lost_and_nothing_twice(
    tmp_path: Path,
) -> None:
    outcome = kill(LANDING, 10, 1, tmp_path)
    assert outcome["wrong"] == []
    assert outcome["kills"] == {"parse": 2, "write": 2, "manifest": 2, "compaction": 2, "outside": 2}
    assert outcome["too_few"] == []


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_whatever_writes_to_the_lake_may_be_killed(work: Work, tmp_path: Path) -> None:
    outcome = kill(work, 1 + len(work.phases), 1, tmp_path)
    assert outcome["wrong"] == []
    assert outcome["too_few"] == []


def test_a_lake_that_lacks_a_row_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.lake, "LANDED_BYTES", ingest.lake.LANDED_BYTES)  # it sets them
    monkeypatch.setattr(ingest.lake, "COMPACTED_FILES", ingest.lake.COMPACTED_FILES)
    ingest_all(tmp_path)
    assert problems(tmp_path) == []
    lost = next(tmp_path.glob("ping/**/*.parquet"))
    lost.unlink()
    Lake(tmp_path).repair()
    (problem,) = problems(tmp_path)
    assert problem.startswith("lost: Counter")
