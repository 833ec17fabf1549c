"""What is refused before anything is learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import DataError
from domain.selection import Selection
from gnn.protocols import protocol_named
from tests.gnn.anchor_mesh import anchor_mesh
from twin import learning


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph gives arrays of many hosts that measure each other, in place of what is in it."""
    arrays = protocol_named("unseen-pair").view(anchor_mesh(anchors=12, probes=0, windows=2, families=(4,)))
    monkeypatch.setattr(learning, "export", lambda *_: arrays)


@pytest.mark.usefixtures("mesh")
def test_a_model_that_needs_the_past_of_a_pair_is_refused_where_pairs_were_never_met(
    tmp_path: Path,
) -> None:
    says = "nothing to say of pairs that were never measured: last-value; found protocol unseen-pair"
    with pytest.raises(DataError, match=says):
        learning.train(
            None,  # type: ignore[arg-type]
            "last-value",
            "unseen-pair",
            tmp_path / "model",
            selection=Selection(),
        )
    with pytest.raises(DataError, match=says):
        learning.compare(
            None,  # type: ignore[arg-type]
            "unseen-pair",
            models=["node-effects", "last-value"],
            selection=Selection(),
        )
