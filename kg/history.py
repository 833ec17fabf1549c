"""What changed between two times: what appeared, what vanished, what is otherwise than it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from domain.selection import Selection
from kg.schema import EDGE_TYPES, FACT_TYPES, MEASURED, PATH_PREDICTION, EdgeType, FactType, History, Layer
from kg.store import GraphStore

HEADLINES: tuple[str, ...] = ("score", "rtt_median_ms", "loss_ratio", "rtt_diff_median_ms")
"""The values of facts that are compared."""


class Change(StrEnum):
    """What became of something."""

    APPEARED = "appeared"
    VANISHED = "vanished"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not at both times, or not the same.

    Attributes:
        layer, type: kind of edge or fact.
        change: what became of it.
        subject: the edge, the owner of a stated edge, or what a fact is about.
        property: for facts, the value that changed.
        before, after: what it was and what it is: the other ends of stated edges, or a value.
    """

    layer: Layer
    type: str
    change: Change
    subject: str
    property: str | None
    before: str | float | None
    after: str | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """The differences between two times.

    Attributes:
        rows: at most so many of each type and change as were asked for; of changed values the largest.
        counts: (type, change) -> how many there are.
    """

    rows: Sequence[Difference]
    counts: dict[tuple[str, Change], int]


def differences(store: GraphStore, before: datetime, after: datetime, *, most: int) -> Differences:
    """Compare the graph as it was at two times.

    Edges count by whether they held then (`GraphStore.edges`): a stated edge whose owner has another end then has changed.
    Facts count by the windows that hold each time, where they are of one length: what was measured in one of them only
    has appeared or vanished, and what was measured in both has changed when a headline value differs. What was predicted is
    not compared.

    Args:
        store: the graph.
        before: the one time.
        after: the other; it may be the earlier one, and then appearing is vanishing.
        most: rows of each type and change to give; all are counted.
    """
    rows: list[Difference] = []
    counts: dict[tuple[str, Change], int] = {}
    parts = [*_of_edges(store, before, after), *_of_facts(store, before, after)]
    for layer, kind, change, found in parts:
        if found.num_rows == 0:
            continue
        key = (kind, change)
        counts[key] = counts.get(key, 0) + found.num_rows
        room = most - sum(row.type == kind and row.change == change for row in rows)
        rows += [
            Difference(layer=layer, type=kind, change=change, **row)
            for row in found.slice(0, max(0, room)).to_pylist()
        ]
    return Differences(rows=rows, counts=counts)


def counts_at(store: GraphStore, at: datetime) -> dict[str, int]:
    """How many edges of each type held at a time, and how many facts of each type are about a window that holds it.

    Nodes have no time of their own: what is known of them is in their edges and facts.
    """
    edges = {edge_type.table: store.edges(edge_type, at=at).num_rows for edge_type in EDGE_TYPES}
    facts = {
        fact_type.label: store.facts(fact_type, Selection(at=at), ()).num_rows for fact_type in FACT_TYPES
    }
    return edges | facts


def known_before(edges: pa.Table, edge_type: EdgeType, moment: datetime) -> pa.Table:
    """What was known of edges before a time: those met or begun by then, without what was learned of them later.

    Args:
        edges: as `GraphStore.edges` has them.
        edge_type: their kind.
        moment: the time; what is of that time and later is not known. An edge without a beginning was always known.

    Returns:
        The same columns.
    """
    if edge_type.history is History.NONE:
        return edges
    start = _span(edge_type)[0]
    begun = pc.less(edges[start], pa.scalar(moment, edges.schema.field(start).type))
    return without_later(edges.filter(pc.fill_null(begun, True)), edge_type, moment)


def without_later(edges: pa.Table, edge_type: EdgeType, moment: datetime) -> pa.Table:
    """Edges without what was learned of them from a time on; see `known_before`.

    The end of a stated edge that ended then or later is null, and so are `last_seen` and all counts of one that was met later too:
    they count what came after.
    """
    if edge_type.history is History.NONE:
        return edges
    start, end = _span(edge_type)
    later = pc.fill_null(pc.greater_equal(edges[end], pa.scalar(moment, edges.schema.field(end).type)), False)
    learned = (
        [end]
        if edge_type.history is History.STATED
        else [p.name for p in edge_type.properties if p.name != start]
    )
    for name in learned:
        kept = pc.if_else(later, pa.scalar(None, edges.schema.field(name).type), edges[name])
        edges = edges.set_column(edges.column_names.index(name), name, kept)
    return edges


def _span(edge_type: EdgeType) -> tuple[str, str]:
    """The columns that say since when and until when: the last two of its properties."""
    start, end = edge_type.properties[-2:]
    return start.name, end.name


Part = tuple[Layer, str, Change, pa.Table]
"""Rows `subject`, `property`, `before`, `after` of one type and change."""


