"""The truth, to be asked: what a pair's floor, RTT, loss and route are at a time, and what happens when.

Nothing here is measured. A test compares what was measured with it; a what-if is judged by it.
"""

from __future__ import annotations

import numpy as np

from domain.errors import UnknownNameError
from domain.path_state import Pair
from testbed.chance import Floats, Ints
from testbed.events import Event
from testbed.internet import Host, SyntheticInternet
from testbed.packets import NETWORK_WAIT_SHAPE
from testbed.weather import Paths, Weather


class Truth:
    """What is true of an Internet under given events. Times are whole seconds since the epoch, shape (T,).

    Attributes:
        internet: the Internet.
        events: all that happens, in the order given.
    """

    def __init__(self, internet: SyntheticInternet, events: tuple[Event, ...]) -> None:
        self.internet = internet
        self.events = events
        self._weather = Weather(internet, events)

    def floor_ms(self, pair: Pair, at_s: Ints) -> Floats:
        """(T,) RTT on an idle network: no packet is faster."""
        return self._paths(pair, at_s).floor_ms[:, -1]

    def rtt_ms(self, pair: Pair, at_s: Ints) -> Floats:
        """(T,) expected RTT of an answered packet: the floor and the mean waits in all queues.

        A packet's own waits vary around these means; the average of many pings approaches this.
        """
        paths = self._paths(pair, at_s)
        expected: Floats = paths.floor_ms[:, -1] + paths.wait_ms[:, -1]
        return expected

    def rtt_sd_ms(self, pair: Pair, at_s: Ints) -> Floats:
        """(T,) standard deviation of a single packet's RTT around `rtt_ms`."""
        paths = self._paths(pair, at_s)
        network = paths.wait_ms[:, -1] - paths.line_wait_ms
        deviation: Floats = np.sqrt(network**2 / NETWORK_WAIT_SHAPE + paths.line_wait_ms**2)
        return deviation

    def loss_ratio(self, pair: Pair, at_s: Ints) -> Floats:
        """(T,) probability that a packet that was sent, or its answer, is lost."""
        return self._paths(pair, at_s).loss_ratio[:, -1]

    def links(self, pair: Pair, at_s: int) -> tuple[int, ...]:
        """Numbers of the links crossed, the probe's line first, the target's last."""
        paths = self._paths(pair, np.array([at_s], dtype=np.int64))
        return tuple(int(link) for link in paths.links[0, : paths.length[0]])

    def route(self, pair: Pair, at_s: int) -> tuple[str, ...]:
        """Addresses that a packet meets: the home router if there is one, routers (silent ones too), the target."""
        host = self.internet.host(pair.probe_id)
        paths = self._paths(pair, np.array([at_s], dtype=np.int64))
        addresses = self.internet.router_v4 if pair.af == 4 else self.internet.router_v6
        routers = [addresses[router] for router in paths.routers[0, : paths.length[0] - 1]]
        home = [host.gateway] if pair.af == 4 and host.gateway is not None else []
        return (*home, *routers, pair.target)

    def utilisation_ratio(self, link: int, at_s: Ints) -> Floats:
        """(T,) utilisation of a link, by its number."""
        return self._weather.utilisation_ratio(np.full(at_s.shape, link, dtype=np.int64), at_s)

    def _paths(self, pair: Pair, at_s: Ints) -> Paths:
        host, target = self._ends(pair)
        hosts = np.full(at_s.shape, host.number, dtype=np.int64)
        return self._weather.paths(hosts, target.number, pair.af, at_s.astype(np.int64))

    def _ends(self, pair: Pair) -> tuple[Host, Host]:
        host, target = self.internet.host(pair.probe_id), self.internet.anchor_at(pair.target)
        if host.address(pair.af) is None or target.address(pair.af) != pair.target or host is target:
            raise UnknownNameError(
                "no such synthetic pair",
                found=f"probe {pair.probe_id}, target {pair.target}, IPv{pair.af}",
                expected="a probe and another anchor's address, both of that family",
            )
        return host, target
