"""Path quality: the three numbers that an application feels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PathQuality:
    """RTT, loss and jitter of a path; None is unknown.

    Where `loss_ratio` is 1 no packet came back, so RTT and jitter have no value: RFC 2681 (section 2.4) calls that
    round-trip delay undefined, informally infinite.
    """

    rtt_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None
