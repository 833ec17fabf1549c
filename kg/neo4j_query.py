"""Questions in Cypher that only read, with a limit of time and rows.

What a query does is judged by the plan that the server makes of it, not by its text, before it runs; and it runs in a
transaction in which the server refuses writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import neo4j
import neo4j.graph
import neo4j.spatial
import neo4j.time
from neo4j.exceptions import Neo4jError

from domain.errors import InputError
from kg.answer import Answer
from kg.neo4j_connection import Connection, first_line

ALLOWED_PROCEDURES = frozenset(
    {
        "db.labels",
        "db.propertyKeys",
        "db.relationshipTypes",
        "db.schema.nodeTypeProperties",
        "db.schema.relTypeProperties",
        "db.schema.visualization",
    }
)
"""Procedures that tell of the graph and touch nothing else."""

_REFUSED = ("LoadCSV", "Show", "Terminate", "Administration", "TransactionApply", "TransactionForeach")
_EXPECTED = "a query that only reads the graph"


def query(
    connection: Connection,
    cypher: str,
    parameters: Mapping[str, object],
    *,
    limit: int,
    timeout_s: float,
) -> Answer:
    """Answer a query that only reads.

    Args:
        connection: to the server (`Neo4jStore.connection`).
        cypher: the query.
        parameters: name -> the value of `$name`; values are never read as Cypher.
        limit: rows to give.
        timeout_s: seconds after which the server stops it; it looks every few seconds.

    Raises:
        InputError: when it is no query, would do more than read the graph, or takes too long or too much memory.
        StoreError: when the server does not answer.
    """
    with (
        connection.mapped("cannot read the graph"),
        connection.session(neo4j.READ_ACCESS, fetch_size=min(limit + 1, 1000)) as session,
        _asker_at_fault(timeout_s),
    ):
        planned = session.run("EXPLAIN " + cypher, dict(parameters)).consume()
        _refuse(planned)
        with session.begin_transaction(timeout=timeout_s) as tx:
            result = tx.run(cypher, dict(parameters))
            rows = [tuple(map(_plain, record)) for _, record in zip(range(limit + 1), result, strict=False)]
            columns = tuple(result.keys())
            if not rows and result.consume().plan is not None:
                raise InputError("the query asks for a plan, which is no answer", expected=_EXPECTED)
    return Answer(columns=columns, rows=rows[:limit], cut=len(rows) > limit)


def _refuse(planned: neo4j.ResultSummary) -> None:
    """Refuse what would do more than read the graph."""
    if planned.query_type != "r" or planned.plan is None:
        raise InputError(
            "the query would do more than read the graph",
            found={"w": "it writes", "rw": "it writes"}.get(
                planned.query_type or "", "it administers the server"
            ),
            expected=_EXPECTED,
        )
    for operator, details in _operators(planned.plan):
        if any(word in operator for word in _REFUSED):
            raise InputError(
                "the query would do more than read the graph", found=operator, expected=_EXPECTED
            )
        called = re.match(r"[\w.]+", details)
        if operator.startswith("ProcedureCall") and (called is None or called[0] not in ALLOWED_PROCEDURES):
            raise InputError(
                "the query calls a procedure that may do more than read the graph",
                found=details.partition("(")[0],
                expected=f"none but {', '.join(sorted(ALLOWED_PROCEDURES))}",
            )
        # A subquery inside of an expression has no operators in the plan: it is told in the words of the expression.
        nested = re.search(r"LOAD CSV|ResolvedCall|UnresolvedCall", details)
        if nested is not None:
            raise InputError(
                "the query would do more than read the graph",
                found=f"{nested[0]} inside of an expression",
                expected=_EXPECTED,
            )


def _operators(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and details of each operator of a plan."""
    yield plan["operatorType"].partition("@")[0], str(plan["args"].get("Details", ""))
    for child in plan.get("children", ()):
        yield from _operators(child)


@contextmanager
def _asker_at_fault(timeout_s: float) -> Iterator[None]:
    """What is wrong with the query is an error in what was asked, not in the graph."""
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError("a parameter that Cypher has no type for", found=str(error)) from error
    except Neo4jError as error:
        code = error.code or ""
        if "TimedOut" in code or "Terminated" in code:
            raise InputError(
                "the query took too long and was stopped",
                found=f"more than {timeout_s:g} s",
                next_step="ask for less, or give it more time",
            ) from error
        if "OutOfMemory" in code:
            raise InputError(
                "the query needs more memory than the server has for it", next_step="ask for less"
            ) from error
        if code.startswith(("Neo.ClientError.Statement", "Neo.ClientError.Procedure")):
            raise InputError(
                "not a query that the server can answer", found=first_line(error.message or str(error))
            ) from error
        raise


def _plain(value: Any) -> Any:
    """A value of the driver as JSON has them."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case neo4j.graph.Node():
            return {
                "id": value.element_id,
                "labels": sorted(value.labels),
                "properties": {name: _plain(one) for name, one in value.items()},
            }
        case neo4j.graph.Relationship():
            ends = [None if node is None else node.element_id for node in value.nodes]
            return {
                "id": value.element_id,
                "type": value.type,
                "start": ends[0],
                "end": ends[1],
                "properties": {name: _plain(one) for name, one in value.items()},
            }
        case neo4j.graph.Path():
            return {
                "nodes": [_plain(node) for node in value.nodes],
                "relationships": [_plain(one) for one in value.relationships],
            }
        case neo4j.time.DateTime() | neo4j.time.Date() | neo4j.time.Time() | neo4j.time.Duration():
            return value.iso_format()
        case neo4j.spatial.Point():
            return {"srid": value.srid, "coordinates": list(value)}
        case Mapping():
            return {str(name): _plain(one) for name, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case bytes() | bytearray():
            return value.hex()
        case _:
            return str(value)
