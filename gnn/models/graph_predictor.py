"""A predictor that holds a graph encoder; the encoder is all that differs between models.

RTT and jitter are predicted as a difference from a base: of RTT the latest value seen (the `last-value` baseline) or, where there is none,
what the mates tell; of jitter the median of the last windows. Differences are compressed by asinh(x / unit): linear for small
ones, logarithmic for large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from domain.errors import ArtefactError, DataError
from gnn.blocks import NodeTable, in_blocks, numbers_in_blocks, parted, summed
from gnn.checkpoint import Checkpoint
from gnn.device import best_device, moved, one_thread
from gnn.fingerprint import code_hash, data_hash, question_hash
from gnn.heads import FeatureEncoder, LossHead, QuantileHead, loss_of_loss, pinball
from gnn.hearing import Table
from gnn.inputs import Inputs
from gnn.mates import EDGE_COLUMNS
from gnn.models.typed_layers import Heard, TypedLayers
from gnn.neighbours import RELATIONS
from gnn.path_graph import AROUND, CATEGORIES, MATES, SAYS, PathGraphConfig, path_graph
from gnn.pointer import Pointed, PointerHead, edge_features
from gnn.prediction import Prediction, reasons
from gnn.predictor import Array, Kind, Learned, Lesson, Predictor
from gnn.protocols.protocol import Question, Split
from gnn.settings import require_in_range
from gnn.state import checked
from gnn.tensors import PAIR, as_data
from gnn.training import Kept, TrainingConfig, repeatable, train
from kg.arrays import Floats, PathArrays

ROWS_OF_CONSTANTS = 8
"""Means and deviations of columns are taken over so many rows, evenly over those that are fitted on."""

_OF_GRAPH = frozenset(own.name for own in fields(PathGraphConfig))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSettings:
    """Graph, size and training of a network: all that its inputs and answers depend on, besides what is learned.

    Attributes:
        graph: what goes into the path graph; its units are also those of the targets.
        hidden: D, features of a node between layers.
        layers: hops.
        heads: of attention, where there is any.
        order: polynomials of a filter, where there are any.
        widening: of the layers of the model without a graph.
        pointer: RTT is pointed at among candidates; else it is regressed.
        residual: what is regressed is the difference from the base; else the value itself.
        same_masks: what is hidden while learning is drawn once; else for each epoch. Of large windows, whose graphs are dear to make.
        dropout: of features and messages.
        input_dropout: of the inputs.
        steps, patience, batch, learning_rate, weight_decay, gradient_norm, average: see `TrainingConfig`.
        rtt_weight, jitter_weight: compressed differences are small numbers next to a cross-entropy; these bring the losses to
            the same size.
        most_deviations: standardised inputs are cut here: one mad value shall not drive a network.
    """

    graph: PathGraphConfig = field(default_factory=PathGraphConfig)
    hidden: int = 32
    layers: int = 2
    heads: int = 2
    order: int = 3
    widening: int = 4
    pointer: bool = True
    residual: bool = True
    same_masks: bool = False
    dropout: float = 0.1
    input_dropout: float = 0.05
    steps: int = 450
    patience: int = 4
    batch: int = 1
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0
    average: float = 0.98
    rtt_weight: float = 8.0
    jitter_weight: float = 1.0
    most_deviations: float = 10.0

    def __post_init__(self) -> None:
        require_in_range(
            {name: value for name, value in self.by_name().items() if name not in _OF_GRAPH},
            may_be_zero={
                "layers", "pointer", "residual", "same_masks", "dropout", "input_dropout", "weight_decay", "average",
            },
            below_one={"dropout", "input_dropout", "average"},
            most={"hidden": 4096, "layers": 64, "heads": 64, "order": 64, "widening": 64},
        )  # fmt: skip

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a network says of M asked nodes: RTT as a distribution over candidates, or its quantiles; jitter's quantiles; loss."""

    rtt: Pointed | Tensor
    jitter: Tensor
    any_loss_logit: Tensor
    loss_size_logit: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Speaking:
    """A network that has looked at its graphs.

    Attributes:
        h: (N, D) features of all nodes.
        say: features of B asked nodes, (B, D), and their numbers, (B,) -> what is said of them.
        tables: what all nodes say to each other meanwhile.
    """

    h: Tensor
    say: Callable[[Tensor, Tensor], _Said]
    tables: tuple[NodeTable, ...]

    def blocks(self) -> Iterator[tuple[Tensor, _Said]]:
        """All nodes block by block: their numbers, and what is said of them."""
        for asked in numbers_in_blocks(len(self.h), self.h.device):
            yield asked, self.say(self.h[asked], asked)


