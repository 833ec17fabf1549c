"""Learning: what an epoch costs over tables of neighbours, beside PyG's own layers, and how it grows with the number of pairs.

Prints one JSON object. Encoders are timed forward and backward on the same features and path graphs, ours and PyG's in turn; ratios
are PyG's time over ours, medians of several runs. Growth is of whole epochs of one model, inputs and heads too, each size in a
process of its own. Data is synthetic; --home names a graph to take instead, such as one built from recorded measurements.
Seconds depend on the machine, ratios less so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.graph import exponent, median, peak_gib, ratio, timed
from domain.selection import Selection
from gnn.hearing import Table
from gnn.history import HISTORY_WINDOWS
from gnn.models.graph_predictor import GraphPredictor, GraphSettings
from gnn.models.typed_layers import Heard, TypedLayers
from gnn.neighbours import RELATIONS
from gnn.path_graph import MATES, PathGraphConfig, path_graph
from gnn.pointer import edge_features
from gnn.predictor import Lesson
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.protocols.protocol import Split, from_window
from gnn.registry import predictor_class
from gnn.tensors import PAIR, as_data, edge_index
from kg.arrays import PathArrays, path_arrays
from kg.store import open_store
from tests.gnn.conftest import synthetic_arrays

ENCODERS = ("graph-transformer", "cheb-net", "res-gated-gcn", "sage")
NEIGHBOURS = 16
SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
TARGETS = 20


def main() -> None:
    parts = {"encoders": encoders, "growth": growth}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=parts, action="append", help="these parts only")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--home", type=Path, help="encoders: on the graph of this home in place of synthetic paths"
    )
    parser.add_argument(
        "--pairs", type=int, default=1_120, help="encoders: synthetic paths, as many as regional-2019 has"
    )
    parser.add_argument("--rows", type=int, default=8, help="windows of an epoch")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="growth: the most pairs")
    parser.add_argument("--model", choices=ENCODERS, default="sage", help="growth: of this model")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # a size, in this process
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one is not None:
        print(json.dumps(one_size(arguments)))
        return
    figures: dict[str, object] = {
        "machine": {"cores": os.cpu_count(), "python": sys.version.split()[0], "torch": torch.__version__},
        "threads": 1,
        "neighbours": NEIGHBOURS,
        "rows": arguments.rows,
    }
    for name in arguments.only or parts:
        figures[name] = parts[name](arguments)
    print(json.dumps(figures, indent=2))


def paths(pairs: int, windows: int) -> PathArrays:
    """Synthetic paths; so many targets of each probe."""
    return synthetic_arrays(probes=max(1, pairs // TARGETS), targets=TARGETS, windows=windows)


# Encoders


class OverEdges(nn.Module):
    """PyG's own forward of a convolution, over lists of edges made beforehand."""

    def __init__(self, convolution: nn.Module, lists: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.convolution, self.lists, self.of_alone = convolution, lists, True

    def over_table(self, h: Tensor, heard: Table, edge: Tensor | None) -> Tensor:
        index, there = self.lists[id(heard.heard)]
        return self.convolution(h, index) if edge is None else self.convolution(h, index, edge[there])


def encoders(arguments: argparse.Namespace) -> dict[str, object]:
    """An epoch of each encoder, beside the same weights in PyG's layers."""
    if arguments.home is None:
        arrays = paths(arguments.pairs, 24)
    else:
        with open_store("sqlite", arguments.home, create=False) as store:
            arrays = path_arrays(store, Selection())
    rows, edges = graphs(arrays, arguments.rows)
    figures: dict[str, object] = {
        "data": "synthetic" if arrays.synthetic else "recorded",
        "pairs": arrays.pairs,
        "edges_a_window": round(edges / len(rows)),
        "runs": arguments.runs,
        "reference": "the same layers of PyG, MessagePassing over lists of edges",
    }
    lists = {
        id(of.heard.heard): (edge_index(of.heard.heard), of.heard.heard < of.heard.nodes)
        for row in rows
        for of in row.values()
    }
    for name in ENCODERS:
        kind = predictor_class(name)
        assert issubclass(kind, GraphPredictor)
        predictor = kind(GraphSettings(dropout=0.0))
        hidden = predictor.settings.hidden
        features = [torch.randn(arrays.pairs, hidden, requires_grad=True) for _ in rows]
        told = [
            {r: of if kind.asks_edges else Heard(heard=of.heard, edge=None) for r, of in row.items()}
            for row in rows
        ]
        some = next(of.edge for of in rows[0].values() if of.edge is not None)
        ours = predictor.encoder(RELATIONS, dict.fromkeys(MATES, some.shape[-1]) if kind.asks_edges else {})
        theirs = in_pyg(ours, lists)
        torch.testing.assert_close(
            ours(features[0], told[0]), theirs(features[0], told[0]), rtol=1e-3, atol=1e-4
        )
        times: dict[str, list[float]] = {"ours": [], "pyg": []}
        for run in range(arguments.runs + 1):
            for who, network in (("ours", ours), ("pyg", theirs)):
                took = timed(
                    lambda: [epoch_row(network, h, of) for h, of in zip(features, told, strict=True)]
                )
                if run > 0:  # the first warms up
                    times[who].append(took)
        figures[name] = {
            "epoch_s": median(times["ours"]),
            "pyg_epoch_s": median(times["pyg"]),
            "ratio": ratio(times["pyg"], times["ours"]),
        }
    return figures


def graphs(arrays: PathArrays, count: int) -> tuple[list[dict[str, Heard]], int]:
    """Who hears whom in the last windows, half of each seen, and how many edges that is."""
    windows = np.arange(max(1, arrays.windows - count), arrays.windows)
    hidden = np.random.default_rng(0).random((len(windows), arrays.pairs)) < 0.5
    question = Imputation().question(arrays, windows, hidden)
    config = PathGraphConfig(neighbours=NEIGHBOURS)
    rows, edges = [], 0
    for part in question.parts(1):
        inputs = path_graph(arrays, part, config)
        constants = np.zeros(len(inputs.columns)), np.ones(len(inputs.columns))
        data = as_data(inputs, *constants, most_deviations=10.0)
        row = {}
        for (_, relation, _), store in data.edge_items():
            edge = edge_features(store.edge, config.rtt_unit_ms) if "edge" in store else None
            row[relation] = Heard(heard=Table(store.heard, data[PAIR].num_nodes), edge=edge)
            edges += int((store.heard < data[PAIR].num_nodes).sum())
        rows.append(row)
    return rows, edges


def in_pyg(encoder: nn.Module, lists: Mapping[int, tuple[Tensor, Tensor]]) -> TypedLayers:
    """The same encoder with the same weights, whose convolutions are asked over edges."""
    assert isinstance(encoder, TypedLayers)
    made = TypedLayers(
        relations=encoder.relations,
        edge_dims={},
        convolution=lambda _: nn.Identity(),
        position=encoder.position,
        hidden=encoder.own[0].in_features,  # type: ignore[arg-type]
        layers=len(encoder.own),
        dropout=encoder.dropout,
    )
    made.own, made.norms = encoder.own, encoder.norms
    made.heard = nn.ModuleList(
        nn.ModuleDict({name: OverEdges(own, lists) for name, own in layer.items()})  # type: ignore[operator, union-attr]
        for layer in encoder.heard
    )
    return made


def epoch_row(network: nn.Module, h: Tensor, around: Mapping[str, Heard]) -> None:
    # Tables anew, as training makes them: turning them around is ours to pay.
    fresh = {r: Heard(heard=Table(of.heard.heard, of.heard.nodes), edge=of.edge) for r, of in around.items()}
    network(h, fresh).square().mean().backward()


# Growth


def growth(arguments: argparse.Namespace) -> dict[str, object]:
    """How an epoch grows with pairs: the exponent of a fit of time against size."""
    sizes = [size for size in SIZES if size <= arguments.most]
    found = []
    for size in sizes:
        command = [sys.executable, "-m", "bench.learning", "--one", str(size)]
        command += ["--model", arguments.model, "--rows", str(arguments.rows)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(ran.stdout))
        print(size, found[-1], file=sys.stderr)
    times = [one["epoch_s"] for one in found]
    return {
        "model": arguments.model,
        "pairs": sizes,
        "epoch_s": times,
        "peak_gib": [one["peak_gib"] for one in found],
        "exponent": exponent(sizes, times) if len(sizes) > 1 else None,
        "limit": 1.1,
    }


def one_size(arguments: argparse.Namespace) -> dict[str, float]:
    """Epochs of so many pairs that have as much of a past as a model looks back to, the first left out."""
    rows = arguments.rows
    arrays = paths(arguments.one, HISTORY_WINDOWS + rows + 2)
    protocol = Forecast()
    windows = HISTORY_WINDOWS + np.arange(rows + 1)
    fit, held = (protocol.question(arrays, part) for part in (windows[:rows], windows[rows:]))
    sealed = from_window(arrays, HISTORY_WINDOWS + rows + 1)
    split = Split(name="bench", fit=fit, validation=held, calibration=held, test=held, sealed=sealed)
    kind = predictor_class(arguments.model)
    assert issubclass(kind, GraphPredictor)
    predictor = kind(GraphSettings(steps=3 * rows, patience=3))
    ended: list[float] = []
    predictor.learn(
        Lesson(
            arrays=arrays,
            split=split,
            protocol=protocol,
            seed=0,
            progress=lambda *_: ended.append(time.perf_counter()),
        )
    )
    epochs = [after - before for before, after in pairwise(ended)]
    return {"epoch_s": round(statistics.median(epochs), 4), "peak_gib": peak_gib()}


if __name__ == "__main__":
    main()
