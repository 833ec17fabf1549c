"""Packets: what becomes of each one, drawn from the weather. N results at once; the loop over packets is NumPy's.

A packet waits `network_wait * g + line_wait * e` besides the floor, where g is gamma of shape 4 and mean 1 (the sum over
many queues varies less than one queue) and e exponential with mean 1 (one queue: M/M/1). So the mean of many RTTs is the
weather's floor plus its mean wait, and no RTT is under the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.campaign import Measurement
from testbed.chance import Floats, Ints, Purpose, draw, exponential, uniform
from testbed.internet import SyntheticInternet
from testbed.weather import Paths, Weather

PACKETS = 3
NETWORK_WAIT_SHAPE = 4
TARGET_TRIES = 5
"""Hops without an answer after which a traceroute gives up (Atlas's gap limit)."""

_SEND_ERROR_RATIO = 0.002
_DUPLICATE_RATIO = 0.0005
_DEAF_RATIO = 0.012
_ICMP_WAIT_MS = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class PingPackets:
    """Packets of N ping results.

    Attributes:
        rtt_ms: (N, 3) NaN where lost or not sent.
        unsent: (N,) the packet that the probe could not send, -1 for none.
        duplicate_ms: (N, 3) RTT of a second answer to the same packet, NaN for none.
        ttl: (N,) of the answers.
    """

    rtt_ms: Floats
    unsent: Ints
    duplicate_ms: Floats
    ttl: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceroutePackets:
    """Packets of N traceroutes; C is the most routers on any path.

    Attributes:
        paths: where they went.
        gateway_ms: (N, 3) answers of the home router, NaN where lost; meaningless without one.
        router_ms: (N, C, 3) answers of the routers, NaN where lost or silent.
        target_ms: (N, 5, 3) answers of the target at the first hop that reaches it and the next four, NaN where lost.
    """

    paths: Paths
    gateway_ms: Floats
    router_ms: Floats
    target_ms: Floats


def ping_packets(
    internet: SyntheticInternet, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> PingPackets:
    """What becomes of the packets of pings by the hosts (by number) at their times."""
    seed, msm_id = internet.seed, measurement.msm_id
    paths = weather.paths(hosts, measurement.target, measurement.af, at_s)
    who, when, packet = hosts[:, None], at_s[:, None], np.arange(PACKETS)[None, :]
    lost = uniform(draw(seed, Purpose.LOST, msm_id, who, when, packet)) < paths.loss_ratio[:, -1:]
    network_ms = paths.wait_ms[:, -1:] - paths.line_wait_ms[:, None]
    waits_ms = network_ms * _network_wait(seed, msm_id, who, when, packet)
    waits_ms += paths.line_wait_ms[:, None] * exponential(
        draw(seed, Purpose.LINE_WAIT, msm_id, who, when, packet)
    )
    trouble = uniform(draw(seed, Purpose.SEND_ERROR, msm_id, hosts, at_s))
    # One draw says both whether a packet could not be sent, and which.
    unsent = np.where(trouble < _SEND_ERROR_RATIO, trouble / _SEND_ERROR_RATIO * PACKETS, -1.0).astype(
        np.int64
    )
    rtt_ms = np.round(paths.floor_ms[:, -1:] + waits_ms, 6)
    rtt_ms[lost | (packet == unsent[:, None])] = np.nan
    twice = uniform(draw(seed, Purpose.DUPLICATE, msm_id, who, when, packet)) < _DUPLICATE_RATIO
    lag_ms = 0.05 + 0.3 * exponential(draw(seed, Purpose.DUPLICATE_LAG, msm_id, who, when, packet))
    return PingPackets(
        rtt_ms=rtt_ms,
        unsent=unsent,
        duplicate_ms=np.where(twice, np.round(rtt_ms + lag_ms, 6), np.nan),
        ttl=64 - (paths.length - 1) - has_gateway(internet, measurement.af)[hosts],
    )


def traceroute_packets(
    internet: SyntheticInternet, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> TraceroutePackets:
    """What becomes of the packets of traceroutes by the hosts (by number) at their times."""
    seed, msm_id = internet.seed, measurement.msm_id
    paths = weather.paths(hosts, measurement.target, measurement.af, at_s)
    who, when = hosts[:, None, None], at_s[:, None, None]
    packet = np.arange(PACKETS)[None, None, :]
    line_ms = paths.line_wait_ms[:, None, None]

    def answers(hop: Ints, floor_ms: Floats, wait_ms: Floats, loss_ratio: Floats) -> Floats:
        """(N, K, 3) RTT at K hops, NaN where lost; columns (N, K) say what the way there is like."""
        key = (msm_id, who, when, hop[None, :, None], packet)
        waits = (wait_ms[:, :, None] - line_ms) * _network_wait(seed, *key)
        waits += line_ms * exponential(draw(seed, Purpose.LINE_WAIT, *key))
        waits += _ICMP_WAIT_MS * exponential(draw(seed, Purpose.HOP_WAIT, *key))
        lost = uniform(draw(seed, Purpose.HOP_LOST, *key)) < loss_ratio[:, :, None]
        return np.where(lost, np.nan, np.round(floor_ms[:, :, None] + waits, 3))

    columns = paths.links.shape[1]
    router_ms = answers(np.arange(columns), paths.floor_ms, paths.wait_ms, paths.loss_ratio)
    silent = np.array([router.silent for router in internet.routers])
    router_ms[silent[paths.routers]] = np.nan
    repeated = [
        np.repeat(column[:, -1:], TARGET_TRIES, axis=1)
        for column in (paths.floor_ms, paths.wait_ms, paths.loss_ratio)
    ]
    # Hop numbers from 100 on, so that the target never shares a draw with a router.
    target_ms = answers(100 + np.arange(TARGET_TRIES), *repeated)
    target_ms[uniform(draw(seed, Purpose.DEAF_TARGET, msm_id, hosts, at_s)) < _DEAF_RATIO] = np.nan
    gateway = draw(seed, Purpose.GATEWAY, msm_id, hosts[:, None], at_s[:, None], np.arange(PACKETS)[None, :])
    return TraceroutePackets(
        paths=paths,
        gateway_ms=np.round(0.3 + 0.4 * exponential(gateway), 3),
        router_ms=router_ms,
        target_ms=target_ms,
    )


def has_gateway(internet: SyntheticInternet, af: int) -> Ints:
    """(hosts,) 1 where a home router stands before the host in that family (IPv4 only), else 0."""
    return np.array([af == 4 and host.gateway is not None for host in internet.hosts], dtype=np.int64)


def _network_wait(seed: int, *key: int | Ints) -> Floats:
    """Gamma with shape 4 and mean 1: the mean of four exponentials."""
    parts = [exponential(draw(seed, Purpose.NETWORK_WAIT, *key, part)) for part in range(NETWORK_WAIT_SHAPE)]
    mean: Floats = (parts[0] + parts[1] + parts[2] + parts[3]) / NETWORK_WAIT_SHAPE
    return mean
