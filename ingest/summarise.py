"""The lake -> what the knowledge graph is told: path states, link states, links between hops, measured targets.

All of it is SQL over the lake's columns.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError
from domain.link_state import LEAST_ASNS, LEAST_PROBES, LinkState
from domain.observation import PATHLESS, TIMELESS, UNTIMELY
from domain.path_state import PathState, packets_needed
from ingest.columns import schema_of
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.places import distance_sql, faster_than_light_sql
from ingest.probe_words import HISTORY

PATH_STATE_SCHEMA = schema_of(PathState)
LINK_STATE_SCHEMA = schema_of(LinkState)

_Z_95 = 1.959963984540054
"""Quantile .975 of the normal distribution: two-sided 95 %."""

_MICROSECOND = timedelta(microseconds=1)

_COUNTS = ("sent", "received", "duplicates", "errors")


def _held(known: str) -> str:
    """SQL: that was so at some time of the window."""
    return (
        f"({known}.valid_from IS NULL OR {known}.valid_from < start_us + $window_us) "
        f"AND ({known}.valid_to IS NULL OR {known}.valid_to > start_us)"
    )


_TIMED = "NOT list_has_any(doubts, $timeless)"
"""Rule `timeless` of `domain.observation`: of other results it is not known when they were."""

# Pings and the samples of tables, and the windows of paths in which something was faster than light; what the queries below begin
# with. A sample is one value of RTT, whether or not its packets were counted.
_RESULTS = f"""
WITH measured AS NOT MATERIALIZED (
    SELECT probe_id, target, af, timestamp, doubts, synthetic, sent, received, duplicates, errors, rtt_min_ms, rtt_avg_ms,
        received AS answers, received AS weight,
        -- packets in their order; a lost or unsent one is null, and no pair is made across it
        list_transform(list_filter(replies, lambda reply: NOT reply.duplicate), lambda reply: reply.rtt_ms) AS rtts
    FROM ping
    WHERE target IS NOT NULL AND af IS NOT NULL
    UNION ALL BY NAME
    SELECT probe_id, target, af, timestamp, doubts, synthetic, sent, received,
        CASE WHEN received = 1 THEN coalesce(rtt_min_ms, rtt_avg_ms) ELSE rtt_min_ms END AS rtt_min_ms, rtt_avg_ms,
        (rtt_avg_ms IS NOT NULL OR coalesce(received, 0) > 0)::BIGINT AS answers,
        coalesce(received, (rtt_avg_ms IS NOT NULL)::BIGINT) AS weight,
        [rtt_avg_ms] AS rtts, utilisation_ratio
    FROM sample
    WHERE NOT list_has_any(doubts, $pathless)
),
chosen AS NOT MATERIALIZED (
    SELECT *, len(list_intersect(doubts, $untimely)) > 0 AS doubtful,
        epoch_us(timestamp) - epoch_us(timestamp) % $window_us AS start_us
    FROM measured
    WHERE {_TIMED} AND ($start_us::BIGINT IS NULL OR start_us >= $start_us) AND ($end_us::BIGINT IS NULL OR start_us < $end_us)
),
known AS MATERIALIZED (
    SELECT * FROM ({HISTORY}) WHERE relation IN ('place', 'address')
),
least AS (
    SELECT probe_id, target, af, start_us, count(*) AS results, min(coalesce(rtt_min_ms, rtt_avg_ms)) AS rtt_ms
    FROM chosen
    WHERE target IN (SELECT address FROM known)
    GROUP BY ALL
),
-- both ends are where they were said to be in that window; of several places the nearest
apart AS (
    SELECT least.probe_id, target, least.af, start_us, results, rtt_ms,
        min({distance_sql("here", "there")}) AS km
    FROM least
    JOIN known AS here ON here.relation = 'place' AND here.probe_id = least.probe_id AND {_held("here")}
    JOIN known AS own ON own.relation = 'address' AND own.address = target AND {_held("own")}
    JOIN known AS there ON there.relation = 'place' AND there.probe_id = own.probe_id AND {_held("there")}
    GROUP BY ALL
),
impossible AS (
    SELECT * FROM apart WHERE {faster_than_light_sql("rtt_ms", "km")}
)
"""  # noqa: S608 - text of our own

_STATES = f"""{_RESULTS},
results AS (
    SELECT
        *,
        list_filter(rtts, lambda rtt: rtt IS NOT NULL) AS known,
        list_avg(list_transform(list_zip(rtts[2:], rtts[:-2]), lambda two: abs(two[1] - two[2]))) AS jitter_ms
    FROM chosen ANTI JOIN impossible USING (probe_id, target, af, start_us)
),
windows AS (
    SELECT
        probe_id, target, af, start_us,
        count(*) AS results,
        count(*) FILTER (doubtful) AS doubtful_results,
        sum(answers) AS answers,
        {", ".join(f"CASE WHEN count({count}) = count(*) THEN sum({count}) END AS {count}" for count in _COUNTS)},
        -- a result that was answered and does not give its minimum or mean leaves them unknown for the window
        CASE WHEN bool_and(answers = 0 OR rtt_min_ms IS NOT NULL) THEN min(rtt_min_ms) END AS rtt_min_ms,
        CASE WHEN bool_and(answers = 0 OR rtt_avg_ms IS NOT NULL)
            THEN list_sum(list_sort(list(rtt_avg_ms * weight) FILTER (weight > 0))) / sum(weight) END AS rtt_mean_ms,
        flatten(list(known)) AS known,
        -- sorted, since the sum of floats depends on their order, and the order on who was quicker
        list_avg(list_sort(list(jitter_ms) FILTER (jitter_ms IS NOT NULL))) AS jitter_ms,
        list_avg(list_sort(list(utilisation_ratio) FILTER (utilisation_ratio IS NOT NULL))) AS utilisation_ratio,
        bool_or(synthetic) AS synthetic
    FROM results
    GROUP BY probe_id, target, af, start_us
)
SELECT
    probe_id, target, af,
    start_us AS window_start,
    start_us + $window_us AS window_end,
    results, doubtful_results, sent, received, duplicates, errors, rtt_min_ms, rtt_mean_ms,
    CASE WHEN len(known) = answers AND answers >= $median_packets
        THEN list_aggregate(known, 'quantile_cont', 0.5) END AS rtt_median_ms,
    CASE WHEN len(known) = answers AND answers >= $p95_packets
        THEN list_aggregate(known, 'quantile_cont', 0.95) END AS rtt_p95_ms,
    CASE WHEN sent > 0 THEN (sent - received) / sent::DOUBLE END AS loss_ratio,
    jitter_ms, utilisation_ratio, synthetic
