"""Where the contract is tested: every store that there is, and one in memory that shows what a further one costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kg.store import STORES, GraphStore
from tests.places import Place, empty_place

MEMORY = "memory"


@pytest.fixture(params=[MEMORY, *STORES])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty place for a graph, in each kind of store."""
    if request.param == MEMORY:
        monkeypatch.setitem(STORES, MEMORY, "tests.contract.memory_store:open_home")
    return empty_place(request.param, tmp_path, request)


@pytest.fixture
def store(place: Place) -> Iterator[GraphStore]:
    """An empty graph, in each kind of store."""
    with place.open() as opened:
        yield opened
