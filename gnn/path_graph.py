"""The path graph: a node is a pair in a window, an edge joins two pairs of one window.

Typed edges join pairs that share a host, an AS or a country at one end, or are near at both ends (`gnn.neighbours`); mates, which share an
end, also tell each other what they moved by (`gnn.mates`). The past of a pair is an input of its node, and so is its value in
the window where that is seen; of a pair that is asked it never is. This module is NumPy, so that the audit can look at
everything before a tensor is made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta

import numpy as np

from domain.errors import DataError
from gnn import history, mates
from gnn.baselines.level_fits import LEVEL_FITS, level_fits
from gnn.history import HISTORY_WINDOWS
from gnn.inputs import NOBODY, Inputs, Singles
from gnn.neighbours import RELATIONS, chord_km, fibre_rtt_ms, heard_by, on_sphere
from gnn.protocols.protocol import Question
from gnn.settings import require_in_range
from kg.arrays import Floats, Ints, PathArrays

CATEGORIES = ("probe_as", "probe_country", "target_as", "target_country")
"""Categories of a node, hashed."""

MATES = ("probe", "target")
"""Edge types between pairs that share an end; these have edge numbers."""

AROUND = "around_"
"""Begins the names of columns that tell of other pairs in the window: a model without a graph does without them."""

SAYS = "says_"
"""Begins the names of columns of what simple fits to all levels say: what a model may start from, with or without a graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathGraphConfig:
    """What goes into the graph.

    Attributes:
        neighbours: k, the most edges of one type into a node.
        near_km: how far apart the ends of two near pairs may be: the root of the summed squares of both distances.
        all_types: pairs hear each other over every edge type; else over those to mates only.
        lags: latest windows that are node inputs one by one.
        moves: latest windows whose difference from the usual is an input.
        history: latest windows that medians and means are taken over, and that a prediction may point at.
        buckets: hash buckets of AS numbers and of countries.
        rtt_unit_ms, jitter_unit_ms: differences are compressed by asinh(x / unit): linear below, logarithmic above.
    """

    neighbours: int = 16
    near_km: float = 500.0
    all_types: bool = True
    lags: int = 8
    moves: int = 3
    history: int = HISTORY_WINDOWS
    buckets: int = 256
    rtt_unit_ms: float = 20.0
    jitter_unit_ms: float = 5.0

    def __post_init__(self) -> None:
        require_in_range(
            asdict(self),
            may_be_zero={"near_km", "all_types", "moves"},
            most={"neighbours": 4096, "history": 4096},
        )
        if max(self.lags, self.moves) > self.history:
            raise DataError(
                "more single windows than the history holds",
                found=f"{self.lags} lags, {self.moves} moves",
                expected=f"at most {self.history}, the history",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is seen of P pairs in one row, in ms: the past, its median, the window itself, and the level (usual, else now)."""

    past: Floats
    usual: Floats
    now: Floats

    @property
    def level(self) -> Floats:
        return np.where(np.isfinite(self.usual), self.usual, self.now)


def path_graph(arrays: PathArrays, question: Question, config: PathGraphConfig) -> Inputs:
    """Node inputs and edges of the asked windows, from what the question lets be seen.

    A pair is heard once something of it is seen. Where asked pairs may have no past, mates are found through the hosts most alike in
    what is seen, not through the map alone.

    Returns:
        Inputs with Q x P nodes. Column names say what is in them; `base_rtt_ms` and `base_jitter_ms` are in ms,
        differences from them are asinh-compressed.
    """
    depth = _depth(question, config)
    past = history.lagged(arrays.rtt_ms, question, depth)
    usual, now = history.median(past), question.now(arrays.rtt_ms)
    seen = [_Seen(past=past[q], usual=usual[q], now=now[q]) for q in range(len(question))]
    graphs, graph_of, edge_numbers = _edges(arrays, question, seen, config)
    told = np.stack(
        [
            _told_by_mates(row, graphs[int(graph)], {side: edge_numbers[side][q] for side in MATES})
            for q, (row, graph) in enumerate(zip(seen, graph_of, strict=True))
        ]
    )
    fibre = np.broadcast_to(mates.pair_fibre_rtt_ms(arrays), now.shape)
    # Where nothing is seen of a mate now but its past is, unmet pairs are told its usual.
    told_now = np.stack(
        [
            row.now if not question.unmet else np.where(np.isfinite(row.now), row.now, row.level)
            for row in seen
        ]
    )
    columns = {
        **_place_columns(arrays),
        **_past_columns(arrays, question, config, past, usual, told),
        **_now_columns(arrays, question, config, usual),
        **_calendar_columns(arrays, question),
    }
    columns |= _around_columns(columns, question, graphs, graph_of)
    fits = np.empty((*now.shape, 0))
    if question.unmet:
        fits = level_fits(arrays, question)
        columns |= {
            f"{SAYS}{fit.name}": np.arcsinh(
                (fits[:, :, number] - columns["base_rtt_ms"]) / config.rtt_unit_ms
            )
            for number, fit in enumerate(LEVEL_FITS)
        }
    shape = (len(question), arrays.pairs)
    return Inputs(
        columns=tuple(columns),
        numbers=np.stack(
            [np.broadcast_to(column, shape).astype(np.float32) for column in columns.values()], axis=-1
        ),
        categories=categories(arrays, config.buckets),
        graphs=graphs,
        graph_of=graph_of,
        edge_columns=mates.EDGE_COLUMNS,
        edge_numbers=edge_numbers,
        values={
            "lag_ms": past,
            "lag_age_days": _ages_days(arrays, question, past),
            "usual_ms": usual,
            "now_ms": told_now,
            "fibre_ms": fibre,
            "fits_ms": fits,
        },
    )


def _depth(question: Question, config: PathGraphConfig) -> int:
    """How many windows of the past there are to look at, at least one."""
    return max(1, min(config.history, int(question.seen_until.max(initial=0))))


def _lag(past: Floats, number: int) -> Floats:
    """(Q, P) the window so long ago, NaN where there is none."""
    return past[:, :, number] if number < past.shape[2] else np.full(past.shape[:2], np.nan)


def _ages_days(arrays: PathArrays, question: Question, past: Floats) -> Floats:
    """(Q, P, L) how long before the asked window each window of the past began."""
    windows = question.windows[:, None] - question.seen_until[:, None] + 1 + np.arange(past.shape[2])
    days = windows * (arrays.window_s / history.DAY_S)
    return np.broadcast_to(days[:, None, :], past.shape)


# --- edges


def _edges(
    arrays: PathArrays, question: Question, seen: list[_Seen], config: PathGraphConfig
) -> tuple[tuple[dict[str, Ints], ...], Ints, dict[str, Singles]]:
    """The distinct graphs, which of them each row has, and the edge numbers of mates."""
    speaking = question.seen_before(arrays.measured) | (
        question.now(arrays.measured.astype(np.float64)) == 1.0
    )
    every = np.ones(arrays.pairs, dtype=np.bool_)
    through_hosts = question.unmet and _hosts(arrays) <= mates.MOST_HOSTS
    alike = {row.tobytes(): row for row in speaking}  # rows in which the same pairs speak have the same graph
    number = {key: place for place, key in enumerate(alike)}
    graph_of = np.array([number[row.tobytes()] for row in speaking], dtype=np.int64)
    relations = RELATIONS if config.all_types else MATES
    wanted = tuple(one for one in relations if not (through_hosts and one in MATES))
    shared = [
        heard_by(arrays, row, every, neighbours=config.neighbours, near_km=config.near_km, relations=wanted)
        for row in alike.values()
    ]
    probe, target = on_sphere(arrays.probe_end), on_sphere(arrays.target_end)
    numbers: dict[str, list[Singles]] = {side: [] for side in MATES}
    graphs: list[dict[str, Ints]] = [] if through_hosts else list(shared)
    for q, row in enumerate(seen):
        if through_hosts:
            level = row.level
            hosts = mates.hosts_of(arrays, level, config.neighbours)
            heard, found = mates.through_hosts(
                arrays,
                hosts,
                np.isfinite(level),
                usual=level,
                now=np.where(np.isfinite(row.now), row.now, level),
                neighbours=config.neighbours,
            )
            whole = {**heard, **shared[int(graph_of[q])]}
            graphs.append({relation: whole[relation] for relation in relations})
            graph_of[q] = len(graphs) - 1
        else:
            heard = {side: graphs[int(graph_of[q])][side] for side in MATES}
            found = {
                side: mates.temporal(
                    arrays,
                    heard[side],
                    past=row.past,
                    usual=row.usual,
                    now=row.now,
                    far=target if side == "probe" else probe,
                    unit_ms=config.rtt_unit_ms,
                )
                for side in MATES
            }
        for side in MATES:
            numbers[side].append(found[side])
    return tuple(graphs), graph_of, {side: np.stack(rows) for side, rows in numbers.items()}


def _hosts(arrays: PathArrays) -> int:
    return len(np.union1d(arrays.probe_end.host, arrays.target_end.host))


def _told_by_mates(row: _Seen, graph: dict[str, Ints], numbers: dict[str, Singles]) -> Floats:
    """(P,) median of what the mates tell of a pair, those with little spread counting most; NaN where none tells anything."""
    offset, spread = (mates.EDGE_COLUMNS.index(name) for name in ("offset_ms", "spread_ms"))
    value = np.where(np.isfinite(row.now), row.now, row.level)
    heard = np.concatenate([graph[side] for side in MATES], axis=1)
    edges = np.concatenate([numbers[side] for side in MATES], axis=1)
    told = np.where(heard == NOBODY, np.nan, value[heard]) + edges[:, :, offset]
    weight = 1.0 / (np.where(np.isfinite(edges[:, :, spread]), edges[:, :, spread], 100.0) + 1.0) ** 2
    return np.maximum(history.weighted_median(told, weight), 0.0)  # an offset may be more than all of a value


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


def _place_columns(arrays: PathArrays) -> dict[str, Floats]:
    probe, target = on_sphere(arrays.probe_end), on_sphere(arrays.target_end)
    kilometres = chord_km(probe, target)
    columns = {
        "distance_megametres": kilometres / 1000.0,
        "log_fibre_rtt_ms": np.log1p(fibre_rtt_ms(kilometres)),
        "is_ipv6": (arrays.af == 6).astype(np.float64),
    }
    for side, place, end in (("probe", probe, arrays.probe_end), ("target", target, arrays.target_end)):
        columns |= {f"{side}_{axis}": place[:, i] for i, axis in enumerate("xyz")}
        columns |= {f"{side}_{name}": end.centrality[:, i] for i, name in enumerate(arrays.centrality_names)}
    return {name: column[None, :] for name, column in columns.items()}


def _past_columns(
    arrays: PathArrays,
    question: Question,
    config: PathGraphConfig,
    past_rtt: Floats,
    usual_rtt: Floats,
    told: Floats,
) -> dict[str, Floats]:
    """The own past. `base_rtt_ms` is the latest value, or, where there is none, what the mates tell."""
    columns: dict[str, Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for name, values, unit in (
            ("rtt", arrays.rtt_ms, config.rtt_unit_ms),
            ("jitter", arrays.jitter_ms, config.jitter_unit_ms),
        ):
            if name == "rtt":
                past, median = past_rtt, usual_rtt
                latest = history.last_known(values, question)
                base = np.where(np.isfinite(latest), latest, told)
            else:
                past = history.lagged(values, question, past_rtt.shape[2])
                base = median = history.median(past)
            seasonal = history.same_slot(values, question, arrays.window_s)
            columns |= {
                f"base_{name}_ms": base,
                f"log_base_{name}_ms": np.log1p(base),
                f"log_{name}_spread_ms": np.log1p(history.spread(past, median)),
            }
            relative = {f"{name}_lag_{i + 1}": _lag(past, i) for i in range(config.lags)}
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
                f"{name}_lag_{i + 1}_move": np.arcsinh((_lag(past, i) - median) / unit)
                for i in range(config.moves)
            }
    sent = arrays.sent > 0
    any_loss = history.any_loss(arrays)
    past_any = history.lagged(any_loss, question, past_rtt.shape[2])
    past_loss = history.lagged(arrays.loss_ratio, question, past_rtt.shape[2])
    age = question.seen_until[:, None] - 1 - history.last_known_row(np.isfinite(arrays.rtt_ms), question)
    windows_lossy = history.counted(any_loss == 1.0, question)
    windows_sent = history.counted(sent, question)
    columns |= {f"loss_lag_{i + 1}": _lag(past_loss, i) for i in range(config.lags)}
    columns |= {f"any_loss_lag_{i + 1}": _lag(past_any, i) for i in range(config.lags)}
    columns |= {
        "loss_mean_half_life_2": history.weighted_mean(past_loss, 2.0),
        "loss_mean_half_life_8": history.weighted_mean(past_loss, 8.0),
        "any_loss_mean_half_life_2": history.weighted_mean(past_any, 2.0),
        "any_loss_mean_half_life_8": history.weighted_mean(past_any, 8.0),
        "any_loss_frequency": np.where(
            windows_sent > 0, (windows_lossy + 0.5) / (windows_sent + 1.0), np.nan
        ),
        "log_windows_since_answer": np.log1p(age.astype(np.float64)),
        "log_windows_seen": np.log1p(history.counted(arrays.measured, question)),
        "log_horizon": np.broadcast_to(
            np.log1p((question.windows - question.seen_until).astype(np.float64))[:, None], age.shape
        ),
    }
    return columns


def _now_columns(
    arrays: PathArrays, question: Question, config: PathGraphConfig, usual: Floats
) -> dict[str, Floats]:
    """What is seen of the asked window itself: of pairs that are asked nothing is."""
    rtt, jitter = question.now(arrays.rtt_ms), question.now(arrays.jitter_ms)
    usual_jitter = history.median(history.lagged(arrays.jitter_ms, question, _depth(question, config)))
    return {
        "now_rtt_move": np.arcsinh((rtt - usual) / config.rtt_unit_ms),
        "now_log_rtt_ms": np.log1p(rtt),
        "now_jitter_move": np.arcsinh((jitter - usual_jitter) / config.jitter_unit_ms),
        "now_loss": question.now(arrays.loss_ratio),
        "now_any_loss": question.now(history.any_loss(arrays)),
    }


def _around_columns(
    columns: dict[str, Floats], question: Question, graphs: tuple[dict[str, Ints], ...], graph_of: Ints
) -> dict[str, Floats]:
    """Means of what is seen now over the mates of each pair: how its probe, and how its target, does in this window."""
    found: dict[str, Floats] = {}
    for side in MATES:
        for name in ("now_rtt_move", "now_jitter_move", "now_loss", "now_any_loss"):
            values = columns[name]
            means = []
            for q in range(len(question)):
                heard = graphs[int(graph_of[q])][side]
                means.append(history.mean(np.where(heard == NOBODY, np.nan, values[q][heard])))
            found[f"{AROUND}{side}_{name.removeprefix('now_')}"] = np.stack(means)
    return found


def _calendar_columns(arrays: PathArrays, question: Question) -> dict[str, Floats]:
    start_s = arrays.window_start_s[0] + question.windows * arrays.window_s
    day_s, week_s = history.DAY_S, int(timedelta(days=7).total_seconds())
    columns: dict[str, Floats] = {}
    for name, period_s in (("hour", day_s), ("weekday", week_s)):
        angle = 2.0 * np.pi * (start_s % period_s) / period_s
        columns |= {f"{name}_sin": np.sin(angle)[:, None], f"{name}_cos": np.cos(angle)[:, None]}
    return columns
