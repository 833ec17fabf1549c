"""Graph -> arrays -> predictor: what of the graph is learned on, and how well that went beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from domain.progress import Report, unheard
from domain.selection import Selection
from gnn.artefact import Card, save
from gnn.artefact import card as describe
from gnn.evaluation import Evaluation, evaluate
from gnn.predictor import Kind as PredictorKind
from gnn.predictor import counted
from gnn.protocols import protocol_named
from gnn.protocols.protocol import Protocol, Split
from gnn.registry import PREDICTORS, predictor_named
from kg.arrays import PathArrays, path_arrays
from kg.store import GraphStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The path graph that was learned on, counted.

    Attributes:
        windows: windows that were read.
        nodes: pairs in the graph of the first window of the test.
        edges: of that window, by edge type.
    """

    windows: int
    nodes: int
    edges: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model that was learned, beside its baselines.

    Attributes:
        exported: what it was learned on.
        evaluation: every predictor on the same cells.
        card: what the saved model says of itself.
        folder: where it was saved.
    """

    exported: Exported
    evaluation: Evaluation
    card: Card
    folder: Path


def export(store: GraphStore, selection: Selection, rule: Protocol) -> tuple[PathArrays, Split]:
    """Read path arrays from the graph, and divide them as the protocol says.

    The hops that the arrays know are those seen before the first window that is not fitted on: what is met later is hidden
    from validation, calibration and test alike.

    Raises:
        EmptyError: when the graph has no state there.
        DataError: when there is too little for the protocol.
    """
    arrays = path_arrays(store, selection, timely=rule.timely)
    split = rule.split(arrays)
    fitted_until_s = int(arrays.window_start_s[split.validation.windows.min()])
    until = datetime.fromtimestamp(fitted_until_s, tz=UTC)
    return path_arrays(store, selection, topology_before=until, timely=rule.timely), split


def train(
    store: GraphStore,
    model: str,
    protocol: str,
    folder: Path,
    *,
    selection: Selection,
    seed: int = 0,
    report: Report = unheard,
) -> Trained:
    """Export the graph, learn a model next to every baseline, and save it.

    Raises:
        UnknownNameError: when there is no such model or protocol.
        EmptyError: when the graph has no state there.
        DataError: when there is too little to learn from.
        LeakError: when a predictor would see what it is asked.
        ArtefactError: when the model cannot be saved.
    """
    rule = protocol_named(protocol)
    predictor = predictor_named(model)
    baselines = [
        one
        for one in map(predictor_named, PREDICTORS)
        if one.kind is PredictorKind.BASELINE and one.name != model
    ]
    report("exporting the graph", 0, 1)
    arrays, split = export(store, selection, rule)
    nodes, edges = counted(predictor, arrays, split.test.part(slice(0, 1)))
    exported = Exported(windows=arrays.windows, nodes=nodes, edges=edges)
    report("exporting the graph", 1, 1)
    evaluation = evaluate(
        arrays,
        rule,
        [*baselines, predictor],
        seed=seed,
        progress=lambda name, epoch, epochs, _loss: report(f"learning {name}", epoch, epochs),
    )
    card = describe(
        predictor,
        arrays,
        protocol=rule.name,
        horizon=rule.horizon,
        seed=seed,
        verdict=evaluation.verdicts[predictor.name],
        code_version=version("qoetwin"),
    )
    save(predictor, card, folder)
    return Trained(exported=exported, evaluation=evaluation, card=card, folder=folder)
