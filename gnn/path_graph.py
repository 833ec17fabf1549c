"""The path graph: a node is a pair in a window, an edge joins two pairs of one window.

Typed edges join pairs that share a host, an AS or a country at one end, or are near at both ends. Each type is capped
at the k nearest, so edges grow linearly with pairs. Edges come from topology and geography and never from RTT; what is
unknown makes no edge. The past of a pair is an input of its node. This module is NumPy, so that the audit can look at
everything before a tensor is made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta

import numpy as np
from scipy.spatial import cKDTree

from domain.errors import DataError
from domain.place import EARTH_RADIUS_KM, FIBRE_KM_PER_MS
from gnn import history
from gnn.history import HISTORY_WINDOWS
from gnn.inputs import Inputs
from gnn.protocols.protocol import Bools, Question
from gnn.settings import require_in_range
from kg.arrays import UNKNOWN_ASN, UNKNOWN_COUNTRY, Ends, Floats, Ints, PathArrays

RELATIONS = ("probe", "target", "probe_as", "target_as", "probe_country", "target_country", "near")
"""Edge types: what two pairs share. `near` is nearness at both ends."""

CATEGORIES = ("probe_as", "probe_country", "target_as", "target_country")
"""Categories of a node, hashed."""

_GROUP_GAP = 16.0  # more than any distance inside a group, below: groups never mix in one tree
_UNKNOWN_GAP = 4.0  # more than the diameter of the unit sphere: known places come before unknown ones


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGraphConfig:
    """What goes into the graph.

    Attributes:
        neighbours: k, the most edges of one type into a node.
        near_km: how far apart the ends of two near pairs may be: the root of the summed squares of both distances.
        lags: latest windows that are node inputs one by one.
        moves: latest windows whose difference from the usual is an input.
        history: latest windows that medians and means are taken over.
        buckets: hash buckets of AS numbers and of countries.
        rtt_unit_ms, jitter_unit_ms: differences are compressed by asinh(x / unit): linear below, logarithmic above.
    """

    neighbours: int = 16
    near_km: float = 500.0
    lags: int = 8
    moves: int = 3
    history: int = HISTORY_WINDOWS
    buckets: int = 256
    rtt_unit_ms: float = 60.0
    jitter_unit_ms: float = 5.0

    def __post_init__(self) -> None:
        require_in_range(asdict(self), may_be_zero={"neighbours", "near_km", "moves"})
        if max(self.lags, self.moves) > self.history:
            raise DataError(
                "more single windows than the history holds",
                found=f"{self.lags} lags, {self.moves} moves",
                expected=f"at most {self.history}, the history",
            )


def path_graph(arrays: PathArrays, question: Question, config: PathGraphConfig) -> Inputs:
    """Node inputs and edges of the asked windows, from what the question lets be seen.

    A pair takes part in the edges of a window once it has been seen measured before it.

    Returns:
        Inputs with Q x P nodes. Column names say what is in them; `base_rtt_ms` and `base_jitter_ms` are in ms,
        differences from them are asinh-compressed.
    """
    columns = _node_columns(arrays, question, config)
    known = question.seen_before(arrays.measured)
    alike, graph_of = np.unique(known, axis=0, return_inverse=True)
    return Inputs(
        columns=tuple(columns),
        numbers=np.stack([np.broadcast_to(column, known.shape) for column in columns.values()], axis=-1),
        categories=categories(arrays, config.buckets),
        graphs=tuple(edges(arrays, row, config) for row in alike),
        graph_of=graph_of.reshape(-1).astype(np.int64),
    )


# --- edges


def edges(arrays: PathArrays, present: Bools, config: PathGraphConfig) -> dict[str, Ints]:
    """Edges among the pairs that are present.

    Args:
        arrays: where the pairs' ends are; no measured value is read.
        present: (P,).
        config: how many neighbours, and how near is near.

    Returns:
        Edge type -> (2, E) pair numbers: row 0 is the neighbour, row 1 the pair that hears of it.
    """
    place = {"probe": _on_sphere(arrays.probe_end), "target": _on_sphere(arrays.target_end)}
    ends = {"probe": arrays.probe_end, "target": arrays.target_end}
    other = {"probe": "target", "target": "probe"}
    neighbours = config.neighbours
    found: dict[str, Ints] = {}
    for side, end in ends.items():
        far = place[other[side]]
        found[side] = _nearest_in_group(end.host, present, far, neighbours)
        found[f"{side}_as"] = _nearest_in_group(end.asn, present & (end.asn != UNKNOWN_ASN), far, neighbours)
        country = np.unique(end.country.astype(str), return_inverse=True)[1].astype(np.int64)
        known = present & np.asarray(end.country != UNKNOWN_COUNTRY, dtype=np.bool_)
        found[f"{side}_country"] = _nearest_in_group(country, known, far, neighbours)
    both = np.concatenate([place["probe"], place["target"]], axis=1)
    nowhere = np.zeros(arrays.pairs, dtype=np.int64)
    placed = present & np.isfinite(both).all(axis=1)
    found["near"] = _nearest_in_group(
        nowhere, placed, both, neighbours, within=config.near_km / EARTH_RADIUS_KM
    )
    return {relation: found[relation] for relation in RELATIONS}


def _nearest_in_group(
    group: Ints, taking_part: Bools, place: Floats, neighbours: int, within: float = np.inf
) -> Ints:
    """Join each pair to the nearest of its group: one search tree, in which groups lie far apart on an axis of their own.

    Pairs of unknown place come after all others of the group, in an order drawn from a fixed seed, which also breaks ties.
    """
    members = np.flatnonzero(taking_part)
    if len(members) < 2 or neighbours == 0:
        return np.zeros((2, 0), dtype=np.int64)
    drawn = np.random.default_rng(0).random((len(group), place.shape[1]))[members]
    unknown = np.asarray(~np.isfinite(place[members]).all(axis=1))
    point = np.where(unknown[:, None], drawn, place[members] + 1e-9 * drawn)
    apart = np.unique(group[members], return_inverse=True)[1] * _GROUP_GAP + unknown * _UNKNOWN_GAP
    points = np.column_stack([point, apart])
    reach = min(within, _GROUP_GAP / 2.0)
    count = min(neighbours + 1, len(members))
    _, nearest = cKDTree(points).query(points, k=count, distance_upper_bound=reach)
    hearer = np.repeat(np.arange(len(members)), count)
    heard = nearest.reshape(-1)
    edge = (heard < len(members)) & (heard != hearer)  # a missing neighbour is numbered past the end
    rank = np.cumsum(edge.reshape(-1, count), axis=1).reshape(-1)
    edge &= rank <= neighbours  # where the pair itself is not among its own nearest
    return np.stack([members[heard[edge]], members[hearer[edge]]]).astype(np.int64)


def _on_sphere(end: Ends) -> Floats:
    """(P, 3) places on the unit sphere, NaN where unknown; chords order like great circles."""
    latitude, longitude = np.radians(end.latitude), np.radians(end.longitude)
    across = np.cos(latitude)
    return np.column_stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)])


# --- node inputs


def categories(arrays: PathArrays, buckets: int) -> dict[str, Ints]:
    """AS and country of both ends, hashed into buckets 1 … `buckets`; 0 where unknown.

    Multiplicative hashing (Knuth, The Art of Computer Programming, vol. 3, section 6.4), the same in every run. The bucket
    is read from the leading bits of the product: the trailing ones know only the trailing bits of the key.
    """
    found: dict[str, Ints] = {}
    for side, end in (("probe", arrays.probe_end), ("target", arrays.target_end)):
        letters = end.country.astype("U2").view(np.uint32).reshape(-1, 2).astype(np.int64)
        country = letters[:, 0] * 256 + letters[:, 1]
        for name, key in (("as", end.asn), ("country", country)):
            product = key.astype(np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
            bucket = (product * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)
            found[f"{side}_{name}"] = np.where(key == 0, 0, 1 + bucket)
    return found


def _node_columns(arrays: PathArrays, question: Question, config: PathGraphConfig) -> dict[str, Floats]:
    """Every number of a node by name, each broadcastable to (Q, P); NaN is unknown."""
    return {
        **_place_columns(arrays),
        **_past_columns(arrays, question, config),
        **_calendar_columns(arrays, question),
    }


def _place_columns(arrays: PathArrays) -> dict[str, Floats]:
    probe, target = _on_sphere(arrays.probe_end), _on_sphere(arrays.target_end)
    half_chord = np.clip(np.linalg.norm(probe - target, axis=1) / 2.0, 0.0, 1.0)
    kilometres = 2.0 * EARTH_RADIUS_KM * np.arcsin(half_chord)
    columns = {
        "distance_megametres": kilometres / 1000.0,
        "log_fibre_rtt_ms": np.log1p(2.0 * kilometres / FIBRE_KM_PER_MS),
        "is_ipv6": (arrays.af == 6).astype(np.float64),
    }
    for side, place, end in (("probe", probe, arrays.probe_end), ("target", target, arrays.target_end)):
        columns |= {f"{side}_{axis}": place[:, i] for i, axis in enumerate("xyz")}
        columns |= {f"{side}_{name}": end.centrality[:, i] for i, name in enumerate(arrays.centrality_names)}
    return {name: column[None, :] for name, column in columns.items()}


def _past_columns(arrays: PathArrays, question: Question, config: PathGraphConfig) -> dict[str, Floats]:
    columns: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, values, unit in (
            ("rtt", arrays.rtt_ms, config.rtt_unit_ms),
            ("jitter", arrays.jitter_ms, config.jitter_unit_ms),
        ):
            past = history.lagged(values, question.seen_until, config.history)
            median = history.median(past)
            base = history.last_known(values, question.seen_until) if name == "rtt" else median
            seasonal = history.same_slot(values, question, arrays.window_s)
            columns |= {
                f"base_{name}_ms": base,
                f"log_base_{name}_ms": np.log1p(base),
                f"log_{name}_spread_ms": np.log1p(history.spread(past, median)),
            }
            relative = {f"{name}_lag_{i + 1}": past[:, :, i] for i in range(config.lags)}
            relative |= {
                f"{name}_same_slot_last_day": seasonal[:, :, 0],
                f"{name}_same_slot_median": history.median(seasonal),
                f"{name}_median_recent": history.median(past[:, :, : config.lags]),
                f"{name}_median": median,
                f"{name}_least": np.where(
                    np.isfinite(median), np.nanmin(past, axis=-1, initial=np.inf), np.nan
                ),
                f"{name}_most": np.where(
                    np.isfinite(median), np.nanmax(past, axis=-1, initial=-np.inf), np.nan
                ),
                f"{name}_mean_half_life_2": history.weighted_mean(past, 2.0),
                f"{name}_mean_half_life_8": history.weighted_mean(past, 8.0),
            }
            columns |= {key: np.arcsinh((value - base) / unit) for key, value in relative.items()}
            # What the pair moved by of late, against its usual: the news that its neighbours may want to hear.
            columns |= {
                f"{name}_lag_{i + 1}_move": np.arcsinh((past[:, :, i] - median) / unit)
                for i in range(config.moves)
            }
    sent = arrays.sent > 0
    loss = arrays.loss_ratio
    any_loss = history.any_loss(arrays)
    past_any = history.lagged(any_loss, question.seen_until, config.history)
    past_loss = history.lagged(loss, question.seen_until, config.history)
    age = (
        question.seen_until[:, None]
        - 1
        - history.last_known_row(np.isfinite(arrays.rtt_ms), question.seen_until)
    )
    windows_lossy = history.counted(any_loss == 1.0, question.seen_until)
    windows_sent = history.counted(sent, question.seen_until)
    windows_seen = history.counted(arrays.measured, question.seen_until)
    columns |= {f"loss_lag_{i + 1}": past_loss[:, :, i] for i in range(config.lags)}
    columns |= {f"any_loss_lag_{i + 1}": past_any[:, :, i] for i in range(config.lags)}
    columns |= {
        "loss_mean_half_life_2": history.weighted_mean(past_loss, 2.0),
        "loss_mean_half_life_8": history.weighted_mean(past_loss, 8.0),
        "any_loss_mean_half_life_2": history.weighted_mean(past_any, 2.0),
        "any_loss_mean_half_life_8": history.weighted_mean(past_any, 8.0),
        "any_loss_frequency": np.where(
            windows_sent > 0, (windows_lossy + 0.5) / (windows_sent + 1.0), np.nan
        ),
        "log_windows_since_answer": np.log1p(age.astype(np.float64)),
        "log_windows_seen": np.log1p(windows_seen),
    }
    return columns


def _calendar_columns(arrays: PathArrays, question: Question) -> dict[str, Floats]:
    start_s = arrays.window_start_s[0] + question.windows * arrays.window_s
    day_s, week_s = history.DAY_S, int(timedelta(days=7).total_seconds())
    columns: dict[str, Floats] = {}
    for name, period_s in (("hour", day_s), ("weekday", week_s)):
        angle = 2.0 * np.pi * (start_s % period_s) / period_s
        columns |= {f"{name}_sin": np.sin(angle)[:, None], f"{name}_cos": np.cos(angle)[:, None]}
    return columns
