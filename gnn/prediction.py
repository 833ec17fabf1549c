"""Prediction: what is expected of each pair in each asked window, in physical units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gnn.protocols.protocol import Bools
from kg.arrays import Floats, Strings

QUANTILES = (0.05, 0.5, 0.95)
"""Levels of the low bound, the point and the high bound of RTT and jitter."""

NEVER_ANSWERED = "no answered packet of this pair was seen before this window"
NEVER_SENT = "no packet of this pair was seen before this window"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Arrays of (Q, P): Q asked windows, P pairs. NaN is not predicted.

    Attributes:
        rtt_ms, rtt_low_ms, rtt_high_ms: median RTT and the bounds of its 90 % interval.
        jitter_ms, jitter_low_ms, jitter_high_ms: likewise.
        any_loss_probability: that at least one packet of the window is lost.
        loss_ratio: expected share of lost packets.
        in_range: False where the predictor has nothing to stand on for RTT, or is asked about something unlike what it learned from.
        reason: why, "" where in range.
    """

    rtt_ms: Floats
    rtt_low_ms: Floats
    rtt_high_ms: Floats
    jitter_ms: Floats
    jitter_low_ms: Floats
    jitter_high_ms: Floats
    any_loss_probability: Floats
    loss_ratio: Floats
    in_range: Bools
    reason: Strings


def reasons(answered: Bools, sent: Bools) -> Strings:
    """(Q, P) why a pair cannot be predicted: it never answered, or was never even asked; "" where it can."""
    return np.where(answered, "", np.where(sent, NEVER_ANSWERED, NEVER_SENT)).astype(object)
