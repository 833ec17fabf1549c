"""What a store of the knowledge graph must do, and which stores there are.

The protocol is narrow on purpose: tables in, tables out, no query language. Bulk data is Arrow; times are
`timestamp[us, UTC]`; what is unknown is null. What nodes, edges and facts there are, and their columns, is in
`kg.schema`. A store is one file that passes `tests/contract` and one line in `STORES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from pkgutil import resolve_name
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from domain.credentials import Credentials
from domain.errors import UnknownNameError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import EdgeType, FactType, NodeType

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

MOST_NEIGHBOURS = 1000
"""Edges that a walk meets before it stops: a country has thousands of probes."""


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
    """The knowledge graph.

    Every write is idempotent. What merges by least or greatest, and what is unknown, comes out the same in whatever order it is written; of
    other values the one written last counts.

    Raises (all methods):
        StoreError: when the store cannot be read or written.
    """

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside happen, or, when the block raises, none. They may be put off until it ends.

        SQLite makes them one transaction, whatever their size. Neo4j, which keeps a transaction in memory, writes more than
        a few thousand rows in batches: a reader may then see the first before the last, and a write that the
        server's end cut short is finished by writing the same again.
        """

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        """Write nodes; columns are the key and any of the properties. Null never erases what is known."""

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        """Write edges; columns `source`, `target`, the identity and any of the properties. Ends are made if new.

        An edge that is there and says the same keeps the provenance it came with. Null never erases what is known.
        Stated edges are the whole history of their owner (and identity): others of that owner go. Their `valid_from` is
        part of what identifies them.
        """

    def put_facts(self, fact_type: FactType, facts: pa.Table, provenance: Provenance) -> None:
        """Write facts (all columns of the fact type); one that is there is replaced whole, also by nulls.

        What they are about is made if new. A fact that says the same already is left alone, and keeps its provenance.
        When one changes, the facts about the same subject and window that are derived from it go (`FactType.derived_from`).
        """

    def delete(self, kind: EdgeType | FactType, keys: pa.Table) -> None:
        """Delete the edges or facts that have these keys; what is not there is not missed.

        What is derived from a deleted fact goes with it. Nodes stay, and so do edges that facts are about.

        Args:
            kind: which.
            keys: the columns of their key (`EdgeType.key`, `FactType.key`).

        Raises:
            ValueError: for a kind of edge that facts are about.
        """

    def nodes(self, node_type: NodeType) -> pa.Table:
        """All nodes of a type, sorted by key."""

    def edges(self, edge_type: EdgeType, *, at: datetime | None = None) -> pa.Table:
        """Edges of a type, sorted: `source`, `target`, identity, properties, and the columns of Provenance.

        Args:
            edge_type: the kind.
            at: only those that held then (stated: from `valid_from`, before `valid_to`; seen: not before `first_seen`, not
                after `last_seen`); None gives all that ever held.
        """

    def facts(
        self,
        fact_type: FactType,
        selection: Selection = ...,
        values: Sequence[str] | None = None,
        *,
        among: Mapping[str, Sequence[str]] | None = None,
        with_provenance: bool = False,
    ) -> pa.Table:
        """Facts, sorted by window, then subject, then identity: their key and the values asked for (None: all).

        Args:
            fact_type: the kind.
            selection: of facts about paths, measured or predicted, everything counts; of others the times only.
            values: columns to read next to the key.
            among: identity column -> the values wanted, such as `{"application": ["voip"]}`.
            with_provenance: read the columns of Provenance too.
        """

    def pairs(self, selection: Selection = ...) -> pa.Table:
        """The measured paths selected, sorted: `probe_id`, `target`, `af` and `PAIR_ATTRIBUTES`.

        A path that was only predicted (`PREDICTED_TO`) is not among them. Times select no path; they say when places, networks and countries are asked for (`Selection.as_of`).
        """

    def neighbours(
        self,
        node_type: NodeType,
        key: int | str,
        *,
        hops: int,
        at: datetime | None = None,
        most: int = MOST_NEIGHBOURS,
    ) -> list[Neighbour]:
        """The edges met within that many hops of a node, in any direction, nearest first.

        Args:
            node_type: kind of node where the walk begins.
            key: its key.
            hops: how far it goes.
            at: over edges that held then; None: over stated edges that still hold, and all others.
            most: stop at so many edges.
        """

    def prune(self, fact_type: FactType, before: datetime, window_s: int | None = None) -> int:
        """Delete the facts of windows that ended by then (of that length only), and say how many.

        What is derived from them goes with them (`FactType.derived_from`); what they are about stays.
        """

    def holds_synthetic(self) -> bool:
        """Whether anything in it comes from the testbed."""

    def counts(self) -> dict[str, int]:
        """How many nodes of each label, edges of each type and facts of each type there are."""

    def revision(self) -> str:
        """A word that changes whenever the graph does."""

    def close(self) -> None:
        """Let go of the store."""

    def __enter__(self) -> Self:
        """Use as a context; closes at the end."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


STORES: dict[str, str] = {"sqlite": "kg.sqlite_store:open_home", "bolt": "kg.neo4j_store:open_address"}
"""Scheme of a store's address -> the function that opens it. Imported only when asked for."""

_SAME_SCHEME = {"neo4j": "bolt", "bolt+s": "bolt", "bolt+ssc": "bolt", "neo4j+s": "bolt", "neo4j+ssc": "bolt"}


def open_store(
    address: str, home: Path, *, create: bool, credentials: Credentials | None = None
) -> GraphStore:
    """Open the store at an address.

    Args:
        address: `sqlite` (in the home), or the address of a server, such as `bolt://localhost:7687`.
        home: folder that holds what the twin keeps.
        create: make an empty graph where there is none; otherwise that is an error.
        credentials: for a server that asks for them.

    Raises:
        UnknownNameError: when there is no such kind of store.
        EmptyError: when there is no graph and `create` is False.
        StoreError: when it cannot be opened.
    """
    scheme = scheme_of(address)
    opened: GraphStore = resolve_name(STORES[scheme])(address, home, create=create, credentials=credentials)
    return opened


def scheme_of(address: str) -> str:
    """Which kind of store is at an address, a key of `STORES`; nothing is opened.

    Raises:
        UnknownNameError: when there is no such kind of store.
    """
    scheme = address.partition("://")[0]
    scheme = _SAME_SCHEME.get(scheme, scheme)
    if scheme not in STORES:
        raise UnknownNameError(
            "no such store", found=repr(address), expected=" or ".join(("sqlite", "bolt://HOST:PORT"))
        )
    return scheme
