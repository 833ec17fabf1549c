"""An archive of recorded results to the lake: how fast beside decompressing it alone, how much memory, again, and as it grows.

Prints one JSON object. Every time is taken inside a process of its own, after its imports, ours and its reference in turn;
medians of several. Ratios depend less on the machine than seconds do.
"""

from __future__ import annotations

import bz2
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.recorded import folder_of, parser_of

CORES = os.cpu_count() or 1
_DAY_S = 86_400
MOST_MIB = 400

INGEST = """
import json, resource, sys, time
from pathlib import Path
from app.settings import bound_memory
bound_memory()
from ingest.lake import Lake
from twin.ingestion import ingest_files
began = time.perf_counter()
done = ingest_files(Lake(Path(sys.argv[1])), [Path(name) for name in sys.argv[2:]])
print(json.dumps({"s": time.perf_counter() - began, "results": done.landed.results_read, "new": done.landed.observations,
                  "said": [failure.line() for failure in done.failures],
                  "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))
"""
"""Ingests files into a lake: `child(INGEST, lake, *files)`."""

DECOMPRESS = """
import bz2, json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
def inflate(name):
    with open(name, "rb") as stream:
        inflater = bz2.BZ2Decompressor()
        while data := stream.read(1 << 16):
            while data:
                inflater.decompress(data)
                data = inflater.unused_data if inflater.eof else b""
                if inflater.eof:
                    inflater = bz2.BZ2Decompressor()
began = time.perf_counter()
with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(inflate, sys.argv[1:]))
print(json.dumps({"s": time.perf_counter() - began}))
"""


def main() -> None:
    arguments = parser_of(__doc__, runs=5).parse_args()
    folder = folder_of(arguments, "atlas", "regional-2019")
    files = sorted(map(str, folder.glob("*.bz2")))
    with tempfile.TemporaryDirectory(prefix="qoetwin-bench-") as scratch:
        figures = {
            "machine": {"cores": CORES, "python": sys.version.split()[0]},
            "runs": arguments.runs,
            "archive_to_lake": to_lake(Path(scratch), files, arguments.runs),
            "ten_times_one_file": ten_times(Path(scratch), files),
            "growth": growth(Path(scratch), files, arguments.runs),
        }
    print(json.dumps(figures, indent=2))


def to_lake(scratch: Path, files: Sequence[str], runs: int) -> dict[str, object]:
    """All files, once and again, beside decompressing them with as many threads as there are cores."""
    first, again, alone = [], [], []
    results = 0
    for number in range(runs + 1):  # the first warms up
        home = scratch / f"lake-{number}"
        found = child(INGEST, str(home), *files)
        assert not found["said"], found
        results = found["results"]
        assert found["new"] == results
        second = child(INGEST, str(home), *files)
        assert (second["results"], second["new"]) == (results, 0)
        if number > 0:
            first.append(found["s"])
            again.append(second["s"])
            alone.append(child(DECOMPRESS, *files)["s"])
    return {
        "results": results,
        "median_s": round(statistics.median(first), 2),
        "results_a_second": round(results / statistics.median(first)),
        "reference": f"Python's bz2 in {CORES} threads, and nothing else",
        "reference_median_s": round(statistics.median(alone), 2),
        "throughput_ratio": ratio(alone, first),
        "at_least": 0.7,
        "aim": 0.85,
        "again_to_first": ratio(again, first),
        "at_most": 0.3,
    }


def ten_times(scratch: Path, files: Sequence[str]) -> dict[str, object]:
    """One file of ten times all pings (streams one after the other), and one of a single stream: memory, and all cores on one file."""
    pings = [Path(name).read_bytes() for name in files if "ping-" in name]
    many = scratch / "ten-times.bz2"
    many.write_bytes(b"".join(pings) * 10)
    single = scratch / "single-stream.bz2"
    single.write_bytes(bz2.compress(b"".join(map(bz2.decompress, pings))))
    found = {}
    for file in (many, single):
        ours = child(INGEST, str(scratch / f"lake-{file.stem}"), str(file))
        found[file.stem] = {
            "results": ours["results"],
            "peak_mib": ours["peak_mib"],
            "at_most_mib": MOST_MIB,
            "throughput_ratio_to_one_thread_of_bz2": round(child(DECOMPRESS, str(file))["s"] / ours["s"], 2),
        }
    return found


def growth(scratch: Path, files: Sequence[str], runs: int) -> dict[str, object]:
    """From 1 to 50 days: the days that are not recorded are recorded ones with their times moved."""
    pings = [name for name in files if "ping-" in name]
    days: list[Path] = []
    for number in range(50):
        moved_s = number // len(pings) * len(pings) * _DAY_S
        text = bz2.decompress(Path(pings[number % len(pings)]).read_bytes())
        day = scratch / f"day-{number:02}.ndjson"
        day.write_bytes(_TIMES.sub(lambda found, by=moved_s: found[1] + b"%d" % (int(found[2]) + by), text))
        days.append(day)
    medians = {}
    for count in (1, 5, 10, 25, 50):
        times = [
            child(INGEST, str(scratch / f"grown-{count}-{run}"), *map(str, days[:count]))["s"]
            for run in range(runs)
        ]
        medians[count] = statistics.median(times)
    # Slope of log time over log days, from 5 on: a single day is mostly the opening of libraries.
    counts = [count for count in medians if count >= 5]
    x, y = [math.log(count) for count in counts], [math.log(medians[count]) for count in counts]
    slope = statistics.linear_regression(x, y).slope
    return {
        "median_s_by_days": {count: round(value, 3) for count, value in medians.items()},
        "exponent_from_5_days": round(slope, 2),
        "exponent_1_to_50": round(math.log(medians[50] / medians[1]) / math.log(50), 2),
        "at_most": 1.1,
    }


_TIMES = re.compile(rb'("(?:timestamp|stored_timestamp|endtime)":)(\d+)')


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def child(code: str, *arguments: str) -> dict[str, Any]:
    """What a program says of itself, run in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
