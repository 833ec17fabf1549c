"""Holding a graph against its shapes (`shapes.ttl`), and saying in words what is wrong, and where.

pyshacl judges. It looks at some thousand resources a second, a graph has millions: so the shapes' constraints are
read as comparisons of columns too, and only rows that fail one of these are judged, with a sample of the others. A constraint
that is not known here makes every row of its class suspicious: slow, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyshacl
from rdflib import RDF, SH, XSD, Graph, Literal, URIRef
from rdflib.collection import Collection
from rdflib.term import Node

from domain.progress import Report
from domain.selection import Selection
from kg.exchange.nquads import lines
from kg.exchange.terms import BASE, Block, Describer, about, ends, subject
from kg.exchange.whole import CLASSES, Kind, Piece, class_of, pieces
from kg.schema import NAMESPACE, Datatype, EdgeType, FactType, NodeType
from kg.store import GraphStore
from kg.tables import arrow_type

SHAPES = Path(__file__).parent / "shapes.ttl"

MOST_JUDGED = 200
"""Suspicious rows of a piece that are judged for one constraint; the rest are counted."""
SAMPLE = 20
"""Rows of a piece that are judged although nothing is suspicious."""
_BATCH = 2_000

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with a graph.

    Attributes:
        what: what does not hold, in words.
        where: the resource, relative to `https://w3id.org/qoetwin/id/`.
        found: the value that is there; None where one is missing.
        expected: what the shape asks for.
    """

    what: str
    where: str
    found: str | None
    expected: str


def check(store: GraphStore, *, report: Report) -> list[Finding]:
    """Hold a graph against the shapes.

    Args:
        store: the graph.
        report: is told of the rows.

    Returns:
        What is wrong, class by class; empty when nothing is. Where hundreds of rows have the same fault, the first are named
        and the rest counted.

    Raises:
        StoreError: when the store cannot be read, or is written to meanwhile.
    """
    shapes = Shapes()
    findings: list[Finding] = []
    judge = _Judge(shapes)
    there = There()
    for piece in pieces(store, Selection(), report):
        rows, left = shapes.suspicious(piece, there)
        judge.add((piece[0], piece[1].take(pa.array(rows, pa.int64()))), there)
        if left:
            findings.append(
                Finding(
                    what=f"more rows of {class_of(piece[0])} are like those named here",
                    where=class_of(piece[0]),
                    found=f"{left} more",
                    expected="none",
                )
            )
        there.add(piece)
        findings += judge.findings(least=_BATCH)
    return [*findings, *judge.findings(least=1)]


class There:
    """Which nodes, and which edges that facts are about, a graph has. Pieces come in an order in which ends are first."""

    def __init__(self) -> None:
        self._names: dict[str, pa.Array] = {}

    def add(self, piece: Piece) -> None:
        """Take note of the nodes or edges of a piece."""
        kind, table = piece
        if isinstance(kind, NodeType) or class_of(kind) in _ABOUT:
            self._names[class_of(kind)] = pa.concat_arrays(
                [
                    self._names.get(class_of(kind), pa.array([], pa.string())),
                    subject(kind, table.combine_chunks()),
                ]
            )

    def has(self, kind: NodeType | EdgeType, names: pa.Array) -> pa.Array:
        """Whether it has each of some nodes or edges, (names,)."""
        return pc.is_in(names, self._names.get(class_of(kind), pa.array([], pa.string())))


_ABOUT = {class_of(kind.about) for kind in CLASSES.values() if isinstance(kind, FactType)}


def _links(kind: Kind, table: pa.Table) -> dict[str, tuple[NodeType | EdgeType, pa.Array]]:
    """IRI of a link -> kind and names of what it goes to."""
    if isinstance(kind, EdgeType):
        source, target = ends(kind, table)
        return {str(RDF.subject): (kind.source, source), str(RDF.object): (kind.target, target)}
    if isinstance(kind, FactType):
        return {NAMESPACE + "of": (kind.about, about(kind, table))}
    return {}


# The fast way


@dataclass(frozen=True, slots=True)
class _Constraint:
    """A constraint on the values of a path."""

    path: str
    component: str
    value: Node


