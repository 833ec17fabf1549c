"""The race: the paper's networks, with and without the answer among their inputs, and what needs no network."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from domain.errors import DataError
from domain.progress import Report
from gnn.paper.networks import NETWORKS, RaceConfig, trained
from gnn.paper.probe_graph import Features, ProbeGraph, probe_graph
from kg.arrays import Floats, Ints, PathArrays

WARNING = (
    "DO NOT READ THESE FIGURES AS ACCURACY: this set-up of a published prototype gives each node its average RTT and loss as inputs and then asks "
    "for them, so copying the input is perfect without any model. "
    "It is reproduced only to be compared; what is left without the answer among the inputs is in the rows with `honest` features."
)

QUICK = RaceConfig(hidden=32, layers=2, epochs=60, patience=10)
"""Smaller networks and fewer epochs, for a first look; the figures are then no reproduction."""

NOTHING = 0.0
"""R2 of a model that says no more than the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """What the paper says of a model; None where its text gives no figure.

    Attributes:
        model: its name there.
        r2: coefficient of determination.
        r2_more_than: where no more is said ("scores exceeding 0.94", all four).
        mae, rmse, huber: in its scaled units; of RMSE and Huber loss there are only pictures.
        epochs: to converge; only a picture too.
    """

    model: str
    r2: float | None = None
    r2_more_than: float | None = None
    mae: float | None = None
    rmse: float | None = None
    huber: float | None = None
    epochs: int | None = None


QUOTED = (
    Quoted(model="GraphTransformer", r2=0.9763, mae=0.0750),
    Quoted(model="ChebNet", r2=0.9697),
    Quoted(model="ResGatedGCN", r2_more_than=0.94),
    Quoted(model="SAGE", r2_more_than=0.94),
)
"""Section IV: 989 nodes, 908,752 edges, on data of its own. Nothing there can be compared figure by figure with a race on other data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model, mean over seeds.

    Attributes:
        model: its name.
        features: what it was given.
        r2: over both targets, each by its variance; None where nothing varies.
        mae, rmse, huber: over both targets, in the paper's scaled units; Huber loss with delta 1 (Huber 1964).
        mae_ms: of the average RTT itself, as it was before any clipping.
        epochs: to the best one; None where there are none.
        seconds, parameters: of learning.
        r2_by_seed: so that luck can be seen: few nodes are scored.
    """

    model: str
    features: Features
    r2: float | None
    mae: float
    rmse: float
    huber: float
    mae_ms: float
    epochs: float | None
    seconds: float
    parameters: int
    r2_by_seed: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRace:
    """The table, and what must be read before it.

    Attributes:
        nodes, edges: of the leaky graph.
        capped: whether that graph has fewer edges than its rule makes.
        left_out: hosts of which no RTT is known.
        filled: unknown values of leaky features that are the mean of the known ones.
        scored_nodes: of one seed.
        targets: how many of RTT and loss are known: 1 where packets were not counted.
        seeds: of masks and weights.
        synthetic: True when any of it comes from the testbed.
        rows: ours.
    """

    nodes: int
    edges: int
    capped: bool
    left_out: int
    filled: int
    scored_nodes: int
    targets: int
    seeds: tuple[int, ...]
    synthetic: bool
    rows: tuple[Row, ...]

    @property
    def described(self) -> str:
        """What was learned on, in one line."""
        parts = [f"{self.nodes} hosts, {self.edges:,} edges{' (capped)' if self.capped else ''}"]
        parts.append(f"{self.scored_nodes} scored, mean of {len(self.seeds)} seeds")
        parts.append("RTT and loss" if self.targets == 2 else "RTT only, packets were not counted")
        if self.left_out > 0:
            parts.append(f"{self.left_out} left out that never answered")
        if self.filled > 0:
            parts.append(f"{self.filled} unknown features filled with the mean")
        if self.synthetic:
            parts.append("SYNTHETIC")
        return "; ".join(parts)

    @property
    def concluded(self) -> str:
        """What came of it, in words."""
        copied = next(row for row in self.rows if row.features is Features.COPY)
        said = "Do not read these figures as accuracy: the answer is among the inputs. "
        said += f"Copying the input explains {_share(copied)} of what is asked without any model (R2)."
        for features, so in (
            (Features.LEAKY, "With the answer among its inputs"),
            (Features.HONEST, "Without it"),
        ):
            network = self._best(NETWORKS, features)
            line = self._best(("linear regression",), features)
            said += f" {so} the best network, {network.model}, explains {_share(network)}, and a straight line {_share(line)}."
        left = self._best(NETWORKS, Features.HONEST).r2
        if left is not None and left <= NOTHING:
            said += " So all of that is the answer among the inputs."
        return said

    def _best(self, models: Collection[str], features: Features) -> Row:
        return max(
            (row for row in self.rows if row.model in models and row.features is features),
            key=lambda row: -math.inf if row.r2 is None else row.r2,
        )

    def plain(self) -> dict[str, Any]:
        """Plain values for a document of the comparison."""
        return {
            "set": self.described,
            "warning": WARNING,
            "synthetic": self.synthetic,
            "quoted": [asdict(one) for one in QUOTED],
            "ours": [
                asdict(row) | {"features": str(row.features), "r2_by_seed": list(row.r2_by_seed)}
                for row in self.rows
            ],
        }


def _share(row: Row) -> str:
    if row.r2 is None:
        return "an unknown share"
    return "nothing" if row.r2 <= NOTHING else f"{row.r2:.1%}".replace("%", " %")


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Nodes of the three phases: numbers, ascending."""

    train: Ints
    validation: Ints
    test: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One model in one seed: what it says of all nodes, and what that took."""

    told: Floats
    epochs: int | None = None
    seconds: float = 0.0
    parameters: int = 0


