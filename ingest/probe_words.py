"""What was said of probes and when: the words, what is known latest, and since when and until when each thing held.

A word is what one list says of one probe, as of the time of that list. A list is silent on what it does not know, and
silence says nothing: a null ends no run and erases nothing.
"""

from __future__ import annotations

import pyarrow as pa

from domain.probe import Probe
from ingest.columns import schema_of
from ingest.places import BLUR_KM, distance_sql

PROBE_SCHEMA = schema_of(Probe)
"""Columns of `Lake.probes`."""

_INSTANT = pa.timestamp("us", tz="UTC")

WORD_SCHEMA = PROBE_SCHEMA.append(pa.field("as_of", _INSTANT, nullable=False))
"""Columns of what is kept: a row for each probe in each list."""

HISTORY_SCHEMA = pa.schema(
    [
        pa.field("relation", pa.string(), nullable=False),
        pa.field("probe_id", pa.int64()),
        pa.field("af", pa.int64()),
        pa.field("asn", pa.int64()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("country", pa.string()),
        pa.field("address", pa.string()),
        pa.field("prefix", pa.string()),
        pa.field("status", pa.string()),
        pa.field("valid_from", _INSTANT),
        pa.field("valid_to", _INSTANT),
        pa.field("synthetic", pa.bool_(), nullable=False),
    ]
)
"""Columns of `Lake.probe_history`."""

_PLACE = "CASE WHEN latitude IS NOT NULL AND longitude IS NOT NULL THEN {'latitude': latitude, 'longitude': longitude} END"


def _latest(word: str, order: str) -> str:
    """SQL for the last known value of a word. Of two said at the same time the greater counts, whichever came first."""
    return f"last({word} ORDER BY {order}) FILTER (({word}) IS NOT NULL)"


def latest_of(words: str, order: str) -> str:
    """SQL for what is known of each probe, field by field; a position is one word.

    Args:
        words: name of the table of words.
        order: name of the column that says which came later.
    """
    words_of = {"probe_id": "probe_id", "synthetic": "bool_or(synthetic) AS synthetic"} | {
        name: f"({_latest(_PLACE, f'{order}, latitude, longitude')}).{name} AS {name}"
        for name in ("latitude", "longitude")
    }
    columns = [
        words_of.get(name, f"{_latest(name, f'{order}, {name}')} AS {name}") for name in PROBE_SCHEMA.names
    ]
    return f"SELECT {', '.join(columns)} FROM {words} GROUP BY probe_id"  # noqa: S608 - names of our own fields


_WORD = "asn, latitude, longitude, country, address, prefix, status"

HISTORY = f"""
WITH words AS (
    SELECT *, bool_or(synthetic) OVER (PARTITION BY probe_id) AS ever_synthetic FROM probe_word
),
said AS (
    SELECT 'network' AS relation, probe_id, 4 AS af, NULL AS owner, as_of, ever_synthetic, asn_v4 AS asn,
        NULL::DOUBLE AS latitude, NULL::DOUBLE AS longitude, NULL AS country, NULL AS address, NULL AS prefix, NULL AS status
    FROM words WHERE asn_v4 IS NOT NULL
    UNION ALL BY NAME
    SELECT 'network' AS relation, probe_id, 6 AS af, as_of, ever_synthetic, asn_v6 AS asn
    FROM words WHERE asn_v6 IS NOT NULL
    UNION ALL BY NAME
    SELECT 'place' AS relation, probe_id, as_of, ever_synthetic, latitude, longitude
    FROM words WHERE latitude IS NOT NULL AND longitude IS NOT NULL
    UNION ALL BY NAME
    SELECT 'country' AS relation, probe_id, as_of, ever_synthetic, country
    FROM words WHERE country IS NOT NULL
    UNION ALL BY NAME
    SELECT 'status' AS relation, probe_id, as_of, ever_synthetic, status
    FROM words WHERE status IS NOT NULL
    UNION ALL BY NAME
    SELECT 'address' AS relation, probe_id, 4 AS af, as_of, ever_synthetic, address_v4 AS address
    FROM words WHERE address_v4 IS NOT NULL
    UNION ALL BY NAME
    SELECT 'address' AS relation, probe_id, 6 AS af, as_of, ever_synthetic, address_v6 AS address
    FROM words WHERE address_v6 IS NOT NULL
    -- a prefix is the address's and not the probe's: several probes can have one address
    UNION ALL BY NAME
    SELECT 'prefix' AS relation, 4 AS af, address_v4 AS owner, as_of, ever_synthetic, address_v4 AS address, prefix_v4 AS prefix
    FROM words WHERE address_v4 IS NOT NULL AND prefix_v4 IS NOT NULL
    UNION ALL BY NAME
    SELECT 'prefix' AS relation, 6 AS af, address_v6 AS owner, as_of, ever_synthetic, address_v6 AS address, prefix_v6 AS prefix
    FROM words WHERE address_v6 IS NOT NULL AND prefix_v6 IS NOT NULL
),
-- of two words of the same time the greater counts, so that it is no matter which was read first
once AS (
    SELECT relation, probe_id, af, owner, as_of, max(struct_pack({", ".join(f"{n} := {n}" for n in _WORD.split(", "))})) AS word,
        bool_or(ever_synthetic) AS ever_synthetic
    FROM said GROUP BY relation, probe_id, af, owner, as_of
),
before AS (
    SELECT *, lag(word) OVER (PARTITION BY relation, probe_id, af, owner ORDER BY as_of) AS earlier FROM once
),
marked AS (
    SELECT *, earlier IS NULL OR CASE relation
        WHEN 'place' THEN ({distance_sql("earlier", "word")}) >= {BLUR_KM}
        ELSE word IS DISTINCT FROM earlier END AS begins
    FROM before
),
numbered AS (
    SELECT *, sum(begins::INT) OVER (PARTITION BY relation, probe_id, af, owner ORDER BY as_of) AS run FROM marked
),
runs AS (
    SELECT relation, probe_id, af, owner, run, min(as_of) AS begun, last(word ORDER BY as_of) AS word,
        bool_or(ever_synthetic) AS synthetic
    FROM numbered GROUP BY relation, probe_id, af, owner, run
)
SELECT relation, probe_id, af, {", ".join(f"word.{n} AS {n}" for n in _WORD.split(", "))},
    -- nobody said anything before the first
    epoch_us(CASE WHEN run > 1 THEN begun END) AS valid_from,
    epoch_us(lead(begun) OVER (PARTITION BY relation, probe_id, af, owner ORDER BY run)) AS valid_to,
    bool_or(synthetic) OVER (PARTITION BY relation, probe_id, af, owner) AS synthetic
FROM runs
ORDER BY relation, probe_id, af, address, run
"""  # noqa: S608 - constants of our own
"""SQL over `probe_word`, for `Lake.probe_history`."""
