"""GraphML, as networkx and Gephi read it: one directed multigraph.

Nodes are nodes. Edges are edges, and so are facts: one about an edge lies beside it, between the same ends; one about a node
goes from the node to itself. `kind` says which of the ontology's classes a node or an edge is of. Edges and facts carry their
provenance.

XML 1.0 has no way to write most control characters: they are `_x0001_`, as office documents write them (ECMA-376, part 1,
22.4.2.4), and an underscore that could be taken for the beginning of such is `_x005F_`.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError, TruncatedError
from domain.progress import Report
from kg.exchange.terms import about, ends, joined, lexical, subject, whole_text
from kg.exchange.whole import (
    CLASSES,
    KINDS,
    ROWS,
    Kind,
    Piece,
    class_of,
    columns_of,
    key_of,
    refuse_twins,
    respelled,
    typed,
)
from kg.schema import VERSION, Datatype, EdgeType, FactType, NodeType, Property

_TYPES = {
    Datatype.INTEGER: "long",
    Datatype.DOUBLE: "double",
    Datatype.BOOLEAN: "boolean",
    Datatype.STRING: "string",
    Datatype.DATETIME: "string",
}
_NODES = {p.name: p for kind in KINDS if isinstance(kind, NodeType) for p in columns_of(kind)}
_EDGES = {
    p.name: p
    for kind in KINDS
    if not isinstance(kind, NodeType)
    for p in columns_of(kind)
    if p.name not in ("source", "target") or isinstance(kind, FactType)
}
_KIND, _VERSION, _RESOURCES = "kind", "ontology_version", "resources"
_ENDS = (
    "@source",
    "@target",
)  # keys of the nodes at the ends of an edge that was read; facts have a property `target` too


# Writing


def write(out: IO[bytes], pieces: Iterator[Piece]) -> None:
    """Write pieces."""
    keys = [
        f'<key id="g_{_VERSION}" for="graph" attr.name="{_VERSION}" attr.type="long"/>',
        f'<key id="g_{_RESOURCES}" for="graph" attr.name="{_RESOURCES}" attr.type="long"/>',
        *(
            f'<key id="{place[0]}_{name}" for="{place}" attr.name="{name}" attr.type="{_TYPES[datatype]}"/>'
            for place, properties in (("node", _NODES), ("edge", _EDGES))
            for name, datatype in (
                (_KIND, Datatype.STRING),
                *((p.name, p.datatype) for p in properties.values()),
            )
        ),
    ]
    head = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
        *keys,
        '<graph edgedefault="directed">',
        f'<data key="g_{_VERSION}">{VERSION}</data>',
    ]
    out.write("\n".join(head).encode() + b"\n")
    resources = 0
    for kind, table in pieces:
        resources += table.num_rows
        out.write(_elements(kind, table.combine_chunks()))
    out.write(f'<data key="g_{_RESOURCES}">{resources}</data>\n'.encode())
    out.write(b"</graph>\n</graphml>\n")


def _elements(kind: Kind, table: pa.Table) -> bytes:
    rows = table.num_rows
    place = "n" if isinstance(kind, NodeType) else "e"
    name = _attribute(subject(kind, table))
    if isinstance(kind, NodeType):
        parts = [joined(['<node id="', name, '">'], rows)]
    else:
        source, target = _ends(kind, table)
        parts = [
            joined(
                [
                    '<edge id="',
                    name,
                    '" source="',
                    _attribute(source),
                    '" target="',
                    _attribute(target),
                    '">',
                ],
                rows,
            )
        ]
    parts.append(pa.repeat(pa.scalar(f'<data key="{place}_{_KIND}">{class_of(kind)}</data>'), rows))
    for column in _data(kind):
        values = lexical(table[column.name], column.datatype)
        if column.datatype is Datatype.STRING:
            encoded = pc.dictionary_encode(values)
            words = [None if word is None else _guarded(word) for word in encoded.dictionary.to_pylist()]
            values = pa.array(words, pa.string()).take(encoded.indices)
        parts.append(joined([f'<data key="{place}_{column.name}">', values, "</data>"], rows))
    end = "</node>\n" if place == "n" else "</edge>\n"
    return whole_text([*parts, pa.repeat(pa.scalar(end), rows)], rows)


def _data(kind: Kind) -> tuple[Property, ...]:
    """The columns that are data of a node or an edge: all, but the ends of an edge."""
    columns = columns_of(kind)
    return columns[2:] if isinstance(kind, EdgeType) else columns


def _ends(kind: EdgeType | FactType, table: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Names of the nodes that an edge, or a fact, goes from and to."""
    if isinstance(kind, EdgeType):
        return ends(kind, table)
    if isinstance(kind.about, EdgeType):
        names = [column.name for column in kind.subject[:2]]
        return ends(kind.about, table.select(names).rename_columns(["source", "target"]))
    itself = about(kind, table)
    return itself, itself


