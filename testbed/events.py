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

_FELT_MS = 0.3
"""Least `wait_ms` of a link whose congestion adds some ten ms to a round trip."""


def schedule(internet: SyntheticInternet, window: Window) -> tuple[LinkFailure, Congestion]:
    """Two events within the window: a link with a detour fails, and another one is congested.

    The failed link is the busiest one that carries at most 40 % of the pairs and whose loss cuts nobody off; the congested
    one is the busiest other one that carries at most 60 % and whose queue is long enough to be felt. The failure lasts a tenth of the window and begins around
    its 45th percentile; the congestion lasts 15 % and begins around the 70th.

    Raises:
        DataError: when no link can fail without cutting routers off.
    """
    routes = Routes(internet)
    carried = _pairs_carried(internet, routes)
    pairs = len(internet.anchors) * (len(internet.hosts) - 1)
    by_load = [int(link) for link in np.argsort(-carried, kind="stable") if carried[link] > 0]
    families = (4, 6)
    ends = {(anchor.router, af) for anchor in internet.anchors for af in families}
    failing = next(
        (
            link
            for link in by_load
            if carried[link] <= 0.4 * pairs
            and all(bool((routes.towards(*end, frozenset({link})).length >= 0).all()) for end in sorted(ends))
        ),
        None,
    )
    congested = next(
        (
            link
            for link in by_load
            if link != failing and carried[link] <= 0.6 * pairs and internet.links[link].wait_ms >= _FELT_MS
        ),
        None,
    )
    if failing is None or congested is None:
        raise DataError(
            "no link of the synthetic Internet can fail without cutting routers off",
            where=f"seed {internet.seed}",
            next_step="use another seed, or more probes and anchors",
        )
    shift = uniform(draw(internet.seed, Purpose.EVENT, np.arange(2)))
    return (
        LinkFailure(window=_part(window, 0.40 + 0.05 * float(shift[0]), 0.10), link=failing),
        Congestion(
            window=_part(window, 0.65 + 0.05 * float(shift[1]), 0.15), links=(congested,), added_ratio=0.4
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
