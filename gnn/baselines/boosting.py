"""Boosting: gradient-boosted trees on what is known of the pair itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Final, Self

import numpy as np

from domain.errors import ArtefactError, DataError
from gnn import history
from gnn.baselines.last_value import LastValue
from gnn.baselines.levels import Seen, Table, host_effects, level_seen
from gnn.baselines.node_effects import node_effects
from gnn.baselines.trees import Growth, Trees, grown
from gnn.inputs import Inputs
from gnn.path_graph import AROUND, SAYS, PathGraphConfig, path_graph
from gnn.prediction import QUANTILES, Prediction, reasons
from gnn.predictor import Array, Kind, Learned, Lesson, Predictor
from gnn.protocols.protocol import Cells, Question, Split
from gnn.settings import require_in_range
from gnn.state import checked
from kg.arrays import Floats, PathArrays

LOW, _, HIGH = QUANTILES

MODELS: Final = (
    *("rtt", "rtt_low", "rtt_high", "jitter", "jitter_low", "jitter_high"),
    *("any_loss", "loss"),
)
"""Sums of trees that are learned. `loss` is the loss ratio of windows that lose any."""

BASES: Final = ("base_rtt_ms", "usual_rtt_ms")
"""What RTT may be learned as a difference from: the latest value, or the median of the latest `USUAL_WINDOWS`."""

USUAL_WINDOWS: Final = 16
"""Fewer than the history: a base should follow a path that changed for good within days."""

BASE: Final = "base"
"""Of the state: which base was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostingSettings:
    """How trees are learned.

    Attributes:
        rounds, patience, rate, leaves, least_cells, share: see `Growth`.
        bound_rounds: the most trees of a bound of an interval.
        cells: how many are learned from, about; the bounds from a third of them.
        redraws: how many times over fresh masks are drawn, at most, for so many cells.
        rtt_unit_ms, jitter_unit_ms: what is learned is asinh((value - base) / unit): linear below, logarithmic above.
    """

    rounds: int = 400
    patience: int = 15
    rate: float = 0.08
    leaves: int = 31
    least_cells: int = 40
    share: float = 0.3
    bound_rounds: int = 100
    cells: int = 100_000
    redraws: int = 6
    rtt_unit_ms: float = 20.0
    jitter_unit_ms: float = 5.0

    def __post_init__(self) -> None:
        require_in_range(asdict(self), below_one={"rate", "share"})

    def growth(self, rounds: int) -> Growth:
        """Of so many trees at most."""
        return Growth(
            rounds=rounds,
            patience=self.patience,
            rate=self.rate,
            leaves=self.leaves,
            least_cells=self.least_cells,
            share=self.share,
        )