FROM windows
ORDER BY window_start, probe_id, target, af
"""  # noqa: S608 - text of our own

_FASTER_THAN_LIGHT = f"{_RESULTS} SELECT coalesce(sum(results), 0) AS results FROM impossible"  # noqa: S608 - text of our own

_WITHOUT_TIME = " + ".join(
    f"(SELECT count(*) FROM {kind} WHERE NOT {_TIMED})"  # noqa: S608 - names of our own
    for kind in ("ping", "traceroute", "sample")
)

# Who answered at each hop of a traceroute; what the queries below begin with. Late answers and duplicates may
# belong to another hop's packet.
_ANSWERS = f"""
WITH traces AS (
    SELECT row_number() OVER () AS trace, probe_id, af, timestamp, synthetic,
        epoch_us(timestamp) - epoch_us(timestamp) % $window_us AS start_us, hops
    FROM traceroute
    WHERE {_TIMED}
),
steps AS (
    SELECT trace, probe_id, af, timestamp, synthetic, start_us, unnest(hops) AS step
    FROM traces
    WHERE ($start_us::BIGINT IS NULL OR start_us >= $start_us) AND ($end_us::BIGINT IS NULL OR start_us < $end_us)
),
replies AS (
    SELECT trace, probe_id, af, timestamp, synthetic, start_us, step.hop AS hop, unnest(step.replies) AS reply
    FROM steps
),
answers AS (
    SELECT trace, probe_id, af, timestamp, synthetic, start_us, hop, reply.address AS address,
        list(reply.rtt_ms) FILTER (reply.rtt_ms IS NOT NULL) AS rtts
    FROM replies
    WHERE reply.address IS NOT NULL AND reply.late IS NULL AND NOT reply.duplicate
    GROUP BY trace, probe_id, af, timestamp, synthetic, start_us, hop, address
),
adjacent AS (
    SELECT here.trace, here.probe_id, here.af, here.timestamp, here.synthetic, here.start_us,
        here.address AS from_address, there.address AS to_address, here.rtts AS from_rtts, there.rtts AS to_rtts
    FROM answers AS here
    JOIN answers AS there ON here.trace = there.trace AND there.hop = here.hop + 1
    -- hop 255 is the probe's last, far jump, not the successor of 254
    WHERE here.address <> there.address AND there.hop <> 255
)
"""  # noqa: S608 - text of our own

_HOP_LINKS = f"""{_ANSWERS},
links AS (
    SELECT DISTINCT trace, timestamp, synthetic, from_address, to_address FROM adjacent
)
SELECT from_address, to_address, count(*) AS count, min(epoch_us(timestamp)) AS first_seen,
    max(epoch_us(timestamp)) AS last_seen, bool_or(synthetic) AS synthetic
