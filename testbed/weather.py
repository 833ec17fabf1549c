"""Weather: utilisation, delay and loss of links at a time, and of the paths that cross them.

Utilisation follows the local hour (by the longitude of the link's middle), fluctuates slowly, and rises in a congestion event:

    rho(t) = busy_ratio * (0.45 + 0.55 * day(local hour)) + 0.09 * fluctuation(t) + added_ratio,  within [0.01, 0.96]

The mean wait in a link's queue, one way, is that of M/M/1 up to its scale: wait_ms * rho / (1 - rho) (Kleinrock,
"Queueing Systems I", section 3.2). Loss one way is the floor of the link, plus up to 4 % as rho passes 0.82, plus bursts on
host lines. Both directions of a link see the same weather. Paths that share a link therefore move together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.place import FIBRE_KM_PER_MS
from testbed.chance import Floats, Ints, Purpose, draw, fluctuation, uniform
from testbed.events import Congestion, Event, LinkFailure
from testbed.internet import SyntheticInternet
from testbed.routes import Routes

_NIGHT_RATIO = 0.45
_FLUCTUATION_RATIO = 0.09
_LEAST_RATIO, _MOST_RATIO = 0.01, 0.96
_DROPS_FROM_RATIO = 0.82
_DROPS_RATIO = 0.04
_PEAK_HOUR = 20.5
_BURST_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """N paths, each at its own time, and the weather along them. C is the most links that any has.

    A path's links are the line of the probe, the links between routers, the line of the target; column i + 1 of
    `routers` is reached after link i.

    Attributes:
        links: (N, C) link numbers, -1 after the last.
        routers: (N, C) numbers of the routers behind link 0, 1, ..., -1 after the last; the target is not among them.
        length: (N,) links of each path, both lines included.
        floor_ms: (N, C) round-trip time up to and over each link on an idle network: fibre and fixed delays, cumulative.
        wait_ms: (N, C) mean round-trip wait in queues up to and over each link, cumulative.
        line_wait_ms: (N,) the part of it on the probe's own line.
        loss_ratio: (N, C) probability that a packet or its answer is lost up to and over each link.

    After a path's last link the cumulative columns repeat.
    """

    links: Ints
    routers: Ints
    length: Ints
    floor_ms: Floats
    wait_ms: Floats
    line_wait_ms: Floats
    loss_ratio: Floats


class Weather:
    """The weather of an Internet under given events; has no memory."""

    def __init__(self, internet: SyntheticInternet, events: tuple[Event, ...]) -> None:
        self._seed = internet.seed
        self._routes = Routes(internet)
        self._failures = tuple(event for event in events if isinstance(event, LinkFailure))
        self._congestions = tuple(event for event in events if isinstance(event, Congestion))
        links = internet.links
        self._delay_ms = np.array([link.length_km / FIBRE_KM_PER_MS + link.fixed_ms for link in links])
        self._wait_ms = np.array([link.wait_ms for link in links])
        self._busy_ratio = np.array([link.busy_ratio for link in links])
        self._longitude = np.array([link.longitude for link in links])
        self._loss_floor_ratio = np.array([link.loss_floor_ratio for link in links])
        self._burst_ratio = np.array([link.burst_ratio for link in links])
        self._router = np.array([host.router for host in internet.hosts], dtype=np.int64)
        self._line = np.array([host.line for host in internet.hosts], dtype=np.int64)

    def utilisation_ratio(self, links: Ints, at_s: Ints) -> Floats:
        """(N,) utilisation of links at times (seconds since the epoch)."""
        hour = (at_s / 3600.0 + self._longitude[links] / 15.0) % 24.0
        turn = (hour - _PEAK_HOUR) * (2.0 * np.pi / 24.0)
        day = 0.5 + 0.4 * np.cos(turn) + 0.1 * np.cos(2.0 * turn)
        ratio = self._busy_ratio[links] * (_NIGHT_RATIO + (1.0 - _NIGHT_RATIO) * day)
        ratio += _FLUCTUATION_RATIO * fluctuation(self._seed, links, at_s)
        for event in self._congestions:
            ratio += event.added_ratio * (_during(event, at_s) & np.isin(links, event.links))
        clipped: Floats = np.clip(ratio, _LEAST_RATIO, _MOST_RATIO)
        return clipped

    def wait_ms(self, links: Ints, ratio: Floats) -> Floats:
        """(N,) mean wait one way in the queue of links at a utilisation."""
        wait: Floats = self._wait_ms[links] * ratio / (1.0 - ratio)
        return wait

    def loss_ratio(self, links: Ints, at_s: Ints, ratio: Floats) -> Floats:
        """(N,) probability of loss one way on links at times, at a utilisation."""
        beyond = np.maximum(ratio - _DROPS_FROM_RATIO, 0.0) / (_MOST_RATIO - _DROPS_FROM_RATIO)
        kept = 1.0 - (self._loss_floor_ratio[links] + _DROPS_RATIO * beyond**2)
        cell = at_s // _BURST_S
        bursts = uniform(draw(self._seed, Purpose.BURST, links, cell)) < self._burst_ratio[links]
        burst_loss = 0.1 + 0.5 * uniform(draw(self._seed, Purpose.BURST_SIZE, links, cell))
        lost: Floats = 1.0 - kept * (1.0 - bursts * burst_loss)
        return lost

    def paths(self, hosts: Ints, target: int, af: int, at_s: Ints) -> Paths:
        """Paths of N hosts (by number) to a target host (by number), each at its time.

        Raises:
            DataError: when failed links cut routers off.
        """
        links, routers, length = self._crossed(hosts, target, af, at_s)
        on_path = links >= 0
        flat, flat_s = links[on_path], np.broadcast_to(at_s[:, None], links.shape)[on_path]
        ratio = self.utilisation_ratio(flat, flat_s)
        floor, wait, kept = np.zeros(links.shape), np.zeros(links.shape), np.ones(links.shape)
        floor[on_path] = 2.0 * self._delay_ms[flat]
        wait[on_path] = 2.0 * self.wait_ms(flat, ratio)
        kept[on_path] = (1.0 - self.loss_ratio(flat, flat_s, ratio)) ** 2
        lost = 1.0 - np.cumprod(kept, axis=1, dtype=np.float64)
        return Paths(
            links=links,
            routers=routers,
            length=length,
            floor_ms=np.cumsum(floor, axis=1),
            wait_ms=np.cumsum(wait, axis=1),
            line_wait_ms=wait[:, 0].copy(),
            loss_ratio=lost,
        )

    def _crossed(self, hosts: Ints, target: int, af: int, at_s: Ints) -> tuple[Ints, Ints, Ints]:
        """Links (N, C), routers (N, C) and length (N,) of the paths, whatever links are down at each time."""
        down = np.zeros(hosts.shape, dtype=np.int64)
        for bit, event in enumerate(self._failures):
            down |= _during(event, at_s).astype(np.int64) << bit
        parts = []
        for state in np.unique(down):
            failed = frozenset(event.link for bit, event in enumerate(self._failures) if state >> bit & 1)
            parts.append((down == state, self._routes.checked(int(self._router[target]), af, failed)))
        widest = max((table.links.shape[1] for _, table in parts), default=0) + 2
        links = np.full((len(hosts), widest), -1, dtype=np.int64)
        routers = np.full((len(hosts), widest), -1, dtype=np.int64)
        length = np.zeros(hosts.shape, dtype=np.int64)
        for rows, table in parts:
            first = self._router[hosts[rows]]
            between = table.links.shape[1]
            links[rows, 1 : 1 + between] = table.links[first]
            routers[rows, : 1 + between] = table.routers[first]
            length[rows] = table.length[first] + 2
        links[:, 0] = self._line[hosts]
        links[np.arange(len(hosts)), length - 1] = self._line[target]
        return links, routers, length


def _during(event: Event, at_s: Ints) -> NDArray[np.bool_]:
    during: NDArray[np.bool_] = (at_s >= event.window.start.timestamp()) & (
        at_s < event.window.end.timestamp()
    )
    return during
