"""Where graphs are in tests: in each kind of store that there is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.credentials import Credentials
from kg.store import GraphStore, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a graph is, or can be made."""

    address: str
    home: Path
    credentials: Credentials | None = None

    def open(self, *, create: bool = True) -> GraphStore:
        """Open the graph there."""
        return open_store(self.address, self.home, create=create, credentials=self.credentials)


def empty_place(kind: str, home: Path, request: pytest.FixtureRequest) -> Place:
    """A place without a graph, by the scheme of its store; `bolt` is a real server, whose database is emptied."""
    if kind != "bolt":
        return Place(address=kind, home=home)
    server = request.getfixturevalue("neo4j_server")
    server.clear()
    return Place(address=server.address, home=home, credentials=server.credentials)
