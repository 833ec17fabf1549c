"""Inputs: everything that a predictor sees of a question, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kg.arrays import Floats, Ints

Singles: TypeAlias = NDArray[np.float32]

NOBODY = -1
"""In a table of neighbours: there is no further one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a predictor predicts from, for Q rows of P pairs. It sees nothing else, so this is what is audited.

    Attributes:
        columns: names of the F numbers of a pair in a row.
        numbers: (Q, P, F); the name of a column carries its unit, NaN is unknown.
        categories: name -> (P,) category of each pair, 0 where unknown.
        graphs: the distinct graphs over the pairs, each a mapping edge type -> (P, k) the pairs that each pair hears, nearest
            first, `NOBODY` where there are fewer. Empty for predictors that look at one pair at a time.
        graph_of: (Q,) which graph holds in each row.
        edge_columns: names of the E numbers of an edge.
        edge_numbers: edge type -> (Q, P, k, E) float32, for the types that have any; NaN is unknown.
        values: name -> (Q, P) or (Q, P, L) in ms, which a prediction may point at.
    """

    columns: tuple[str, ...]
    numbers: Floats
    categories: Mapping[str, Ints] = field(default_factory=dict)
    graphs: tuple[Mapping[str, Ints], ...] = ()
    graph_of: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    edge_columns: tuple[str, ...] = ()
    edge_numbers: Mapping[str, Singles] = field(default_factory=dict)
    values: Mapping[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    def column(self, name: str) -> Floats:
        """(Q, P) one column."""
        return np.asarray(self.numbers[:, :, self.columns.index(name)])

    def of_row(self, row: int) -> Iterator[tuple[str, str, NDArray[Any]]]:
        """All that is seen in one row: kind, name, and the array."""
        for number, name in enumerate(self.columns):
            yield "column", name, self.numbers[row, :, number]
        for name, category in self.categories.items():
            yield "category", name, category
        if self.graphs:
            for name, heard in self.graphs[int(self.graph_of[row])].items():
                yield "edges", name, heard
        for relation, numbers in self.edge_numbers.items():
            for number, name in enumerate(self.edge_columns):
                yield "edge column", f"{relation} {name}", numbers[row, :, :, number]
        for name, in_ms in self.values.items():
            yield "values", name, in_ms[row]


def columns_only(columns: Mapping[str, Floats]) -> Inputs:
    """Inputs of a predictor that looks at one pair at a time, from (Q, P) columns."""
    return Inputs(columns=tuple(columns), numbers=np.stack(list(columns.values()), axis=-1))