class PathNetwork(nn.Module):
    """Feature encoder, graph encoder, heads."""

    def __init__(
        self,
        features: FeatureEncoder,
        encoder: nn.Module,
        rtt: nn.Module,
        *,
        hidden: int,
        unit_ms: float,
        asks_edges: bool,
    ) -> None:
        super().__init__()
        self.features, self.encoder, self.rtt = features, encoder, rtt
        self.jitter = QuantileHead(hidden=hidden)
        self.loss = LossHead(hidden=hidden)
        self.unit_ms = unit_ms
        self.asks_edges = asks_edges

    def forward(self, data: HeteroData, *, by_block: bool = False) -> _Speaking:
        """Graphs as `as_data` makes them -> what the heads say of their nodes, who may be asked block by block."""
        (h,) = in_blocks(lambda x, category: (self.features(x, category),), data[PAIR].x, data[PAIR].category)
        around: dict[str, Heard] = {}
        for (_, relation, _), store in data.edge_items():
            edge = None
            if self.asks_edges and "edge" in store:
                (edge,) = in_blocks(lambda raw: (edge_features(raw, self.unit_ms),), store.edge)
            around[relation] = Heard(heard=Table(store.heard, len(h)), edge=edge)
        h = self.encoder(h, around)
        pointing = self.rtt(h, data, by_block=by_block) if isinstance(self.rtt, PointerHead) else None

        def say(mine: Tensor, asked: Tensor) -> _Said:
            any_logit, size_logit = self.loss(mine)
            return _Said(
                rtt=self.rtt(mine) if pointing is None else pointing.of(mine, asked),
                jitter=self.jitter(mine),
                any_loss_logit=any_logit,
                loss_size_logit=size_logit,
            )

        return _Speaking(h=h, say=say, tables=() if pointing is None else pointing.tables)

    def of_heads(self) -> Iterator[Tensor]:
        """The weights of the heads."""
        return chain.from_iterable(head.parameters() for head in (self.rtt, self.jitter, self.loss))


