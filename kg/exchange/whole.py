"""The whole graph as Arrow tables: how every format gets it from a store, and gives it back to one.

A piece is a kind (node, edge or fact type) with a table of some of its rows; edges and facts have the columns of
Provenance too. Formats differ only in how they write a piece down.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather

from domain.errors import InputError, StoreError
from domain.progress import Report
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import (
    EDGE_TYPES,
    FACT_TYPES,
    NODE_TYPES,
    PROVENANCE,
    Datatype,
    EdgeType,
    FactType,
    History,
    NodeType,
    Property,
)
from kg.store import GraphStore
from kg.tables import arrow_schema, arrow_type

Kind: TypeAlias = NodeType | EdgeType | FactType
Piece: TypeAlias = tuple[Kind, pa.Table]

ROWS = 25_000
"""Rows of facts that are read, written and held at a time."""


def name_of(kind: Kind) -> str:
    """Its name in `GraphStore.counts`: label of a node or fact type, `source verb target` of an edge type."""
    return kind.table if isinstance(kind, EdgeType) else kind.label


def class_of(kind: Kind) -> str:
    """The local name of its class in the ontology."""
    return name_of(kind).replace(" ", "-")


KINDS: tuple[Kind, ...] = (*NODE_TYPES, *EDGE_TYPES, *FACT_TYPES)
"""All kinds, in the order in which they can be written: ends before edges, facts after what they are derived from."""

CLASSES: dict[str, Kind] = {class_of(kind): kind for kind in KINDS}
"""Local name of the class -> kind."""


def columns_of(kind: Kind) -> tuple[Property, ...]:
    """The columns of a piece: those of the kind, then those of Provenance that it has not itself."""
    if isinstance(kind, NodeType):
        return kind.columns
    own = {column.name for column in kind.columns}
    return (*kind.columns, *(column for column in PROVENANCE if column.name not in own))


def key_of(kind: Kind) -> tuple[Property, ...]:
    """The columns that tell its rows apart."""
    return (kind.key,) if isinstance(kind, NodeType) else kind.key


def never_null(kind: Kind) -> set[str]:
    """The columns in which a store has no null. Of a node that is the key only: an edge makes its ends, and knows no more."""
    known = set() if isinstance(kind, NodeType) else {p.name for p in columns_of(kind) if p.required}
    return (known | {column.name for column in key_of(kind)}) - {"valid_from"}


def pieces(
    store: GraphStore, selection: Selection, report: Report, kinds: Sequence[Kind] = KINDS
) -> Iterator[Piece]:
    """Everything that a store keeps, or of the facts only those selected: nodes, then edges, then facts by time.

    Args:
        store: the graph.
        selection: which facts.
        report: is told of the rows.
        kinds: which of `KINDS`, in their order.

    Raises:
        StoreError: when the store cannot be read, or is written to meanwhile.
    """
    revision = store.revision()
    counts = store.counts()
    total, done = sum(counts[name_of(kind)] for kind in kinds), 0
    for kind in kinds:
        if isinstance(kind, NodeType):
            found: Iterable[pa.Table] = [store.nodes(kind)]
        elif isinstance(kind, EdgeType):
            found = [store.edges(kind)]
        else:
            found = facts(store, kind, selection) if counts[name_of(kind)] else ()
        for table in found:
            yield kind, table.select([column.name for column in columns_of(kind)])
            done += table.num_rows
            report("rows", done, total)
    if store.revision() != revision:
        raise StoreError(
            "the graph was written to while it was read",
            next_step="run it again; nothing was kept of what was read",
        )


def facts(store: GraphStore, fact_type: FactType, selection: Selection) -> Iterator[pa.Table]:
    """The facts selected with their provenance, about `ROWS` at a time, by time."""
    starts = store.facts(fact_type, selection, ())["window_start"]
    counted = pc.value_counts(starts.combine_chunks())
    order = np.argsort(counted.field("values").to_numpy(zero_copy_only=False), kind="stable")
    times = counted.field("values").take(pa.array(order))
    before = np.concatenate([[0], np.cumsum(counted.field("counts").to_numpy()[order])])
    first = 0
    while first < len(times):
        last = max(first, int(np.searchsorted(before, before[first] + ROWS, "right")) - 2)
        end = times[last + 1].as_py() if last + 1 < len(times) else selection.end
        part = replace(selection, start=times[first].as_py(), end=end)
        yield store.facts(fact_type, part, with_provenance=True)
        first = last + 1


def spooled(found: Iterable[Piece], where: str) -> Iterator[Piece]:
    """The same pieces, of which all were read and checked before the first is given; meanwhile they are on disk.

    Args:
        found: the pieces.
        where: what they come from, for errors.

    Raises:
        InputError: when a row has no key or lacks what is never unknown, and whatever reading them raises.
        StoreError: when there is no room for them.
    """
    with tempfile.TemporaryDirectory(prefix="qoetwin-import-") as folder:
        kept: list[tuple[Kind, Path]] = []
        for kind, table in found:
            for column in never_null(kind):
                _refuse_null(kind, table, column, where)
            path = Path(folder) / str(len(kept))
            try:
                feather.write_feather(table, str(path))
            except OSError as error:
                raise StoreError("cannot work on disk", where=folder, found=str(error)) from error
            kept.append((kind, path))
        for kind, path in kept:
            yield kind, feather.read_table(str(path), memory_map=False)


def write(store: GraphStore, found: Iterable[Piece], report: Report) -> dict[str, int]:
    """Write pieces, in the order of `KINDS`, all or none.

    Args:
        store: what is written to.
        found: the pieces; all edges of a type are in one of them, for a stated edge replaces its owner's others.
        report: is told of the rows.

    Returns:
        Rows of each kind (`name_of`).

    Raises:
        StoreError: when the store cannot be written.
    """
    counts = {name_of(kind): 0 for kind in KINDS}
    done = 0
    with store.transaction():
        for kind, table in found:
            if isinstance(kind, NodeType):
                store.upsert_nodes(kind, table)
            else:
                for provenance, rows in _by_provenance(kind, table):
                    if isinstance(kind, EdgeType):
                        store.upsert_edges(kind, rows, provenance)
                    else:
                        store.put_facts(kind, rows, provenance)
            counts[name_of(kind)] += table.num_rows
            done += table.num_rows
            report("rows", done, None)
    return counts


def _by_provenance(kind: EdgeType | FactType, table: pa.Table) -> Iterator[tuple[Provenance, pa.Table]]:
    """The rows of each provenance. Of an owner's edges those of the ones before too: each write says its whole history."""
    said = [column.name for column in PROVENANCE]
    code = codes(table.select(said))
    rows = table.select([column.name for column in kind.columns])
    owner = None
    if isinstance(kind, EdgeType) and kind.history is History.STATED:
        owner = codes(table.select([kind.owner or "", *(column.name for column in kind.identity)]))
    for number in range(int(code.max(initial=-1)) + 1):
        chosen = code == number
        example = table.select(said).slice(int(chosen.argmax()), 1).to_pylist()[0]
        if owner is not None:
            chosen = (code <= number) & np.isin(owner, owner[chosen])
        yield Provenance(**example), rows if chosen.all() else rows.filter(pa.array(chosen))


