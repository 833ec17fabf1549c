"""Vivaldi: network coordinates with heights."""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np

from domain.place import EARTH_RADIUS_KM, fibre_rtt_ms
from gnn.baselines.levels import LevelBaseline, Seen, Table
from kg.arrays import Floats

DIMENSIONS: Final = 5
"""Three begin as the place on the Earth; the others are room to get past each other."""

STEPS: Final = 250
FIRST_STEP: Final = 0.05
"""How far a coordinate moves in the first step, as a share of the middle level; it falls to 0 along half a cosine."""

SOFT: Final = 0.02
"""Errors below this share of the middle level pull in proportion, all larger ones alike."""

OFF_AXIS: Final = 0.02
"""How far from 0 coordinates start that no place says, as a share of the middle level."""

DETOUR: Final = 1.4
"""How much longer than light in straight fibre a path is taken to be at the start."""

MEMORY: Final = (0.9, 0.99)
"""Of the mean of the gradient, and of its square, from step to step."""


TINY: Final = 1e-9
"""Keeps what is divided by from being 0."""


class Vivaldi(LevelBaseline):
    """RTT is the distance between coordinates of both hosts, plus a height of either: the way to where the core begins.

    All springs are relaxed at once, for so many steps, from where the hosts lie on the Earth (Adam: Kingma, Ba, ICLR 2015), with the
    absolute error as their energy; coordinates beyond the third start a little off 0, drawn from a fixed seed. A host of
    unknown place starts in the middle of all.
    """

    name: ClassVar[str] = "vivaldi"
    citation: ClassVar[str] = (
        "Dabek, Cox, Kaashoek, Morris: Vivaldi: A Decentralized Network Coordinate System (SIGCOMM 2004), with heights, section 5.4"
    )

    def fitted(self, table: Table, seen: Seen) -> Floats:
        """Distance and heights."""
        unit = float(np.median(seen.level))
        if unit == 0.0:
            return np.zeros(len(table.here))
        place, height = relaxed(table, seen, unit)
        apart = np.linalg.norm(place[table.here] - place[table.there], axis=1)
        return np.asarray(unit * (apart + height[table.here] + height[table.there]))


def relaxed(table: Table, seen: Seen, unit: float) -> tuple[Floats, Floats]:
    """(H, D) coordinates and (H,) heights, in units of so many ms."""
    level = seen.level / unit
    place = np.random.default_rng(0).normal(0.0, OFF_AXIS, size=(table.hosts, DIMENSIONS))
    known = np.asarray(np.isfinite(table.place).all(axis=1))
    if known.any():
        radius = fibre_rtt_ms(EARTH_RADIUS_KM) * DETOUR / unit
        place[:, :3] += radius * np.where(known[:, None], table.place, table.place[known].mean(axis=0))
    point = np.column_stack([place, np.full(table.hosts, OFF_AXIS)])
    first, second = np.zeros_like(point), np.zeros_like(point)
    pairs = np.maximum(seen.of_hosts(np.ones_like(level)), 1.0)[:, None]
    for step in range(1, STEPS + 1):
        apart = point[seen.here, :-1] - point[seen.there, :-1]
        distance = np.sqrt((apart**2).sum(axis=1) + TINY)
        pull = np.clip((distance + point[seen.here, -1] + point[seen.there, -1] - level) / SOFT, -1.0, 1.0)
        along = apart * (pull / distance)[:, None]
        from_here = np.column_stack([along, pull])
        from_there = np.column_stack([-along, pull])
        gradient = seen.at_host @ np.concatenate([from_here, from_there]) / pairs
        first = MEMORY[0] * first + (1.0 - MEMORY[0]) * gradient
        second = MEMORY[1] * second + (1.0 - MEMORY[1]) * gradient**2
        length = FIRST_STEP * 0.5 * (1.0 + np.cos(np.pi * (step - 1) / STEPS))
        mean, square = first / (1.0 - MEMORY[0] ** step), second / (1.0 - MEMORY[1] ** step)
        point = point - length * mean / (np.sqrt(square) + TINY)
        point[:, -1] = np.maximum(point[:, -1], 0.0)
    return point[:, :-1], point[:, -1]
