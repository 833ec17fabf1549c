"""Recorded pings and traceroutes, from bytes to Arrow columns, by one process: with and without the parser's library.

Prints one JSON object. Each figure is a median, beside references timed in turn with it on the same records: `orjson.loads`
alone, which makes Python objects and understands nothing, and ripe.atlas.sagan, Atlas's own parser. Records a second depend on
the machine, ratios less so.
"""

from __future__ import annotations

import bz2
import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
from ripe.atlas.sagan import PingResult, TracerouteResult

from bench.recorded import folder_of, parser_of
from ingest import ordinary
from ingest.batch import BATCH_BYTES, Batch, bounds_of
from ingest.parse import parse_batch

SETS = ("regional-2019", "builtin-2019")
KINDS = {"ping": PingResult, "traceroute": TracerouteResult}
SAGAN_SHARE = 8
"""sagan is slow: it gets one record in so many."""


def main() -> None:
    parser = parser_of(__doc__, runs=5)
    parser.add_argument("--megabytes", type=int, default=32, help="how much of each set")
    arguments = parser.parse_args()
    folder = folder_of(arguments, "atlas")
    library = ordinary.library()
    figures: dict[str, object] = {
        "library": "none: cargo was missing when qoetwin was installed" if library is None else library.name,
        "runs": arguments.runs,
    }
    for name in SETS:
        for kind in KINDS:
            lines = lines_of(folder / name, kind, arguments.megabytes << 20)
            figures[f"{name} {kind}"] = measure(lines, kind, arguments.runs)
    print(json.dumps(figures, indent=2))


def lines_of(folder: Path, kind: str, size: int) -> list[bytes]:
    """Records from the first files of a set, in their order."""
    lines: list[bytes] = []
    for path in sorted(folder.glob(f"{kind}-*.bz2")):
        for line in bz2.decompress(path.read_bytes()).splitlines():
            lines.append(line)
            size -= len(line)
            if size < 0:
                return lines
    return lines


def batches_of(lines: Sequence[bytes]) -> list[Batch]:
    """The records as sources give them."""
    batches = []
    first = size = 0
    for number, line in enumerate([*lines, b""]):
        size += len(line)
        if size >= BATCH_BYTES or number == len(lines):
            data, begin, end = bounds_of(lines[first : number + 1])
            batches.append(
                Batch(source="bench", first_position=first, data=data, begin=begin, end=end, read_at=datetime.now(UTC))
            )  # fmt: skip
            first, size = number + 1, 0
    return batches


def measure(lines: list[bytes], kind: str, runs: int) -> dict[str, object]:
    """Time everything, `runs` times in turn, after one warm-up of each."""
    batches = batches_of(lines)
    odd = sum(0 if found is None else found.odd.size for found in map(ordinary.recognise, batches))
    few = lines[::SAGAN_SHARE]
    sagan = KINDS[kind]

    def with_library() -> None:
        for batch in batches:
            parse_batch(batch)

    def without_library() -> None:
        for batch in batches:
            parse_batch(batch, extension=False)

    def orjson_alone() -> None:
        for line in lines:
            orjson.loads(line)

    def sagan_alone() -> None:
        for line in few:
            sagan(line.decode(), on_error=sagan.ACTION_IGNORE, on_malformation=sagan.ACTION_IGNORE)

    works: dict[str, tuple[Callable[[], None], int]] = {
        "with_library": (with_library, len(lines)),
        "without_library": (without_library, len(lines)),
        "orjson": (orjson_alone, len(lines)),
        "sagan": (sagan_alone, len(few)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name, (work, count) in works.items():
            before = time.perf_counter()
            work()
            if run:
                speeds[name].append(count / (time.perf_counter() - before))

    def ratio(ours: str, reference: str) -> float:
        return round(
            statistics.median(a / b for a, b in zip(speeds[ours], speeds[reference], strict=True)), 2
        )

    return {
        "records": len(lines),
        "taken_by_library": None if ordinary.library() is None else round(1 - odd / len(lines), 5),
        "thousand_records_a_second": {
            name: round(statistics.median(all_) / 1000, 1) for name, all_ in speeds.items()
        },
        "to_orjson": {name: ratio(name, "orjson") for name in ("with_library", "without_library")},
        "to_sagan": {name: ratio(name, "sagan") for name in ("with_library", "without_library")},
    }


if __name__ == "__main__":
    main()
