"""Events: what happens to which links, and when. They are part of the truth and are never in what is served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

import numpy as np

from domain.errors import DataError
from domain.window import Window
from testbed.chance import Ints, Purpose, draw, uniform
from testbed.internet import SyntheticInternet
from testbed.routes import Routes
from testbed.topology import Link, LinkKind


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFailure:
    """A link is down; paths over it take their detour at once."""

    window: Window
    link: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Congestion:
    """Links carry more than usual: `added_ratio` is added to their utilisation."""

    window: Window
    links: tuple[int, ...]
    added_ratio: float


Event: TypeAlias = LinkFailure | Congestion

_LONG_KM = 500.0
"""Length from which on a detour around a link is felt."""

_FELT_MS = 0.3
"""Least `wait_ms` of a link whose congestion adds some ten ms to a round trip."""


def schedule(internet: SyntheticInternet, window: Window) -> tuple[LinkFailure, Congestion]:
    """Two events within the window: a link with a detour fails, and another one is congested.

    Of the long links whose loss cuts nobody off, the busiest fails that carries at most 40 % of the pairs; of the others whose
    queue is long enough to be felt, the busiest that carries at most 60 % is congested. In a world so small that there is no such
    link, a short one, else the least loaded one above that share, else one that nobody crosses. The failure lasts a tenth of the window and begins around its 45th
    percentile; the congestion lasts 15 % and begins around the 70th.

    Raises:
        DataError: when no link can fail without cutting routers off, or no other can be congested.
    """
    routes = Routes(internet)
    carried = _pairs_carried(internet, routes)
    pairs = len(internet.anchors) * (len(internet.hosts) - 1)
    between = [link for link in internet.links if link.kind is not LinkKind.LINE]
    ends = sorted({(anchor.router, af) for anchor in internet.anchors for af in (4, 6)})

    def has_detour(link: Link) -> bool:
        return all((routes.towards(*end, frozenset({link.number})).length >= 0).all() for end in ends)

    def by_load(most_ratio: float) -> list[Link]:
        """First those that carry something, but not too much, the long ones before the short, then the busiest first."""

        def rank(link: Link) -> tuple[bool, bool, bool, int, int]:
            load = int(carried[link.number])
            over = load > most_ratio * pairs
            return load == 0, over, link.length_km < _LONG_KM, load if over else -load, link.number

        return sorted(between, key=rank)

    failing = next((link for link in by_load(0.4) if has_detour(link)), None)
    felt = (link for link in by_load(0.6) if link is not failing and link.wait_ms >= _FELT_MS)
    congested = next(felt, None)
    if failing is None or congested is None:
        raise DataError(
            "no two links of the synthetic Internet can have events without cutting routers off",
            where=f"seed {internet.seed}",
            next_step="use another seed, or more probes and anchors",
        )
    shift = uniform(draw(internet.seed, Purpose.EVENT, np.arange(2)))
    return (
        LinkFailure(window=_part(window, 0.40 + 0.05 * float(shift[0]), 0.10), link=failing.number),
        Congestion(
            window=_part(window, 0.65 + 0.05 * float(shift[1]), 0.15),
            links=(congested.number,),
            added_ratio=0.4,
        ),
    )


def _part(window: Window, begin: float, share: float) -> Window:
    """A part of the window, on whole seconds."""
    whole_s = window.length.total_seconds()
    start = window.start + timedelta(seconds=round(begin * whole_s))
    return Window(start=start, end=start + timedelta(seconds=max(1, round(share * whole_s))))


def _pairs_carried(internet: SyntheticInternet, routes: Routes) -> Ints:
    """(L,) how many IPv4 pairs each link carries when all is well; host lines carry none here."""
    carried = np.zeros(len(internet.links), dtype=np.int64)
    home = np.array([host.router for host in internet.hosts], dtype=np.int64)
    for anchor in internet.anchors:
        links = routes.checked(anchor.router, 4, frozenset()).links[
            home[np.arange(len(home)) != anchor.number]
        ]
        np.add.at(carried, links[links >= 0], 1)
    return carried
