"""Real records, damaged: none is lost, none breaks the parser, and what is still good is still understood."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.batch import Batch, bounds_of
from ingest.parse import parse_batch
from tests.ingest.mutations import first_lines, must_be_understood, mutated, recorded_files


@pytest.mark.recorded
@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_records_are_counted_once_and_lose_no_more_than_was_damaged(
    recorded: Path, seed: int
) -> None:
    lines = [line for path in recorded_files(recorded)[::4] for line in first_lines(path)[::15]]
    raws = list(mutated(lines, 2_500, seed))
    data, begin, end = bounds_of(raws)
    batch = Batch(source="test", first_position=0, data=data, begin=begin, end=end, read_at=datetime.now(UTC))
    parsed, careful = parse_batch(batch), parse_batch(batch, extension=False)
    for table, other in (
        (parsed.pings, careful.pings),
        (parsed.traceroutes, careful.traceroutes),
        (parsed.quarantined, careful.quarantined),
    ):
        table.validate(full=True)
        assert table.equals(other)
    assert parsed.records == len(raws)
    refused = set(parsed.quarantined.column("position").to_pylist())
    wanted = {number for number, raw in enumerate(raws) if must_be_understood(raw)}
    assert len(wanted) > 1_000
    assert [raws[number] for number in wanted & refused] == []
    assert [parsed.quarantined.column("raw")[row].as_py() for row in range(len(refused))] == [
        raws[number] for number in sorted(refused)
    ]
