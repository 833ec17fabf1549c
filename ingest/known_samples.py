"""Samples that are read again: what they add to those that are known.

A sample is what it is by its identity. Read again, it may say more (a column more was named), and then it takes the place of the
one that is known: only when it agrees with all that one says, so that no row is made of two readings that never agreed. Nothing
that is known is ever taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from ingest.batch import SAMPLE_SCHEMA
from ingest.lake_files import IDENTITY, Kind

_STATED = tuple(
    name for name in SAMPLE_SCHEMA.names if name not in (*IDENTITY[Kind.SAMPLE], "doubts", "synthetic")
)

_SAME = " AND ".join(f"again.{name} = known.{name}" for name in IDENTITY[Kind.SAMPLE])
_AGREES = " AND ".join(
    f"(known.{name} IS NULL OR known.{name} IS NOT DISTINCT FROM again.{name})" for name in _STATED
)
_SAYS_NO_MORE = " AND ".join(
    f"(again.{name} IS NULL OR {{that}}.{name} IS NOT DISTINCT FROM again.{name})" for name in _STATED
)
_SAID = " + ".join(f"(again.{name} IS NOT NULL)::INT" for name in _STATED)

_AGAIN = f"""
WITH met AS (
    SELECT known.row AS place, again.row AS row, {_AGREES} AS agrees,
        NOT ({_SAYS_NO_MORE.format(that="known")}) OR len(list_filter(again.doubts, lambda one: NOT list_contains(known.doubts, one))) > 0
            AS says_more,
        {_SAID} AS said
    FROM again JOIN known ON {_SAME}
),
chosen AS (
    SELECT place, arg_max(row, (said, -row)) FILTER (agrees AND says_more) AS row FROM met GROUP BY place
)
SELECT met.place, met.row,
    met.row IS NOT DISTINCT FROM chosen.row AS is_chosen,
    NOT ({_SAYS_NO_MORE.format(that="kept")}) AS says_otherwise
FROM met JOIN chosen USING (place)
JOIN again ON again.row = met.row
JOIN (SELECT * FROM again UNION ALL BY NAME SELECT * REPLACE (-1 - row AS row) FROM known) AS kept
    ON kept.row = coalesce(chosen.row, -1 - met.place)
"""  # noqa: S608 - names of our own


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAgain:
    """What reading samples again came to.

    Attributes:
        table: the known samples, in their order, those that say more now among them.
        place: (C,) the rows that say more now, sorted.
        differing: samples that say otherwise than the known one, or not all that it says, and something that it does not.
    """

    table: pa.Table
    place: np.ndarray[tuple[int], np.dtype[np.int64]]
    differing: int


def read_again(database: duckdb.DuckDBPyConnection, known: pa.Table, again: pa.Table) -> ReadAgain:
    """Bring known samples up to what later readings of them say.

    Args:
        database: an empty one.
        known: rows of `RttSample`, each identity once.
        again: rows of `RttSample`; those of which none is known are passed over.
    """
    for name, table in (("known", known), ("again", again)):
        database.register(name, table.append_column("row", pa.array(np.arange(table.num_rows))))
    try:
        met = database.sql(_AGAIN).to_arrow_table().sort_by("place")
    finally:
        database.unregister("known")
        database.unregister("again")
    chosen = met.filter(met["is_chosen"])
    place = chosen["place"].to_numpy()
    differing = sum(met["says_otherwise"].to_pylist())
    if len(place) == 0:
        return ReadAgain(table=known, place=place, differing=differing)
    fuller = again.take(chosen["row"])
    doubts = pa.array(
        [
            sorted({*one, *other})
            for one, other in zip(
                known["doubts"].take(pa.array(place)).to_pylist(), fuller["doubts"].to_pylist(), strict=True
            )
        ],
        SAMPLE_SCHEMA.field("doubts").type,
    )
    fuller = fuller.set_column(fuller.schema.get_field_index("doubts"), SAMPLE_SCHEMA.field("doubts"), doubts)
    order = np.arange(known.num_rows)
    order[place] = known.num_rows + np.arange(len(place))
    return ReadAgain(
        table=pa.concat_tables([known, fuller.cast(known.schema)]).take(pa.array(order)),
        place=place,
        differing=differing,
    )
