"""Boosting around: gradient-boosted trees that also look at the other pairs of the window."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from gnn import history
from gnn.baselines.boosting import Boosting
from gnn.baselines.levels import Table
from gnn.baselines.told import told_by_mates
from gnn.inputs import Inputs
from gnn.mates import EDGE_COLUMNS
from gnn.path_graph import MATES, PathGraphConfig
from kg.arrays import Floats, PathArrays

BEST: Final = 4
"""Mates whose estimates are columns one by one: those whose moves went best with the pair's."""

OF_HOSTS: Final = (
    *("now_rtt_move", "now_jitter_move", "now_loss", "now_any_loss"),
    *("rtt_lag_1_move", "any_loss_lag_1", "any_loss_frequency", "loss_mean_half_life_8"),
)
"""Columns of the path graph whose means over all pairs of a host are columns."""


class BoostingAround(Boosting):
    """As `boosting`, and on everything simple that is seen of other pairs.

    That is: means over the mates and over all pairs of either host of what they moved by and lost, now and latest; how far and how
    many of them moved; what the best-correlated mates tell, one by one, and what all tell together. Where pairs need not have
    been met, also the estimates of the baselines that fit levels.
    """

    name: ClassVar[str] = "boosting-around"
    effort: ClassVar[int] = 8

    def looks_at(self, column: str) -> bool:
        """All but what is seen now of the pair itself: of a pair that is asked nothing is."""
        return not column.startswith("now_")

    def more(self, arrays: PathArrays, graph: Inputs, base: Floats) -> dict[str, Floats]:
        """What other pairs tell."""
        return {**_of_hosts(Table.of(arrays), graph), **_of_mates(graph, base)}


def _of_hosts(table: Table, graph: Inputs) -> dict[str, Floats]:
    """Means over the pairs of either host, how many are seen now, and the mean over all."""
    found: dict[str, Floats] = {}
    for name in OF_HOSTS:
        values = graph.column(name).astype(np.float64)
        known = np.isfinite(values)
        rows = np.where(known, values, 0.0)
        sums, counts = (_summed(table, one) for one in (rows, known.astype(np.float64)))
        with np.errstate(invalid="ignore"):
            mean = sums / counts
            found[f"all_{name}"] = (rows.sum(axis=1) / known.sum(axis=1))[:, None]
        for side, host in zip(MATES, (table.here, table.there), strict=True):
            found[f"{side}_host_{name}"] = mean[:, host]
            if name == "now_rtt_move":
                found[f"{side}_host_seen_now"] = counts[:, host]
    return found


def _summed(table: Table, values: Floats) -> Floats:
    """(Q, H) sums over the pairs of each host."""
    return np.stack(
        [
            np.bincount(table.here, row, table.hosts) + np.bincount(table.there, row, table.hosts)
            for row in values
        ]
    )


def _of_mates(graph: Inputs, base: Floats) -> dict[str, Floats]:
    """How far the mates moved, and what they tell, as differences from the base."""
    unit_ms = PathGraphConfig().rtt_unit_ms

    def apart(values: Floats) -> Floats:
        return np.arcsinh((values - base) / unit_ms)

    found: dict[str, Floats] = {}
    for side in MATES:
        move = np.arcsinh(graph.edge_numbers[side][..., EDGE_COLUMNS.index("move_ms")] / unit_ms)
        seen = np.isfinite(move)
        some = seen.any(axis=-1)
        found |= {
            f"{side}_mates_seen_now": seen.sum(axis=-1),
            f"{side}_mates_middle_move": history.median(move),
            f"{side}_mates_most_move": np.where(some, np.where(seen, move, -np.inf).max(axis=-1), np.nan),
            f"{side}_mates_least_move": np.where(some, np.where(seen, move, np.inf).min(axis=-1), np.nan),
            f"{side}_mates_mean_size_of_move": history.mean(np.abs(move)),
        }
    told = told_by_mates(graph)
    # A pair that was met learns from mates only what is new.
    usable = np.isfinite(told.rtt_ms) & (
        (told.now == 1.0) | ~np.isfinite(graph.values["usual_ms"])[..., None]
    )
    rtt = np.where(usable, told.rtt_ms, np.nan)
    only_now = np.isfinite(graph.values["usual_ms"])
    point = told.believed(only_now=only_now)
    likeness = np.where(np.isfinite(told.correlation), told.correlation, 0.0)
    found |= {
        "told": apart(point),
        "told_log_deviation_ms": np.log1p(told.deviation(point, only_now=only_now)),
        "told_by_likeness": apart(history.weighted_median(rtt, np.maximum(likeness, 0.0) ** 3 + 1e-6)),
    }
    for order, by in (
        ("likest", np.where(usable, -likeness, np.inf)),
        ("steadiest", np.where(usable, told.spread_ms, np.inf)),
    ):
        best = np.argsort(by, axis=-1, kind="stable")[..., :BEST]
        values, spreads, alike = (
            np.take_along_axis(one, best, axis=-1) for one in (rtt, told.spread_ms, told.correlation)
        )
        for place in range(values.shape[-1]):
            found[f"{order}_{place + 1}_tells"] = apart(values[..., place])
            found[f"{order}_{place + 1}_log_spread_ms"] = np.log1p(spreads[..., place])
            if order == "likest":
                found[f"{order}_{place + 1}_correlation"] = alike[..., place]
    return found
