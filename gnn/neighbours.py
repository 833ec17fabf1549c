"""Which pairs hear which: typed tables of the k nearest, from topology and geography, never from RTT.

Pairs hear each other when they share a host, an AS or a country at one end, or are near at both ends. Each type is capped at the k
nearest, so edges grow linearly with pairs. What is unknown makes no edge.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.spatial import cKDTree

from domain.place import EARTH_RADIUS_KM
from domain.place import fibre_rtt_ms as _over
from gnn.inputs import NOBODY
from gnn.protocols.protocol import Bools
from kg.arrays import UNKNOWN_ASN, UNKNOWN_COUNTRY, Ends, Floats, Ints, PathArrays

RELATIONS = ("probe", "target", "probe_as", "target_as", "probe_country", "target_country", "near")
"""Edge types: what two pairs share. `near` is nearness at both ends."""

_GROUP_GAP = 16.0  # more than any distance inside a group, below: groups never mix in one tree
_UNKNOWN_GAP = 4.0  # more than the diameter of the unit sphere: known places come before unknown ones


def on_sphere(end: Ends) -> Floats:
    """(P, 3) places on the unit sphere, NaN where unknown; chords order like great circles."""
    return unit_vectors(end.latitude, end.longitude)


def unit_vectors(latitude: Floats, longitude: Floats) -> Floats:
    """(N, 3) of degrees."""
    latitude, longitude = np.radians(latitude), np.radians(longitude)
    across = np.cos(latitude)
    return np.column_stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)])


def chord_km(one: Floats, other: Floats) -> Floats:
    """Great-circle distance in km between places on the unit sphere, along the last axis; NaN where one is unknown."""
    half_chord = np.clip(np.linalg.norm(one - other, axis=-1) / 2.0, 0.0, 1.0)
    return np.asarray(2.0 * EARTH_RADIUS_KM * np.arcsin(half_chord))


def fibre_rtt_ms(kilometres: Floats) -> Floats:
    """How long light takes there and back in so many km of fibre, in ms."""
    return np.asarray(_over(kilometres))  # type: ignore[arg-type]  # arithmetic alone


def heard_by(
    arrays: PathArrays,
    speaking: Bools,
    hearing: Bools,
    *,
    neighbours: int,
    near_km: float,
    relations: Collection[str] = RELATIONS,
) -> dict[str, Ints]:
    """Whom each pair hears.

    Args:
        arrays: where the pairs' ends are; no measured value is read.
        speaking: (P,) pairs that are heard.
        hearing: (P,) pairs that hear.
        neighbours: k, the most of one type.
        near_km: how far apart the ends of two near pairs may be: the root of the summed squares of both distances.
        relations: the edge types that are wanted.

    Returns:
        Edge type -> (P, k), nearest first, `NOBODY` where there are fewer.
    """
    place = {"probe": on_sphere(arrays.probe_end), "target": on_sphere(arrays.target_end)}
    ends = {"probe": arrays.probe_end, "target": arrays.target_end}
    other = {"probe": "target", "target": "probe"}
    found: dict[str, Ints] = {}
    for side, end in ends.items():
        far = place[other[side]]
        country = np.unique(end.country.astype(str), return_inverse=True)[1].astype(np.int64)
        for name, group, known in (
            (side, end.host, np.ones(arrays.pairs, dtype=np.bool_)),
            (f"{side}_as", end.asn, end.asn != UNKNOWN_ASN),
            (f"{side}_country", country, np.asarray(end.country != UNKNOWN_COUNTRY, dtype=np.bool_)),
        ):
            if name in relations:
                found[name] = _nearest_in_group(group, speaking & known, hearing & known, far, neighbours)
    if "near" in relations:
        both = np.concatenate([place["probe"], place["target"]], axis=1)
        placed = np.isfinite(both).all(axis=1)
        nowhere = np.zeros(arrays.pairs, dtype=np.int64)
        within = near_km / EARTH_RADIUS_KM
        found["near"] = _nearest_in_group(
            nowhere, speaking & placed, hearing & placed, both, neighbours, within=within
        )
    return {relation: found[relation] for relation in RELATIONS if relation in found}


def _nearest_in_group(
    group: Ints, speaking: Bools, hearing: Bools, place: Floats, neighbours: int, within: float = np.inf
) -> Ints:
    """The nearest of each hearing pair's group: one search tree, in which groups lie far apart on an axis of their own.

    Pairs of unknown place come after all others of the group, in an order drawn from a fixed seed, which also breaks ties.
    """
    heard = np.full((len(group), neighbours), NOBODY, dtype=np.int64)
    speakers, hearers = np.flatnonzero(speaking), np.flatnonzero(hearing)
    if len(speakers) == 0 or len(hearers) == 0 or neighbours == 0:
        return heard
    drawn = np.random.default_rng(0).random((len(group), place.shape[1]))
    unknown = np.asarray(~np.isfinite(place).all(axis=1))
    point = np.where(unknown[:, None], drawn, place + 1e-9 * drawn)
    apart = np.unique(group, return_inverse=True)[1] * _GROUP_GAP + unknown * _UNKNOWN_GAP
    points = np.column_stack([point, apart])
    count = min(neighbours + 1, len(speakers))
    _, nearest = cKDTree(points[speakers]).query(
        points[hearers], k=count, distance_upper_bound=min(within, _GROUP_GAP / 2.0)
    )
    nearest = nearest.reshape(len(hearers), count)
    there = nearest < len(speakers)  # a missing neighbour is numbered past the end
    pair = np.where(there, speakers[np.where(there, nearest, 0)], NOBODY)
    there &= pair != hearers[:, None]
    kept = np.argsort(~there, axis=1, kind="stable")[:, :neighbours]
    heard[hearers, : kept.shape[1]] = np.where(
        np.take_along_axis(there, kept, axis=1), np.take_along_axis(pair, kept, axis=1), NOBODY
    )
    return heard