class Shapes:
    """The shapes, read.

    Attributes:
        graph: as they are written.
        unknown: classes with a constraint that is not known here: pyshacl judges all rows of these.
    """

    def __init__(self, path: Path = SHAPES) -> None:
        self.graph = Graph().parse(path, format="turtle")
        self._constraints: dict[str, list[_Constraint]] = {name: [] for name in (*CLASSES, "Provenance")}
        self.unknown: set[str] = set()
        for shape, target in self.graph.subject_objects(SH.targetClass):
            name = str(target).removeprefix(NAMESPACE)
            self._read(name, shape)

    def _read(self, name: str, shape: Node) -> None:
        for component, value in self.graph.predicate_objects(shape):
            if component != SH.property:
                if component not in _DESCRIPTIONS:
                    self.unknown.add(name)
                continue
            path = self.graph.value(value, SH.path)
            for constraint, argument in self.graph.predicate_objects(value):
                if constraint in _DESCRIPTIONS or constraint == SH.path:
                    continue
                if not isinstance(path, URIRef) or constraint not in _KNOWN:
                    self.unknown.add(name)
                else:
                    self._constraints[name].append(
                        _Constraint(str(path).removeprefix(NAMESPACE), str(constraint), argument)
                    )

    def suspicious(self, piece: Piece, there: There) -> tuple[list[int], int]:
        """The rows that pyshacl is to judge, and how many more look like them."""
        kind, table = piece
        table = table.combine_chunks()
        name = class_of(kind)
        rows = table.num_rows
        if name in self.unknown:
            return list(range(rows)), 0
        links = {path.removeprefix(NAMESPACE): found for path, found in _links(kind, table).items()}
        chosen = np.zeros(rows, np.bool_)
        bad = np.zeros(rows, np.bool_)
        whose = [] if isinstance(kind, NodeType) else self._constraints["Provenance"]
        for constraint in (*self._constraints[name], *whose):
            fails = ~self._holds(constraint, kind, table, links, there)
            bad |= fails
            chosen[np.flatnonzero(fails)[:MOST_JUDGED]] = True
        chosen[:: max(1, rows // SAMPLE)] = True
        return np.flatnonzero(chosen).tolist(), int((bad & ~chosen).sum())

    def _holds(
        self,
        constraint: _Constraint,
        kind: Kind,
        table: pa.Table,
        links: dict[str, tuple[NodeType | EdgeType, pa.Array]],
        there: There,
    ) -> Mask:
        """Whether a constraint holds, (rows,)."""
        component = URIRef(constraint.component)
        if constraint.path in links:
            to, names = links[constraint.path]
            if component == SH["class"]:
                same = constraint.value == URIRef(NAMESPACE + class_of(to))
                return _mask(there.has(to, names)) & same
            return np.ones(table.num_rows, np.bool_)
        if constraint.path == str(RDF.predicate):
            verb = URIRef(NAMESPACE + kind.name) if isinstance(kind, EdgeType) else None
            return np.full(table.num_rows, component != SH.hasValue or constraint.value == verb)
        if constraint.path == "provenance":  # each row is written with its own
            own = constraint.value == URIRef(NAMESPACE + "Provenance") or component != SH["class"]
            return np.full(table.num_rows, own)
        if constraint.path not in table.column_names:
            return np.full(table.num_rows, component != SH.minCount)
        column = table[constraint.path]
        if component == SH.minCount:
            return _mask(pc.is_valid(column)) | (_number(constraint.value) < 1)
        if component == SH.maxCount:
            return np.full(table.num_rows, _number(constraint.value) >= 1)
        if component in (SH.lessThan, SH.lessThanOrEquals):
            other = str(constraint.value).removeprefix(NAMESPACE)
            if other not in table.column_names:
                return np.ones(table.num_rows, np.bool_)
            compare = pc.less if component == SH.lessThan else pc.less_equal
            return _mask(compare(column, table[other]))
        return _mask(_KNOWN[component](column, self._argument(component, constraint.value)))

    def _argument(self, component: URIRef, value: Node) -> Any:
        if component == SH["in"]:
            return [_literal(item) for item in Collection(self.graph, value)]
        return value if component == SH.datatype else _literal(value)

    def said(self, shape: Node | None) -> str:
        """What a shape says in words."""
        return str(self.graph.value(shape, SH.message) or shape)

    def expected(self, shape: Node | None, component: str) -> str:
        """What a constraint of a shape asks for, in words; `component` such as `MinInclusive`."""
        constraint = URIRef(f"{SH}{component[:1].lower()}{component[1:]}")
        asked = [
            ", ".join(_short(item) for item in Collection(self.graph, value))
            if constraint == SH["in"]
            else _short(value)
            for value in self.graph.objects(shape, constraint)
        ]
        return _WORDS.get(constraint, component + " {}").format(" and ".join(sorted(asked)))


_WORDS: dict[Node, str] = {
    SH.datatype: "of datatype {}",
    SH.minCount: "at least {}",
    SH.maxCount: "at most {}",
    SH.minInclusive: "{} or more",
    SH.maxInclusive: "{} or less",
    SH.minExclusive: "more than {}",
    SH.maxExclusive: "less than {}",
    SH.minLength: "at least {} letters",
    SH.maxLength: "at most {} letters",
    SH.pattern: "of the form {}",
    SH["in"]: "one of {}",
    SH.lessThan: "less than {}",
    SH.lessThanOrEquals: "at most {}",
    SH["class"]: "of class {}",
    SH.hasValue: "{}",
}


def _short(value: Node) -> str:
    return str(value).removeprefix(NAMESPACE).removeprefix(str(XSD))


def _mask(holds: Any) -> Mask:
    """Whether it holds as far as is known: what is unknown breaks nothing."""
    array = holds.combine_chunks() if isinstance(holds, pa.ChunkedArray) else holds
    mask: Mask = pc.fill_null(array, True).to_numpy(zero_copy_only=False)
    return mask


def _literal(value: Node) -> Any:
    return value.toPython() if isinstance(value, Literal) else value


def _number(value: Node) -> int:
    return int(str(value))


def _is_datatype(column: pa.ChunkedArray, datatype: Node) -> pa.Array:
    known = {XSD[kind.value]: arrow_type(kind) for kind in Datatype}
    return pa.repeat(pa.scalar(known.get(URIRef(str(datatype))) == column.type), len(column))


def _is_in(column: pa.ChunkedArray, values: list[Any]) -> pa.ChunkedArray:
    return pc.or_kleene(pc.is_in(column, pa.array(values, column.type)), pc.is_null(column))


_KNOWN: dict[Node, Callable[[Any, Any], Any]] = {
    SH.minCount: pc.greater_equal,
    SH.maxCount: pc.less_equal,
    SH.lessThan: pc.less,
    SH.lessThanOrEquals: pc.less_equal,
    SH["class"]: pc.equal,
    SH.hasValue: pc.equal,
    SH.datatype: _is_datatype,
    SH.minInclusive: pc.greater_equal,
    SH.maxInclusive: pc.less_equal,
    SH.minExclusive: pc.greater,
    SH.maxExclusive: pc.less,
    SH.minLength: lambda column, least: pc.greater_equal(pc.utf8_length(column), least),
    SH.maxLength: lambda column, most: pc.less_equal(pc.utf8_length(column), most),
    SH.pattern: pc.match_substring_regex,
    SH["in"]: _is_in,
}
"""Constraint -> how columns are compared for it (the first six by `Shapes._holds` itself)."""

_DESCRIPTIONS = {RDF.type, SH.targetClass, SH.message, SH.name, SH.description}


# The judge


class _Judge:
    """Gathers rows as RDF, and has pyshacl judge them."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._describer = Describer()
        self._text: list[bytes] = []
        self._judged: set[str] = set()

    def add(self, piece: Piece, there: There) -> None:
        """Have the rows of a piece judged."""
        kind, table = piece
        for block in self._describer.blocks(piece):
            if block.cls is not None:  # what is said directly has no shape
                self._text.append(lines(block, graphs=False))
                self._judged.update(block.subject.to_pylist())
        for to, names in _links(kind, table.combine_chunks()).values():
            known = pc.unique(names.filter(there.has(to, names)))
            self._text.append(lines(_types(known, to), graphs=False))

    def findings(self, *, least: int) -> Iterator[Finding]:
        """What is wrong with what was gathered, if that are so many resources."""
        if len(self._judged) < least:
            return
        data = Graph().parse(data=b"".join(self._text), format="nt")
        _, results, _ = pyshacl.validate(data, shacl_graph=self._shapes.graph, inference="none")
        assert isinstance(results, Graph)  # noqa: S101 - it validated
        findings = (self._finding(results, one) for one in results.subjects(RDF.type, SH.ValidationResult))
        # What is only linked to has its class here, and nothing else: that much is not its fault.
        found = [finding for finding in findings if finding.where in self._judged]
        self._text, self._judged, self._describer = [], set(), Describer()
        yield from sorted(found, key=lambda one: (one.where, one.what, one.found or "", one.expected))

    def _finding(self, results: Graph, result: Node) -> Finding:
        shape, focus = results.value(result, SH.sourceShape), results.value(result, SH.focusNode)
        value = results.value(result, SH.value)
        component = str(results.value(result, SH.sourceConstraintComponent))
        return Finding(
            what=self._shapes.said(shape),
            where=str(focus).removeprefix(BASE),
            found=None if value is None else str(value).removeprefix(BASE),
            expected=self._shapes.expected(
                shape, component.removeprefix(str(SH)).removesuffix("ConstraintComponent")
            ),
        )


def _types(names: pa.Array, kind: Kind) -> Block:
    """Says of which kind some resources are."""
    return Block(subject=names, cls=NAMESPACE + class_of(kind), statements=(), layer=None)
