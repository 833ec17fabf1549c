"""Selections: which paths, and when, a question is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=1)
"""A time that has one before it, in every zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A disc on the globe: centre in WGS84 degrees, radius in km."""

    latitude: float
    longitude: float
    radius_km: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Filters on paths. Within a field any value matches; across fields all must. Empty means no filter.

    Attributes:
        probe_ids: probes that measure.
        targets: measured addresses, compressed form.
        asns, target_asns: AS of the probe, of the target.
        countries: country of the probe, ISO 3166-1 alpha-2, upper case.
        area: where the probe is.
        prefixes: the probe has an address in one of these, such as `193.0.0.0/21`.
        af: address family, 4 or 6.
        start, end: windows that begin in `[start, end)`; None is open.
        at: windows that hold this moment.
        window_s: windows of this length only.
    """

    probe_ids: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    asns: tuple[int, ...] = ()
    target_asns: tuple[int, ...] = ()
    countries: tuple[str, ...] = ()
    area: Area | None = None
    prefixes: tuple[str, ...] = ()
    af: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    at: datetime | None = None
    window_s: int | None = None

    @property
    def as_of(self) -> datetime | None:
        """The moment whose places and networks count: `at`, or just before `end`; None is the latest known."""
        if self.at is not None or self.end is None:
            return self.at
        return max(self.end, _FIRST) - timedelta(microseconds=1)
