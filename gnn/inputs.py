"""Inputs: everything that a predictor sees of a question, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kg.arrays import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a predictor predicts from, for Q windows of P pairs. It sees nothing else, so this is what is audited.

    Attributes:
        columns: names of the F numbers of a pair in a window.
        numbers: (Q, P, F); the name of a column carries its unit, NaN is unknown.
        categories: name -> (P,) category of each pair, 0 where unknown.
        graphs: the distinct graphs over the pairs, each a mapping edge type -> (2, E) pair numbers, from row 0
            to row 1. Empty for predictors that look at one pair at a time.
        graph_of: (Q,) which graph holds in each window.
    """

    columns: tuple[str, ...]
    numbers: Floats
    categories: Mapping[str, Ints]
    graphs: tuple[Mapping[str, Ints], ...]
    graph_of: Ints

    def column(self, name: str) -> Floats:
        """(Q, P) one column."""
        return np.asarray(self.numbers[:, :, self.columns.index(name)])


def without_graph(columns: Mapping[str, Floats]) -> Inputs:
    """Inputs of a predictor that looks at one pair at a time, from (Q, P) columns."""
    numbers = np.stack(list(columns.values()), axis=-1)
    return Inputs(
        columns=tuple(columns),
        numbers=numbers,
        categories={},
        graphs=({},),
        graph_of=np.zeros(numbers.shape[0], dtype=np.int64),
    )
