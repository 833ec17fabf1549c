"""N-Quads: a line for each statement, in the named graph of its layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import pyarrow as pa

from kg.exchange.terms import BASE, TYPE, XSD, Block, Describer, Statement, escaped, joined, whole_text
from kg.exchange.whole import Piece
from kg.schema import NAMESPACE, Datatype

ESCAPES = {
    **{code: f"\\u{code:04X}" for code in (*range(32), 127)},
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def write(out: IO[bytes], pieces: Iterator[Piece]) -> None:
    """Write pieces."""
    describer = Describer()
    out.write(lines(describer.header()))
    for piece in pieces:
        for block in describer.blocks(piece):
            out.write(lines(block))
    out.write(lines(describer.footer()))


def lines(block: Block, *, graphs: bool = True) -> bytes:
    """A block as N-Quads, or without graphs as N-Triples."""
    end = f" <{NAMESPACE}{block.layer}> .\n" if graphs and block.layer is not None else " .\n"
    rows = len(block.subject)
    parts = []
    if block.cls is not None:
        parts.append(joined(["<" + BASE, block.subject, f"> <{TYPE}> <{block.cls}>{end}"], rows))
    for statement in block.statements:
        before, values, after = term(statement)
        parts.append(
            joined(
                ["<" + BASE, block.subject, f"> <{statement.predicate}> {before}", values, after + end], rows
            )
        )
    return whole_text(parts, rows) if parts else b""


def term(statement: Statement) -> tuple[str, pa.Array, str]:
    """What is before, in and after the terms of a statement."""
    if statement.datatype is None:
        return "<" if statement.absolute else "<" + BASE, statement.values, ">"
    if statement.datatype is Datatype.STRING:
        return '"', escaped(statement.values, ESCAPES), '"'
    return '"', statement.values, f'"^^<{XSD}{statement.datatype}>'
