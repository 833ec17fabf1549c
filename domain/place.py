"""Places: great circles, and how fast light can be in fibre."""

from __future__ import annotations

import math

EARTH_RADIUS_KM = 6371.0088
"""Mean Earth radius (IUGG, R1)."""

FIBRE_KM_PER_MS = 299_792.458 / 1.468 / 1000.0
"""Speed of light in standard single-mode fibre: vacuum speed over the group index 1.468 (ITU-T G.652 fibre at 1550 nm)."""


def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance (haversine) between two WGS84 positions in degrees; NaN where one of them is not known.

    >>> round(distance_km(33.89, 35.50, 52.37, 4.90))
    3182
    >>> distance_km(math.nan, 35.50, 52.37, 4.90)
    nan
    """
    phi, other_phi = math.radians(latitude), math.radians(other_latitude)
    half_phi = math.sin((other_phi - phi) / 2.0)
    half_lambda = math.sin(math.radians(other_longitude - longitude) / 2.0)
    a = half_phi**2 + math.cos(phi) * math.cos(other_phi) * half_lambda**2
    return 2.0 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(a, 1.0)))  # in this order NaN stays NaN


def fibre_rtt_ms(distance: float) -> float:
    """The least round-trip time over that many km of fibre, in ms.

    >>> round(fibre_rtt_ms(1000.0), 2)
    9.79
    """
    return 2.0 * distance / FIBRE_KM_PER_MS