def codes(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A number for each row, (rows,): equal where all columns are equal, null being equal to null."""
    code = np.zeros(table.num_rows, np.int64)
    for column in table.itercolumns():
        encoded = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
        code = code * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
        code = np.unique(code, return_inverse=True)[1]
    return code


def refuse_twins(kind: Kind, keys: pa.Table, where: str) -> None:
    """Refuse a key that is there twice: one of the two would be lost.

    Raises:
        InputError: naming the first.
    """
    names = [column.name for column in key_of(kind)]
    counted = keys.select(names).group_by(names).aggregate([([], "count_all")])
    twins = counted.filter(pc.greater(counted["count_all"], 1))
    if twins.num_rows:
        raise InputError(
            f"the same {class_of(kind)} is there twice",
            where=where,
            found=_row(twins.select(names)),
            expected="each once",
        )


def _refuse_null(kind: Kind, table: pa.Table, column: str, where: str) -> None:
    if table[column].null_count:
        bad = table.filter(pc.is_null(table[column]))
        keys = bad.select([p.name for p in key_of(kind)])
        raise InputError(
            f"{column} is missing",
            where=f"{where}, {class_of(kind)} {_row(keys)}",
            expected=f"a value: {column} is never unknown",
        )


def _row(table: pa.Table) -> str:
    """The first row, in words."""
    return ", ".join(f"{name} {value}" for name, value in table.slice(0, 1).to_pylist()[0].items())


# Text to values

_LEXICAL = {
    Datatype.INTEGER: r"\A[+-]?[0-9]+\z",
    Datatype.DOUBLE: r"\A([+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?INF|NaN)\z",
    Datatype.BOOLEAN: r"\A(true|false|1|0)\z",
    Datatype.DATETIME: r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})\z",
}


def typed(kind: Kind, table: pa.Table, where: str) -> pa.Table:
    """Columns of text (XML Schema's lexical forms; null is unknown) as the columns of a piece.

    Columns that are missing are unknown throughout.

    Raises:
        InputError: naming the first text that is not of its datatype.
    """
    arrays = []
    for column in columns_of(kind):
        if column.name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, arrow_type(column.datatype)))
            continue
        try:
            arrays.append(value_of(table[column.name], column.datatype))
        except ValueError as error:
            row = int(str(error))
            named = [key.name for key in key_of(kind) if key.name in table.column_names]
            raise InputError(
                f"{column.name} is no {column.datatype}",
                where=f"{where}, {class_of(kind)} {_row(table.select(named).slice(row))}",
                found=repr(table[column.name][row].as_py()),
            ) from error
    return pa.Table.from_arrays(arrays, schema=arrow_schema(columns_of(kind)))


def respelled(text: pa.ChunkedArray, datatype: Datatype) -> pa.ChunkedArray:
    """Text as XML Schema spells it, where Python (`True`, `inf`) or Java (`Infinity`) wrote it."""
    if datatype is Datatype.BOOLEAN:
        return pc.utf8_lower(text)
    if datatype is Datatype.DOUBLE and pc.any(pc.match_substring_regex(text, "[in]")).as_py():
        text = pc.replace_substring_regex(text, r"\A([+-]?)[iI]nf(inity)?\z", r"\1INF")
        return pc.replace_substring_regex(text, r"\Anan\z", "NaN")
    return text


def value_of(text: pa.ChunkedArray, datatype: Datatype) -> pa.ChunkedArray:
    """Text as values.

    Raises:
        ValueError: with the number of the first row that is not of the datatype.
    """
    text = text.cast(pa.large_string())
    if datatype is Datatype.STRING:
        return text.cast(pa.string())
    fits = pc.fill_null(pc.match_substring_regex(text, _LEXICAL[datatype]), True)
    if not pc.all(fits, min_count=0).as_py():
        raise ValueError(pc.index(fits, False).as_py())
    if datatype in (Datatype.DOUBLE, Datatype.INTEGER):
        text = pc.replace_substring_regex(text, r"\A\+", "")
    try:
        return text.cast(arrow_type(datatype))
    except pa.ArrowInvalid:
        # Of the right form, but no such value: 2019-02-30, or an integer beyond 64 bits. Rare, so found one by one.
        for row, value in enumerate(text.to_pylist()):
            try:
                pa.scalar(value, pa.large_string()).cast(arrow_type(datatype))
            except pa.ArrowInvalid as error:
                raise ValueError(row) from error
        raise