def _attribute(names: pa.Array) -> pa.Array:
    return pc.replace_substring(names, "&", "&amp;")  # of what XML minds, names have & and ' only


_NOT_XML = re.compile("_(?=x[0-9A-Fa-f]{4}_)|[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GUARDED = re.compile("_x([0-9A-Fa-f]{4})_")


def _guarded(text: str) -> str:
    return escape(_NOT_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", text), {"\r": "&#13;"})


def _unguarded(text: str) -> str:
    return _GUARDED.sub(lambda found: chr(int(found[1], 16)), text)


# Reading


def read(path: Path, report: Report) -> Iterator[Piece]:
    """The graph in a GraphML file: nodes, then edges, then facts, whatever their order there.

    Raises:
        InputError: when it is no GraphML, or says what the ontology does not know; with the line.
    """
    with tempfile.TemporaryDirectory(prefix="qoetwin-graphml-") as folder:
        reader = _Reader(path, Path(folder), report)
        reader.parse()
        yield from reader.pieces()


class _Reader:
    """Takes the elements one by one, and keeps them on disk as columns of text, a file a kind."""

    def __init__(self, path: Path, folder: Path, report: Report) -> None:
        self._path = path
        self._folder = folder
        self._report = report
        self._keys: dict[str, tuple[str, str]] = {}  # id -> place, attribute
        self._nodes: dict[str, tuple[str, str]] = {}  # id -> kind, key
        self._row: dict[str, str] | None = None
        self._place = ""
        self._attribute = ""
        self._text: list[str] = []
        self._elements = 0
        self._rows: dict[str, list[dict[str, str]]] = {name: [] for name in CLASSES}
        self._files: dict[str, pa.ipc.RecordBatchFileWriter] = {}
        self._columns = {
            name: [*(() if isinstance(kind, NodeType) else _ENDS), *(column.name for column in _data(kind))]
            for name, kind in CLASSES.items()
        }
        self._known = {name: {*columns, _KIND} for name, columns in self._columns.items()}
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text.append
        self._parser.StartDoctypeDeclHandler = self._doctype  # entities: nothing good comes of them

    def parse(self) -> None:
        """Read the file."""
        try:
            with gzip.open(self._path) if self._path.suffix == ".gz" else self._path.open("rb") as file:
                self._parser.ParseFile(file)
        except expat.ExpatError as error:
            raise InputError(
                "this is no GraphML",
                where=str(self._path),
                found=str(error),
                next_step="if it was cut or changed, export it again",
            ) from error
        except EOFError as error:
            raise TruncatedError(
                "the file ends in the middle", where=str(self._path), found=str(error)
            ) from error
        except (OSError, zlib.error) as error:
            raise InputError("cannot read the file", where=str(self._path), found=str(error)) from error
        for name in self._rows:
            self._flush(name)
        for file in self._files.values():
            file.close()

    def pieces(self) -> Iterator[Piece]:
        """What was read."""
        for name, kind in CLASSES.items():
            if name not in self._files:
                continue
            keys, whole = [], []
            with pa.OSFile(str(self._folder / name)) as file:
                batches = pa.ipc.open_file(file)
                for number in range(batches.num_record_batches):
                    text = pa.Table.from_batches([batches.get_batch(number)])
                    if isinstance(kind, EdgeType):
                        text = text.rename_columns(dict(zip(_ENDS, ("source", "target"), strict=True)))
                    for column in columns_of(kind):
                        text = text.set_column(
                            text.schema.get_field_index(column.name),
                            column.name,
                            respelled(text[column.name], column.datatype),
                        )
                    table = typed(kind, text, str(self._path))
                    if isinstance(kind, FactType):
                        self._check_ends(kind, text, table)
                    keys.append(table.select([column.name for column in key_of(kind)]))
                    if isinstance(kind, FactType):
                        yield kind, table
                    else:
                        whole.append(table)
            refuse_twins(kind, pa.concat_tables(keys), str(self._path))
            if whole:
                yield kind, pa.concat_tables(whole)

    def _check_ends(self, kind: FactType, text: pa.Table, table: pa.Table) -> None:
        first, last = (
            kind.subject[0],
            kind.subject[1] if isinstance(kind.about, EdgeType) else kind.subject[0],
        )
        for end, column in zip(_ENDS, (first, last), strict=True):
            differs = pc.not_equal(text[end], lexical(table[column.name], column.datatype))
            row = pc.index(differs, True).as_py()
            if row >= 0:
                raise InputError(
                    "a fact that is about one thing and has the key of another",
                    where=f"{self._path}, {kind.label}",
                    found=f"{end} {text[end][row].as_py()}",
                    expected=f"{column.name} {table[column.name][row].as_py()}",
                )

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        element = element.rpartition(" ")[2]
        if element == "data":
            key = attributes.get("key", "")
            if key not in self._keys or self._keys[key][0] != self._place:
                raise self._wrong("data without a key", key)
            self._attribute = self._keys[key][1]
            self._text.clear()
        elif element == "node":
            self._place, self._row = element, {"": attributes.get("id", "")}
        elif element == "edge":
            self._place, self._row = element, {}
            for end in _ENDS:
                name = attributes.get(end[1:])
                if name is None or name not in self._nodes:
                    raise self._wrong(f"an edge whose {end[1:]} is no node before it", name)
                self._row[end] = name
        elif element == "key":
            self._keys[attributes.get("id", "")] = (
                attributes.get("for", ""),
                attributes.get("attr.name", ""),
            )
        elif element == "graph":
            self._place = element
        elif element != "graphml":
            raise self._wrong("an element that is not of our GraphML", element)

    def _end(self, element: str) -> None:
        element = element.rpartition(" ")[2]
        if element == "data":
            text = _unguarded("".join(self._text))
            self._text.clear()
            if self._row is None and self._attribute == _RESOURCES:
                if text != str(self._elements):
                    raise self._wrong(
                        "the file does not hold what it says it holds", f"{self._elements} resources", text
                    )
            elif self._row is None:
                if (self._attribute, text) != (_VERSION, str(VERSION)):
                    raise self._wrong(
                        "a graph of another ontology", f"{self._attribute} {text}", f"{_VERSION} {VERSION}"
                    )
            elif self._attribute in self._row:
                raise self._wrong("data that is there twice", self._attribute)
            else:
                self._row[self._attribute] = text
        elif element in ("node", "edge"):
            assert self._row is not None  # noqa: S101 - it began
            self._take(self._row)
            self._row, self._place = None, "graph"

    def _take(self, row: dict[str, str]) -> None:
        name = row.get(_KIND, "")
        kind = CLASSES.get(name)
        if kind is None or isinstance(kind, NodeType) != (self._place == "node"):
            raise self._wrong("a kind that the ontology does not know", name or None)
        if isinstance(kind, NodeType):
            identifier = row.pop("")
            if identifier in self._nodes:
                raise self._wrong("a node that is there twice", identifier)
            self._nodes[identifier] = (name, row.get(kind.key.name, ""))
        else:
            about = kind.about if isinstance(kind, FactType) else kind
            of = (about.source, about.target) if isinstance(about, EdgeType) else (about, about)
            for end, node in zip(_ENDS, of, strict=True):
                label, key = self._nodes[row[end]]
                if label != node.label:
                    raise self._wrong(f"the {end[1:]} of a {name}", f"{label} {key}", f"a {node.label}")
                row[end] = key
        if not self._known[name].issuperset(row):
            raise self._wrong(f"what a {name} has not", ", ".join(sorted({*row} - self._known[name])))
        rows = self._rows[name]
        rows.append(row)
        self._elements += 1
        if len(rows) >= ROWS:
            self._flush(name)
            self._report("elements", self._elements, None)

    def _flush(self, name: str) -> None:
        rows = self._rows[name]
        if not rows:
            return
        table = pa.table(
            {
                column: pa.array([row.get(column) for row in rows], pa.string())
                for column in self._columns[name]
            }
        )
        rows.clear()
        if name not in self._files:
            self._files[name] = pa.ipc.new_file(str(self._folder / name), table.schema)
        self._files[name].write_table(table)

    def _doctype(self, *_: Any) -> None:
        raise self._wrong("a document type", None, "none: GraphML needs no DTD")

    def _wrong(self, what: str, found: str | None, expected: str | None = None) -> InputError:
        where = f"{self._path}, line {self._parser.CurrentLineNumber}"
        return InputError(what, where=where, found=found, expected=expected)