def node_masks(nodes: int, seed: int) -> Masks:
    """60/20/20 of so many nodes, uniformly at random (section III-3)."""
    order = np.random.default_rng(seed).permutation(nodes)
    train, validation, test = np.split(order, [round(0.6 * nodes), round(0.8 * nodes)])
    return Masks(train=np.sort(train), validation=np.sort(validation), test=np.sort(test))


def race(arrays: PathArrays, *, seeds: Sequence[int], report: Report, config: RaceConfig) -> PaperRace:
    """Every model on the same nodes, over seeds.

    Two rows copy. The average RTT and loss, as they are before features are scaled, are the targets: that is perfect but for the clipping of
    the targets, which `mae_ms` shows. What networks are given has been clipped once more, as a feature.

    Args:
        arrays: the measurements.
        seeds: each draws masks and weights.
        report: told before each training.
        config: of the networks.

    Raises:
        DataError: when there are too few hosts with an RTT, or no seed.
    """
    if len(seeds) == 0:
        raise DataError("a race needs a seed", found="none", expected="at least one")
    graphs = {features: probe_graph(arrays, features) for features in (Features.LEAKY, Features.HONEST)}
    leaky = graphs[Features.LEAKY]
    masks = [node_masks(leaky.nodes, seed) for seed in seeds]
    runs: dict[tuple[str, Features], list[_Run]] = {
        ("copying the input", Features.COPY): [_Run(told=leaky.targets) for _ in seeds],
        ("copying the clipped input", Features.COPY): [_Run(told=leaky.clipped) for _ in seeds],
    }
    done, total = 0, len(graphs) * len(NETWORKS) * len(seeds)
    for features, graph in graphs.items():
        for model in NETWORKS:
            runs[model, features] = []
            for seed, mask in zip(seeds, masks, strict=True):
                report(f"paper: {model}, {features} features, seed {seed}", done, total)
                one = trained(model, graph, mask.train, mask.validation, config, seed=seed)
                runs[model, features].append(
                    _Run(told=one.told, epochs=one.epochs, seconds=one.seconds, parameters=one.parameters)
                )
                done += 1
        runs["linear regression", features] = [_straight(graph, mask) for mask in masks]
    runs["mean of the training nodes", Features.HONEST] = [_mean(leaky, mask) for mask in masks]
    report("paper", total, total)
    return PaperRace(
        nodes=leaky.nodes,
        edges=leaky.edges.shape[1],
        capped=leaky.capped,
        left_out=leaky.left_out,
        filled=leaky.filled,
        scored_nodes=len(masks[0].test),
        targets=int(np.isfinite(leaky.targets).any(axis=0).sum()),
        seeds=tuple(seeds),
        synthetic=arrays.synthetic,
        rows=tuple(_row(model, features, leaky, masks, of) for (model, features), of in runs.items()),
    )


def _mean(graph: ProbeGraph, masks: Masks) -> _Run:
    known = np.isfinite(graph.targets[masks.train])
    total = np.where(known, graph.targets[masks.train], 0.0).sum(axis=0)
    mean = total / np.maximum(known.sum(axis=0), 1)
    return _Run(told=np.tile(mean, (graph.nodes, 1)), parameters=len(mean))


def _straight(graph: ProbeGraph, masks: Masks) -> _Run:
    """Least squares, of the least norm where columns say the same, as degree and neighbours may."""
    x = np.column_stack([graph.features, np.ones(graph.nodes)])
    told = np.zeros(graph.targets.shape)
    for column, target in enumerate(graph.targets.T):
        learned = masks.train[np.isfinite(target[masks.train])]
        told[:, column] = x @ np.linalg.lstsq(x[learned], target[learned], rcond=None)[0]
    return _Run(told=told, parameters=2 * x.shape[1])


def _row(
    model: str, features: Features, graph: ProbeGraph, masks: Sequence[Masks], runs: Sequence[_Run]
) -> Row:
    scores = [_scores(graph, mask.test, run.told) for mask, run in zip(masks, runs, strict=True)]
    r2 = tuple(one["r2"] if math.isfinite(one["r2"]) else None for one in scores)
    known = [one for one in r2 if one is not None]
    epochs = [run.epochs for run in runs if run.epochs is not None]
    mean = {
        name: float(np.mean([one[name] for one in scores])) for name in ("mae", "rmse", "huber", "mae_ms")
    }
    return Row(
        model=model,
        features=features,
        r2=float(np.mean(known)) if known else None,
        **mean,
        epochs=float(np.mean(epochs)) if epochs else None,
        seconds=float(np.mean([run.seconds for run in runs])),
        parameters=runs[0].parameters,
        r2_by_seed=r2,
    )


def _scores(graph: ProbeGraph, test: Ints, told: Floats) -> dict[str, float]:
    truth = graph.targets[test]
    known = np.isfinite(truth)
    wrong = np.abs(told[test] - truth)[known]
    counts = np.maximum(known.sum(axis=0), 1)
    middle = np.where(known, truth, 0.0).sum(axis=0) / counts
    variation = float(((truth - middle) ** 2)[known].sum())
    return {
        "r2": 1.0 - float((wrong**2).sum()) / variation if variation > 0.0 else math.nan,
        "mae": float(wrong.mean()),
        "rmse": float(np.sqrt((wrong**2).mean())),
        "huber": float(np.where(wrong <= 1.0, 0.5 * wrong**2, wrong - 0.5).mean()),
        "mae_ms": float(np.abs(graph.scale.rtt_ms(told[test]) - graph.rtt_ms[test]).mean()),
    }
