"""What a SPARQL query needs of the graph, so that the rest need not be made ready for it.

A million states are twenty million triples, and most questions are about a few of their properties. A resource can answer
for a variable only if it has every predicate that the patterns around that variable ask of it, and of its triples only those with
such a predicate matter. What cannot be told apart that way needs everything: a variable predicate, a path of any length, a
query that describes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from rdflib import RDF, URIRef, Variable
from rdflib.paths import AlternativePath, InvPath, MulPath, Path, SequencePath
from rdflib.plugins.sparql import prepareQuery
from rdflib.plugins.sparql.parserutils import CompValue

from kg.exchange.terms import literals
from kg.exchange.whole import CLASSES, Kind
from kg.schema import EDGE_TYPES, NAMESPACE, PROVENANCE, EdgeType, FactType, NodeType

# rdflib reads queries here, and what it thinks of their literals is not for the user's terminal.
logging.getLogger("rdflib").setLevel(logging.CRITICAL)

PROVENANCE_CLASS = "Provenance"

Needs = Mapping[str, frozenset[str]]
"""Local name of a class -> IRIs of the predicates of its resources that a query needs. What is not there is not needed."""


class _EverythingError(Exception):
    """The query may look at anything."""


def predicates_of(kind: Kind) -> frozenset[str]:
    """IRIs of all predicates that resources of a kind can have."""
    own = {str(RDF.type)} | {NAMESPACE + column.name for column in literals(kind)}
    if isinstance(kind, NodeType):
        return frozenset(own | {NAMESPACE + edge.name for edge in EDGE_TYPES if edge.source is kind})
    own |= {NAMESPACE + "provenance"}
    if isinstance(kind, EdgeType):
        return frozenset(own | {str(term) for term in (RDF.subject, RDF.predicate, RDF.object)})
    assert isinstance(kind, FactType)  # noqa: S101 - there is no fourth kind
    return frozenset(own | {NAMESPACE + "of"})


_CARRIED: dict[str, frozenset[str]] = {
    **{name: predicates_of(kind) for name, kind in CLASSES.items()},
    PROVENANCE_CLASS: frozenset({str(RDF.type)} | {NAMESPACE + column.name for column in PROVENANCE}),
}


def needs(sparql: str, prefixes: Mapping[str, str]) -> Needs | None:
    """What a query needs; None is everything.

    Args:
        sparql: a query that oxigraph takes. Where rdflib does not understand it, everything is needed.
        prefixes: those that it need not declare.
    """
    try:
        algebra = prepareQuery(sparql, initNs=dict(prefixes)).algebra
    except Exception:  # noqa: BLE001 - rdflib's parser raises its own, pyparsing's and plain exceptions; oxigraph judges the query
        return None
    if algebra.name == "DescribeQuery":
        return None
    found: dict[str, set[str]] = defaultdict(set)
    try:
        for pattern in _basic_graph_patterns(algebra):
            _add(found, pattern)
    except _EverythingError:
        return None
    return {name: frozenset(predicates) for name, predicates in found.items()}


def _basic_graph_patterns(value: Any) -> Iterator[list[tuple[Any, Any, Any]]]:
    """All of a query's basic graph patterns, also those in filters and subqueries."""
    if isinstance(value, CompValue):
        if value.name == "BGP":
            yield value.triples
        if value.name == "TriplesBlock":  # rdflib left it as it was written
            raise _EverythingError
        if value.name in ("Builtin_EXISTS", "Builtin_NOTEXISTS"):
            yield from _basic_graph_patterns(value.graph)
            return
        for key, part in value.items():
            if key != "template":
                yield from _basic_graph_patterns(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _basic_graph_patterns(part)


def _add(found: dict[str, set[str]], pattern: list[tuple[Any, Any, Any]]) -> None:
    """Add what the triples of one basic graph pattern need: they must all hold together."""
    asked: dict[Any, set[str]] = defaultdict(set)
    classes: dict[Any, set[str]] = defaultdict(set)
    for subject, predicate, value in pattern:
        if isinstance(predicate, Path):
            for iri in _iris(predicate):
                _add_anywhere(found, iri)
        elif isinstance(predicate, URIRef):
            asked[subject].add(str(predicate))
            if predicate == RDF.type and not isinstance(value, Variable):
                classes[subject].add(str(value))
        else:
            raise _EverythingError
    for subject, predicates in asked.items():
        for name, carried in _CARRIED.items():
            if predicates <= carried and classes[subject] <= {NAMESPACE + name}:
                found[name] |= predicates


def _add_anywhere(found: dict[str, set[str]], predicate: str) -> None:
    for name, carried in _CARRIED.items():
        if predicate in carried:
            found[name].add(predicate)


def _iris(path: Any) -> Iterator[str]:
    """The predicates in a path."""
    if isinstance(path, URIRef):
        yield str(path)
    elif isinstance(path, SequencePath | AlternativePath):
        for part in path.args:
            yield from _iris(part)
    elif isinstance(path, InvPath):
        yield from _iris(path.arg)
    elif isinstance(path, MulPath) and path.mod == "+":
        yield from _iris(path.path)
    else:  # a path of no steps joins every term with itself; a negated one is any other predicate
        raise _EverythingError
