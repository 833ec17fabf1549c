"""A program of its own: reads RDF in any form, writes it to stdout as N-Triples. `python parse_rdf.py FORM FILE`.

It runs beside the one that reads what it writes: the two share the work of reading a large file. It imports nothing of ours,
so that it starts at once. On stderr it says, in one line, what is wrong; then it exits 1.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import IO, cast

import pyoxigraph as ox


def main(form: str, path: Path) -> None:
    """Read a file."""
    rdf = {"turtle": ox.RdfFormat.TURTLE, "nquads": ox.RdfFormat.N_QUADS, "jsonld": ox.RdfFormat.JSON_LD}[
        form
    ]
    with path.open("rb") as plain, open(1, "wb", buffering=1 << 20, closefd=False) as out:
        file = cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if path.suffix == ".gz" else plain
        quads = ox.parse(file, rdf)
        ox.serialize((quad.triple for quad in quads), out, ox.RdfFormat.N_TRIPLES)


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except SyntaxError as error:
        position = "" if error.lineno is None else f"line {error.lineno}, column {error.offset}: "
        sys.exit(f"syntax\t{position}{error.msg}")
    except EOFError as error:
        sys.exit(f"truncated\t{error}")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"unreadable\t{error}")
