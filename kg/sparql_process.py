"""A program of its own: answers one SPARQL query on a store of oxigraph. The request comes on stdin, the answer goes to stdout.

A query runs apart so that it can be stopped, and so that its memory has a limit. It imports nothing of ours, and starts at once.

The request is a JSON object: `store` (folder; null is an empty graph, to see whether it is a query at all), `query`, `prefixes` (name -> IRI), `union` (whether a pattern outside `GRAPH`
is looked for in all graphs), `limit` (rows), `memory_bytes`. The answer is a JSON object: `columns`, `rows` (of [datatype, text], of [null, IRI], or null) and `cut`; or `error`.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Any

import pyoxigraph as ox

_TRIPLE = ("subject", "predicate", "object")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run a query."""
    resource.setrlimit(resource.RLIMIT_DATA, (request["memory_bytes"], request["memory_bytes"]))
    try:
        store = ox.Store() if request["store"] is None else ox.Store.read_only(request["store"])
    except (OSError, RuntimeError) as error:
        return {"error": str(error), "kind": "OSError"}
    found: Any = store.query(
        request["query"],
        prefixes=request["prefixes"],
        use_default_graph_as_union=request["union"],
    )
    if isinstance(found, ox.QueryBoolean):
        return {"columns": ["answer"], "rows": [[_cell(ox.Literal(bool(found)))]], "cut": False}
    rows: Iterable[list[Any]]
    if isinstance(found, ox.QueryTriples):
        columns = list(_TRIPLE)
        rows = ([_cell(getattr(triple, part)) for part in _TRIPLE] for triple in found)
    else:
        columns = [variable.value for variable in found.variables]
        rows = ([_cell(solution[number]) for number in range(len(columns))] for solution in found)
    taken = list(islice(rows, request["limit"] + 1))
    return {"columns": columns, "rows": taken[: request["limit"]], "cut": len(taken) > request["limit"]}


def _cell(term: Any) -> list[str | None] | None:
    if term is None:
        return None
    if isinstance(term, ox.Literal):
        return [term.datatype.value, term.value]
    return [None, term.value if isinstance(term, ox.NamedNode) else str(term)]


if __name__ == "__main__":
    try:
        said = answer(json.load(sys.stdin))
    except (SyntaxError, ValueError, OSError, RuntimeError, MemoryError) as error:
        said = {
            "error": " ".join(str(part) for part in error.args) or type(error).__name__,
            "kind": type(error).__name__,
        }
    json.dump(said, sys.stdout)
