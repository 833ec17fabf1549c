"""A predictor that holds a graph encoder; the encoder is all that differs between models.

RTT and jitter are predicted as a difference from a base: of RTT the latest value seen (the `last-value` baseline), of jitter
the median of the last windows. Differences are compressed by asinh(x / unit): linear for small ones, logarithmic for large.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch, HeteroData

from domain.errors import DataError
from gnn.conformal import conformal_factor, scores
from gnn.heads import FeatureEncoder, Heads, Outputs, pinball
from gnn.inputs import Inputs
from gnn.path_graph import CATEGORIES, RELATIONS, PathGraphConfig, path_graph
from gnn.prediction import Prediction, reasons
from gnn.predictor import Array, Kind, Learned, Predictor, Progress
from gnn.protocols.protocol import Bools, Question, Split
from gnn.settings import require_in_range
from gnn.state import checked
from gnn.tensors import PAIR, windows_as_data
from gnn.training import TrainingConfig, repeatable, train
from kg.arrays import Floats, PathArrays

_OF_GRAPH = frozenset(own.name for own in fields(PathGraphConfig))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """Graph, size and training of a network: all that its inputs and answers depend on, besides what is learned.

    Attributes:
        graph: what goes into the path graph; its units are also those of the targets.
        hidden: D, features of a node between layers.
        layers: hops.
        dropout: of features and messages.
        epochs, patience, batch, learning_rate, weight_decay, gradient_norm, average: see `TrainingConfig`.
        rtt_weight, jitter_weight: compressed differences are small numbers next to a cross-entropy; these bring the losses to
            the same size.
        most_deviations: standardised inputs are cut here: one mad value shall not drive a network.
        least_width_ms: an interval is at least this wide when it is compared with others: Atlas's own clock resolution is
            not much better.
    """

    graph: PathGraphConfig = field(default_factory=PathGraphConfig)
    hidden: int = 32
    layers: int = 2
    dropout: float = 0.1
    epochs: int = 20
    patience: int = 5
    batch: int = 4
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0
    average: float = 0.98
    rtt_weight: float = 8.0
    jitter_weight: float = 2.0
    most_deviations: float = 10.0
    least_width_ms: float = 0.1

    def __post_init__(self) -> None:
        require_in_range(
            {name: value for name, value in self.by_name().items() if name not in _OF_GRAPH},
            may_be_zero={"layers", "dropout", "weight_decay", "average"},
            below_one={"dropout", "average"},
        )

    def by_name(self) -> dict[str, int | float]:
        """All settings in one level, those of the graph among them."""
        own = asdict(self)
        graph: dict[str, int | float] = own.pop("graph")
        return {**graph, **own}

    @classmethod
    def from_names(cls, values: Mapping[str, int | float]) -> Self:
        """The settings that `by_name` gave."""
        graph = {name: value for name, value in values.items() if name in _OF_GRAPH}
        own = {name: value for name, value in values.items() if name not in _OF_GRAPH}
        return cls(graph=PathGraphConfig(**graph), **own)  # type: ignore[arg-type]  # checked by name and type when loaded


class PathNetwork(nn.Module):
    """Feature encoder, graph encoder, heads."""

    def __init__(self, features: FeatureEncoder, encoder: nn.Module, heads: Heads) -> None:
        super().__init__()
        self.features = features
        self.encoder = encoder
        self.heads = heads

    def forward(self, data: HeteroData) -> Outputs:
        """A batch of graphs as `windows_as_data` makes them -> what the heads say of each node."""
        h = self.features(data[PAIR].x, data[PAIR].category)
        adjacency = {relation: store.adj_t for (_, relation, _), store in data.edge_items()}
        said: Outputs = self.heads(self.encoder(h, adjacency))
        return said


class GraphPredictor(Predictor):
    """Quantiles of RTT and jitter and the loss of all pairs of a window, from the path graph.

    Args:
        settings: size and training.
    """

    kind: ClassVar[Kind] = Kind.GNN

    def __init__(self, settings: GraphSettings | None = None) -> None:
        self.settings = GraphSettings() if settings is None else settings
        self._network: PathNetwork | None = None
        self._columns: tuple[str, ...] = ()
        self._constants: dict[str, Array] = {}

    @abstractmethod
    def encoder(self, relations: tuple[str, ...]) -> nn.Module:
        """The graph encoder, untrained: forward takes (N, D) features and a mapping edge type -> (N, N) CSR adjacency."""

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The path graph of each asked window."""
        return path_graph(arrays, question, self.settings.graph)

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """Mean and standard deviation of each column over the nodes of fitted windows that can be scored."""
        inputs = self.inputs(arrays, split.fit)
        return _column_constants(inputs, split.fit.cells(arrays).loss)

    def learn(self, arrays: PathArrays, split: Split, *, seed: int, progress: Progress | None) -> Learned:
        """Train on the fitted windows, stop by the validation windows, conformalise on the calibration windows."""
        self._columns = self.inputs(arrays, split.fit.part(slice(0, 1))).columns
        self._constants = self.prepare(arrays, split)
        settings = self.settings
        with repeatable(seed) as generator:
            self._network = self._untrained(len(self._columns))
            learned = train(
                self._network,
                self._labelled(arrays, split.fit),
                self._labelled(arrays, split.validation),
                partial(_loss, weights={"rtt": settings.rtt_weight, "jitter": settings.jitter_weight}),
                TrainingConfig(
                    epochs=settings.epochs,
                    patience=settings.patience,
                    batch=settings.batch,
                    learning_rate=settings.learning_rate,
                    weight_decay=settings.weight_decay,
                    clip=settings.gradient_norm,
                    average=settings.average,
                ),
                generator=generator,
                progress=progress,
            )
        self._calibrate(arrays, split.calibration)
        return learned

    def answer(self, inputs: Inputs) -> Prediction:
        """Run the network, undo compression and difference, widen the intervals by the conformal factors."""
        said = self._said(inputs)
        answered = np.isfinite(inputs.column("base_rtt_ms"))
        seen = inputs.column("log_windows_seen") > 0.0
        counted = np.isfinite(inputs.column("any_loss_frequency"))
        rtt, jitter = (
            _widened(said[name], self._constants[f"{name}_factor"], self.settings.least_width_ms)
            for name in ("rtt", "jitter")
        )
        any_loss = np.where(counted, said["any_loss"], np.nan)
        return Prediction(
            rtt_ms=rtt[..., 1],
            rtt_low_ms=rtt[..., 0],
            rtt_high_ms=rtt[..., 2],
            jitter_ms=jitter[..., 1],
            jitter_low_ms=jitter[..., 0],
            jitter_high_ms=jitter[..., 2],
            any_loss_probability=any_loss,
            loss_ratio=any_loss * said["loss_size"],
            in_range=answered,
            reason=reasons(answered, seen),
        )

    def config(self) -> dict[str, int | float]:
        """The settings by name."""
        return self.settings.by_name()

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted predictor with these settings."""
        return cls(GraphSettings.from_names(config))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers that it was fitted on."""
        return self._columns

    def state(self) -> dict[str, Array]:
        """Weights of the network (float32), means and deviations of the columns, conformal factors."""
        weights = {f"network.{name}": weight.numpy() for name, weight in self._fitted().state_dict().items()}
        return {**weights, **self._constants}

    def restore(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        with repeatable(0):
            network = self._untrained(len(columns))
        weights = {f"network.{name}": weight.numpy() for name, weight in network.state_dict().items()}
        constants = {name: np.zeros(len(columns)) for name in ("mean", "deviation")}
        constants |= {name: np.zeros(()) for name in ("rtt_factor", "jitter_factor")}
        good = checked(state, {**weights, **constants}, where=self.name)
        network.load_state_dict(
            {name.removeprefix("network."): torch.from_numpy(good[name].copy()) for name in weights}
        )
        self._network, self._columns = network.eval(), columns
        self._constants = {name: good[name] for name in constants}

    def _untrained(self, columns: int) -> PathNetwork:
        settings = self.settings
        return PathNetwork(
            FeatureEncoder(
                numbers=2 * columns,
                categories=len(CATEGORIES),
                buckets=settings.graph.buckets,
                hidden=settings.hidden,
                dropout=settings.dropout,
            ),
            self.encoder(RELATIONS),
            Heads(hidden=settings.hidden),
        )

    def _fitted(self) -> PathNetwork:
        if self._network is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return self._network

    def _graphs(self, inputs: Inputs, targets: Mapping[str, Floats] | None = None) -> list[HeteroData]:
        return windows_as_data(
            inputs,
            self._constants["mean"],
            self._constants["deviation"],
            most_deviations=self.settings.most_deviations,
            targets=targets,
        )

    def _labelled(self, arrays: PathArrays, question: Question) -> list[HeteroData]:
        """Graphs of the asked windows with what is to be learned of each node, NaN where a cell is not asked."""
        inputs = self.inputs(arrays, question)
        cells = question.cells(arrays)
        targets: dict[str, Floats] = {
            "loss_ratio": np.where(cells.loss, arrays.loss_ratio[question.windows], np.nan)
        }
        for name, values, asked in (
            ("rtt", arrays.rtt_ms, cells.rtt),
            ("jitter", arrays.jitter_ms, cells.jitter),
        ):
            moved = values[question.windows] - inputs.column(f"base_{name}_ms")
            targets[name] = np.where(asked, np.arcsinh(moved / self._unit_ms(name)), np.nan)
        return self._graphs(inputs, targets)

    def _unit_ms(self, name: str) -> float:
        graph = self.settings.graph
        return graph.rtt_unit_ms if name == "rtt" else graph.jitter_unit_ms

    def _said(self, inputs: Inputs) -> dict[str, Floats]:
        """Before calibration: `rtt` and `jitter` (Q, P, 3) in ms, `any_loss` and `loss_size` (Q, P) ratios."""
        if inputs.columns != self._columns:
            raise DataError(
                "other inputs than the model was fitted on",
                where=self.name,
                found=", ".join(sorted(set(inputs.columns) ^ set(self._columns))) or "another order",
                expected="the same columns",
                next_step="fit the model again on this graph",
            )
        network = self._fitted()
        windows = self._graphs(inputs)
        with torch.no_grad():
            outputs = [network(Batch.from_data_list([window])) for window in windows]
        said: dict[str, Floats] = {}
        for name in ("rtt", "jitter"):
            moved = torch.stack([getattr(output, name) for output in outputs]).double().numpy()
            base = inputs.column(f"base_{name}_ms")[..., None]
            said[name] = np.maximum(base + self._unit_ms(name) * np.sinh(moved), 0.0)
        for name in ("any_loss", "loss_size"):
            logits = torch.stack([getattr(output, f"{name}_logit") for output in outputs])
            said[name] = torch.sigmoid(logits.double()).numpy()
        return said

    def _calibrate(self, arrays: PathArrays, question: Question) -> None:
        said = self._said(self.inputs(arrays, question))
        cells = question.cells(arrays)
        for name, values, asked in (
            ("rtt", arrays.rtt_ms, cells.rtt),
            ("jitter", arrays.jitter_ms, cells.jitter),
        ):
            quantiles = said[name]
            scored = asked & np.isfinite(quantiles[..., 1])
            low, high = quantiles[scored][:, 0], quantiles[scored][:, 2]
            width = high - low + self.settings.least_width_ms
            outside = scores(values[question.windows][scored], low, high, width)
            self._constants[f"{name}_factor"] = np.array(conformal_factor(outside))


def _column_constants(inputs: Inputs, scored: Bools) -> dict[str, Array]:
    """Mean and standard deviation (1 where nothing moves) of each column over the known values of scored nodes."""
    numbers = inputs.numbers[scored]
    known = np.isfinite(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / count
    variance = (np.where(known, numbers - mean, 0.0) ** 2).sum(axis=0) / count
    deviation = np.sqrt(variance)
    return {"mean": mean, "deviation": np.where(deviation > 1e-9, deviation, 1.0)}


def _widened(quantiles: Floats, factor: Array, least_width_ms: float) -> Floats:
    """(Q, P, 3) the quantiles with bounds moved out by the factor times the width, never past the median or below 0."""
    low, middle, high = quantiles[..., 0], quantiles[..., 1], quantiles[..., 2]
    out = factor * (high - low + least_width_ms)
    return np.stack([np.clip(low - out, 0.0, middle), middle, np.maximum(high + out, middle)], axis=-1)


def _loss(network: nn.Module, batch: HeteroData, weights: Mapping[str, float]) -> Tensor:
    """Pinball loss of RTT and jitter, cross-entropy of any loss and of its size, over the cells that are asked."""
    outputs: Outputs = network(batch)
    nodes = batch[PAIR]
    total = outputs.rtt.sum() * 0.0
    for name, weight in weights.items():
        asked = torch.isfinite(nodes[name])
        if bool(asked.any()):
            total = total + weight * pinball(getattr(outputs, name)[asked], nodes[name][asked])
    asked = torch.isfinite(nodes.loss_ratio)
    if bool(asked.any()):
        lost = nodes.loss_ratio[asked]
        any_loss = (lost > 0.0).float()
        total = total + functional.binary_cross_entropy_with_logits(outputs.any_loss_logit[asked], any_loss)
        size = functional.binary_cross_entropy_with_logits(
            outputs.loss_size_logit[asked], lost, reduction="none"
        )
        total = total + (size * any_loss).mean()
    return total
