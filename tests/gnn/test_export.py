"""The PyG file loads without us, without unpickling, and says what the graph says."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from domain.errors import InputError
from domain.selection import Selection
from gnn.export import export_pyg
from kg.centrality import node_centralities
from kg.schema import IN_COUNTRY, IP, NEXT_HOP, PATH_PREDICTION, PATH_STATE
from kg.store import GraphStore
from tests.contract.memory_store import MemoryStore, Tables
from tests.contract.test_stores import H3, T0, edges, facts, fill, link, prediction, said, state


@pytest.fixture
def store() -> GraphStore:
    store = MemoryStore(Tables())
    fill(store)
    lost = state(window_start=T0 + H3, window_end=T0 + 2 * H3, received=0, rtt_median_ms=None, loss_ratio=1.0)
    store.put_facts(PATH_STATE, facts(PATH_STATE, lost), said("ping"))
    return store


def test_every_edge_joins_the_nodes_that_the_graph_joins(store: GraphStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    written = export_pyg(store, Selection(), path)
    tensors, names = load_file(path), names_of(path)
    index = tensors["AtlasProbe|COUNTRY|Country/edge_index"]
    found = {
        (names["AtlasProbe"]["key"][source], names["Country"]["key"][target]) for source, target in index.T
    }
    edges = store.edges(IN_COUNTRY).to_pylist()
    assert found == {(row["source"], row["target"]) for row in edges}
    assert written.edges["AtlasProbe|COUNTRY|Country"] == len(edges)
    for name, tensor in tensors.items():
        if name.endswith("/edge_index"):
            source, _, target = name.removesuffix("/edge_index").split("|")
            assert tensor.shape[0] == 2
            assert (tensor >= 0).all()
            assert (tensor[0] < written.nodes[source]).all()
            assert (tensor[1] < written.nodes[target]).all()


def test_a_path_has_its_states_by_window_and_what_was_not_measured_is_not_a_number(
    store: GraphStore, tmp_path: Path
) -> None:
    path = tmp_path / "graph.safetensors"
    written = export_pyg(store, Selection(), path)
    tensors, names = load_file(path), names_of(path)
    assert written.windows == 2
    assert tensors["Window/start_s"].tolist() == [T0.timestamp(), (T0 + H3).timestamp()]
    index = tensors["AtlasProbe|MEASURES|IP/edge_index"]
    targets = [names["IP"]["key"][n] for n in index[1]]
    v4, v6 = targets.index("192.0.2.1"), targets.index("2001:db8::1")
    rtt_ms = tensors["AtlasProbe|MEASURES|IP/rtt_ms"]
    assert rtt_ms[v4, 0] == 11.0
    assert np.isnan(rtt_ms[v4, 1])
    assert tensors["AtlasProbe|MEASURES|IP/loss_ratio"][v4].tolist() == [pytest.approx(1 / 3), 1.0]
    assert tensors["AtlasProbe|MEASURES|IP/sent"][v6].tolist() == [3, 0]


def test_unknown_properties_are_not_a_number(store: GraphStore, tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    export_pyg(store, Selection(), path)
    tensors, names = load_file(path), names_of(path)
    column = names["AtlasProbe"]["x"].index("is_anchor")
    assert np.isnan(tensors["AtlasProbe/x"][:, column]).all()
    latitude = tensors["Point/x"][:, names["Point"]["x"].index("latitude")]
    assert sorted(latitude) == [33.9, 52.4]


def test_a_file_of_a_span_that_ends_knows_nothing_of_what_came_later(
    store: GraphStore, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    span = Selection(end=T0 + H3 - timedelta(minutes=1))  # the window that begins before it is in it whole
    hops = [link("192.0.2.7", "192.0.2.1", traceroutes=3, first_seen=T0, last_seen=T0 + timedelta(hours=1))]
    store.upsert_edges(NEXT_HOP, edges(NEXT_HOP, *hops), said("traceroute"))
    store.upsert_nodes(IP, node_centralities(store.edges(NEXT_HOP), "ip", np.random.default_rng(0)))
    export_pyg(store, span, one)
    later = [
        link("192.0.2.7", "192.0.2.1", traceroutes=9, first_seen=T0, last_seen=T0 + H3),
        link("192.0.2.7", "192.0.2.66", traceroutes=1, first_seen=T0 + H3, last_seen=T0 + H3),
    ]
    store.upsert_edges(NEXT_HOP, edges(NEXT_HOP, *later), said("traceroute"))
    whole = store.edges(IN_COUNTRY).to_pylist()
    moved = [dict(row, valid_to=T0 + H3) for row in whole] + [
        link(row["source"], "SY", valid_from=T0 + H3) for row in whole
    ]
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *moved), said("probes"))
    store.upsert_nodes(IP, node_centralities(store.edges(NEXT_HOP), "ip", np.random.default_rng(0)))
    store.put_facts(
        PATH_STATE, facts(PATH_STATE, state(window_start=T0 + H3, window_end=T0 + 2 * H3)), said("ping")
    )
    export_pyg(store, span, other)
    before, after = load_file(one), load_file(other)
    assert names_of(one) == names_of(other)
    assert before.keys() == after.keys()
    counts = "IP|NEXT_HOP|IP/edge_attr"
    for name in before.keys() - {counts}:
        np.testing.assert_array_equal(before[name], after[name], name)
    # What was counted until later is unknown; what is not counted any more is not made up.
    columns = names_of(one)["IP|NEXT_HOP|IP"]["edge_attr"]
    row = np.flatnonzero(
        (before[counts] != after[counts]).any(axis=1) & ~np.isnan(before[counts]).any(axis=1)
    )
    assert len(row) == 1
    assert np.isnan(after[counts][row][:, [columns.index("traceroutes"), columns.index("last_seen")]]).all()


def test_the_lines_that_the_page_gives_load_it_where_qoetwin_is_not_installed(
    store: GraphStore, tmp_path: Path
) -> None:
    import gnn.export

    export_pyg(store, Selection(), tmp_path / "graph.safetensors")
    documented = (gnn.export.__doc__ or "").split("of it:\n")[1]
    lines = "\n".join(line.removeprefix("    ") for line in documented.splitlines())
    script = (
        lines
        + "\nimport sys\nassert not any(m.split('.')[0] in ('kg', 'gnn', 'domain') for m in sys.modules)\n"
    )
    script += "data.validate()\nprint(data['AtlasProbe', 'MEASURES', 'IP'].rtt_ms.shape, data.num_nodes)"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("torch.Size([2, 2])")


def test_a_file_that_cannot_be_written_is_one_clear_error(store: GraphStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the file"):
        export_pyg(store, Selection(), tmp_path / "file" / "graph.safetensors")


def names_of(path: Path) -> dict[str, dict[str, list[str]]]:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        names: dict[str, dict[str, list[str]]] = json.loads(file.metadata()["names"])
    return names


@pytest.mark.parametrize("selection", [Selection(), Selection(end=T0 + 2 * H3)], ids=["all", "until"])
def test_what_a_model_predicted_is_in_no_file_that_models_learn_from(
    store: GraphStore, tmp_path: Path, selection: Selection
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    export_pyg(store, selection, before)
    rows = [prediction(model="another"), prediction(probe_id=2, target="2001:db8::1", af=6)]
    store.put_facts(PATH_PREDICTION, facts(PATH_PREDICTION, *rows), said("a model"))
    export_pyg(store, selection, after)
    assert names_of(after) == names_of(before)
    there = load_file(after)
    assert set(there) == set(load_file(before))
    for name, tensor in load_file(before).items():
        np.testing.assert_array_equal(there[name], tensor)
    assert not any("PREDICTED" in name for name in there)
