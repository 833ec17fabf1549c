"""The graph as PyTorch Geometric's, in a file that loads without us and without unpickling.

One safetensors file. A tensor is named `KIND/ATTRIBUTE`, where KIND is a node label, or source, verb and target of an edge
type joined by `|`; so these lines make a `torch_geometric.data.HeteroData` of it:

    import json
    from safetensors import safe_open
    from torch_geometric.data import HeteroData

    data = HeteroData()
    with safe_open("graph.safetensors", "pt") as file:
        names = json.loads(file.metadata()["names"])
        for name in file.keys():
            kind, attribute = name.rsplit("/", 1)
            part = data[tuple(kind.split("|")) if "|" in kind else kind]
            part[attribute] = file.get_tensor(name)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from safetensors.numpy import save

from domain.selection import Selection
from kg.arrays import path_arrays
from kg.centrality import CENTRALITY_SEED, node_centralities
from kg.exchange.files import written
from kg.history import known_before, without_later
from kg.schema import (
    AS,
    EDGE_TYPES,
    IP,
    MEASURES,
    NEXT_AS,
    NEXT_HOP,
    NODE_TYPES,
    ORIGINATE,
    PART_OF_PREFIX,
    PATH,
    PREDICTED_TO,
    VERSION,
    Datatype,
    EdgeType,
    NodeType,
    Property,
)
from kg.scope import without_local
from kg.store import GraphStore
from kg.tables import arrow_type

STATES: tuple[str, ...] = ("rtt_ms", "jitter_ms", "loss_ratio", "sent", "received")
"""What a path's series are of."""

