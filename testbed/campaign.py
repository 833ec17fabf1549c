"""The campaign: who measures whom, how, when. A mesh like Atlas's anchoring mesh.

For each anchor and address family there is one ping and one ICMP traceroute measurement, in which every other host of that
family takes part, anchors included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from domain.errors import InputError, UnknownNameError
from domain.observation import ResultType
from domain.window import Window
from testbed.chance import Ints, Purpose, draw, uniform
from testbed.habits import FIRST_TRACEROUTE_FIRMWARE, Habits
from testbed.internet import SyntheticInternet

FIRST_MSM_ID = 1_000_001
"""Ids under 1,000,000 are Atlas's built-in measurements."""

PING_INTERVAL = timedelta(minutes=30)
TRACEROUTE_INTERVAL = timedelta(hours=3)

NO_HABITS = Habits()

_SPREAD_S = 400
_LATENESS_S = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One series of results: `target` and `participants` are numbers of hosts."""

    msm_id: int
    group_id: int
    type: ResultType
    target: int
    af: int
    interval_s: int
    participants: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """All measurements on an Internet, and the window in which they run.

    Attributes:
        habits: what probes and results do that they should not.
    """

    internet: SyntheticInternet
    window: Window
    measurements: tuple[Measurement, ...]
    habits: Habits = NO_HABITS

    @classmethod
    def plan(
        cls,
        internet: SyntheticInternet,
        window: Window,
        ping_interval: timedelta = PING_INTERVAL,
        traceroute_interval: timedelta = TRACEROUTE_INTERVAL,
        habits: Habits = NO_HABITS,
    ) -> Campaign:
        """Plan the mesh.

        Raises:
            InputError: when an interval is shorter than a minute.
        """
        for interval in (ping_interval, traceroute_interval):
            if interval < timedelta(minutes=1):
                raise InputError("too short an interval", found=str(interval), expected="a minute or more")
        intervals = ((ResultType.PING, ping_interval), (ResultType.TRACEROUTE, traceroute_interval))
        firmware = habits.firmware(internet.seed, np.arange(len(internet.hosts), dtype=np.int64))
        measurements: list[Measurement] = []
        for anchor in internet.anchors:
            group_id = FIRST_MSM_ID + len(measurements)
            for af in (4, 6):
                if anchor.address(af) is None:
                    continue
                others = [h for h in internet.hosts if h.address(af) is not None and h is not anchor]
                for kind, interval in intervals:
                    oldest = FIRST_TRACEROUTE_FIRMWARE if kind is ResultType.TRACEROUTE else 0
                    participants = tuple(h.number for h in others if firmware[h.number] >= oldest)
                    measurements.append(
                        Measurement(
                            msm_id=FIRST_MSM_ID + len(measurements),
                            group_id=group_id,
                            type=kind,
                            target=anchor.number,
                            af=af,
                            interval_s=int(interval.total_seconds()),
                            participants=participants,
                        )
                    )
        return cls(internet=internet, window=window, measurements=tuple(measurements), habits=habits)

    def measurement(self, msm_id: int) -> Measurement:
        """The measurement with that id.

        Raises:
            UnknownNameError: when there is none.
        """
        place = msm_id - FIRST_MSM_ID
        if not 0 <= place < len(self.measurements):
            raise UnknownNameError("no such synthetic measurement", found=str(msm_id))
        return self.measurements[place]

    def moments(
        self, measurement: Measurement, hosts: Ints, start_s: int, stop_s: int, at_once: int
    ) -> Iterator[tuple[Ints, Ints]]:
        """Which of the hosts measure when in `[start_s, stop_s]`, in order of time.

        A host keeps to its own phase of the interval, up to some seconds of lateness, as probes do. The phases spread over the
        first half of the interval, at most 400 s.

        Args:
            measurement: the series.
            hosts: numbers of hosts, ascending.
            start_s: first second, since the epoch; not before the window's start.
            stop_s: last second, inclusive; before the window's end.
            at_once: roughly how many results to give at once.

        Yields:
            Host numbers (N,) and times (N,).
        """
        start_s = max(start_s, int(self.window.start.timestamp()))
        stop_s = min(stop_s, int(np.ceil(self.window.end.timestamp())) - 1)
        if len(hosts) == 0 or stop_s < start_s:
            return
        interval_s = measurement.interval_s
        spread_s = min(_SPREAD_S, interval_s // 2)
        seed, msm_id = self.internet.seed, measurement.msm_id
        phase_s = (uniform(draw(seed, Purpose.PHASE, msm_id, hosts)) * spread_s).astype(np.int64)
        first = (start_s - spread_s - _LATENESS_S) // interval_s
        last = stop_s // interval_s
        step = max(1, at_once // len(hosts))
        for begin in range(first, last + 1, step):
            rounds = np.arange(begin, min(begin + step, last + 1), dtype=np.int64)[:, None]
            late = uniform(draw(seed, Purpose.LATENESS, msm_id, hosts[None, :], rounds)) * _LATENESS_S
            at_s = rounds * interval_s + phase_s[None, :] + late.astype(np.int64)
            who = np.broadcast_to(hosts[None, :], at_s.shape)
            asked = (at_s >= start_s) & (at_s <= stop_s)
            who, at_s = who[asked], at_s[asked]
            order = np.lexsort((who, at_s))
            if len(order) > 0:
                yield who[order], at_s[order]
