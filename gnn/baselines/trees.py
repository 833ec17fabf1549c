"""Sums of decision trees as plain arrays: scikit-learn grows them, NumPy reads them, and nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from domain.errors import ArtefactError
from kg.arrays import Floats, Ints

_CELLS_AT_ONCE: Final = 512
"""Cells that walk down all trees together: what they look at then stays near the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """T trees whose leaves are summed; N nodes, those of one tree after those of another.

    Attributes:
        start: (1,) what the leaves are added to; NaN where there was nothing to learn from, and so nothing to say.
        root: (T,) the first node of each tree.
        column: (N,) which number a node looks at; of a leaf 0.
        threshold: (N,) numbers up to this one go left; of a leaf infinite.
        unknown_left: (N,) 1 where an unknown number goes left.
        left, right: (N,) the nodes below; of a leaf itself.
        value: (N,) of a leaf; else 0.
    """

    start: Floats
    root: Ints
    column: Ints
    threshold: Floats
    unknown_left: Ints
    left: Ints
    right: Ints
    value: Floats

    @classmethod
    def constant(cls, start: float) -> Self:
        """No trees."""
        nothing, none = np.empty(0), np.empty(0, dtype=np.int64)
        return cls(
            start=np.array([start]),
            root=none,
            column=none,
            threshold=nothing,
            unknown_left=none,
            left=none,
            right=none,
            value=nothing,
        )

    @classmethod
    def of(cls, model: HistGradientBoostingRegressor | HistGradientBoostingClassifier, count: int) -> Self:
        """The first so many trees of a fitted model; of a classifier their sum is the log odds."""
        grown = [stage[0].nodes for stage in model._predictors[:count]]
        start = float(np.asarray(model._baseline_prediction).reshape(-1)[0])
        if not grown:
            return cls.constant(start)
        sizes = np.array([len(nodes) for nodes in grown], dtype=np.int64)
        root = np.cumsum(sizes) - sizes
        nodes = np.concatenate(grown)
        own = np.arange(len(nodes), dtype=np.int64)
        offset = np.repeat(root, sizes)
        leaf = nodes["is_leaf"].astype(np.bool_)
        return cls(
            start=np.array([start]),
            root=root,
            column=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
            threshold=np.where(leaf, np.inf, nodes["num_threshold"]),
            unknown_left=np.where(leaf, 1, nodes["missing_go_to_left"]).astype(np.int64),
            left=np.where(leaf, own, offset + nodes["left"]).astype(np.int64),
            right=np.where(leaf, own, offset + nodes["right"]).astype(np.int64),
            value=np.where(leaf, nodes["value"], 0.0),
        )

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]], *, columns: int, where: str) -> Self:
        """Take back what `state` gave, for cells of so many numbers.

        Raises:
            ArtefactError: when an array is missing, too many, of another type or length, or leads nowhere.
        """
        names = tuple(field.name for field in fields(cls))
        if state.keys() != set(names):
            raise ArtefactError(
                "saved trees with other arrays than trees have",
                where=where,
                found=", ".join(sorted(state)) or "none",
                expected=", ".join(names),
            )
        empty = cls.constant(0.0).state()
        nodes = state["column"].shape
        for name, values in state.items():
            shape = {"start": (1,), "root": state["root"].shape[:1]}.get(name, nodes[:1])
            if values.dtype != empty[name].dtype or values.shape != shape:
                raise ArtefactError(
                    "saved trees with an array of another shape or type",
                    where=f"{where}, {name}",
                    found=f"{values.dtype} {values.shape}",
                    expected=f"{empty[name].dtype} {shape}",
                )
        own = np.arange(nodes[0])
        below = np.stack([state["left"], state["right"]])
        inside = (
            (below >= own) & (below < nodes[0])
        ).all()  # a node lies before those below it: no walk is endless
        looks = ((state["column"] >= 0) & (state["column"] < max(columns, 1))).all()
        rooted = ((state["root"] >= 0) & (state["root"] < max(nodes[0], 1))).all()
        if not (inside and looks and rooted):
            raise ArtefactError("saved trees that lead nowhere", where=where)
        return cls(**{name: np.asarray(state[name]) for name in names})

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def sums(self, numbers: Floats) -> Floats:
        """(n,) the sum over the trees.

        Args:
            numbers: (n, F), NaN is unknown.
        """
        found = np.full(len(numbers), float(self.start[0]))
        if len(self.root) == 0 or len(numbers) == 0:
            return found
        width = numbers.shape[1]
        # Each number twice: with unknown below all thresholds, and as it is, which is below none. A node looks at the one that
        # goes its way.
        looked_at = self.column + width * (1 - self.unknown_left)
        below = np.stack([self.left, self.right], axis=1).reshape(-1)
        depth = self._depth()
        for first in range(0, len(numbers), _CELLS_AT_ONCE):
            part = numbers[first : first + _CELLS_AT_ONCE].astype(np.float64)
            flat = np.concatenate([np.where(np.isnan(part), -np.inf, part), part], axis=1).reshape(-1)
            cell = 2 * width * np.arange(len(part))[:, None]
            node = np.broadcast_to(self.root, (len(part), len(self.root)))
            for _ in range(depth):
                goes_right = ~(flat.take(cell + looked_at.take(node)) <= self.threshold.take(node))
                node = below.take(2 * node + goes_right)
            found[first : first + _CELLS_AT_ONCE] += self.value.take(node).sum(axis=1)
        return found

    def _depth(self) -> int:
        """Steps from a root to the furthest leaf."""
        own = np.arange(len(self.left))
        depth, level = 0, self.root
        while True:
            level = np.unique(np.concatenate([self.left[level], self.right[level]]))
            level = level[self.left[level] != own[level]]
            depth += 1
            if len(level) == 0:
                return depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How trees are grown.

    Attributes:
        rounds: the most trees.
        patience: growing stops after so many that brought the validation cells nothing.
        rate: how much of what each tree says counts.
        leaves: of a tree, at most.
        least_cells: in a leaf.
        share: of the columns, that each split is chosen among.
    """

    rounds: int = 400
    patience: int = 15
    rate: float = 0.08
    leaves: int = 31
    least_cells: int = 40
    share: float = 0.3


def grown(
    growth: Growth,
    loss: str,
    cells: tuple[Floats, Floats],
    kept: tuple[Floats, Floats],
    *,
    seed: int,
    quantile: float | None = None,
) -> tuple[Trees, tuple[float, ...]]:
    """Grow trees on cells, and keep as many as serve other cells best.

    Args:
        growth: how.
        loss: a loss of `HistGradientBoostingRegressor`, or `log_loss` for something that happens or not.
        cells: (n, F) numbers and (n,) truths that are learned from.
        kept: likewise, of those that say when to stop; where there are none, a tenth of the others, drawn by the seed, says it.
        seed: of which columns each split is chosen among.
        quantile: for the loss of that name.

    Returns:
        The trees, and after each of all that were grown the loss on the cells kept.
    """
    if len(cells[1]) == 0:
        return Trees.constant(np.nan), ()
    (numbers, truth), (watched, watched_truth) = (cells, kept) if len(kept[1]) > 0 else _apart(cells, seed)
    if loss == "log_loss" and len(np.unique(truth)) == 1:
        often = (truth.sum() + 0.5) / (len(truth) + 1.0)  # never certain: Krichevsky, Trofimov
        return Trees.constant(float(np.log(often / (1.0 - often)))), ()
    # scikit-learn refuses columns of which nothing is known; one that never changes splits nothing.
    nothing = np.isnan(numbers).all(axis=0)
    numbers, watched = (np.where(nothing, 0.0, one) for one in (numbers, watched))
    settings = {
        "learning_rate": growth.rate,
        "max_iter": growth.rounds,
        "max_leaf_nodes": growth.leaves,
        "min_samples_leaf": growth.least_cells,
        "max_features": growth.share,
        "early_stopping": True,
        "n_iter_no_change": growth.patience,
        "scoring": "neg_brier_score" if loss == "log_loss" else "loss",
        "random_state": seed,
    }
    model = (
        HistGradientBoostingClassifier(**settings)
        if loss == "log_loss"
        else HistGradientBoostingRegressor(loss=loss, quantile=quantile, **settings)
    )
    # One thread: sums over several come in an order of their own, and where other work shares the cores they wait for each other.
    with threadpool_limits(limits=1, user_api="openmp"):
        model.fit(numbers, truth, X_val=watched, y_val=watched_truth)
    losses = -np.asarray(model.validation_score_)  # the first is of no tree at all
    return Trees.of(model, int(losses.argmin())), tuple(float(one) for one in losses[1:])


def _apart(cells: tuple[Floats, Floats], seed: int) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Nine tenths of the cells, and the other tenth; a single cell is both."""
    numbers, truth = cells
    drawn = np.random.default_rng([seed, 0xA9A7]).permutation(len(truth))
    count = -(-len(drawn) // 10)
    tenth, others = drawn[:count], drawn[count:] if len(drawn) > 1 else drawn
    return (numbers[others], truth[others]), (numbers[tenth], truth[tenth])
