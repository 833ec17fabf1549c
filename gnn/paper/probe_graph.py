"""The probe graph: a node is a host, and the graph is nearly complete. Only the `paper` protocol knows it.

It leaks, on purpose and in five ways, as the published prototype does: the average RTT and the loss of a node are features and targets;
its jitter is of the same packets; edges are drawn from how alike RTTs are, of scored nodes too; degrees count such edges; medians and deviations for
scaling are taken over all nodes. `Features.HONEST` leaves the first four out.

What is not known is filled as code of this kind fills it: a feature by the mean of the nodes of which it is known (0 where it is known of none), an
unknown place by the mean place. Nothing is drawn at random, as the prototype did with places. A target is never filled: a node
without an answered packet is left out and counted, and where loss is not known only RTT is learned and scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from domain.errors import DataError
from domain.place import EARTH_RADIUS_KM
from gnn.neighbours import chord_km, unit_vectors
from kg.arrays import UNKNOWN_ASN, Floats, Ints, PathArrays

LEAKY_FEATURES = (
    "rtt_ms",
    "jitter_ms",
    "loss_percent",
    "asn",
    "latitude",
    "longitude",
    "measurements",
    "degree",
    "neighbours",
)
"""The nine features of section III-2."""

ANSWERS = ("rtt_ms", "jitter_ms", "loss_percent")
"""Those that hold the answer, or are of the same packets."""

TARGETS = ("rtt_ms", "loss_percent")

LEAST_NODES = 20
"""Fewer hosts leave less than four to score."""

MOST_EDGES = 250_000
"""Up to 500 nodes the graph is as complete as the likeness makes it; with N nodes above that each hears the MOST_EDGES / N that are most like it."""

LEAST_LIKENESS = 0.3
"""Two nodes more alike than this are joined."""

HONEST_NEIGHBOURS = 16
"""How many each node hears over honest edges."""

DEVIATIONS = 3.0
"""Values further from the middle are clipped."""

NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""

_ROWS_AT_ONCE = 256


class Features(StrEnum):
    """What a row of the race was given."""

    LEAKY = "leaky"
    HONEST = "honest"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetScale:
    """How targets are scaled (section III-2): log of RTT, root of loss percentage, outliers clipped, standardised, clipped.

    Attributes:
        low, high: (2,) three median absolute deviations around the median of the transformed target; infinite where more
            than half of all nodes have one value, as where most lose nothing.
        mean, deviation: (2,) of what is left.
    """

    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, targets: Floats) -> TargetScale:
        """The scale of (N, 2) RTTs in ms and losses in percent, NaN where unknown."""
        moved = _transformed(targets)
        middle, spread = _robust(moved)
        reach = np.where(spread > 0.0, DEVIATIONS * NORMAL * spread, np.inf)
        low, high = middle - reach, middle + reach
        clipped = np.clip(moved, low, high)
        mean = _mean_of_known(clipped)
        deviation = np.sqrt(_mean_of_known((clipped - mean) ** 2))
        return cls(low=low, high=high, mean=mean, deviation=np.where(deviation > 0.0, deviation, 1.0))

    def scaled(self, targets: Floats) -> Floats:
        """(N, 2) ms and percent -> (N, 2) in the paper's units; unknown stays NaN."""
        clipped = np.clip(_transformed(targets), self.low, self.high)
        return np.asarray(np.clip((clipped - self.mean) / self.deviation, -DEVIATIONS, DEVIATIONS))

    def rtt_ms(self, scaled: Floats) -> Floats:
        """(N, 2) in the paper's units -> (N,) ms."""
        return np.asarray(np.expm1(scaled[:, 0] * self.deviation[0] + self.mean[0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeGraph:
    """Hosts as nodes.

    Attributes:
        host: (N,) the hosts, ascending.
        columns: names of the F features.
        features: (N, F) scaled by median and median absolute deviation, clipped at three of them.
        edges: (2, E) int64, who is heard and who hears; both ways unless capped.
        targets: (N, 2) in the paper's units; NaN where loss is unknown.
        clipped: (N, 2) in the paper's units: what the RTT and loss say the targets are after they were scaled and clipped as features.
        rtt_ms: (N,) the average RTT.
        scale: of the targets.
        left_out: hosts that were asked and never answered, of which there is no RTT.
        filled: values of features that were not known, and are the mean now.
        capped: whether each node hears only the most alike of those that are alike enough.
    """

    host: Ints
    columns: tuple[str, ...]
    features: Floats
    edges: Ints
    targets: Floats
    clipped: Floats
    rtt_ms: Floats
    scale: TargetScale
    left_out: int
    filled: int
    capped: bool

    @property
    def nodes(self) -> int:
        """N."""
        return len(self.host)


def probe_graph(arrays: PathArrays, features: Features, *, most_edges: int = MOST_EDGES) -> ProbeGraph:
    """Hosts at either end of a measured pair, with means over all windows of all their pairs.

    The prototype has probes only. Here whoever is measured is a node as well: sets with few probes would leave a handful to score.

    Leaky edges follow the prototype: half likeness of RTT (none from 100 ms on), three tenths for the same AS, two tenths nearness in degrees, joined
    above 0.3; so most are. Each undirected edge is two here. Honest edges go to the 16 most alike by AS first and nearness second; without RTT a
    threshold would join all nodes of a region, and tell nobody anything.

    `degree` counts those alike enough and `neighbours` those heard; unless capped both are the same number, as in the prototype.

    Args:
        arrays: the measurements; all windows are used, those of scored nodes too.
        features: LEAKY or HONEST.
        most_edges: the cap.

    Raises:
        DataError: when there are too few hosts with an RTT.
    """
    ends = (arrays.probe_end, arrays.target_end)
    every, number = np.unique(np.concatenate([end.host for end in ends]), return_inverse=True)
    number = number.reshape(-1)

    def mean(cells: Floats) -> Floats:
        """(W, P) -> one for each host."""
        known = np.isfinite(cells)
        totals = np.where(known, cells, 0.0).sum(axis=0)
        counts = known.sum(axis=0)
        total, count = (np.bincount(number, weights=np.tile(one, 2)) for one in (totals, counts))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def first_known(name: str, missing: float) -> Floats:
        """What the first pair that knows it says of each host."""
        values = np.concatenate([getattr(end, name) for end in ends]).astype(np.float64)
        known = np.flatnonzero(~np.isnan(values) & (values != missing))[::-1]
        found = np.full(len(every), np.nan)
        found[number[known]] = values[known]  # of several the last one written stays
        return found

    measured = arrays.measured.sum(axis=0)
    raw: dict[str, Floats] = {
        "rtt_ms": mean(arrays.rtt_ms),
        "jitter_ms": mean(arrays.jitter_ms),
        "loss_percent": 100.0 * mean(arrays.loss_ratio),
        "asn": first_known("asn", UNKNOWN_ASN),
        "latitude": first_known("latitude", np.nan),
        "longitude": first_known("longitude", np.nan),
        "measurements": np.bincount(number, weights=np.tile(measured, 2)).astype(np.float64),
    }
    kept = np.isfinite(raw["rtt_ms"])
    if kept.sum() < LEAST_NODES:
        raise DataError(
            "too few hosts for the paper's split of nodes, 60/20/20",
            found=f"{kept.sum()} hosts with an RTT",
            expected=f"at least {LEAST_NODES}",
            next_step="choose more paths",
        )
    raw = {name: values[kept] for name, values in raw.items()}
    known = {name: np.isfinite(values) for name, values in raw.items()}
    filled = {name: _filled(values) for name, values in raw.items()}
    alike = _alike_leaky(raw, filled) if features is Features.LEAKY else _alike_honest(raw)
    if features is Features.LEAKY:
        most, above = max(1, most_edges // int(kept.sum())), LEAST_LIKENESS
    else:
        most, above = HONEST_NEIGHBOURS, 0.0
    edges, degree = _joined(int(kept.sum()), alike, most, above)
    heard = np.bincount(edges[1], minlength=int(kept.sum())).astype(np.float64)
    filled |= {"degree": degree if features is Features.LEAKY else heard, "neighbours": heard}

    columns = tuple(name for name in LEAKY_FEATURES if features is Features.LEAKY or name not in ANSWERS)
    table = np.stack([filled[name] for name in columns], axis=1)
    targets = np.stack([raw[name] for name in TARGETS], axis=1)
    scale = TargetScale.of(targets)
    answers = np.stack([filled[name] for name in TARGETS], axis=1)
    return ProbeGraph(
        host=every[kept],
        columns=columns,
        features=_scaled(table)[0],
        edges=edges,
        targets=scale.scaled(targets),
        clipped=scale.scaled(np.maximum(_scaled(answers)[1], 0.0)),
        rtt_ms=raw["rtt_ms"],
        scale=scale,
        left_out=int((~kept).sum()),
        filled=int(sum((~known[name]).sum() for name in columns if name in known)),
        capped=features is Features.LEAKY and bool((degree > most).any()),
    )


# --- edges

_Alike = Callable[[slice], Floats]
"""How alike some nodes, the rows, are to all."""


def _alike_leaky(raw: dict[str, Floats], filled: dict[str, Floats]) -> _Alike:
    rtt, asn = raw["rtt_ms"], raw["asn"]
    place = np.stack([filled["latitude"], filled["longitude"]], axis=1)

    def alike(rows: slice) -> Floats:
        degrees = np.linalg.norm(place[rows, None] - place[None], axis=-1)
        of_rtt = np.maximum(0.0, 1.0 - np.abs(rtt[rows, None] - rtt[None]) / 100.0)
        near = np.maximum(0.0, 1.0 - degrees / 180.0)
        return np.asarray(0.5 * of_rtt + 0.3 * (asn[rows, None] == asn[None]) + 0.2 * near)

    return alike


def _alike_honest(raw: dict[str, Floats]) -> _Alike:
    place, asn = unit_vectors(raw["latitude"], raw["longitude"]), raw["asn"]

    def alike(rows: slice) -> Floats:
        km = chord_km(place[rows, None], place[None])
        near = np.nan_to_num(1.0 - km / (np.pi * EARTH_RADIUS_KM), nan=0.0)
        return np.asarray(0.3 * (asn[rows, None] == asn[None]) + 0.2 * near)

    return alike


def _joined(nodes: int, alike: _Alike, most: int, above: float) -> tuple[Ints, Floats]:
    """(2, E) who is heard and who hears, and (N,) how many are alike enough; in blocks of rows, so that memory grows with N."""
    most = min(most, nodes - 1)
    heard, hears, degree = [], [], np.zeros(nodes)
    for first in range(0, nodes, _ROWS_AT_ONCE):
        rows = slice(first, min(first + _ROWS_AT_ONCE, nodes))
        likeness = alike(rows)
        own = np.arange(rows.start, rows.stop)
        likeness[own - first, own] = -np.inf
        degree[rows] = (likeness > above).sum(axis=1)
        nearest = np.sort(np.argpartition(-likeness, most - 1, axis=1)[:, :most], axis=1)
        enough = np.take_along_axis(likeness, nearest, axis=1) > above
        heard.append(nearest[enough])
        hears.append(np.broadcast_to(own[:, None], nearest.shape)[enough])
    return np.stack([np.concatenate(heard), np.concatenate(hears)]).astype(np.int64), degree


# --- scaling


def _transformed(targets: Floats) -> Floats:
    """Log of RTT, one added so that 0 ms has one; root of loss percentage."""
    return np.stack([np.log1p(targets[:, 0]), np.sqrt(targets[:, 1])], axis=1)


def _scaled(table: Floats) -> tuple[Floats, Floats]:
    """(N, F) scaled and clipped; and what that says in the table's own units."""
    middle, spread = _robust(table)
    unit = np.where(spread < 1e-6, 1.0, NORMAL * spread)
    scaled = np.clip((table - middle) / unit, -DEVIATIONS, DEVIATIONS)
    return scaled, scaled * unit + middle


def _robust(table: Floats) -> tuple[Floats, Floats]:
    """(F,) median and median absolute deviation of what is known of each column; 0 where nothing is."""
    columns = [column[np.isfinite(column)] for column in table.T]
    middle = np.array([np.median(column) if len(column) > 0 else 0.0 for column in columns])
    spread = np.array(
        [
            np.median(np.abs(column - median)) if len(column) > 0 else 0.0
            for column, median in zip(columns, middle, strict=True)
        ]
    )
    return middle, spread


def _filled(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, _mean_of_known(values))


def _mean_of_known(values: Floats) -> Floats:
    """Mean over nodes; 0 where nothing is known."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