_NUMBERS = (Datatype.INTEGER, Datatype.DOUBLE, Datatype.BOOLEAN, Datatype.DATETIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a PyG file holds: how many nodes and edges of each kind, how many windows of states."""

    nodes: dict[str, int]
    edges: dict[str, int]
    windows: int


def export_pyg(store: GraphStore, selection: Selection, path: Path) -> Written:
    """Write the graph for PyTorch Geometric.

    For each node label `x` (N, F) float64: its numeric properties, NaN where unknown. For each edge type `edge_index`
    (2, E) int64 and `edge_attr` (E, F) float64; times are seconds since the epoch. Paths, which are the `MEASURES` edges from
    probes to addresses, are those of the selection, with their states: `rtt_ms`, `jitter_ms`, `loss_ratio` (E, W) float64, NaN
    where not measured, and `sent`, `received` (E, W) int64; `Window/start_s` (W,) int64 says when the windows begin. The
    header's `names` (JSON) holds the keys of the nodes, the names of the columns, and the length of a window.

    Where the selection has an end, the file knows nothing that was met or began after its last window: no such edge, no count or time
    that includes it, no node that only such edges have, and centralities are those of the hops met before. What was stated without a
    beginning (a first list of probes, announcements) counts as always known, and properties of nodes are those last said.

    Args:
        store: the graph.
        selection: which paths and windows.
        path: the file, replaced whole.

    Raises:
        EmptyError: when the graph has no state there.
        DataError: when the windows are of several lengths, or too many.
        InputError: when the file cannot be written.
    """
    arrays = path_arrays(store, selection)
    tensors: dict[str, NDArray[Any]] = {"Window/start_s": arrays.window_start_s}
    names: dict[str, object] = {"window_s": arrays.window_s}
    paths = pa.table(dict(zip(PATH, (arrays.probe_id, arrays.target, arrays.af), strict=True)))
    # What a model predicted is no input of a model: neither predictions nor the edges that they are about are in the file.
    joined = {one: store.edges(one) for one in EDGE_TYPES if one not in (MEASURES, PREDICTED_TO)}
    joined[MEASURES] = chosen = _chosen(store, paths)
    if selection.end is not None:
        end = datetime.fromtimestamp(int(arrays.window_start_s[-1]) + arrays.window_s, UTC)
        joined = {one: known_before(edges, one, end) for one, edges in joined.items()}
        joined[MEASURES] = without_later(chosen, MEASURES, end)
        # In which prefix an address is has no beginning; the address has.
        met = _ends_met(joined, IP, but=PART_OF_PREFIX)
        within = joined[PART_OF_PREFIX]
        within = within.filter(pc.is_in(within["source"], value_set=met))
        joined[PART_OF_PREFIX] = within
        announced = joined[ORIGINATE]
        joined[ORIGINATE] = announced.filter(
            pc.is_in(announced["target"], value_set=within["target"].unique())
        )
    keys: dict[str, pa.Array] = {}
    for node_type in NODE_TYPES:
        nodes = store.nodes(node_type)
        if selection.end is not None:
            nodes = _met(nodes, node_type, joined)
        keys[node_type.label] = nodes[node_type.key.name].combine_chunks()
        columns = _numeric(node_type.properties)
        tensors[f"{node_type.label}/x"] = _matrix(nodes, columns)
        names[node_type.label] = {"key": keys[node_type.label].to_pylist(), "x": [c.name for c in columns]}
    for edge_type, edges in joined.items():
        kind = f"{edge_type.source.label}|{edge_type.name}|{edge_type.target.label}"
        columns = _numeric((*edge_type.identity, *edge_type.properties))
        tensors[f"{kind}/edge_index"] = _ends(edge_type, edges, keys)
        tensors[f"{kind}/edge_attr"] = _matrix(edges, columns)
        names[kind] = {"edge_attr": [column.name for column in columns]}
        if edge_type is MEASURES:
            for state in STATES:
                tensors[f"{kind}/{state}"] = np.ascontiguousarray(getattr(arrays, state).T)
    header = {
        "format": "qoetwin graph",
        "ontology_version": str(VERSION),
        "synthetic": json.dumps(store.holds_synthetic()),
        "names": json.dumps(names),
    }
    with written(path) as out:
        out.write(save(tensors, metadata=header))
    return Written(
        nodes={label: len(key) for label, key in keys.items()},
        edges={
            name.removesuffix("/edge_index"): tensor.shape[1]
            for name, tensor in tensors.items()
            if name.endswith("/edge_index")
        },
        windows=arrays.windows,
    )


def _met(nodes: pa.Table, node_type: NodeType, joined: Mapping[EdgeType, pa.Table]) -> pa.Table:
    """The nodes that those edges join, and with centralities that follow from those edges."""
    key = node_type.key.name
    nodes = nodes.filter(pc.is_in(nodes[key], value_set=_ends_met(joined, node_type)))
    links = {IP: NEXT_HOP, AS: NEXT_AS}.get(node_type)
    if links is None:
        return nodes
    known = joined[links] if links is NEXT_AS else without_local(joined[links], "source", "target")
    found = node_centralities(known, key, np.random.default_rng(CENTRALITY_SEED))
    row = pc.index_in(nodes[key], value_set=found[key].combine_chunks())
    for name in found.column_names:
        if name != key:
            nodes = nodes.set_column(nodes.column_names.index(name), name, found[name].take(row))
    return nodes


def _ends_met(
    joined: Mapping[EdgeType, pa.Table], node_type: NodeType, *, but: EdgeType | None = None
) -> pa.Array:
    """The keys of the nodes of a label that edges join, those of one type left out."""
    ends = [
        edges[end.name]
        for edge_type, edges in joined.items()
        if edge_type is not but
        for end, of in zip(edge_type.ends, (edge_type.source, edge_type.target), strict=True)
        if of is node_type
    ]
    kind = arrow_type(node_type.key.datatype)
    return pa.chunked_array([chunk for column in ends for chunk in column.chunks], kind).unique()


def _numeric(properties: tuple[Property, ...]) -> list[Property]:
    return [one for one in properties if one.datatype in _NUMBERS]


def _matrix(table: pa.Table, columns: list[Property]) -> NDArray[np.float64]:
    """(N, F), NaN where unknown."""
    cells = np.full((table.num_rows, len(columns)), np.nan)
    for number, column in enumerate(columns):
        values = table[column.name]
        if column.datatype is Datatype.DATETIME:
            values = pc.divide(pc.cast(pc.cast(values, pa.int64()), pa.float64()), 1e6)
        cells[:, number] = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return cells


def _ends(edge_type: EdgeType, edges: pa.Table, keys: dict[str, pa.Array]) -> NDArray[np.int64]:
    """(2, E): the numbers of both ends among the nodes of their label."""

    def numbers(end: str, node_type: NodeType) -> NDArray[np.int64]:
        found = pc.index_in(edges[end], value_set=keys[node_type.label])
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)

    return np.stack([numbers("source", edge_type.source), numbers("target", edge_type.target)])


def _chosen(store: GraphStore, paths: pa.Table) -> pa.Table:
    """The edges of those paths, in their order."""
    row = pa.array(np.arange(paths.num_rows), pa.int64())
    ends = paths.rename_columns(["source", "target", "af"]).append_column("row", row)
    return ends.join(store.edges(MEASURES), ["source", "target", "af"]).sort_by("row").drop_columns(["row"])
