"""Link state: what traceroutes say of two adjacent hops in one window."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """Differential RTT of two adjacent hops in one window `[window_start, window_end)`.

    A difference is the RTT of a packet answered at the second hop less that of one answered at the first, of the same
    traceroute. The two ways back may differ, and that adds an unknown to each probe's differences; it cancels out only
    where probes of several networks saw the link (Fontugne et al. 2017, "Pinpointing delay and forwarding anomalies
    using large-scale traceroute measurements", sections 4.1 and 4.2). Median and interval are None under
    `LEAST_PROBES` probes or `LEAST_ASNS` ASes.

    Attributes:
        from_address, to_address: the address that answered at a hop, and the one at the next.
        traceroutes: that saw them next to each other.
        probes, asns: distinct probes, and distinct known ASes of them, behind the differences.
        samples: differences.
        rtt_diff_median_ms: their median.
        rtt_diff_low_ms, rtt_diff_high_ms: its 95 % confidence interval (order statistics, Wilson score).
        utilisation_ratio: used over available bandwidth, where somebody measured it; Atlas does not.
        synthetic: True when any of it comes from the testbed.
    """

    from_address: str
    to_address: str
    window_start: datetime
    window_end: datetime
    traceroutes: int
    probes: int
    asns: int
    samples: int
    rtt_diff_median_ms: float | None
    rtt_diff_low_ms: float | None
    rtt_diff_high_ms: float | None
    utilisation_ratio: float | None
    synthetic: bool


LEAST_PROBES = 3
"""Probes that must have seen a link before its differential RTT is said."""

LEAST_ASNS = 3
"""Distinct ASes that these probes must be in (Fontugne et al. 2017, section 4.3)."""
