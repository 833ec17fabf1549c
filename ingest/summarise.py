"""The lake -> what the knowledge graph is told: path states, links between hops, measured targets.

All of it is SQL over the lake's columns.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError
from domain.path_state import PathState, packets_needed
from ingest.columns import schema_of
from ingest.lake import Lake

PATH_STATE_SCHEMA = schema_of(PathState)

_MICROSECOND = timedelta(microseconds=1)

_STATES = """
WITH chosen AS (
    SELECT
        probe_id, target, af, sent, received, duplicates, errors, rtt_min_ms, rtt_avg_ms, synthetic,
        epoch_us(timestamp) - epoch_us(timestamp) % $window_us AS start_us,
        -- packets in their order; a lost or unsent one is null, and no pair is made across it
        list_transform(list_filter(replies, lambda reply: NOT reply.duplicate), lambda reply: reply.rtt_ms) AS rtts
    FROM ping
    WHERE target IS NOT NULL AND af IS NOT NULL
),
results AS (
    SELECT
        *,
        list_filter(rtts, lambda rtt: rtt IS NOT NULL) AS known,
        list_avg(list_transform(list_zip(rtts[2:], rtts[:-2]), lambda two: abs(two[1] - two[2]))) AS jitter_ms
    FROM chosen
    WHERE ($start_us::BIGINT IS NULL OR start_us >= $start_us) AND ($end_us::BIGINT IS NULL OR start_us < $end_us)
),
windows AS (
    SELECT
        probe_id, target, af, start_us,
        count(*) AS results,
        sum(sent) AS sent,
        sum(received) AS received,
        sum(duplicates) AS duplicates,
        sum(errors) AS errors,
        -- a result that was answered and does not give its minimum or mean leaves them unknown for the window
        CASE WHEN bool_and(received = 0 OR rtt_min_ms IS NOT NULL) THEN min(rtt_min_ms) END AS rtt_min_ms,
        CASE WHEN bool_and(received = 0 OR rtt_avg_ms IS NOT NULL)
            THEN list_sum(list_sort(list(rtt_avg_ms * received) FILTER (received > 0))) / sum(received) END AS rtt_mean_ms,
        flatten(list(known)) AS known,
        -- sorted, since the sum of floats depends on their order, and the order on who was quicker
        list_avg(list_sort(list(jitter_ms) FILTER (jitter_ms IS NOT NULL))) AS jitter_ms,
        bool_or(synthetic) AS synthetic
    FROM results
    GROUP BY probe_id, target, af, start_us
)
SELECT
    probe_id, target, af,
    start_us AS window_start,
    start_us + $window_us AS window_end,
    results, sent, received, duplicates, errors, rtt_min_ms, rtt_mean_ms,
    CASE WHEN len(known) = received AND received >= $median_packets
        THEN list_aggregate(known, 'quantile_cont', 0.5) END AS rtt_median_ms,
    CASE WHEN len(known) = received AND received >= $p95_packets
        THEN list_aggregate(known, 'quantile_cont', 0.95) END AS rtt_p95_ms,
    CASE WHEN sent > 0 THEN (sent - received) / sent::DOUBLE END AS loss_ratio,
    jitter_ms, synthetic
FROM windows
ORDER BY window_start, probe_id, target, af
"""

_HOP_LINKS = """
WITH traces AS (
    SELECT row_number() OVER () AS trace, timestamp, synthetic, unnest(hops) AS step
    FROM traceroute
),
replies AS (
    SELECT trace, timestamp, synthetic, step.hop AS hop, unnest(step.replies) AS reply
    FROM traces
),
answers AS (
    SELECT DISTINCT trace, timestamp, synthetic, hop, reply.address AS address
    FROM replies
    WHERE reply.address IS NOT NULL AND reply.late IS NULL AND NOT reply.duplicate
),
links AS (
    SELECT DISTINCT here.trace, here.timestamp, here.synthetic,
        here.address AS from_address, there.address AS to_address
    FROM answers AS here
    JOIN answers AS there ON here.trace = there.trace AND there.hop = here.hop + 1
    -- hop 255 is the probe's last, far jump, not the successor of 254
    WHERE here.address <> there.address AND there.hop <> 255
)
SELECT from_address, to_address, count(*) AS count, min(epoch_us(timestamp)) AS first_seen,
    max(epoch_us(timestamp)) AS last_seen, bool_or(synthetic) AS synthetic
FROM links
GROUP BY from_address, to_address
ORDER BY from_address, to_address
"""

_TARGETS = """
SELECT DISTINCT msm_id, type, target, target_name, af, synthetic, probe_id FROM (
    SELECT 'ping' AS type, msm_id, target, target_name, af, synthetic, probe_id FROM ping
    UNION ALL BY NAME
    SELECT 'traceroute' AS type, msm_id, target, target_name, af, synthetic, probe_id FROM traceroute
)
ORDER BY ALL
"""

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
    ]
)


def summarise(
    lake: Lake, window: timedelta, start: datetime | None = None, end: datetime | None = None
) -> pa.Table:
    """Summarise the pings of a lake by pair and window.

    Windows are aligned to the epoch. Pings whose target or address family is not known belong to no pair:
    `pings_without_pair` counts them.

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
    if window <= timedelta(0):
        raise InputError("a window without length", found=str(window), expected="a positive length")
    states = lake.query(
        _STATES,
        {
            "window_us": window // _MICROSECOND,
            "start_us": _epoch_us(start),
            "end_us": _epoch_us(end),
            "median_packets": packets_needed(0.5),
            "p95_packets": packets_needed(0.95),
        },
    )
    return _typed(states, PATH_STATE_SCHEMA)


def pings_without_pair(lake: Lake) -> int:
    """How many pings of the lake have no target address or no address family, and are in no path state."""
    answer = lake.query("SELECT count(*) AS pings FROM ping WHERE target IS NULL OR af IS NULL")
    return int(answer.column("pings")[0].as_py())


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
    return _typed(lake.query(_HOP_LINKS), HOP_LINK_SCHEMA)


def measurement_targets(lake: Lake) -> pa.Table:
    """Which probe measured what in which measurement, each once; columns of `MEASUREMENT_TARGET_SCHEMA`.

    Raises:
        StoreError: when the lake cannot be read.
    """
    return _typed(lake.query(_TARGETS), MEASUREMENT_TARGET_SCHEMA)


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
