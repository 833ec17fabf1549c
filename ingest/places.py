"""Distances in SQL, and what is faster than light between two places. As `domain.place`, over columns."""

from __future__ import annotations

from domain.place import EARTH_RADIUS_KM, FIBRE_KM_PER_MS

BLUR_KM = 1.0
"""A position that is nearer than this to the one said before is the same place: Atlas blurs positions by about so much."""


def distance_sql(here: str, there: str) -> str:
    """SQL for the great-circle distance in km (haversine) between two rows, or structs, with `latitude` and `longitude`.

    It is null where one of the four is: `least` alone would pass over it.
    """
    known = " AND ".join(
        f"{end}.{name} IS NOT NULL" for end in (here, there) for name in ("latitude", "longitude")
    )
    return (
        f"CASE WHEN {known} THEN 2 * {EARTH_RADIUS_KM} * asin(least(1.0, sqrt("
        f"pow(sin(radians({there}.latitude - {here}.latitude) / 2), 2)"
        f" + cos(radians({there}.latitude)) * cos(radians({here}.latitude))"
        f" * pow(sin(radians({there}.longitude - {here}.longitude) / 2), 2)))) END"
    )


def faster_than_light_sql(rtt_ms: str, km: str) -> str:
    """SQL for whether an RTT is shorter than light in fibre needs, there and back. Each place is said to `BLUR_KM`."""
    return f"{rtt_ms} < 2 * (({km}) - 2 * {BLUR_KM}) / {FIBRE_KM_PER_MS}"