def _of_edges(store: GraphStore, before: datetime, after: datetime) -> Iterator[Part]:
    for edge_type in EDGE_TYPES:
        if edge_type.history is History.NONE:
            continue
        stated = edge_type.history is History.STATED
        sides = [
            _sides(edge_type, store.edges(edge_type, at=moment), stated=stated) for moment in (before, after)
        ]
        both = _joined(sides, ["subject"])
        for change, found in _appeared_and_vanished(both, "value"):
            yield edge_type.layer, edge_type.table, change, _rows(found, None, "value")
        changed = both.filter(pc.not_equal(both["value_before"], both["value_after"]))
        yield edge_type.layer, edge_type.table, Change.CHANGED, _rows(changed, None, "value")


def _sides(edge_type: EdgeType, edges: pa.Table, *, stated: bool) -> pa.Table:
    """Edges as `subject` and `value`: for stated ones the owner and its other ends, else the edge itself."""
    identity = [pc.cast(edges[column.name], pa.string()) for column in edge_type.identity]
    source, target = (pc.cast(edges[end], pa.string()) for end in ("source", "target"))
    if not stated:
        subject = _text(
            source, pa.scalar(" -> "), target, *(part for each in identity for part in (pa.scalar(" "), each))
        )
        return pa.table({"subject": subject, "value": pa.repeat("seen", edges.num_rows)})
    owner, other = (source, target) if edge_type.owner == "source" else (target, source)
    label = (edge_type.source if edge_type.owner == "source" else edge_type.target).label
    subject = _text(
        pa.scalar(f"{label} "), owner, *(part for each in identity for part in (pa.scalar(" af "), each))
    )
    table = pa.table({"subject": subject, "value": other}).sort_by(
        [("subject", "ascending"), ("value", "ascending")]
    )
    grouped = table.group_by("subject", use_threads=False).aggregate([("value", "list")])
    return pa.table({"subject": grouped["subject"], "value": pc.binary_join(grouped["value_list"], ", ")})


def _of_facts(store: GraphStore, before: datetime, after: datetime) -> Iterator[Part]:
    for fact_type in FACT_TYPES:
        if fact_type is PATH_PREDICTION:
            continue
        values = [name for name in HEADLINES if name in {value.name for value in fact_type.values}]
        among = {"origin": [MEASURED]} if "origin" in {one.name for one in fact_type.identity} else None
        sides = [
            _subjects(fact_type, store.facts(fact_type, Selection(at=moment), values, among=among))
            for moment in (before, after)
        ]
        both = _joined(sides, ["subject", "window_s"])
        for change, found in _appeared_and_vanished(both, "there"):
            yield fact_type.layer, fact_type.label, change, _rows(found, None, values[0])
        there = both.filter(pc.and_(pc.is_valid(both["there_before"]), pc.is_valid(both["there_after"])))
        for value in values:
            old, new = there[f"{value}_before"], there[f"{value}_after"]
            differs = pc.or_(
                pc.xor(pc.is_null(old), pc.is_null(new)), pc.fill_null(pc.not_equal(old, new), False)
            )
            size = pc.fill_null(pc.abs(pc.subtract(new, old)), float("inf"))  # from or to unknown comes first
            changed = there.append_column("size", size).filter(differs)
            order = [("size", "descending"), ("subject", "ascending")]
            yield (
                fact_type.layer,
                fact_type.label,
                Change.CHANGED,
                _rows(changed.sort_by(order), value, value),
            )


def _subjects(fact_type: FactType, facts: pa.Table) -> pa.Table:
    """Facts as `subject`, `window_s`, `there` and their values."""
    key = (*fact_type.subject, *(one for one in fact_type.identity if one.name != "origin"))
    parts = [pc.cast(facts[column.name], pa.string()) for column in key]
    between = [part for each in parts for part in (pa.scalar(" "), each)][1:]
    length = pc.divide(
        pc.subtract(pc.cast(facts["window_end"], pa.int64()), pc.cast(facts["window_start"], pa.int64())),
        1_000_000,
    )
    columns = {"subject": _text(*between), "window_s": length, "there": pa.repeat(True, facts.num_rows)}
    names = [name for name in facts.column_names if name in HEADLINES]
    return pa.table({**columns, **{name: facts[name] for name in names}})


def _joined(sides: Sequence[pa.Table], keys: list[str]) -> pa.Table:
    before, after = sides
    return before.join(
        after, keys, join_type="full outer", left_suffix="_before", right_suffix="_after", use_threads=False
    ).sort_by([(key, "ascending") for key in keys])


def _appeared_and_vanished(both: pa.Table, name: str) -> Iterator[tuple[Change, pa.Table]]:
    yield Change.APPEARED, both.filter(pc.is_null(both[f"{name}_before"]))
    yield Change.VANISHED, both.filter(pc.is_null(both[f"{name}_after"]))


def _rows(found: pa.Table, value_name: str | None, value: str) -> pa.Table:
    return pa.table(
        {
            "subject": found["subject"],
            "property": pa.repeat(pa.scalar(value_name, pa.string()), found.num_rows),
            "before": found[f"{value}_before"],
            "after": found[f"{value}_after"],
        }
    )


def _text(*parts: pa.ChunkedArray | pa.Scalar) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(*parts, "")