FROM links
GROUP BY from_address, to_address
ORDER BY from_address, to_address
"""  # noqa: S608 - text of our own

_LINK_STATES = f"""{_ANSWERS},
networks AS (
    SELECT probe_id, af, asn, valid_from, valid_to FROM ({HISTORY}) WHERE relation = 'network'
),
differences AS (
    SELECT *, flatten(list_transform(coalesce(to_rtts, []), lambda there:
        list_transform(coalesce(from_rtts, []), lambda here: there - here))) AS differences
    FROM adjacent
),
links AS (
    SELECT from_address, to_address, start_us,
        count(DISTINCT trace) AS traceroutes,
        count(DISTINCT adjacent.probe_id) FILTER (len(differences) > 0) AS probes,
        count(DISTINCT asn) FILTER (len(differences) > 0) AS asns,
        -- sorted, so that it is no matter which traceroute was read first
        list_sort(flatten(list(differences))) AS samples,
        bool_or(adjacent.synthetic) AS synthetic
    FROM differences AS adjacent LEFT JOIN networks
        ON networks.probe_id = adjacent.probe_id AND networks.af = adjacent.af
        AND (valid_from IS NULL OR valid_from < start_us + $window_us)
        AND (valid_to IS NULL OR valid_to >= start_us + $window_us)
    GROUP BY from_address, to_address, start_us
),
ranked AS (
    SELECT * REPLACE (coalesce(n, 0) AS n), probes >= $least_probes AND asns >= $least_asns AS enough,
        -- Wilson score of a proportion of one half, times n: a rank, counted from 1
        floor(n * (0.5 + $z * $z / (2 * n) - $z * sqrt(0.25 / n + $z * $z / (4.0 * n * n))) / (1 + $z * $z / n))::BIGINT AS low
    FROM (SELECT *, nullif(len(samples), 0) AS n FROM links)
)
SELECT from_address, to_address, start_us AS window_start, start_us + $window_us AS window_end,
    traceroutes, probes, asns, n AS samples,
    CASE WHEN enough THEN (samples[(n + 1) // 2] + samples[n // 2 + 1]) / 2 END AS rtt_diff_median_ms,
    -- with few samples not even the least and the greatest are far enough apart
    CASE WHEN enough AND low >= 1 THEN samples[low] END AS rtt_diff_low_ms,
    CASE WHEN enough AND low >= 1 THEN samples[n + 1 - low] END AS rtt_diff_high_ms,
    NULL::DOUBLE AS utilisation_ratio, synthetic
FROM ranked
ORDER BY window_start, from_address, to_address
"""  # noqa: S608 - text of our own

_IN_SPAN = (
    "($start_us::BIGINT IS NULL OR epoch_us(timestamp) >= $start_us) "
    "AND ($end_us::BIGINT IS NULL OR epoch_us(timestamp) < $end_us)"
)

_TARGETS = f"""
SELECT msm_id, type, target, target_name, af, synthetic, probe_id,
    min(epoch_us(timestamp)) AS first_seen, max(epoch_us(timestamp)) AS last_seen
FROM (
    SELECT 'ping' AS type, msm_id, target, target_name, af, synthetic, probe_id, timestamp FROM ping
    WHERE {_TIMED} AND {_IN_SPAN}
    UNION ALL BY NAME
    SELECT 'traceroute' AS type, msm_id, target, target_name, af, synthetic, probe_id, timestamp FROM traceroute
    WHERE {_TIMED} AND {_IN_SPAN}
)
GROUP BY ALL
ORDER BY ALL
"""  # noqa: S608 - text of our own

_NEWEST = f"""
SELECT max(at_us - at_us % $window_us + $window_us) AS end_us FROM (
    SELECT epoch_us(timestamp) AS at_us FROM ping WHERE target IS NOT NULL AND af IS NOT NULL AND {_TIMED}
    UNION ALL
    SELECT epoch_us(timestamp) FROM sample WHERE {_TIMED}
)
"""  # noqa: S608 - text of our own

_INSTANT = pa.timestamp("us", tz="UTC")

HOP_LINK_SCHEMA = pa.schema(
    [
        pa.field("from_address", pa.string(), nullable=False),
        pa.field("to_address", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("first_seen", _INSTANT, nullable=False),
        pa.field("last_seen", _INSTANT, nullable=False),
        pa.field("synthetic", pa.bool_(), nullable=False),
    ]
)

MEASUREMENT_TARGET_SCHEMA = pa.schema(
    [
        pa.field("msm_id", pa.int64(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("target", pa.string()),
        pa.field("target_name", pa.string()),
        pa.field("af", pa.int64()),
        pa.field("synthetic", pa.bool_(), nullable=False),
        pa.field("probe_id", pa.int64(), nullable=False),
        pa.field("first_seen", _INSTANT, nullable=False),
        pa.field("last_seen", _INSTANT, nullable=False),
    ]
)


def summarise(
    lake: Lake, window: timedelta, start: datetime | None = None, end: datetime | None = None
) -> pa.Table:
    """Summarise the pings of a lake, and the samples of tables in it, by pair and window.

    Windows are aligned to the epoch. Pings whose target or address family is not known belong to no pair
    (`pings_without_pair` counts them), a node's samples of itself to none either (rule `pathless`), and results whose time is not known to no window (rule `timeless`; `results_without_time`). A
    window of a path in which a result was faster than light between the places that both ends were said to be at is no
    state (`results_faster_than_light`): a place is wrong, or the RTT, and nobody knows which.

    Args:
        lake: where the pings are.
        window: length of a window.
        start: only windows that begin then or later, so that no window is summarised in part.
        end: only windows that begin before it.

    Returns:
        Rows of `PathState`, sorted by window start, probe, target and address family. p95 and median interpolate
        linearly between packets (type 7 of Hyndman and Fan, 1996).

    Raises:
        InputError: when the window has no length.
        StoreError: when the lake cannot be read.
    """
    states = lake.query(
        _STATES,
        _span(window, start, end)
        | _RULES
        | {
            "median_packets": packets_needed(0.5),
            "p95_packets": packets_needed(0.95),
        },
        first=start,
        last=_last(window, end),
    )
    return _typed(states, PATH_STATE_SCHEMA)


def pings_without_pair(lake: Lake) -> int:
    """How many pings of the lake have no target address or no address family, and are in no path state."""
    answer = lake.query("SELECT count(*) AS pings FROM ping WHERE target IS NULL OR af IS NULL")
    return int(answer.column("pings")[0].as_py())


def results_without_time(lake: Lake) -> int:
    """How many results of the lake, of every kind, are in no window, as it is not known when they were (rule `timeless`)."""
    answer = lake.query(f"SELECT {_WITHOUT_TIME} AS results", _TIMELESS)
    return int(answer.column("results")[0].as_py())


def results_faster_than_light(
    lake: Lake, window: timedelta, start: datetime | None = None, end: datetime | None = None
) -> int:
    """How many pings and samples are in no path state, as one in their window was faster than light; see `summarise`.

    The bound is light in fibre along the great circle (`domain.place`), each place being said to `BLUR_KM`. Only where the target is
    an address of a probe, an anchor or a node is its place known.
    """
    answer = lake.query(
        _FASTER_THAN_LIGHT, _span(window, start, end) | _RULES, first=start, last=_last(window, end)
    )
    return int(answer.column("results")[0].as_py())


def atlas_ids(lake: Lake) -> set[int]:
    """Ids of the probes of Atlas in the lake: those with results, and those that a list describes."""
    nodes = set(sampled_nodes(lake).to_pylist())
    listed = lake.query("SELECT probe_id FROM probe")["probe_id"]
    return probes_seen(lake) | (set(listed.to_pylist()) - nodes)


def probes_seen(lake: Lake) -> set[int]:
    """Ids of the probes of Atlas with results in the lake.

    Raises:
        StoreError: when the lake cannot be read.
    """
    seen = lake.query("SELECT probe_id FROM ping UNION SELECT probe_id FROM traceroute")
    return set(seen["probe_id"].to_pylist())


def sampled_nodes(lake: Lake) -> pa.Array:
    """Ids of the nodes of tables in the lake: those that measured, and those that were measured."""
    answer = lake.query(
        "SELECT probe_id FROM sample UNION SELECT probe_id FROM probe"
        " WHERE (address_v4 IN (SELECT target FROM sample) OR address_v6 IN (SELECT target FROM sample))"
        " AND probe_id NOT IN (SELECT probe_id FROM ping UNION SELECT probe_id FROM traceroute) ORDER BY ALL"
    )
    return answer["probe_id"].combine_chunks().cast(pa.int64())


def sampled_targets(lake: Lake) -> set[tuple[str, int]]:
    """Targets of the samples of tables in the lake, each with its address family.

    Raises:
        StoreError: when the lake cannot be read.
    """
    targets = lake.query("SELECT DISTINCT target, af FROM sample").to_pylist()
    return {(row["target"], row["af"]) for row in targets}


def real_rows(lake: Lake) -> int:
    """How many pings, traceroutes and probes in the lake are not synthetic.

    Raises:
        StoreError: when the lake cannot be read.
    """
    return sum(
        lake.query(f"SELECT count(*) AS n FROM {kind} WHERE NOT synthetic")["n"][0].as_py()  # noqa: S608
        for kind in (Kind.PING, Kind.TRACEROUTE, Kind.PROBE)
    )


def link_states(
    lake: Lake, window: timedelta, start: datetime | None = None, end: datetime | None = None
) -> pa.Table:
    """Differential RTT of adjacent answering hops, by window.

    After Fontugne, Pelsser, Aben and Bush, "Pinpointing delay and forwarding anomalies using large-scale traceroute
    measurements", IMC 2017, section 4.

    Hops are adjacent as `hop_links` has it. Of one traceroute each RTT at the second hop is compared with each at the
    first; an answer without RTT makes an adjacency and no difference. A window's median is that of all its differences;
    its 95 % interval is between the order statistics whose ranks from either end are n times the Wilson score of a proportion of
    one half (section 4.2), rounded outwards; under six differences no rank is that low and the interval is
    unknown. Differences of one traceroute share packets, so the interval is narrower than that of as many independent ones. A
    probe's AS is that of its family when the window ended; every difference counts alike, whatever its AS.

    Args:
        lake: where the traceroutes and the probes are.
        window: length of a window, aligned to the epoch.
        start: only windows that begin then or later, so that no window is summarised in part.
        end: only windows that begin before it.

    Returns:
        Rows of `LinkState`, sorted by window start and addresses; a link without differences has a row too.

    Raises:
        InputError: when the window has no length, or a time no zone.
        StoreError: when the lake cannot be read.
    """
    states = lake.query(
        _LINK_STATES,
        _span(window, start, end)
        | _TIMELESS
        | {"least_probes": LEAST_PROBES, "least_asns": LEAST_ASNS, "z": _Z_95},
        first=start,
        last=_last(window, end),
    )
    return _typed(states, LINK_STATE_SCHEMA)


def hop_links(lake: Lake) -> pa.Table:
    """Adjacent answering hops of the lake's traceroutes: every address that answered at hop h to every one at h + 1.

    A hop in which nobody answered breaks the chain. Late answers and duplicates are not used, since they may belong to
    another hop's packet; hop 255 follows no other; no address is linked to itself. Addresses are as they were
    seen: private ones (RFC 1918) of different networks look the same.

    Returns:
        Columns of `HOP_LINK_SCHEMA`; `count` is the number of traceroutes with that adjacency.

    Raises:
        StoreError: when the lake cannot be read.
    """
    whole = {"window_us": 1, "start_us": None, "end_us": None} | _TIMELESS
    # Each traceroute is in one file: what is counted in each adds up, and files that are not new are not counted again.
    counted = pa.concat_tables(lake.query_each(Kind.TRACEROUTE, _HOP_LINKS, whole))
    ends = ["from_address", "to_address"]
    together = {"count": "sum", "first_seen": "min", "last_seen": "max", "synthetic": "any"}
    summed = (
        counted.group_by(ends).aggregate([*together.items()]).sort_by([(end, "ascending") for end in ends])
    )
    return _typed(summed.rename_columns([*ends, *together]), HOP_LINK_SCHEMA)


def measurement_targets(lake: Lake, start: datetime | None = None, end: datetime | None = None) -> pa.Table:
    """Which probe measured what in which measurement, each once, and when first and last; columns of `MEASUREMENT_TARGET_SCHEMA`.

    Args:
        lake: where the results are.
        start: only results that began then or later.
        end: only results that began before it.

    Raises:
        StoreError: when the lake cannot be read.
    """
    span = {"start_us": _epoch_us(start), "end_us": _epoch_us(end)}
    return _typed(lake.query(_TARGETS, _TIMELESS | span, first=start, last=end), MEASUREMENT_TARGET_SCHEMA)


def newest_window_end(lake: Lake, window: timedelta) -> datetime | None:
    """When the last window with a ping or a sample of a known pair and time ends; None without one.

    Raises:
        InputError: when the window has no length.
        StoreError: when the lake cannot be read.
    """
    answer = lake.query(_NEWEST, _TIMELESS | {"window_us": _span(window, None, None)["window_us"]})
    end_us = answer["end_us"][0].as_py()
    return None if end_us is None else datetime.fromtimestamp(0, tz=UTC) + timedelta(microseconds=int(end_us))


def measured_addresses(lake: Lake) -> pa.Array:
    """Targets of pings and samples whose address and time are known, each once."""
    answer = lake.query(
        f"SELECT target FROM ping WHERE target IS NOT NULL AND {_TIMED} "  # noqa: S608 - text of our own
        f"UNION SELECT target FROM sample WHERE {_TIMED} ORDER BY ALL",
        _TIMELESS,
    )
    return answer["target"].combine_chunks().cast(pa.string())


_TIMELESS: dict[str, object] = {"timeless": sorted(TIMELESS)}
_RULES = _TIMELESS | {"untimely": sorted(UNTIMELY), "pathless": sorted(PATHLESS)}
"""What queries are told of doubts."""


def _span(window: timedelta, start: datetime | None, end: datetime | None) -> dict[str, object]:
    """What every query by windows is told."""
    if window <= timedelta(0):
        raise InputError("a window without length", found=str(window), expected="a positive length")
    return {
        "window_us": window // _MICROSECOND,
        "start_us": _epoch_us(start),
        "end_us": _epoch_us(end),
    }


def _last(window: timedelta, end: datetime | None) -> datetime | None:
    """No result of windows that begin before `end` is later."""
    return None if end is None else end + window


def _epoch_us(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InputError("a time without a zone", found=str(moment), expected="an aware time")
    return (moment - datetime.fromtimestamp(0, tz=moment.tzinfo)) // _MICROSECOND


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in its schema; times come as microseconds."""
    arrays = [
        pc.cast(table.column(field.name), pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pc.cast(table.column(field.name), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
