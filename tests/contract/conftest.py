"""Where the contract is tested: every store that there is, and one in memory that shows what a further one costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.credentials import Credentials
from kg.store import STORES, GraphStore, open_store

MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a graph is, or can be made."""

    address: str
    home: Path
    credentials: Credentials | None = None

    def open(self, *, create: bool = True) -> GraphStore:
        """Open the graph there."""
        return open_store(self.address, self.home, create=create, credentials=self.credentials)


@pytest.fixture(params=[MEMORY, *STORES])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place for a graph, in each kind of store."""
    if request.param == MEMORY:
        monkeypatch.setitem(STORES, MEMORY, "tests.contract.memory_store:open_home")
    if request.param == "bolt":
        server = request.getfixturevalue("neo4j_server")
        server.clear()
        return Place(address=server.address, home=tmp_path, credentials=server.credentials)
    return Place(address=request.param, home=tmp_path)


@pytest.fixture
def store(place: Place) -> Iterator[GraphStore]:
    """An empty graph, in each kind of store."""
    with place.open() as opened:
        yield opened
