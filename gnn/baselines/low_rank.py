"""Low rank: matrix factorisation of the table of hosts by hosts."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from scipy.sparse import coo_array

from gnn.baselines.levels import LevelBaseline, Seen, Table
from gnn.baselines.node_effects import node_effects
from kg.arrays import Floats

RANK: Final = 8
SWEEPS: Final = 8
RIDGE: Final = 10.0
"""Pairs that speak for a factor of 0, in units of the middle error of the additive model."""

SPIKE: Final = 10.0
"""Where the start cuts what is left: a few cells over another route would own an eigenvector each."""

CUT: Final = 2.0
"""Errors above so many middle ones weigh less, by how far they lie above."""


class LowRank(LevelBaseline):
    """What the additive model of `node-effects` leaves, as a product of r numbers of either host.

    Alternating least squares: with the factors of all other hosts held, those of each host are a small ridge regression
    over its pairs. Errors that stick out weigh less. It starts from the leading eigenvectors of the table, unseen cells being 0, so nothing
    is drawn.
    """

    name: ClassVar[str] = "low-rank"
    citation: ClassVar[str] = (
        "Liao, Du, Geurts, Leduc: DMFSGD: A Decentralized Matrix Factorization Algorithm for Network Distance Prediction "
        "(IEEE/ACM Transactions on Networking 21, 2013); Zhou, Wilkinson, Schreiber, Pan: Large-Scale Parallel Collaborative "
        "Filtering for the Netflix Prize (2008), alternating least squares"
    )

    def fitted(self, table: Table, seen: Seen) -> Floats:
        """The additive model and the product."""
        additive = node_effects(table, seen)
        left = seen.level - additive[seen.pairs]
        unit = float(np.median(np.abs(left)))
        if unit == 0.0:
            return additive
        one, other = factors(table, seen, left / unit)
        product = (one[table.here] * other[table.there] + other[table.here] * one[table.there]).sum(axis=1)
        return np.asarray(additive + unit * product / 2.0)


def factors(table: Table, seen: Seen, left: Floats) -> tuple[Floats, Floats]:
    """Two tables of (H, r) whose products, the mean of both ways around, are like what is left, (N,), in units of its middle size."""
    rank = min(RANK, table.hosts)
    other = _start(table, seen, np.clip(left, -SPIKE, SPIKE), rank)
    one = other
    weight = np.ones_like(left)
    ends = np.concatenate(
        [seen.there, seen.here]
    )  # whose factors the pair is multiplied with, by `here` and by `there`
    twice = np.concatenate([left, left])
    ridge = RIDGE * np.eye(rank)
    for _ in range(SWEEPS):
        for _ in range(2):  # one side, then the other
            fixed = other[ends] * np.concatenate([weight, weight])[:, None]
            outer = (fixed[:, :, None] * other[ends][:, None, :]).reshape(len(ends), -1)
            squares = (seen.at_host @ outer).reshape(table.hosts, rank, rank) + ridge
            sums = seen.at_host @ (fixed * twice[:, None])
            one, other = other, np.linalg.solve(squares, sums[:, :, None])[:, :, 0]
        told = (one[seen.here] * other[seen.there] + other[seen.here] * one[seen.there]).sum(axis=1) / 2.0
        weight = 1.0 / np.maximum(np.abs(left - told) / CUT, 1.0)
    return one, other


def _start(table: Table, seen: Seen, left: Floats, rank: int) -> Floats:
    """(H, r) the leading eigenvectors of the table, as long as the roots of their eigenvalues."""
    size = (table.hosts, table.hosts)
    half = coo_array((left, (seen.here, seen.there)), shape=size).toarray()
    values, vectors = np.linalg.eigh(half + half.T)
    leading = np.argsort(-np.abs(values), kind="stable")[:rank]
    return np.asarray(vectors[:, leading] * np.sqrt(np.abs(values[leading])))
