"""How fast files are read and parsed beside inflating them alone, and how much memory that takes.

    python -m bench.reading FOLDER [--threads N] [--rounds N]

FOLDER holds bzip2 files of Atlas results. In turn, with the same threads, and each in a process of its own so that its peak memory
is its own: inflated alone, a file a thread, with libbz2; read; read and parsed. Then the same bytes as one file of many streams, as one
stream, and one file ten times as large. Last, bombs: lines of 2 GB.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHILD = """
import bz2, resource, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ingest import files
from ingest.batch import Parsed
what, threads, paths = sys.argv[1], int(sys.argv[2]), [Path(name) for name in sys.argv[3:]]
if what == "read":
    files.parse_batch = lambda batch: Parsed(other_types=1, cut=batch.cut)
    files._results = lambda all_parsed, where: all_parsed
begin, size, failures = time.perf_counter(), 0, []
if what == "inflate":
    def inflate(path):
        with bz2.open(path) as stream:
            return sum(map(len, iter(lambda: stream.read(1 << 20), b"")))
    with ThreadPoolExecutor(threads) as pool:
        size = sum(pool.map(inflate, paths))
else:
    source = files.FileSource(paths, threads=threads)
    size = sum(parsed.records for parsed in source.read())
    failures = source.failures
seconds = time.perf_counter() - begin
print(seconds, time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, size, *failures[:1])
"""


def timed(what: str, threads: int, paths: list[Path]) -> tuple[float, float, int, str]:
    """Seconds, seconds of all cores together, peak memory in MB, and what it said."""
    command = [sys.executable, "-c", _CHILD, what, str(threads), *map(str, paths)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, worked, megabytes, said = answer.split(" ", 3)
    return float(seconds), float(worked), int(megabytes), said.strip()


def bombs(folder: Path) -> Iterator[Path]:
    """Files of 2 GB without a line in them."""
    for name, letters in {
        "brackets": b"[",
        "text": b'{"fw": "' + b"a" * (1 << 20),
        "blank lines": b"\n",
    }.items():
        path = folder / f"{name}.gz"
        block = letters * ((1 << 24) // len(letters)) if len(letters) == 1 else letters
        with gzip.open(path, "wb", 1) as stream:
            for number in range((1 << 31) // len(block)):
                stream.write(block if number == 0 or len(letters) == 1 else block[8:])
        yield path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    files = sorted(chosen.folder.glob("*.bz2"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packed = b"".join(file.read_bytes() for file in files)
        many, one, large = folder / "many.bz2", folder / "one.bz2", folder / "large.bz2"
        many.write_bytes(packed)
        with ThreadPoolExecutor(chosen.threads) as pool:
            content = b"".join(pool.map(lambda file: bz2.decompress(file.read_bytes()), files))
        one.write_bytes(bz2.compress(content))
        large.write_bytes(packed * 10)
        megabytes = len(content) / 1e6
        del content, packed
        print(f"{len(files)} files, {megabytes:.0f} MB, {chosen.threads} threads")
        for title, paths in {"files": files, "one file of streams": [many], "one stream": [one]}.items():
            taken: dict[str, list[tuple[float, float, int, str]]] = {"inflate": [], "read": [], "parse": []}
            for _ in range(chosen.rounds):
                for what, figures in taken.items():
                    figures.append(timed(what, chosen.threads, files if what == "inflate" else paths))
            alone, worked = (statistics.median(one[figure] for one in taken["inflate"]) for figure in (0, 1))
            print(f"{title}: inflated alone at {megabytes / alone:.0f} MB/s")
            for what in ("read", "parse"):
                seconds, work = (statistics.median(one[figure] for one in taken[what]) for figure in (0, 1))
                peak = max(one[2] for one in taken[what])
                print(
                    f"  {what}: {alone / seconds:.2f} of that, {worked / work:.2f} by the work of cores, peak {peak} MB",
                    flush=True,
                )
        seconds, _, memory, said = timed("parse", chosen.threads, [large])
        print(f"ten times as much: {10 * megabytes / seconds:.0f} MB/s, peak {memory} MB; {said}", flush=True)
        for bomb in bombs(folder):
            seconds, _, memory, said = timed("parse", chosen.threads, [bomb])
            print(f"2 GB of {bomb.stem}: {seconds:.1f} s, peak {memory} MB; {said}", flush=True)


if __name__ == "__main__":
    main()