class Boosting(Predictor):
    """Trees on the pair's own past, its place and the calendar, learned under fresh masks of the protocol.

    RTT and jitter are learned as a difference from a base, compressed by asinh, so that a path that jumps by a second does not
    drown all others. The base of RTT is the latest value or the usual one, whichever errs less by itself on the cells learned from;
    that of jitter is the usual one. A pair that has no past has as base what its mates tell, or where there are none the additive
    model of `node-effects`. The median and both bounds of the interval are sums
    of trees each; so are the log odds of any loss, and the loss ratio of windows that lose any. The validation cells say how
    many trees are kept of each; where there are none of a kind, a tenth of those learned from says it.
    """

    name: ClassVar[str] = "boosting"
    kind: ClassVar[Kind] = Kind.BASELINE
    effort: ClassVar[int] = 4
    citation: ClassVar[str] = (
        "Friedman: Greedy Function Approximation: A Gradient Boosting Machine (Annals of Statistics 29, 2001); Ke, Meng, Finley, "
        "Wang, Chen, Ma, Ye, Liu: LightGBM: A Highly Efficient Gradient Boosting Decision Tree (NIPS 2017), histograms"
    )

    def __init__(self, settings: BoostingSettings | None = None) -> None:
        self.settings = BoostingSettings() if settings is None else settings
        self._columns: tuple[str, ...] | None = None
        self._trees: dict[str, Trees] = {}
        self._base = BASES[0]

    def prepare(self, arrays: PathArrays, split: Split) -> dict[str, Array]:  # noqa: ARG002
        """Trees need nothing standardised."""
        return {}

    def inputs(self, arrays: PathArrays, question: Question) -> Inputs:
        """What is known of each pair, and the bases."""
        return self.from_graph(arrays, question, path_graph(arrays, question, PathGraphConfig()))

    def from_graph(self, arrays: PathArrays, question: Question, graph: Inputs) -> Inputs:
        """The inputs, from the path graph of the same question."""
        table = Table.of(arrays)
        bases = {
            name: _filled(table, graph.column(f"base_{name}_ms").astype(np.float64), values, question, fit)
            for name, values, fit in (
                ("rtt", arrays.rtt_ms, node_effects),
                ("jitter", arrays.jitter_ms, host_effects),
            )
        }
        columns = {name: graph.column(name) for name in graph.columns if self.looks_at(name)}
        columns |= {f"base_{name}_ms": base for name, base in bases.items()}
        columns |= {f"log_base_{name}_ms": np.log1p(base) for name, base in bases.items()}
        usual = history.median(history.lagged(arrays.rtt_ms, question, USUAL_WINDOWS))
        bases["usual_rtt"] = np.where(np.isfinite(usual), usual, bases["rtt"])
        columns["usual_above_base"] = np.arcsinh(
            (bases["usual_rtt"] - bases["rtt"]) / self.settings.rtt_unit_ms
        )
        columns["any_loss_after_latest"] = LastValue().losses(arrays, question)[0][0]
        columns |= self.more(arrays, graph, bases["rtt"])
        sent = history.counted(arrays.sent > 0, question)
        shape = (len(question), arrays.pairs)
        return Inputs(
            columns=tuple(columns),
            numbers=np.stack(
                [np.broadcast_to(column, shape).astype(np.float32) for column in columns.values()], axis=-1
            ),
            values={
                "base_rtt_ms": bases["rtt"],
                "usual_rtt_ms": bases["usual_rtt"],
                "base_jitter_ms": bases["jitter"],
                "windows_sent": sent,
                # Of a pair that was met loss is said where packets were seen sent; of one that was not, in any case.
                "says_loss": np.where(question.unmet | (sent > 0.0), 1.0, 0.0),
            },
        )

    def looks_at(self, column: str) -> bool:
        """Whether a column of the path graph is looked at. What is seen now is never of a pair that is asked."""
        return not column.startswith((AROUND, "now_", SAYS))

    def more(
        self,
        arrays: PathArrays,  # noqa: ARG002
        graph: Inputs,  # noqa: ARG002
        base: Floats,  # noqa: ARG002
    ) -> dict[str, Floats]:
        """Further columns, (Q, P)."""
        return {}

    def learn(self, lesson: Lesson) -> Learned:
        """Draw masks, collect cells, grow trees."""
        generator = np.random.default_rng([lesson.seed, 0xB005])
        drawn: list[_Collected] = []
        for _ in range(self.settings.redraws):
            question = lesson.protocol.redraw(lesson.split.fit, lesson.arrays, generator)
            still = self.settings.cells - sum(len(one.numbers) for one in drawn)
            drawn.append(self._collect(lesson.arrays, question, still, generator))
            if sum(len(one.numbers) for one in drawn) >= self.settings.cells:
                break
        cells = _together(drawn)
        kept = self._collect(lesson.arrays, lesson.split.validation, self.settings.cells, generator)
        some = generator.permutation(len(cells.numbers))[: max(self.settings.cells // 3, 1)]
        fewer = _Collected(
            columns=cells.columns,
            numbers=cells.numbers[some],
            truth={name: truth[some] for name, truth in cells.truth.items()},
        )
        self._base = min(BASES, key=lambda base: _error(cells.of(base)[1]))
        growth = self.settings.growth(self.settings.rounds)
        losses: tuple[float, ...] = ()
        trees: dict[str, Trees] = {}
        for model in MODELS:
            quantile = {"low": LOW, "high": HIGH}.get(model.rpartition("_")[2])
            loss = {"any_loss": "log_loss", "loss": "squared_error"}.get(model, "absolute_error")
            trees[model], watched = grown(
                growth if quantile is None else self.settings.growth(self.settings.bound_rounds),
                loss if quantile is None else "quantile",
                (cells if quantile is None else fewer).of(self._learned_as(model)),
                kept.of(self._learned_as(model)),
                seed=lesson.seed,
                quantile=quantile,
            )
            losses = watched if model == "rtt" else losses
            if lesson.progress is not None:
                lesson.progress(len(trees), len(MODELS), watched[-1] if watched else np.nan)
        self._trees, self._columns = trees, cells.columns
        return Learned(
            parameters=sum(2 * len(one.value) + 1 for one in trees.values()),
            losses=losses,
        )

    def _learned_as(self, model: str) -> str:
        """Which truth a model is learned from."""
        own = model.removesuffix("_low").removesuffix("_high")
        return self._base if own == "rtt" else own

    def _collect(
        self, arrays: PathArrays, question: Question, most: int, generator: np.random.Generator
    ) -> _Collected:
        """The cells of rows taken in a random order, until there are about so many; all numbers of each, and the truths."""
        found: list[_Collected] = []
        rows = generator.permutation(len(question))
        at_once = max(1, ROWS_AT_ONCE // arrays.pairs)
        count = 0
        for first in range(0, len(rows), at_once):
            part = question.part(np.sort(rows[first : first + at_once]))
            found.append(_cells(arrays, part, self.inputs(arrays, part), self.settings))
            count += len(found[-1].numbers)
            if count >= most:
                break
        return _together(found)

    def answer(self, inputs: Inputs) -> Prediction:
        """The base and what the trees say of it."""
        if inputs.columns != self.columns:
            raise DataError(
                "a predictor asked with other inputs than it was fitted on",
                where=self.name,
                found=", ".join(sorted(set(inputs.columns) ^ set(self.columns))) or "another order",
                expected="the columns it was fitted on",
                next_step="train it again under this protocol",
            )
        rows, pairs, width = inputs.numbers.shape
        flat = inputs.numbers.reshape(-1, width)
        said = {name: trees.sums(flat).reshape(rows, pairs) for name, trees in self._trees.items()}
        told: dict[str, Floats] = {}
        for name, unit in (("rtt", self.settings.rtt_unit_ms), ("jitter", self.settings.jitter_unit_ms)):
            base = inputs.values[self._base if name == "rtt" else "base_jitter_ms"]
            middle, low, high = (
                np.maximum(base + unit * np.sinh(said[f"{name}{bound}"]), 0.0)
                for bound in ("", "_low", "_high")
            )
            told |= {
                f"{name}_ms": middle,
                f"{name}_low_ms": np.minimum(low, middle),
                f"{name}_high_ms": np.maximum(high, middle),
            }
        says_loss = inputs.values["says_loss"] == 1.0
        often = np.where(says_loss, 1.0 / (1.0 + np.exp(-said["any_loss"])), np.nan)
        # Where no window that lost any was learned from, none loses any share either.
        share = np.clip(np.where(np.isfinite(said["loss"]), said["loss"], 0.0), 0.0, 1.0)
        known = np.isfinite(told["rtt_ms"])
        return Prediction(
            **told,
            any_loss_probability=often,
            loss_ratio=often * share,
            in_range=known,
            reason=reasons(known, inputs.values["windows_sent"] > 0.0),
        )

    def config(self) -> dict[str, int | float]:
        """Its settings by name."""
        return asdict(self.settings)

    @classmethod
    def configured(cls, config: Mapping[str, int | float]) -> Self:
        """A new, unfitted predictor with these settings."""
        return cls(
            BoostingSettings(**{field.name: config[field.name] for field in fields(BoostingSettings)})  # type: ignore[arg-type]
        )

    def state(self) -> dict[str, Array]:
        """The nodes of all trees, and which of `BASES` was chosen."""
        if self._columns is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return {
            BASE: np.array(BASES.index(self._base)),
            **{
                f"{model}.{name}": values
                for model, trees in self._trees.items()
                for name, values in trees.state().items()
            },
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numbers that the trees look at."""
        if self._columns is None:
            raise DataError("a predictor that was not fitted", where=self.name, next_step="call fit first")
        return self._columns

    def take_back(self, state: Mapping[str, Array], columns: tuple[str, ...]) -> None:
        """Take back what `state` gave."""
        of_model: dict[str, dict[str, Array]] = {model: {} for model in MODELS}
        chosen = checked(
            {key: values for key, values in state.items() if key == BASE},
            {BASE: np.zeros((), dtype=np.int64)},
            where=self.name,
        )[BASE]
        if not 0 <= int(chosen) < len(BASES):
            raise ArtefactError("a saved model with a base that its kind has not", where=self.name)
        for key, values in state.items():
            if key == BASE:
                continue
            model, _, name = key.partition(".")
            if model not in of_model:
                raise ArtefactError(
                    "a saved model with other arrays than its kind has", where=self.name, found=key
                )
            of_model[model][name] = values
        self._trees = {
            model: Trees.restored(arrays, columns=len(columns), where=f"{self.name}, {model}")
            for model, arrays in of_model.items()
        }
        self._columns, self._base = columns, BASES[int(chosen)]


ROWS_AT_ONCE: Final = 5_000
"""Pairs x rows whose inputs are made at once while cells are collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Collected:
    """n cells: names of their numbers, (n, F) the numbers, and by model (n,) the truth, NaN where it is not scored."""

    columns: tuple[str, ...]
    numbers: Floats
    truth: Mapping[str, Floats]

    def of(self, name: str) -> tuple[Floats, Floats]:
        """Numbers and truths of the cells that know one of the truths."""
        truth = self.truth[name]
        known = np.isfinite(truth)
        return self.numbers[known], truth[known]


def _cells(arrays: PathArrays, question: Question, inputs: Inputs, settings: BoostingSettings) -> _Collected:
    cells: Cells = question.cells(arrays)
    any_cell = cells.rtt | cells.loss
    windows = question.windows

    def compressed(values: Floats, base: Floats, scored: Array, unit: float) -> Floats:
        return np.where(scored, np.arcsinh((values[windows] - base) / unit), np.nan)[any_cell]

    lossy = history.any_loss(arrays)[windows]
    return _Collected(
        columns=inputs.columns,
        numbers=inputs.numbers[any_cell],
        truth={
            **{
                base: compressed(arrays.rtt_ms, inputs.values[base], cells.rtt, settings.rtt_unit_ms)
                for base in BASES
            },
            "jitter": compressed(
                arrays.jitter_ms, inputs.values["base_jitter_ms"], cells.jitter, settings.jitter_unit_ms
            ),
            "any_loss": np.where(cells.loss, lossy, np.nan)[any_cell],
            "loss": np.where(cells.loss & (lossy == 1.0), arrays.loss_ratio[windows], np.nan)[any_cell],
        },
    )


def _error(truth: Floats) -> float:
    """Mean absolute error of a base in units of ms over a constant, from what is to be learned over it; 0 where there is no cell."""
    return float(np.abs(np.sinh(truth)).mean()) if len(truth) > 0 else 0.0


def _together(several: list[_Collected]) -> _Collected:
    return _Collected(
        columns=several[0].columns,
        numbers=np.concatenate([one.numbers for one in several]),
        truth={name: np.concatenate([one.truth[name] for one in several]) for name in several[0].truth},
    )


def _filled(
    table: Table, base: Floats, values: Floats, question: Question, fit: Callable[[Table, Seen], Floats]
) -> Floats:
    """(Q, P) the base; of pairs that need not have been met, and of which no mate tells anything, what a fit says."""
    if not question.unmet:
        return base
    filled = base.copy()
    for row, level in enumerate(level_seen(values, question)):
        seen = table.seen(level)
        if len(seen.pairs) > 0 and not np.isfinite(base[row]).all():
            filled[row] = np.where(np.isfinite(base[row]), base[row], np.maximum(fit(table, seen), 0.0))
    return filled
