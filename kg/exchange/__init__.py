"""Moving a graph between stores and files, in five forms. What goes out comes back equal.

whole      the whole graph as Arrow tables, from a store and to one
terms      those tables as RDF: resources and what is said of them
triples    RDF back to tables; parse_rdf is the parser, a program of its own
turtle, nquads, jsonld     the RDF forms
graphml, iyp_csv           for Gephi and networkx; for neo4j-admin and the Internet Yellow Pages
files      written whole or not at all
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from domain.errors import UnknownNameError
from domain.progress import Report
from domain.selection import Selection
from kg.exchange import graphml, iyp_csv, jsonld, nquads, triples, turtle
from kg.exchange.files import required, written
from kg.exchange.whole import KINDS, Piece, name_of, pieces, spooled
from kg.exchange.whole import write as write
from kg.store import GraphStore

_WRITERS = {
    "turtle": turtle.write,
    "nquads": nquads.write,
    "jsonld": jsonld.write,
    "graphml": graphml.write,
}
FORMS: tuple[str, ...] = (*_WRITERS, "iyp-csv")
"""The forms that a graph can be written in, and read from."""


def export_graph(store: GraphStore, path: Path, form: str, *, report: Report) -> dict[str, int]:
    """Write all of a graph to a file, or for `iyp-csv` to a folder.

    Args:
        store: the graph.
        path: where to; what is there is replaced, at the end. `.gz` compresses a file.
        form: one of `FORMS`.
        report: is told of the rows.

    Returns:
        How many nodes of each label, edges of each type and facts of each type were written, as `GraphStore.counts`.

    Raises:
        UnknownNameError: when there is no such form.
        InputError: when nothing can be written there.
        StoreError: when the store cannot be read, or is written to meanwhile.
    """
    _known(form)
    counts = {name_of(kind): 0 for kind in KINDS}

    def counted(piece: Piece) -> Piece:
        counts[name_of(piece[0])] += piece[1].num_rows
        return piece

    found = (counted(piece) for piece in pieces(store, Selection(), report))
    if form == "iyp-csv":
        iyp_csv.write(path, found)
    else:
        with written(path) as out:
            _WRITERS[form](out, found)
    return counts


def import_graph(store: GraphStore, path: Path, form: str, *, report: Report) -> dict[str, int]:
    """Read a graph from a file, or for `iyp-csv` from a folder, into a store: all of it or nothing.

    Reading the same again changes nothing. What the ontology does not know is refused, never left out.

    Args:
        store: what is written to; what is there is kept, or merged with what is read.
        path: the file; `.gz` is unpacked.
        form: one of `FORMS`.
        report: is told of what is done.

    Returns:
        How many nodes of each label, edges of each type and facts of each type were read.

    Raises:
        UnknownNameError: when there is no such form.
        NotFoundError: when there is no such file or folder.
        InputError: when it is not a graph of that form; it says where.
        StoreError: when the store cannot be written.
    """
    return write(store, read_graph(path, form, report=report), report)


def read_graph(path: Path, form: str, *, report: Report) -> Iterator[Piece]:
    """Read a graph from a file as pieces for `write`; see `import_graph`. All of it was read when this returns.

    Raises:
        UnknownNameError: when there is no such form.
        NotFoundError: when there is no such file or folder.
        InputError: when it is not a graph of that form.
        StoreError: when there is no room on disk to work.
    """
    _known(form)
    required(path, folder=form == "iyp-csv")
    if form == "iyp-csv":
        read = iyp_csv.read(path)
    elif form == "graphml":
        read = graphml.read(path, report)
    else:
        read = triples.read(path, form, report)
    found = spooled(read, str(path))
    first = list(islice(found, 1))
    return chain(first, found)


def _known(form: str) -> None:
    if form not in FORMS:
        raise UnknownNameError("no such form of a graph", found=repr(form), expected=" or ".join(FORMS))
