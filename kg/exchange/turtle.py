"""Turtle: a block for each resource, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from kg.exchange.nquads import ESCAPES
from kg.exchange.terms import BASE, OWL, RDF, XSD, Block, Describer, Statement, escaped, joined, whole_text
from kg.exchange.whole import Piece
from kg.schema import NAMESPACE, Datatype

_PREFIXES = {"": NAMESPACE, "rdf": RDF, "owl": OWL, "xsd": XSD}


def write(out: IO[bytes], pieces: Iterator[Piece]) -> None:
    """Write pieces."""
    described = "".join(f"@prefix {name}: <{iri}> .\n" for name, iri in _PREFIXES.items())
    out.write(f"@base <{BASE}> .\n{described}\n".encode())
    describer = Describer()
    out.write(text(describer.header()))
    for piece in pieces:
        for block in describer.blocks(piece):
            out.write(text(block))
    out.write(text(describer.footer()))


def text(block: Block) -> bytes:
    """A block as Turtle; relative to the base and with the prefixes that `write` begins with."""
    rows = len(block.subject)
    if block.cls is None:  # plain triples, a line each
        (only,) = block.statements
        verb = f"> {short(only.predicate)} <"
        return whole_text([joined(["<", block.subject, verb, only.values, "> .\n"], rows)], rows)
    parts = [joined(["<", block.subject, f"> a {short(block.cls)}"], rows)]
    parts += [
        joined([f" ;\n    {short(statement.predicate)} ", _term(statement)], rows)
        for statement in block.statements
    ]
    return whole_text([*parts, pa.repeat(pa.scalar(" .\n"), rows)], rows)


def short(iri: str) -> str:
    """An IRI by its prefix."""
    for name, namespace in _PREFIXES.items():
        if iri.startswith(namespace):
            return f"{name}:{iri.removeprefix(namespace)}"
    return f"<{iri}>"


def _term(statement: Statement) -> pa.Array:
    values, rows = statement.values, len(statement.values)
    match statement.datatype:
        case None if statement.absolute:
            encoded = pc.dictionary_encode(values)
            return pa.array([short(iri) for iri in encoded.dictionary.to_pylist()]).take(encoded.indices)
        case None:
            return joined(["<", values, ">"], rows)
        case Datatype.STRING:
            return joined(['"', escaped(values, ESCAPES), '"'], rows)
        case Datatype.DATETIME:
            return joined(['"', values, '"^^xsd:dateTime'], rows)
        case Datatype.DOUBLE:
            # Without an exponent it would be a decimal; what is no number has no short form.
            plain = pc.if_else(pc.match_substring(values, "e"), values, joined([values, "e0"], rows))
            odd = pc.match_substring_regex(values, "N")
            return pc.if_else(odd, joined(['"', values, '"^^xsd:double'], rows), plain)
        case _:
            return values
