"""Files that are small until they are read: each is refused in memory that does not grow with what is in it.

`python -m bench.bombs` does the same with 2 GB of results, to the lake.
"""

from __future__ import annotations

import bz2
import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_READ = r"""
import json, re, sys
from pathlib import Path
from app.settings import bound_memory
bound_memory()
from domain.errors import InputError
from ingest.files import FileSource
from ingest.prefixes import read_prefixes
from ingest.probes import read_probes
from ingest.table import TableSource, read_nodes

def files(path):
    source = FileSource([path], threads=2)
    for _ in source.read():
        pass
    raise source.failures[0]

def table(path):
    for _ in TableSource(path, columns={}, constants={"af": "4"}).read(lambda *_: None):
        pass

def mib(name):
    return int(re.search(name + r":\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

readers = {"files": files, "table": table, "nodes": lambda path: read_nodes(path, {}, {}), "probes": read_probes,
           "prefixes": read_prefixes}
refused = {}
for reader, path in json.loads(sys.argv[1]):
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is now: proc(5)
    before = mib("VmRSS")
    try:
        readers[reader](Path(path))
    except InputError as error:
        refused[path] = [error.line(), mib("VmHWM") - before]
print(json.dumps(refused))
"""

_MEMBER_BYTES = 1 << 22
PARQUET = ("table", "nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bomb:
    """A file of which most is always the same.

    Attributes:
        reader: what reads it.
        begin: its first bytes.
        fill: what follows, again and again.
        size_mib: how much of that, inflated.
        said: what is said of it.
        most_mib: what it may take. A list of probes or nodes may have 256 MiB; of all others a line is held, and a few batches.
    """

    reader: str
    begin: bytes = b""
    fill: bytes
    size_mib: int = 256
    said: str = "a line that is too long"
    most_mib: int = 100

    def packed(self, form: str) -> bytes:
        """The file; members of gzip, and streams of bzip2, may follow one another."""
        pack = {"gz": lambda content: gzip.compress(content, 1), "bz2": bz2.compress}[form]
        member = pack(self.fill * (_MEMBER_BYTES // len(self.fill)))
        return pack(self.begin) + member * (self.size_mib * (1 << 20) // _MEMBER_BYTES)


_SAMPLES = b"probe_id,target_id,timestamp,rtt_avg_ms\n1,2,3,"

BOMBS = {
    "prefixes.gz": Bomb(reader="prefixes", begin=b"prefix,asn\n192.0.2.0/24,", fill=b"6", most_mib=20),
    "prefixes of CAIDA.bz2": Bomb(reader="prefixes", begin=b"192.0.2.0\t24\t", fill=b"6", most_mib=20),
    "header of a table.gz": Bomb(reader="table", fill=b"a"),
    "row of a table.bz2": Bomb(reader="table", begin=_SAMPLES, fill=b"4"),
    "quote in a table.gz": Bomb(reader="table", begin=_SAMPLES + b'"', fill=b"4"),
    "matrix of one column.gz": Bomb(reader="table", fill=b"1\n", said="no square matrix"),
    "rows of nodes.gz": Bomb(reader="nodes", begin=b"id,lat,lon\n", fill=b"1,2,3\n", said="too large"),
    "rows of probes.gz": Bomb(reader="probes", begin=b"prb_id\n", fill=b"1\n", said="too large"),
    "empty probes.bz2": Bomb(reader="probes", begin=b"[{}", fill=b",{}", said="too large"),
    "text.gz": Bomb(reader="files", begin=b'{"fw": "', fill=b"a", said="too large", most_mib=150),
    "text.bz2": Bomb(reader="files", begin=b'{"fw": "', fill=b"a", said="too large", most_mib=150),
    "name of a probe.gz": Bomb(
        reader="probes",
        begin=b'[{"id": 5, "name": "',
        fill=b"9",
        size_mib=300,
        said="too large",
        most_mib=350,
    ),
    "name of a node.gz": Bomb(
        reader="nodes", begin=b"id,lat,lon\n1,2,", fill=b"3", size_mib=300, said="too large", most_mib=350
    ),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    """Name of a bomb -> what was said of it, and how many MiB it took more than there were before."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("nobody says here how much memory a process had at most")
    folder = tmp_path_factory.mktemp("bombs")
    for name, bomb in BOMBS.items():
        (folder / name).write_bytes(bomb.packed(name.rpartition(".")[2]))
    words = pa.DictionaryArray.from_arrays(pa.array([0] * 50_000, pa.int32()), pa.array(["x" * (1 << 21)]))
    for name in PARQUET:
        columns = {"id": [*range(50_000)], "lat": [1.0] * 50_000, "lon": [1.0] * 50_000}
        if name == "table":
            columns = {"probe_id": [1], "target_id": [2], "timestamp": [1_557_000_000], "rtt_avg_ms": [5.0]}
            columns = {column: value * 50_000 for column, value in columns.items()}
        pq.write_table(
            pa.table(columns | {"note": words}),
            folder / f"{name}.parquet",
            compression="zstd",
            store_schema=False,
        )
    many = pa.table({name: np.zeros(6_000_000) for name in ("id", "lat", "lon")})
    pq.write_table(many, folder / "many nodes.parquet", compression="zstd")
    readers = {name: bomb.reader for name, bomb in BOMBS.items()} | {
        "table.parquet": "table",
        "nodes.parquet": "nodes",
        "many nodes.parquet": "nodes",
    }
    files = json.dumps([(reader, str(folder / name)) for name, reader in readers.items()])
    done = subprocess.run([sys.executable, "-c", _READ, files], capture_output=True, text=True, check=True)
    return {Path(path).name: (line, took_mib) for path, (line, took_mib) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_small_until_it_is_read_is_refused_in_bounded_memory(
    refused: dict[str, tuple[str, float]], name: str
) -> None:
    line, took_mib = refused[name]
    assert BOMBS[name].said in line
    assert len(line) < 600
    assert took_mib < BOMBS[name].most_mib


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("table.parquet", "a row that is too long"),
        ("nodes.parquet", "a row that is too long"),
        ("many nodes.parquet", "a list that is too large"),
    ],
)
def test_parquet_that_is_small_until_it_is_read_is_refused_in_bounded_memory(
    refused: dict[str, tuple[str, float]], name: str, said: str
) -> None:
    line, took_mib = refused[name]
    assert said in line
    assert len(line) < 600
    assert took_mib < 250
