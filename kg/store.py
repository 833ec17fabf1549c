"""What a store of the knowledge graph must do, and which stores there are.

The protocol is narrow on purpose: tables in, tables out, no query language. Bulk data is Arrow; times are
`timestamp[us, UTC]`; what is unknown is null. A store is one file that passes `tests/contract` and one line in `STORES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from domain.errors import UnknownNameError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import EdgeType, NodeType

PAIR_ATTRIBUTES: tuple[tuple[str, pa.DataType], ...] = (
    ("probe_latitude", pa.float64()),
    ("probe_longitude", pa.float64()),
    ("probe_asn", pa.int64()),
    ("probe_country", pa.string()),
    ("target_probe_id", pa.int64()),
    ("target_latitude", pa.float64()),
    ("target_longitude", pa.float64()),
    ("target_asn", pa.int64()),
    ("target_country", pa.string()),
)
"""What `pairs` tells of the two ends; a target's from the anchor that its address is assigned to, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An edge met on a walk: `(source_label source_key) -[edge]-> (target_label target_key)`."""

    edge: str
    source_label: str
    source_key: str
    target_label: str
    target_key: str
    distance: int


class GraphStore(Protocol):
    """The knowledge graph. Every write is idempotent and whole: it happened, or it did not.

    Raises (all methods):
        StoreError: when the store cannot be read or written.
    """

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside happen, or none does; readers see none of them before the end."""

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        """Write nodes; columns are the key and any of the properties. Null never erases what is known."""

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        """Write edges; columns `source`, `target`, the identity and any of the properties. Ends are made if new.

        An edge that is already there, and says the same, keeps the provenance it came with.
        """

    def put_states(self, states: pa.Table, provenance: Provenance) -> None:
        """Write path states (columns of `domain.path_state.PathState`); a state written before is replaced."""

    def put_scores(self, scores: pa.Table) -> None:
        """Write scores (columns `SCORE_KEY` + `SCORE_VALUES`) of states that are there; a score written before is replaced."""

    def nodes(self, node_type: NodeType) -> pa.Table:
        """All nodes of a type, sorted by key."""

    def edges(self, edge_type: EdgeType) -> pa.Table:
        """All edges of a type, sorted: `source`, `target`, identity, properties, and the columns of Provenance."""

    def neighbours(self, node_type: NodeType, key: int | str, *, hops: int) -> list[Neighbour]:
        """The edges met within that many hops of a node, in any direction, nearest first."""

    def pairs(self, selection: Selection) -> pa.Table:
        """The pairs selected (times aside), sorted: `probe_id`, `target`, `af` and `PAIR_ATTRIBUTES`."""

    def states(self, selection: Selection, values: Sequence[str] | None = None) -> pa.Table:
        """The states selected, sorted by window, probe, target, af: their key and the values asked (None: all)."""

    def scores(self, selection: Selection, applications: Sequence[str]) -> pa.Table:
        """The scores selected, sorted likewise: `SCORE_KEY`, `SCORE_VALUES`, and of the state `SCORED_STATE`."""

    def holds_synthetic(self) -> bool:
        """Whether anything in it comes from the testbed."""

    def counts(self) -> dict[str, int]:
        """How many nodes of each label, edges of each type, pairs, states and scores there are."""

    def close(self) -> None:
        """Let go of the store."""

    def __enter__(self) -> Self:
        """Use as a context; closes at the end."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


STORES: dict[str, str] = {"sqlite": "kg.sqlite_store:open_home"}
"""Name of a store -> the function that opens it for a home. Imported only when asked for."""


def open_store(name: str, home: Path, *, create: bool) -> GraphStore:
    """Open the store of that name for a home.

    Args:
        name: one of `STORES`.
        home: folder that holds what the twin keeps.
        create: make an empty graph where there is none; otherwise that is an error.

    Raises:
        UnknownNameError: when no store has that name.
        EmptyError: when there is no graph and `create` is False.
        StoreError: when it cannot be opened.
    """
    if name not in STORES:
        raise UnknownNameError("no such store", found=repr(name), expected=" or ".join(STORES))
    opened: GraphStore = resolve_name(STORES[name])(home, create=create)
    return opened
