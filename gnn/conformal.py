"""Conformal calibration: intervals moved until they cover what they say, on cells kept for that.

    raw quantiles of any predictor, truth --calibrate--> Calibration --widen--> intervals
    misses of a past window --next_alpha--> alpha --widen--> intervals that keep up with a drift (`gnn.adaptation`)

Split conformal prediction: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (2005), section 4.2; by groups
(Mondrian): section 4.5; for quantiles: Romano, Patterson, Candès, Conformalized Quantile Regression (NeurIPS 2019), with a
score for each side (theorem 2) and divided by a width as in Sesia, Candès, A comparison of some conformal quantile
regression methods (Stat 9, 2020). The guarantee asks for exchangeable cells, which time does not give, and cells of one path
are alike: coverage is measured on the test (by `gnn.scoring`, and by group in `gnn.comparison`), not claimed.

Two choices differ from the papers. Both made the mean interval narrower at the same coverage of .90, on medians of three hours
over three weeks of recorded pings, a random half of the cells calibrated on and the other scored:

- **Each side by itself.** RTT has a floor and no ceiling. How alpha is shared between the sides is chosen in each group for
  the least mean width. Around the last value: 30 ms, against 33 ms with half for each, and 34 ms with one score for both
  sides.
- **What widens is shared, what shrinks is not.** A bound moves out in units of its own width plus the mean width of its
  group, so that a path that was quiet up to now is not left alone with nearly nothing to multiply; it moves in in units of
  its own width, so that raw intervals which are too wide keep their shape. Around the median of 16 windows, with their 5 and
  95 % quantiles for bounds: 35 ms, against 43 ms in units of the own width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from domain.errors import ArtefactError
from kg.arrays import Floats, Ints

COVERAGE = 0.90
"""What all intervals aim to cover."""

GROUPS = 10
"""Intervals are calibrated by decile of what is predicted."""

LEVELS: Floats = np.round(
    np.concatenate([np.arange(0.50, 0.90, 0.02), np.arange(0.90, 0.995, 0.01), [0.995, 0.999]]), 3
)
"""Coverages that factors are kept for; between two of them they are interpolated."""

LEAST_CELLS = 200
"""A group of fewer borrows. The coverage that 200 cells give is a draw from a beta distribution (Vovk, Conditional validity of
inductive conformal predictors, ACML 2012): .90 +- .02, and below .85 once in 67 groups. Of 100 cells it is once in 18."""

SHAPED_CELLS = 400
"""In a group of fewer, each side gets half of alpha: choosing the narrowest of several costs coverage. In simulation (normal,
exponential and Student noise) that was .005 at most from 400 cells on, and .011 at 100."""

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of alpha that the lower side may get."""

LEAST_WIDTH_MS = 0.1
"""Half of it is the least to each side of the middle: Atlas's own clock resolution is not much better."""

GAMMA = 0.05
"""Step of adaptation. Gibbs and Candès take .005 for single errors; the miss ratio of a whole window is less noisy, and there are few
windows. A lasting change is taken in within about 1 / .05 = 20 of them. More would swing: a miss is known only after the
horizon, and a loop of gain .05 is stable for delays up to pi / 2 / .05 = 31 windows, of .1 up to 15."""

