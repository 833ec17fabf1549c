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
    """RTT, loss and jitter of one pair in one window `[window_start, window_end)`, of pings or of the samples of a table.

    RTT statistics are over the answered packets of the window, duplicates left out. A quantile is None unless
    `packets_needed(q)` packets were answered, and unless every answered packet's own RTT is known. A sample of a table is one
    value of RTT, its mean, in quantiles: so it is whether or not its packets were counted.

    Attributes:
        results: ping results, or samples, in the window.
        doubtful_results: those of them whose time is in doubt (rule `untimely` of `domain.observation`); None in a graph of before
            they were counted.
        sent, received, duplicates, errors: packets, summed over the results; None when a result does not state them.
        rtt_min_ms, rtt_mean_ms, rtt_median_ms, rtt_p95_ms: round-trip time (RFC 2681).
        loss_ratio: (sent - received) / sent (RFC 6673, round trip); None when nothing was sent, or how much is unknown.
        jitter_ms: mean absolute IPDV (RFC 5481, section 4.1) over consecutive packets of one result, both answered;
            then the mean over the results of the window that have such packets; None when no result has.
        utilisation_ratio: used over available bandwidth, the mean of what results state; None when none does, as with Atlas.
        synthetic: True when any of it comes from the testbed.
    """

    probe_id: int
    target: str
    af: int
    window_start: datetime
    window_end: datetime
    results: int
    doubtful_results: int | None
    sent: int | None
    received: int | None
    duplicates: int | None
    errors: int | None
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
