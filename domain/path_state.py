"""Path state: what is known of one pair in one window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Who measures whom: (probe, target, address family)."""

    probe_id: int
    target: str
    af: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PathState:
    """RTT, loss and jitter of one pair in one window `[window_start, window_end)`, summarised from pings.

    RTT statistics are over the answered packets of the window, duplicates left out. A quantile is None unless
    `packets_needed(q)` packets were answered, and unless every answered packet's own RTT is known.

    Attributes:
        results: ping results in the window.
        sent, received, duplicates, errors: packets, summed over the results.
        rtt_min_ms, rtt_mean_ms, rtt_median_ms, rtt_p95_ms: round-trip time (RFC 2681).
        loss_ratio: (sent - received) / sent (RFC 6673, round trip); None when nothing was sent.
        jitter_ms: mean absolute IPDV (RFC 5481, section 4.1) over consecutive packets of one result, both answered;
            then the mean over the results of the window that have such packets; None when no result has.
        utilisation_ratio: used over available bandwidth, where somebody measured it; Atlas does not.
        synthetic: True when any of it comes from the testbed.
    """

    probe_id: int
    target: str
    af: int
    window_start: datetime
    window_end: datetime
    results: int
    sent: int
    received: int
    duplicates: int
    errors: int
    rtt_min_ms: float | None
    rtt_mean_ms: float | None
    rtt_median_ms: float | None
    rtt_p95_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None
    utilisation_ratio: float | None
    synthetic: bool


def packets_needed(quantile: float) -> int:
    """How many packets an empirical quantile needs before it says anything: one expected beyond it.

    >>> packets_needed(0.5), packets_needed(0.95)
    (1, 20)
    """
    if quantile == 0.5:  # the median of a single value is that value
        return 1
    return math.ceil(round(1.0 / min(quantile, 1.0 - quantile), 9))
