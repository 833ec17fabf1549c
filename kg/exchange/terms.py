"""The graph in RDF: which resources there are, and what is said of them, as columns of terms.

- A node is `https://w3id.org/qoetwin/id/<Label>/<key>`, its key percent-encoded; each property is a literal.
- An edge is a resource of its own, of the class of its kind, with `rdf:subject`, `rdf:predicate`, `rdf:object`, identity,
  properties and `:provenance`. While it has no `valid_to` it is said directly too: `<probe> :LOCATED_IN <as>`.
- A fact is a resource of the class of its kind: `:of` what it is about, then its key, values and `:provenance`.
- A provenance is a resource named by a digest of what it says.

Properties, classes and verbs are those of `ontology.ttl`. What is unknown is not said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.exchange.whole import Kind, Piece, class_of, codes
from kg.schema import NAMESPACE, PROVENANCE, VERSION, Datatype, EdgeType, FactType, NodeType, Property

BASE = "https://w3id.org/qoetwin/id/"
"""Where the resources of a graph are named."""

ONTOLOGY_IRI = NAMESPACE.removesuffix("#")
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
OWL = "http://www.w3.org/2002/07/owl#"
XSD = "http://www.w3.org/2001/XMLSchema#"
TYPE = RDF + "type"
HEADER = "graph"
"""The resource that says which ontology, of which version, a file speaks, and how much it holds."""
RESOURCES = NAMESPACE + "resources"

_SAFE = ":!$&'()*+,;=@"  # what RFC 3987 lets a path segment hold as it is, next to letters, digits and -._~


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One property of many resources.

    Attributes:
        predicate: its IRI.
        values: (resources,) lexical forms, or for IRIs these; relative to `BASE`, or absolute where `absolute`. Null says
            nothing.
        datatype: of the literals; None: they are IRIs.
        absolute: the IRIs are.
    """

    predicate: str
    values: pa.Array
    datatype: Datatype | None = None
    absolute: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Many resources of one class, and what is said of them.

    Attributes:
        subject: (resources,) their IRIs, relative to `BASE`.
        cls: IRI of the class.
        statements: what is said.
        layer: local name of the layer; None for what is in none.
    """

    subject: pa.Array
    cls: str | None
    statements: Sequence[Statement]
    layer: str | None


class Describer:
    """Pieces as blocks. Each provenance is described once, before what refers to it."""

    def __init__(self) -> None:
        self._described: set[str] = set()
        self._resources = 0

    def header(self) -> Block:
        """Says which ontology the file speaks."""
        return Block(
            subject=pa.array([HEADER]),
            cls=OWL + "Ontology",
            statements=[
                Statement(predicate=OWL + "imports", values=pa.array([ONTOLOGY_IRI]), absolute=True),
                Statement(
                    predicate=OWL + "versionInfo", values=pa.array([str(VERSION)]), datatype=Datatype.STRING
                ),
            ],
            layer=None,
        )

    def footer(self) -> Block:
        """Says how many nodes, edges and facts were described: a file that was cut between two of them lacks it."""
        return Block(
            subject=pa.array([HEADER]),
            cls=OWL + "Ontology",
            statements=[
                Statement(
                    predicate=RESOURCES,
                    values=pa.array([str(self._resources)]),
                    datatype=Datatype.INTEGER,
                )
            ],
            layer=None,
        )

    def blocks(self, piece: Piece) -> Iterator[Block]:
        """What RDF says of a piece."""
        kind, table = piece
        self._resources += table.num_rows
        table = table.combine_chunks()
        said: list[Statement] = []
        if not isinstance(kind, NodeType):
            names = provenance_names(table)
            yield from self._new_provenances(table, names)
            said.append(Statement(predicate=NAMESPACE + "provenance", values=names))
        if isinstance(kind, EdgeType):
            source, target = ends(kind, table)
            links = [
                Statement(predicate=RDF + "subject", values=source),
                Statement(
                    predicate=RDF + "predicate",
                    values=_repeated(NAMESPACE + kind.name, table.num_rows),
                    absolute=True,
                ),
                Statement(predicate=RDF + "object", values=target),
            ]
        elif isinstance(kind, FactType):
            links = [Statement(predicate=NAMESPACE + "of", values=about(kind, table))]
        else:
            links = []
        yield Block(
            subject=subject(kind, table),
            cls=NAMESPACE + class_of(kind),
            statements=[*links, *_literals(table, literals(kind)), *said],
            layer=kind.layer.value,
        )
        if isinstance(kind, EdgeType):
            yield _direct(kind, table, source, target)

    def _new_provenances(self, table: pa.Table, names: pa.Array) -> Iterator[Block]:
        new = [name for name in pc.unique(names).to_pylist() if name not in self._described]
        if new:
            self._described |= set(new)
            rows = table.select([column.name for column in PROVENANCE]).take(
                pa.array([pc.index(names, name).as_py() for name in new])
            )
            yield Block(
                subject=pa.array(new),
                cls=NAMESPACE + "Provenance",
                statements=_literals(rows.combine_chunks(), PROVENANCE),
                layer=None,
            )


def literals(kind: Kind) -> tuple[Property, ...]:
    """The columns that are said as literals: all, but the ends of an edge."""
    return kind.columns[2:] if isinstance(kind, EdgeType) else kind.columns


def subject(kind: Kind, table: pa.Table) -> pa.Array:
    """IRIs of what the rows of a piece are, (rows,), relative to `BASE`."""
    if isinstance(kind, NodeType):
        return _iri(kind.label, [segment(table[kind.key.name], kind.key.datatype)])
    if isinstance(kind, FactType):
        return _iri(kind.label, [segment(table[column.name], column.datatype) for column in kind.key])
    return edge_subject(kind, table)


def edge_subject(kind: EdgeType, table: pa.Table) -> pa.Array:
    """IRIs of edges: ends, identity and, if stated, since when."""
    return _iri(class_of(kind), [segment(table[column.name], column.datatype) for column in kind.key])


def ends(kind: EdgeType, table: pa.Table) -> tuple[pa.Array, pa.Array]:
    """IRIs of the two ends of edges."""
    source, target = (
        _iri(node.label, [segment(table[end.name], end.datatype)])
        for end, node in zip(kind.ends, (kind.source, kind.target), strict=True)
    )
    return source, target


def about(kind: FactType, table: pa.Table) -> pa.Array:
    """IRIs of what facts are about: a node, or an edge."""
    segments = [segment(table[column.name], column.datatype) for column in kind.subject]
    return _iri(class_of(kind.about), segments)


def provenance_names(table: pa.Table) -> pa.Array:
    """IRIs of the provenances of rows, (rows,)."""
    said = table.select([column.name for column in PROVENANCE])
    code = codes(said)
    _, firsts = np.unique(code, return_index=True)
    names = [_digest(row) for row in said.take(pa.array(firsts)).to_pylist()]
    return pa.array(names, pa.string()).take(pa.array(code))


def _digest(row: dict[str, object]) -> str:
    said = "\x00".join(f"{name}={value!r}" for name, value in sorted(row.items()))
    return "Provenance/" + hashlib.sha256(said.encode()).hexdigest()[:16]


def _iri(name: str, segments: list[pa.Array]) -> pa.Array:
    if not len(segments[0]):
        return pa.array([], pa.string())
    return pc.binary_join_element_wise(pa.scalar(name), *segments, "/")


def segment(column: pa.ChunkedArray, datatype: Datatype) -> pa.Array:
    """Values as segments of an IRI, (rows,); null is the empty one."""
    column = _chunk(column)
    if datatype is Datatype.INTEGER:
        return pc.fill_null(column.cast(pa.string()), "")
    encoded = pc.dictionary_encode(column)
    texts = encoded.dictionary if datatype is Datatype.STRING else lexical(encoded.dictionary, datatype)
    quoted = [_quoted(text) for text in texts.to_pylist()]
    return pc.fill_null(pa.array(quoted, pa.string()).take(encoded.indices), "")


def _quoted(text: str) -> str:
    # An IRI that is resolved against a base loses the segments . and ..
    return {".": "%2E", "..": "%2E%2E"}.get(text) or quote(text, safe=_SAFE)


def lexical(column: pa.Array | pa.ChunkedArray, datatype: Datatype) -> pa.Array:
    """Values as XML Schema writes them, (rows,); exact, null stays null."""
    column = _chunk(column)
    match datatype:
        case Datatype.STRING:
            return column.cast(pa.string())
        case Datatype.DATETIME:
            encoded = pc.dictionary_encode(column)
            text = pc.replace_substring(encoded.dictionary.cast(pa.string()), " ", "T")
            return pc.replace_substring(text, ".000000Z", "Z").take(encoded.indices)
        case Datatype.DOUBLE:
            text = column.cast(pa.string())
            odd = pc.invert(pc.is_finite(column))
            if pc.any(odd).as_py():
                words = pc.replace_substring(pc.replace_substring(text, "inf", "INF"), "nan", "NaN")
                text = pc.if_else(odd, pc.replace_substring(words, "-NaN", "NaN"), text)
            return text
        case _:
            return column.cast(pa.string())


def _literals(table: pa.Table, columns: Sequence[Property]) -> list[Statement]:
    return [
        Statement(
            predicate=NAMESPACE + column.name,
            values=lexical(table[column.name], column.datatype),
            datatype=column.datatype,
        )
        for column in columns
        if table[column.name].null_count < table.num_rows
    ]


def _direct(kind: EdgeType, table: pa.Table, source: pa.Array, target: pa.Array) -> Block:
    """The edges that have no end, as plain triples."""
    if "valid_to" in table.column_names:
        holds = _chunk(pc.is_null(table["valid_to"]))
        source, target = source.filter(holds), target.filter(holds)
    return Block(
        subject=source,
        cls=None,
        statements=[Statement(predicate=NAMESPACE + kind.name, values=target)],
        layer=kind.layer.value,
    )


def _repeated(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value), rows)


def _chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()


def escaped(texts: pa.Array, table: dict[int, str]) -> pa.Array:
    """Texts with some letters replaced, (rows,). Few texts need it, and few are different: these go one by one."""
    encoded = pc.dictionary_encode(texts)
    words = [None if word is None else word.translate(table) for word in encoded.dictionary.to_pylist()]
    return pa.array(words, pa.string()).take(encoded.indices)


def joined(parts: Sequence[pa.Array | str | None], rows: int) -> pa.Array:
    """Text of each row, (rows,): the parts of it one after the other. A part that is null makes the text null."""
    if not rows:
        return pa.array([], pa.string())
    return pc.binary_join_element_wise(*parts, "", null_handling="emit_null")


def whole_text(parts: Sequence[pa.Array], rows: int) -> bytes:
    """All rows' text: the parts of each, those left out that are null."""
    if not rows:
        return b""
    texts = pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="")
    return _bytes(texts)


def _bytes(texts: pa.Array) -> bytes:
    """Texts, one after the other. Their bytes lie so in memory."""
    texts = _chunk(texts).cast(pa.large_string())
    _, offsets, data = texts.buffers()
    starts = memoryview(offsets).cast("q")
    first, last = starts[texts.offset], starts[texts.offset + len(texts)]
    return bytes(data.slice(first, last - first))
