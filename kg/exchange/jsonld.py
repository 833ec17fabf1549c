"""JSON-LD: an object for each resource, under one context.

Numbers are text, typed by the context: a JSON reader may round what is beyond 53 bits, and JSON-LD would make integers of
doubles that are whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import orjson
import pyarrow as pa

from kg.exchange.terms import (
    BASE,
    OWL,
    RDF,
    RESOURCES,
    XSD,
    Block,
    Describer,
    escaped,
    joined,
    literals,
    whole_text,
)
from kg.exchange.whole import KINDS, Piece
from kg.schema import NAMESPACE, PROVENANCE, Datatype, EdgeType

_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(32), 127, 0x2028, 0x2029)},
    ord("\\"): "\\\\",
    ord('"'): '\\"',
}
_IDS = "qid"  # a prefix, for in a relative IRI JSON-LD takes what is before a colon, as in ::1, for one
_OTHERS = {"rdf": RDF, "owl": OWL, "xsd": XSD}


def _context() -> dict[str, object]:
    """What the names in the file mean."""
    context: dict[str, object] = {"@vocab": NAMESPACE, _IDS: BASE, **_OTHERS}
    context[_short(RESOURCES)] = {"@type": f"xsd:{Datatype.INTEGER}"}
    for column in (*(p for kind in KINDS for p in literals(kind)), *PROVENANCE):
        if column.datatype is not Datatype.STRING:
            context[column.name] = {"@type": f"xsd:{column.datatype}"}
    verbs = {kind.name for kind in KINDS if isinstance(kind, EdgeType)}
    for link in (
        "rdf:subject",
        "rdf:predicate",
        "rdf:object",
        "owl:imports",
        "of",
        "provenance",
        *sorted(verbs),
    ):
        context[link] = {"@type": "@id"}
    return context


def write(out: IO[bytes], pieces: Iterator[Piece]) -> None:
    """Write pieces."""
    describer = Describer()
    context = orjson.dumps(_context(), option=orjson.OPT_INDENT_2)
    out.write(b'{"@context": ' + context + b',\n"@graph": [\n')
    out.write(_objects(describer.header()).removeprefix(b",\n"))
    for piece in pieces:
        for block in describer.blocks(piece):
            out.write(_objects(block))
    out.write(_objects(describer.footer()))
    out.write(b"\n]}\n")


def _objects(block: Block) -> bytes:
    rows = len(block.subject)
    parts = [joined([f',\n{{"@id": "{_IDS}:', block.subject, '"'], rows)]
    if block.cls is not None:
        parts.append(pa.repeat(pa.scalar(f', "@type": "{_short(block.cls)}"'), rows))
    for statement in block.statements:
        values, before = statement.values, ""
        if statement.datatype is Datatype.STRING:
            values = escaped(values, _ESCAPES)
        elif statement.datatype is None and not statement.absolute:
            before = f"{_IDS}:"
        parts.append(joined([f', "{_short(statement.predicate)}": "{before}', values, '"'], rows))
    return whole_text([*parts, pa.repeat(pa.scalar("}"), rows)], rows)


def _short(iri: str) -> str:
    """An IRI as a name that the context gives meaning to."""
    if iri.startswith(NAMESPACE):
        return iri.removeprefix(NAMESPACE)
    for name, namespace in _OTHERS.items():
        if iri.startswith(namespace):
            return f"{name}:{iri.removeprefix(namespace)}"
    return iri
