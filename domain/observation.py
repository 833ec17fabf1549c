"""Observations: one typed, validated Atlas result each.

The fields are stated once, here. Bulk data is Arrow, and its schema is derived from these classes
(`ingest.columns`); nobody repeats a column list.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ResultType(StrEnum):
    """The kinds of Atlas result that the twin learns from."""

    PING = "ping"
    TRACEROUTE = "traceroute"


class Doubt(StrEnum):
    """Why a result that was understood is not trusted in everything. It is kept, and says so.

    Rules name what doubtful results are left out of: `TIMELESS` and `UNTIMELY` below, and the rules of those who use them.
    """

    CLOCK_OUT_OF_STEP = "clock-out-of-step"
    """The probe's clock was last in step over `CLOCK_IN_STEP_S` ago (`lts`), or the probe does not know (`lts` of -1)."""
    CLOCK_AHEAD = "clock-ahead"
    """It began over `CLOCK_TOLERANCE_S` later than it was stored, or read."""
    ENDS_BEFORE_START = "ends-before-start"
    """It ended before it began: the probe's clock was set while it measured."""
    FASTER_THAN_LIGHT = "faster-than-light"
    """Its RTT is shorter than light in fibre needs between the places that came with it: a place, or the RTT, is wrong.

    What is left out of states for it follows from what is known of places when states are made (`ingest.summarise`), and not from
    this word: a place that is put right puts its results right.
    """
    OF_ITSELF = "of-itself"
    """A node, or a host, measured itself: between it and itself there is no path."""
    PARTLY_UNDERSTOOD = "partly-understood"
    """Some of its packets, hops or replies were not understood; they are left out, of the counts too."""


CLOCK_IN_STEP_S = 600
"""A connected probe compares its clock with its controller's every few minutes: 97 of 100 recorded results say less than this."""

CLOCK_TOLERANCE_S = 60
"""Clocks of probes and of those who store are not alike to the second."""

TIMELESS = frozenset({Doubt.CLOCK_AHEAD})
"""Rule `timeless`: of these results it is not known when they were, so they are in no window."""

UNTIMELY = frozenset({Doubt.CLOCK_OUT_OF_STEP, Doubt.ENDS_BEFORE_START})
"""Rule `untimely`: these results may belong to a neighbouring window, so a forecast neither sees nor is asked windows with them."""

PATHLESS = frozenset({Doubt.OF_ITSELF})
"""Rule `pathless`: these results are of no path, so they are in no state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PingReply:
    """What became of one packet of a ping, or a duplicate answer to one.

    Exactly one of three things is true of a packet: it was answered (`rtt_ms` is a number, 0.0 included), it
    was lost (`rtt_ms` and `error` are None), or the probe could not send it (`error` says why; not loss).
    """

    rtt_ms: float | None
    ttl: int | None
    duplicate: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracerouteReply:
    """One packet's answer in a hop of a traceroute.

    `address` is None when nobody answered. `late` is the number of packets by which the answer came too
    late; a late answer proves that the hop is there, but its RTT, if given, is kept and not trusted.
    `icmp_error` is Atlas's `err`: a letter (N, H, A, P …) or a number, kept as text.
    """

    address: str | None
    rtt_ms: float | None
    ttl: int | None
    size_bytes: int | None
    icmp_error: str | None
    late: int | None
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A TTL step of a traceroute. `error` is the probe's own trouble at this step."""

    hop: int
    error: str | None
    replies: tuple[TracerouteReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What ping and traceroute observations share.

    A result is identified at Atlas by (type, `msm_id`, `probe_id`, `timestamp`, `af`, `target`, `target_name`).

    Attributes:
        msm_id: Atlas measurement.
        probe_id: Atlas probe that measured.
        timestamp: when the probe started, aware UTC, by the probe's clock.
        stored_timestamp: when Atlas stored it, or None.
        af: 4 or 6; None when neither stated nor visible in an address.
        target: measured address, compressed form; None when the name did not resolve.
        target_name: the name or address the measurement was asked for.
        probe_address: public address of the probe, as Atlas saw it.
        source_address: address the probe sent from (often private).
        protocol: ICMP, UDP or TCP, upper case.
        firmware: probe firmware number.
        clock_age_s: seconds since the probe's clock was last in step (`lts`); None when unknown, also to the probe (-1).
        size_bytes: payload size.
        doubts: why it is not trusted in everything, sorted; mostly empty.
        synthetic: True for results of the testbed.
    """

    msm_id: int
    probe_id: int
    timestamp: datetime
    stored_timestamp: datetime | None
    af: int | None
    target: str | None
    target_name: str | None
    probe_address: str | None
    source_address: str | None
    protocol: str | None
    firmware: int | None
    clock_age_s: int | None
    size_bytes: int | None
    doubts: tuple[Doubt, ...]
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PingObservation(Observation):
    """One ping result.

    Attributes:
        sent: packets that left the probe; send errors are not among them.
        received: distinct packets answered; duplicates are not among them.
        duplicates: answers to packets already answered.
        errors: packets that the probe could not send.
        rtt_min_ms, rtt_avg_ms, rtt_max_ms: over the answered packets; None when none was.
        replies: packets and duplicates in the order of the record; empty for firmware that reports
            only the summary.
    """

    sent: int
    received: int
    duplicates: int
    errors: int
    rtt_min_ms: float | None
    rtt_avg_ms: float | None
    rtt_max_ms: float | None
    replies: tuple[PingReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TracerouteObservation(Observation):
    """One traceroute result.

    Attributes:
        end_timestamp: when the probe finished; may lie before `timestamp` when its clock was stepped.
        paris_id: Paris traceroute flow, None or 0 when classic.
        error: trouble with the whole traceroute (for example a name that did not resolve).
        hops: TTL steps in the order of the record.
    """

    end_timestamp: datetime | None
    paris_id: int | None
    error: str | None
    hops: tuple[Hop, ...]


NODE = "node:"
"""Before the id of a node of a table: what stands for its address where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RttSample:
    """One RTT sample of somebody else's measurement, as a table states it; what the table does not state is None.

    A sample is identified by (`probe_id`, `target`, `af`, `timestamp`).

    Attributes:
        probe_id: node that measured.
        target: address of the measured node, compressed form; `node:ID` where its address is not known.
        af: 4 or 6.
        timestamp: when, aware UTC.
        sent, received: packets.
        rtt_min_ms, rtt_avg_ms, rtt_max_ms, rtt_mdev_ms: over the answered packets; the mean is None when none was.
        utilisation_ratio: used over available bandwidth.
        doubts: why it is not trusted in everything, sorted; mostly empty.
        synthetic: True for samples of the testbed.
    """

    probe_id: int
    target: str
    af: int
    timestamp: datetime
    sent: int | None
    received: int | None
    rtt_min_ms: float | None
    rtt_avg_ms: float | None
    rtt_max_ms: float | None
    rtt_mdev_ms: float | None
    utilisation_ratio: float | None
    doubts: tuple[Doubt, ...]
    synthetic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A record that could not be understood, kept whole.

    Attributes:
        source: file or address it came from.
        position: zero-based number of the record in that source.
        reason: why it was not understood, in words.
        raw: the record as it was found.
    """

    source: str
    position: int
    reason: str
    raw: bytes