CELLS_OF_HALF = 20
"""A window of so many cells moves alpha half as far as one of very many: n / (n + 20) is how much is known from n cells
that share a cause, as two of them do when their errors correlate by about .05."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far to move the bounds of raw intervals, by case and by decile of the predicted middle.

    Attributes:
        cases: (C,) cases that were calibrated, ascending; what is not among them gets no interval.
        edges_ms: (9,) of the deciles of the middle, over all calibration cells.
        levels: (L,) coverages that there are factors for, ascending.
        factors: (C, 10, 2, L) how far the lower and the upper bound move out, in units of `typical_width_ms` and the own width; in
            units of the own width alone where negative. NaN where too few cells are known for a level; above the target, the
            highest that is known.
        typical_width_ms: (C, 10) mean raw width.
        cells: (C, 10) how many cells the factors were read from, borrowed ones among them.
        least_width_ms: an interval reaches at least half of this to both sides of its middle, if that is not below 0.
    """

    cases: Ints
    edges_ms: Floats
    levels: Floats
    factors: Floats
    typical_width_ms: Floats
    cells: Ints
    least_width_ms: float

    def group(self, middle_ms: Floats) -> Ints:
        """The decile, 0 to 9, that each prediction falls in."""
        return np.searchsorted(self.edges_ms, middle_ms, side="right").astype(np.int64)

    def widen(
        self,
        low_ms: Floats,
        middle_ms: Floats,
        high_ms: Floats,
        case: Ints | int,
        alpha: Floats | float = 1.0 - COVERAGE,
    ) -> tuple[Floats, Floats]:
        """The bounds of intervals that miss a share alpha; NaN where the raw ones are NaN or too little is known.

        They are never past the middle, never below 0, and never closer to the middle than the clock can tell.

        Args:
            low_ms: (N,) or (Q, P), raw lower quantile.
            middle_ms: likewise, the point.
            high_ms: likewise, raw upper quantile.
            case: of each, or one for all; of a shape that broadcasts.
            alpha: likewise; clipped to the levels that there are factors for.
        """
        low_ms, high_ms = np.minimum(low_ms, middle_ms), np.maximum(high_ms, middle_ms)
        row, group = self._row(case), self.group(middle_ms)
        position = np.interp(1.0 - np.asarray(alpha), self.levels, np.arange(len(self.levels)))
        below = np.floor(position).astype(np.int64)
        above, part = np.ceil(position).astype(np.int64), position - below
        factors, typical_ms = (
            np.concatenate([table, np.full((1, *table.shape[1:]), np.nan)])  # for cases that are not known
            for table in (self.factors, self.typical_width_ms)
        )
        factor_low, factor_high = (
            (1.0 - part) * factors[row, group, side, below] + part * factors[row, group, side, above]
            for side in (0, 1)
        )
        return _moved(
            (low_ms, middle_ms, high_ms),
            (factor_low, factor_high),
            typical_ms[row, group],
            self.least_width_ms,
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it as float64 arrays."""
        return {
            "cases": self.cases.astype(np.float64),
            "edges_ms": self.edges_ms,
            "levels": self.levels,
            "factors": self.factors,
            "typical_width_ms": self.typical_width_ms,
            "cells": self.cells.astype(np.float64),
            "least_width_ms": np.array(self.least_width_ms),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]], *, where: str = "calibration") -> Self:
        """Take back what `state` gave.

        Args:
            state: name -> array.
            where: which predictor, for the error.

        Raises:
            ArtefactError: when an array is missing, too many, or of a shape that does not fit the others.
        """
        cases, levels = (np.shape(state.get(name, ())) for name in ("cases", "levels"))
        groups = (*cases, GROUPS)
        shapes = {
            "cases": cases,
            "edges_ms": (GROUPS - 1,),
            "levels": levels,
            "factors": (*groups, 2, *levels),
            "typical_width_ms": groups,
            "cells": groups,
            "least_width_ms": (),
        }
        found = {name: np.shape(values) for name, values in state.items()}
        if found != shapes or len(cases) != 1 or len(levels) != 1 or levels == (0,):
            raise ArtefactError(
                "a saved calibration whose arrays do not fit together",
                where=where,
                found=", ".join(f"{name} {shape}" for name, shape in sorted(found.items())) or "nothing",
                expected=", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items())),
            )
        return cls(
            cases=state["cases"].astype(np.int64),
            edges_ms=np.asarray(state["edges_ms"], dtype=np.float64),
            levels=np.asarray(state["levels"], dtype=np.float64),
            factors=np.asarray(state["factors"], dtype=np.float64),
            typical_width_ms=np.asarray(state["typical_width_ms"], dtype=np.float64),
            cells=state["cells"].astype(np.int64),
            least_width_ms=float(state["least_width_ms"]),
        )

    def _row(self, case: Ints | int) -> Ints:
        """Where each case stands in the tables; one past the last where it does not."""
        cases = np.asarray(case)
        row = np.searchsorted(self.cases, cases)
        same = np.append(self.cases, 0)[row] == cases
        return np.where((row < len(self.cases)) & same, row, len(self.cases)).astype(np.int64)


def calibrate(
    truth_ms: Floats,
    low_ms: Floats,
    middle_ms: Floats,
    high_ms: Floats,
    case: Ints,
    *,
    least_width_ms: float = LEAST_WIDTH_MS,
) -> Calibration:
    """Read from cells with a known truth how far raw intervals must move.

    A decile with fewer than `LEAST_CELLS` cells of a case takes in its neighbours on both sides, then theirs, up to all cells of
    the case. It never borrows from another case: a far horizon would get the intervals of a near one. With fewer than 19
    cells in all there is no interval of .90 that is known to cover: then it is NaN.

    Args:
        truth_ms: (N,) what was measured.
        low_ms: (N,) raw lower quantile.
        middle_ms: (N,) the point.
        high_ms: (N,) raw upper quantile; all three may be the same.
        case: (N,) small integers, such as the horizon, or how many pairs were seen.
        least_width_ms: see `Calibration`; also keeps the unit of a score above 0.

    Cells in which one of them is NaN say nothing and are left out.

    >>> generator = np.random.default_rng(0)
    >>> said = generator.uniform(10.0, 100.0, size=4000)
    >>> truth = said * (0.93 + generator.exponential(0.1, size=4000))
    >>> found = calibrate(truth, said, said, said, np.zeros(4000, dtype=np.int64))
    >>> low, high = found.widen(np.array([20.0, 80.0]), np.array([20.0, 80.0]), np.array([20.0, 80.0]), 0)
    >>> low.round().tolist(), high.round().tolist()
    ([18.0, 75.0], [24.0, 91.0])
    """
    known = np.isfinite(truth_ms) & np.isfinite(low_ms) & np.isfinite(middle_ms) & np.isfinite(high_ms)
    truth_ms, middle_ms, case = truth_ms[known], middle_ms[known], case[known]
    low_ms, high_ms = np.minimum(low_ms[known], middle_ms), np.maximum(high_ms[known], middle_ms)
    cases, row = np.unique(case, return_inverse=True)
    edges_ms = np.full(GROUPS - 1, np.nan)
    if len(middle_ms) > 0:
        edges_ms = np.quantile(middle_ms, np.arange(1, GROUPS) / GROUPS)
    place = row * GROUPS + np.searchsorted(edges_ms, middle_ms, side="right")
    order = np.argsort(place, kind="stable")  # the cells of neighbouring deciles stand side by side
    starts = np.searchsorted(place[order], np.arange(len(cases) * GROUPS + 1))

    factors = np.full((len(cases), GROUPS, 2, len(LEVELS)), np.nan)
    typical_ms = np.full((len(cases), GROUPS), np.nan)
    cells = np.zeros((len(cases), GROUPS), dtype=np.int64)
    for number in range(len(cases)):
        for group in range(GROUPS):
            taken = order[_pool(starts[number * GROUPS : (number + 1) * GROUPS + 1], group)]
            raw = (low_ms[taken], middle_ms[taken], high_ms[taken])
            typical_ms[number, group] = (raw[2] - raw[0]).mean()
            cells[number, group] = len(taken)
            factors[number, group] = _factors(
                truth_ms[taken], raw, float(typical_ms[number, group]), least_width_ms
            )
    return Calibration(
        cases=cases.astype(np.int64),
        edges_ms=edges_ms,
        levels=LEVELS,
        factors=factors,
        typical_width_ms=typical_ms,
        cells=cells,
        least_width_ms=least_width_ms,
    )


def next_alpha(alpha: float, missed: float, cells: float = math.inf) -> float:
    """Alpha after one more window: smaller, and so intervals wider, when more was missed than should be.

    Gibbs, Candès: Adaptive Conformal Inference Under Distribution Shift (NeurIPS 2021), equation 2, with the miss ratio of a
    window in place of a single error, and clipped to the levels that factors are kept for: what moves further than any
    calibration cell did is not caught up with, and asks for a new calibration.

    Args:
        alpha: that the window's intervals were made with.
        missed: share of its cells outside their intervals; NaN, and nothing changes, where it has none.
        cells: how many it has; few change less, see `CELLS_OF_HALF`.

    >>> round(next_alpha(0.10, missed=0.30), 3)
    0.09
    >>> round(next_alpha(0.10, missed=0.30, cells=20), 3)
    0.095
    """
    if math.isnan(missed) or cells <= 0:
        return alpha
    weight = 1.0 / (1.0 + CELLS_OF_HALF / cells)
    moved = alpha + GAMMA * weight * ((1.0 - COVERAGE) - missed)
    return min(max(moved, 1.0 - float(LEVELS[-1])), 1.0 - float(LEVELS[0]))


def equal_parts(values: Floats, parts: int = GROUPS) -> Ints:
    """Which of so many parts of nearly equal size each value is in, ascending; equal values stay together, NaN is -1.

    >>> equal_parts(np.array([3.0, 1.0, 2.0, 2.0, np.nan, 9.0]), 2).tolist()
    [1, 0, 0, 0, -1, 1]
    """
    known = np.isfinite(values)
    part = np.full(values.shape, -1, dtype=np.int64)
    _, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - count / 2.0  # of the ranks of equal values
    part[known] = np.floor(middle / max(1, known.sum()) * parts).astype(np.int64)[place]
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Whether what was said to be likely happened as often as that. Columns, a row a bin.

    Attributes:
        predicted: (B,) mean probability, ascending.
        observed: (B,) how often it happened.
        cells: (B,) how many.
    """

    predicted: Floats
    observed: Floats
    cells: Ints


def reliability(probability: Floats, happened: NDArray[np.bool_], bins: int = 10) -> Reliability:
    """A reliability diagram's rows: bins of nearly equal counts, fewer where many probabilities are the same.

    Murphy, Winkler: Reliability of subjective probability forecasts of precipitation and temperature (Applied Statistics 26, 1977).

    Args:
        probability: (N,) NaN is not predicted, and left out.
        happened: (N,).
        bins: at most.

    >>> found = reliability(np.array([0.1, 0.1, 0.2, 0.8]), np.array([False, True, False, True]), bins=2)
    >>> found.cells.tolist(), found.observed.round(2).tolist(), found.predicted.round(2).tolist()
    ([2, 2], [0.5, 0.5], [0.1, 0.5])
    """
    known = np.isfinite(probability)
    _, bin_of = np.unique(equal_parts(probability, bins)[known], return_inverse=True)
    cells = np.bincount(bin_of)
    return Reliability(
        predicted=np.bincount(bin_of, weights=probability[known]) / cells,
        observed=np.bincount(bin_of, weights=happened[known]) / cells,
        cells=cells.astype(np.int64),
    )


def _pool(starts: Ints, group: int) -> slice:
    """The cells of a decile and of as many neighbours as it takes, where those of decile g are starts[g] to starts[g + 1]."""
    for reach in range(GROUPS):
        first, last = starts[max(group - reach, 0)], starts[min(group + reach + 1, GROUPS)]
        if last - first >= LEAST_CELLS:
            break
    return slice(int(first), int(last))


def _factors(
    truth_ms: Floats, raw: tuple[Floats, Floats, Floats], typical_ms: float, least_width_ms: float
) -> Floats:
    """(2, L) factors of both sides, with alpha shared between them so that the mean width is least."""
    low_ms, _, high_ms = raw
    own_ms = high_ms - low_ms + least_width_ms
    below, above = (
        np.sort(outside / np.where(outside > 0.0, own_ms + typical_ms, own_ms))
        for outside in (low_ms - truth_ms, truth_ms - high_ms)
    )
    target = int(np.searchsorted(LEVELS, COVERAGE))

    def shared(share: float) -> Floats:
        missed = 1.0 - LEVELS
        return np.stack(
            [_quantiles(below, 1.0 - share * missed), _quantiles(above, 1.0 - (1.0 - share) * missed)]
        )

    def mean_width_ms(factors: Floats) -> float:
        moved = _moved(raw, (factors[0, target], factors[1, target]), typical_ms, least_width_ms)
        return float((moved[1] - moved[0]).mean())

    if len(truth_ms) < SHAPED_CELLS:
        return shared(0.5)
    return min((shared(share) for share in SHARES), key=mean_width_ms)


def _quantiles(scores: Floats, levels: Floats) -> Floats:
    """(L,) the score that each share of new cells stays under, with the finite-sample correction, from ascending scores.

    Romano, Patterson, Candès (2019), equation 8: rank ceil((n + 1) level). Where there is no such rank, NaN; but above the target the
    highest score, if the target has one: an alpha that adapts asks for more than n cells can tell.
    """
    rank = np.ceil((len(scores) + 1) * levels - 1e-9).astype(np.int64)
    known = rank <= len(scores)
    if known[np.searchsorted(LEVELS, COVERAGE)]:
        known |= LEVELS > COVERAGE
    return np.where(known, scores[np.minimum(rank, len(scores)) - 1], np.nan)


def _moved(
    raw: tuple[Floats, Floats, Floats],
    factors: tuple[Floats, Floats],
    typical_ms: Floats | float,
    least_width_ms: float,
) -> tuple[Floats, Floats]:
    """Bounds moved out by the factors, and kept where they make sense."""
    low_ms, middle_ms, high_ms = raw
    own_ms = high_ms - low_ms + least_width_ms
    down_ms, up_ms = (factor * np.where(factor > 0.0, own_ms + typical_ms, own_ms) for factor in factors)
    nearest_ms = least_width_ms / 2.0
    return (
        np.clip(np.minimum(low_ms - down_ms, middle_ms - nearest_ms), 0.0, middle_ms),
        np.maximum(high_ms + up_ms, middle_ms + nearest_ms),
    )
