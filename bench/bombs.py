"""Files that are small until they are read: 2 GB without the end of a record, and inflated gigabytes of nothing, to the lake.

Prints one JSON object: what each cost, and what was said of it. Exit 1 when one took more memory than an archive may, or was not refused.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.archive import INGEST, MOST_MIB, child

SIZE = 1 << 31

GOOD = b'{"fw":4790,"af":4,"msm_id":1,"prb_id":1,"timestamp":1557619200,"type":"ping","dst_addr":"192.0.2.1","sent":1,"rcvd":1,"min":1.5,"result":[{"rtt":1.5}]}\n'

FILL: dict[str, Callable[[], Iterator[bytes]]] = {
    "brackets": lambda: iter([b"[" * (1 << 24)] * (SIZE >> 24)),
    "text": lambda: iter([b'{"fw": "', *[b"a" * (1 << 24)] * (SIZE >> 24)]),
    "blank-lines": lambda: iter([b"\n" * (1 << 24)] * (SIZE >> 24)),
    "a-record-then-text": lambda: iter(
        [GOOD, b'{"fw": "', *[b"a" * (1 << 24)] * (SIZE >> 24), b'"}\n', GOOD]
    ),
}
OPEN = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", choices=[f"{fill}.{form}" for fill in FILL for form in OPEN], action="append"
    )
    arguments = parser.parse_args()
    figures, wrong = {}, False
    with tempfile.TemporaryDirectory(prefix="qoetwin-bombs-") as scratch:
        for fill, blocks in FILL.items():
            for form, opened in OPEN.items():
                name = f"{fill}.{form}"
                if arguments.only and name not in arguments.only:
                    continue
                path = Path(scratch, name)
                with opened(path, "wb") as stream:
                    for block in blocks():
                        stream.write(block)
                figures[name] = found = child(INGEST, str(Path(scratch, f"lake-{name}")), str(path))
                good = 1 if fill == "a-record-then-text" else 0
                wrong |= found["peak_mib"] > MOST_MIB or not found["said"] or found["new"] != good
                print(name, found, file=sys.stderr)
                path.unlink()
    print(json.dumps(figures, indent=2))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