class GraphPredictor(Predictor):
    """Quantiles of RTT and jitter and the loss of all pairs of a window, from the path graph.

    Args:
        settings: size and training.
        device: where the network runs; None for a GPU where there is one.
    """

    kind: ClassVar[Kind] = Kind.GNN
    effort: ClassVar[int] = 9
    hears: ClassVar[bool] = True
    """Whether it sees other pairs of the window: their columns, the edges, and what mates tell."""
    asks_edges: ClassVar[bool] = False
    """Whether its convolution asks what is on an edge."""

    def __init__(self, settings: GraphSettings | None = None, *, device: torch.device | None = None) -> None:
        self.settings = GraphSettings() if settings is None else settings
        self.device = best_device() if device is None else device
        self._network: PathNetwork | None = None
        self._columns: tuple[str, ...] = ()
        self._constants: dict[str, Array] = {}

    @classmethod
    def settings_under(cls, protocol: str | None) -> Mapping[str, int | float]:
        """A forecast drifts without strong regularisation, and what matters in it is small; where windows are many more steps pay."""
        return SETTINGS_UNDER.get(protocol or "", {})

    def convolution(self, edge_dim: int | None) -> nn.Module:
        """One convolution, untrained, of D features to D; its edges have so many features, or None. It has `over_table(h, heard, edge)`."""
        raise NotImplementedError

    def positional_encoding(self, relations: tuple[str, ...]) -> nn.Module | None:  # noqa: ARG002
        """What adds to the features where in the graph a node is; None adds nothing."""
        return None

    def encoder(self, relations: tuple[str, ...], edge_dims: Mapping[str, int]) -> nn.Module:
        """The graph encoder, untrained: forward takes (N, D) features and a `Neighbourhood`."""
        settings = self.settings
        return TypedLayers(
            relations=relations,
            edge_dims=edge_dims,
            convolution=self.convolution,
            position=self.positional_encoding(relations),
            hidden=settings.hidden,
            layers=settings.layers,
            dropout=settings.dropout,
        )

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """The path graph of each asked row."""
        inputs = path_graph(arrays, question, self.settings.graph)
        return inputs if self.hears else _alone(inputs)

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:
        """Mean and standard deviation of each column over the nodes that are fitted on."""
        return self._constants_of(arrays, split.fit)

    def learn(self, lesson: Lesson) -> Learned:
        """Train on the fitted rows under fresh masks, stop by the validation rows; go on where an interrupted training was."""
        arrays, split, settings = lesson.arrays, lesson.split, self.settings
        drawn = np.random.default_rng([lesson.seed, 0x7EA])
        first = lesson.protocol.redraw(split.fit, arrays, drawn)
        self._columns = self.inputs(arrays, first.part(slice(0, 1))).columns
        self._constants = self._constants_of(arrays, first)
        with one_thread(), repeatable(lesson.seed, self.device) as generator:
            self._network = self._untrained(self._columns).to(self.device)
            held = split.validation
            if not held.cells(arrays).rtt.any():
                # A tenth of the rows, under masks of their own, says when to stop.
                held = lesson.protocol.redraw(split.fit, arrays, np.random.default_rng([lesson.seed, 0x7E1D]))
                held = held.part(slice(0, -(-len(held) // 10)))
            validation: Iterable[HeteroData] = _Afresh(lambda: self._batches(arrays, held))
            if len(held) * arrays.pairs <= MOST_KEPT:
                validation = list(validation)
            batches = -(-len(split.fit) // settings.batch)
            remembers = settings.same_masks and len(first) * arrays.pairs <= MOST_REMEMBERED
            remembered: list[HeteroData] = []

            def epoch(_number: int) -> Iterable[HeteroData]:
                if remembers:
                    if not remembered:
                        remembered.extend(self._batches(arrays, first))
                    order = torch.randperm(len(remembered), generator=generator).tolist()
                    return [remembered[place] for place in order]
                question = first if settings.same_masks else lesson.protocol.redraw(split.fit, arrays, drawn)
                rows = torch.randperm(len(question), generator=generator).numpy()
                return self._batches(arrays, question.part(rows))

            return train(
                self._network,
                epoch,
                validation,
                self._loss,
                TrainingConfig(
                    epochs=max(1, -(-settings.steps // batches)),
                    steps_an_epoch=batches,
                    patience=settings.patience,
                    learning_rate=settings.learning_rate,
                    weight_decay=settings.weight_decay,
                    clip=settings.gradient_norm,
                    average=settings.average,
                ),
                progress=lesson.progress,
                device=self.device,
                kept=None
                if lesson.checkpoint is None
                else Kept(
                    checkpoint=Checkpoint(
                        folder=lesson.checkpoint, name=self.name, of=self._learning(lesson)
                    ),
                    order=generator,
                    masks=drawn,
                ),
            )

    def _learning(self, lesson: Lesson) -> dict[str, object]:
        """All that the weights depend on."""
        return {
            "model": self.name,
            "config": dict(self.config()),
            "columns": list(self._columns),
            "arrays": data_hash(lesson.arrays),
            "protocol": lesson.protocol.name,
            "split": lesson.split.name,
            "fitted questions": question_hash(lesson.split.fit),
            "validation questions": question_hash(lesson.split.validation),
            "seed": lesson.seed,
            "device": self.device.type,
            "torch": torch.__version__,
            "code": code_hash(),
        }

    def answer(self, inputs: Inputs) -> Prediction:
        """Run the network, undo compression and difference."""
        self._require_columns(inputs)
        data = moved(self._data(inputs, None), self.device)
        shape = inputs.numbers.shape[:2]
        with one_thread(), torch.no_grad():
            blocks = [self._in_units(said, data, asked) for asked, said in self._fitted()(data).blocks()]
        rtt, jitter, any_loss, size = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        rtt, jitter = (values.reshape(*shape, 3) for values in (rtt, jitter))
        any_loss, size = (values.reshape(shape) for values in (any_loss, size))
        known = np.isfinite(inputs.column("base_rtt_ms"))
        counted = np.asarray(np.isfinite(inputs.column("any_loss_frequency")))
        if self.hears:
            counted |= np.isfinite(inputs.column(f"{AROUND}probe_any_loss"))
        any_loss = np.where(counted, any_loss, np.nan)
        rtt = np.where(known[..., None], rtt, np.nan)
        return Prediction(
            rtt_ms=rtt[..., 1],
            rtt_low_ms=rtt[..., 0],
            rtt_high_ms=rtt[..., 2],
            jitter_ms=jitter[..., 1],
            jitter_low_ms=jitter[..., 0],
            jitter_high_ms=jitter[..., 2],
            any_loss_probability=any_loss,
            loss_ratio=any_loss * size,
            in_range=known,
            reason=reasons(known, inputs.column("log_windows_seen") > 0.0),
        )

    def _in_units(self, said: _Said, data: HeteroData, asked: Tensor) -> tuple[Floats, ...]:
        """(B, 3) low, median and high of RTT and of jitter in ms, (B,) the probability of any loss, and its size."""
        node = data[PAIR]
        if isinstance(said.rtt, Pointed):
            rtt = torch.stack(said.rtt.interval_ms(), dim=-1).double().cpu().numpy()
        else:
            base = node.base_ms[asked]
            rtt = self._in_ms(said.rtt, base if self.settings.residual else torch.zeros_like(base), "rtt")
        any_loss, size = (
            torch.sigmoid(logit.double()).cpu().numpy()
            for logit in (said.any_loss_logit, said.loss_size_logit)
        )
        return rtt, self._in_ms(said.jitter, node.base_jitter_ms[asked], "jitter"), any_loss, size

    def _in_ms(self, moved: Tensor, base: Tensor, name: str) -> Floats:
        unit = self._unit_ms(name)
        values = base.double()[:, None] + unit * torch.sinh(moved.double())
        return np.asarray(values.clamp_min(0.0).cpu().numpy(), dtype=np.float64)

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
        """Weights of the network (float32), means and deviations of the columns."""
        weights = {
            f"network.{name}": weight.cpu().numpy() for name, weight in self._fitted().state_dict().items()
        }
        return {**weights, **self._constants}

    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        # Shapes alone: what they should be takes no memory, however large a wrong setting makes it.
        with torch.device("meta"):
            network = self._untrained(columns)
        weights: dict[str, Array] = {
            f"network.{name}": np.broadcast_to(np.zeros((), dtype=np.float32), weight.shape)
            for name, weight in network.state_dict().items()
        }
        constants = {name: np.zeros(len(columns)) for name in ("mean", "deviation")}
        good = checked(state, {**weights, **constants}, where=self.name)
        wild = [name for name, values in good.items() if not np.isfinite(values).all()]
        if wild or not (good["deviation"] > 0.0).all():
            raise ArtefactError(
                "a saved model with weights that are no numbers",
                where=self.name,
                found=", ".join(wild) or "a deviation that is not above 0",
                next_step="train it again",
            )
        network.load_state_dict(
            {name.removeprefix("network."): torch.from_numpy(good[name].copy()) for name in weights},
            assign=True,
        )
        self._network, self._columns = network.eval().to(self.device), columns
        self._constants = {name: good[name] for name in constants}

    def _untrained(self, columns: tuple[str, ...]) -> PathNetwork:
        settings = self.settings
        mates = MATES if self.hears else ()
        relations = RELATIONS if self.hears and settings.graph.all_types else mates
        return PathNetwork(
            FeatureEncoder(
                numbers=2 * len(columns),
                categories=len(CATEGORIES),
                buckets=settings.graph.buckets,
                hidden=settings.hidden,
                dropout=settings.dropout,
                input_dropout=settings.input_dropout,
            ),
            self.encoder(relations, {relation: 2 * len(EDGE_COLUMNS) for relation in mates}),
            PointerHead(
                hidden=settings.hidden,
                relations=mates,
                unit_ms=settings.graph.rtt_unit_ms,
                fits=sum(name.startswith(SAYS) for name in columns),
            )
            if settings.pointer
            else QuantileHead(hidden=settings.hidden),
            hidden=settings.hidden,
            unit_ms=settings.graph.rtt_unit_ms,
            asks_edges=self.asks_edges,
        )

    def _fitted(self) -> PathNetwork:
        if self._network is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return self._network

    def _require_columns(self, inputs: Inputs) -> None:
        self._fitted()
        if inputs.columns != self._columns:
            raise DataError(
                "other inputs than the model was fitted on",
                where=self.name,
                found=", ".join(sorted(set(inputs.columns) ^ set(self._columns))) or "another order",
                expected="the same columns",
                next_step="fit the model again on this graph",
            )

    def _constants_of(self, arrays: PathArrays, question: Question) -> dict[str, Array]:
        rows = np.unique(np.linspace(0, len(question) - 1, num=ROWS_OF_CONSTANTS).round().astype(np.int64))
        every = -(-len(rows) * arrays.pairs // CELLS_OF_CONSTANTS)
        parts = []
        for row in rows:
            numbers = self.inputs(arrays, question.part(slice(row, row + 1))).numbers
            parts.append(numbers.reshape(-1, numbers.shape[-1])[::every])
        return _column_constants(np.concatenate(parts).astype(np.float64))

    def _batches(self, arrays: PathArrays, question: Question) -> Iterator[HeteroData]:
        for part in question.parts(self.settings.batch):
            yield self._labelled(arrays, part)

    def _data(self, inputs: Inputs, targets: Mapping[str, Floats] | None) -> HeteroData:
        data = as_data(
            inputs,
            self._constants["mean"],
            self._constants["deviation"],
            most_deviations=self.settings.most_deviations,
            targets=targets,
        )
        base, base_jitter = (
            torch.from_numpy(inputs.column(f"base_{name}_ms").astype(np.float32)).flatten()
            for name in ("rtt", "jitter")
        )
        data[PAIR].base_ms, data[PAIR].base_jitter_ms = torch.nan_to_num(base, nan=0.0), base_jitter
        return data

    def _labelled(self, arrays: PathArrays, question: Question) -> HeteroData:
        """Graphs of the asked rows with what is to be learned of each node, NaN where a cell is not asked."""
        inputs = self.inputs(arrays, question)
        cells = question.cells(arrays)
        targets: dict[str, Floats] = {
            "loss_ratio": np.where(cells.loss, arrays.loss_ratio[question.windows], np.nan)
        }
        for name, values, asked in (
            ("rtt", arrays.rtt_ms, cells.rtt),
            ("jitter", arrays.jitter_ms, cells.jitter),
        ):
            base = inputs.column(f"base_{name}_ms").astype(np.float64)
            if name == "rtt" and not (self.settings.pointer or self.settings.residual):
                base = np.where(np.isfinite(base), 0.0, np.nan)
            moved = values[question.windows] - base
            targets[name] = np.where(asked, np.arcsinh(moved / self._unit_ms(name)), np.nan)
        return self._data(inputs, targets)

    def _loss(self, network: PathNetwork, data: HeteroData) -> Tensor:
        """CRPS or pinball loss of RTT, pinball loss of jitter, cross-entropy of any loss and of its size, over the cells that are asked."""
        node = data[PAIR]
        known = torch.stack([torch.isfinite(node[name]) for name in ("rtt", "jitter", "loss_ratio")])
        asked = known.any(dim=0).nonzero()[:, 0]
        speaking: _Speaking = network(data, by_block=parted(len(asked)))
        count = known.sum(dim=1).tolist()

        def error(mine: Tensor, asked: Tensor) -> Tensor:
            """The share of these nodes in the means over all."""
            return self._error(speaking.say(mine, asked), data, asked, known[:, asked], count)

        return summed(
            error, speaking.h[asked], asked, tables=speaking.tables, learned=tuple(network.of_heads())
        )

    def _error(
        self, said: _Said, data: HeteroData, asked: Tensor, known: Tensor, of: Sequence[int]
    ) -> Tensor:
        """The errors of B nodes, each by its share of all cells of its kind.

        Args:
            said: of these nodes.
            data: all nodes.
            asked: (B,) numbers of these nodes.
            known: (3, B) whether RTT, jitter and loss ratio came.
            of: how many cells of each came in all.
        """
        node = data[PAIR]
        of_rtt, of_jitter, of_loss = known
        total = said.any_loss_logit.sum() * 0.0
        if bool(of_rtt.any()):
            values = node.rtt[asked][of_rtt]
            if isinstance(said.rtt, Pointed):
                came_ms = node.base_ms[asked][of_rtt] + self._unit_ms("rtt") * torch.sinh(values)
                error = said.rtt.part(of_rtt).crps(came_ms, self._unit_ms("rtt")).mean()
            else:
                error = pinball(said.rtt[of_rtt], values)
            total = total + self.settings.rtt_weight * error * (len(values) / of[0])
        if bool(of_jitter.any()):
            values = node.jitter[asked][of_jitter]
            error = pinball(said.jitter[of_jitter], values)
            total = total + self.settings.jitter_weight * error * (len(values) / of[1])
        if bool(of_loss.any()):
            values = node.loss_ratio[asked][of_loss]
            error = loss_of_loss(said.any_loss_logit[of_loss], said.loss_size_logit[of_loss], values)
            total = total + error * (len(values) / of[2])
        return total

    def _unit_ms(self, name: str) -> float:
        graph = self.settings.graph
        return graph.rtt_unit_ms if name == "rtt" else graph.jitter_unit_ms


SETTINGS_UNDER: Mapping[str, Mapping[str, int | float]] = {
    "forecast": {"dropout": 0.25, "input_dropout": 0.1, "rtt_unit_ms": 2.0, "steps": 650},
    "imputation": {"steps": 650},
    "unseen-pair": {"all_types": False, "same_masks": True},
    "unseen-probe": {"all_types": False, "same_masks": True},
}
"""Settings that differ under a protocol, chosen on validation and calibration windows."""

CELLS_OF_CONSTANTS = 500_000
"""And over at most so many pairs x rows; of more, every second pair, or third, and so on."""

MOST_KEPT = 200_000
"""Pairs x rows of validation whose graphs are kept from epoch to epoch; those of more are made each time."""

MOST_REMEMBERED = 600_000
"""Likewise of what is learned on, where masks are drawn once: some 1.5 GB."""


@dataclass(frozen=True, slots=True)
class _Afresh:
    """Mini-batches that are made each time they are gone through."""

    batches: Callable[[], Iterator[HeteroData]]

    def __iter__(self) -> Iterator[HeteroData]:
        return self.batches()


def _alone(inputs: Inputs) -> Inputs:
    """The inputs without what tells of other pairs."""
    own = [number for number, name in enumerate(inputs.columns) if not name.startswith(AROUND)]
    return Inputs(
        columns=tuple(inputs.columns[number] for number in own),
        numbers=inputs.numbers[:, :, own],
        categories=inputs.categories,
        graphs=({},),
        graph_of=np.zeros(len(inputs), dtype=np.int64),
        values=inputs.values,
    )


def _column_constants(numbers: Floats) -> dict[str, Array]:
    """Mean and standard deviation (1 where nothing moves) of the known values of each column of (N, F)."""
    known = np.isfinite(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, numbers, 0.0).sum(axis=0) / count
    variance = (np.where(known, numbers - mean, 0.0) ** 2).sum(axis=0) / count
    deviation = np.sqrt(variance)
    return {"mean": mean, "deviation": np.where(deviation > 1e-9, deviation, 1.0)}
