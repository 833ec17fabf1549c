"""Two days of recorded pings and traceroutes, from bz2 to a queryable graph; and how fast the command line starts.

Prints one JSON object. Every figure is the median of several runs of whole processes, beside a reference timed in turn with
it: for ingestion decompressing and reading the same records and doing nothing with them, for starts a bare `python -c "import ..."`.
Seconds depend on the machine, ratios less so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.recorded import folder_of, parser_of

DAYS = ("2019-05-13", "2019-05-14")


def main() -> None:
    arguments = parser_of(__doc__, runs=5).parse_args()
    folder = folder_of(arguments, "atlas", "regional-2019")
    files = [str(folder / f"{kind}-{day}.ndjson.bz2") for day in DAYS for kind in ("ping", "traceroute")]
    probes = str(arguments.recorded / "atlas" / "probes" / "probes.csv.gz")
    with tempfile.TemporaryDirectory(prefix="qoetwin-bench-") as scratch:
        figures = measure(Path(scratch), files, probes, arguments.runs)
    print(json.dumps(figures, indent=2))


def measure(scratch: Path, files: Sequence[str], probes: str, runs: int) -> dict[str, object]:
    """Time everything, `runs` times in turn."""
    homes = iter(range(10_000))

    def whole_way() -> Path:
        home = scratch / str(next(homes))
        qoetwin("ingest", "files", *files, "--home", str(home))
        qoetwin("graph", "build", "--window", "3h", "--home", str(home))
        return home

    def read_only() -> None:
        run(sys.executable, "-c", READ_ONLY, *files)

    home = whole_way()
    qoetwin("probes", "load", probes, "--home", str(home))
    qoetwin("graph", "build", "--window", "3h", "--home", str(home))

    def answer() -> None:
        qoetwin("qoe", "voip", "--country", "LB", "--format", "json", "--home", str(home))

    def help_text() -> None:
        qoetwin("--help")

    def import_pyarrow() -> None:
        run(sys.executable, "-c", "import pyarrow, numpy, sqlite3")

    def import_click() -> None:
        run(sys.executable, "-c", "import click")

    return {
        "machine": {"cores": os.cpu_count(), "python": sys.version.split()[0]},
        "runs": runs,
        "two_days_to_graph": paired(
            whole_way, read_only, runs, "bunzip2 and orjson.loads alone", limit_s=10.0
        ),
        "qoe_answer_cold": paired(answer, import_pyarrow, runs, "importing pyarrow and numpy", limit_s=1.5),
        "help": paired(help_text, import_click, runs, "importing click", limit_s=0.4),
    }


READ_ONLY = """
import bz2, sys, orjson
for name in sys.argv[1:]:
    for line in bz2.open(name):
        orjson.loads(line)
"""


def paired(
    ours: Callable[[], object], reference: Callable[[], object], runs: int, name: str, *, limit_s: float
) -> dict[str, object]:
    """Medians of both, and of the ratio, run in turn after one warm-up of each."""
    timed(ours)
    timed(reference)
    pairs = [(timed(ours), timed(reference)) for _ in range(runs)]
    return {
        "median_s": round(statistics.median(a for a, _ in pairs), 3),
        "worst_s": round(max(a for a, _ in pairs), 3),
        "limit_s": limit_s,
        "reference": name,
        "reference_median_s": round(statistics.median(b for _, b in pairs), 3),
        "ratio_to_reference": round(statistics.median(a / b for a, b in pairs), 2),
    }


def timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def qoetwin(*arguments: str) -> None:
    run(str(Path(sys.executable).parent / "qoetwin"), *arguments)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
