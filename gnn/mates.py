"""Mates: pairs that share one end with a pair, and what they tell of it.

What a mate j says of pair i is "your usual, and what I moved by": its value plus an offset. Where both have a past the offset is the
difference of their usual values. Where i has none it is estimated from hosts: of (a, b) and a mate (c, b), how much further a was
than c to the partners that both were measured with, those nearest to b counting most. Everything is from values that are seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gnn.inputs import NOBODY, Singles
from gnn.neighbours import chord_km, fibre_rtt_ms, on_sphere
from gnn.protocols.protocol import Bools
from kg.arrays import Floats, Ints, PathArrays

EDGE_COLUMNS: Final = (
    "offset_ms",
    "spread_ms",
    "log_support",
    "correlation",
    "seen_now",
    "move_ms",
    "far_megametres",
    "same_family",
    "unlike_ms",
    "fibre_offset_ms",
)
"""Numbers of an edge to a mate.

offset_ms: what is added to the mate's value to speak of the pair; spread_ms: mean absolute deviation of that difference;
log_support: log(1 + n) of the n windows, or partners, that it is from; correlation: of the moves of both over their past;
seen_now: the mate's value in the asked window is seen; move_ms: by how much it lies above its usual; far_megametres: between the ends
that differ; same_family: both IPv4 or both IPv6; unlike_ms: how unlike the hosts that differ are, where hosts were compared; fibre_offset_ms:
what the offset would be if RTT were that of light in fibre.
"""

_BLOCK = 4096
"""Pairs worked on at once: what is gathered for k mates of each over their past would not fit otherwise."""


def temporal(
    arrays: PathArrays, heard: Ints, *, past: Floats, usual: Floats, now: Floats, far: Floats, unit_ms: float
) -> Singles:
    """Edge numbers where pairs have a past.

    Args:
        arrays: for the address families.
        heard: (P, k) mates.
        past: (P, L) past values in ms, NaN where unknown.
        usual: (P,) median of the past.
        now: (P,) values of the asked window that are seen.
        far: (P, 3) places of the ends that differ, on the unit sphere.
        unit_ms: moves are compressed by asinh(move / unit) before they are correlated.

    Returns:
        (P, k, E) float32.
    """
    raw = (past - usual[:, None]).astype(np.float32)
    known = np.isfinite(raw)
    raw = np.where(known, raw, np.float32(0.0))
    moves = np.arcsinh(raw / np.float32(unit_ms))
    centred = np.where(known, moves - _mean(moves, known)[:, None], np.float32(0.0)).astype(np.float32)
    weight = known.astype(np.float32)
    of_mate = np.stack([weight, centred, centred**2, raw], axis=1)
    of_own = np.stack([weight, centred, centred**2], axis=2)
    numbers = np.empty((*heard.shape, len(EDGE_COLUMNS)), dtype=np.float32)
    for start in range(0, len(heard), _BLOCK):
        own = slice(start, start + _BLOCK)
        mate = np.maximum(heard[own], 0)
        told = of_mate[mate]  # (B, k, 4, L)
        # Sums over the windows in which both are known: what is unknown is 0 in one factor or the other.
        sums = (told.reshape(len(mate), -1, past.shape[1]) @ of_own[own]).reshape(*mate.shape, 4, 3)
        support = sums[..., 0, 0]
        norm = np.sqrt(sums[..., 2, 0] * sums[..., 0, 2])
        apart = raw[own, None, :] - told[:, :, 3]
        np.abs(apart, out=apart)
        apart *= told[:, :, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            correlation = np.where(norm > 1e-6, sums[..., 1, 1] / norm, np.nan)
            spread = (apart @ weight[own, :, None])[..., 0] / support
        numbers[own, :, 0] = usual[own, None] - usual[mate]
        numbers[own, :, 1] = spread
        numbers[own, :, 2] = np.log1p(support)
        numbers[own, :, 3] = correlation
        numbers[own, :, 8] = np.nan
    far_km = chord_km(far[:, None, :], far[np.maximum(heard, 0)])
    return _with_static(arrays, heard, numbers, usual=usual, now=now, far_km=far_km)


def _mean(values: Singles, known: Bools) -> Floats:
    return np.asarray(values.sum(axis=-1) / np.maximum(known.sum(axis=-1), 1))


def _with_static(
    arrays: PathArrays, heard: Ints, numbers: Singles, *, usual: Floats, now: Floats, far_km: Floats
) -> Singles:
    mate = np.maximum(heard, 0)
    numbers[:, :, 4] = np.isfinite(now)[mate]
    numbers[:, :, 5] = (now - usual)[mate]
    numbers[:, :, 6] = far_km / 1000.0
    numbers[:, :, 7] = arrays.af[:, None] == arrays.af[mate]
    least_ms = pair_fibre_rtt_ms(arrays)
    numbers[:, :, 9] = least_ms[:, None] - least_ms[mate]
    numbers[heard == NOBODY] = np.nan
    return numbers


def pair_fibre_rtt_ms(arrays: PathArrays) -> Floats:
    """(P,) how long light in fibre takes there and back, NaN where a place is unknown."""
    return fibre_rtt_ms(chord_km(on_sphere(arrays.probe_end), on_sphere(arrays.target_end)))


# --- hosts that are alike


MOST_HOSTS = 1000
"""Hosts are compared with each other, at a cost of their cube, up to so many; with more, only places count."""

STAND_INS = 4
"""For each mate that is wanted, so many of the hosts most alike are looked at: not all of them were measured with the other end."""

_PRIOR = 2.0
"""Partners that the distance on the map counts for, beside those that both were measured with."""

_UNKNOWN_MS = 100.0
"""How unlike two hosts are of which neither places nor common partners are known."""

_NEAR_MS = 3.0
"""Partners as near as this to the asked end count alike; further ones less, by the square."""

_DEVIATIONS = 2.0
"""Differences are cut this far from their mean: a few partners over another route would spoil it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """What is known of H hosts from the levels of their pairs.

    Attributes:
        probe, target: (P,) number of the host at either end of each pair.
        pair: (2, H, H) the pair of two hosts, over IPv4 and over IPv6, `NOBODY` where there is none.
        far_km: (H, H) between their places, NaN where one is unknown.
        unlike: (H, H) how unlike two hosts are, in ms; -1 on the diagonal, so that a host itself comes first.
        stand_ins: (H, S) the hosts most like each, first the most.
        offset_ms, spread_ms, log_support: (H, S, H) how much further a host is than its stand-in to a third, that difference's
            standard deviation, and log(1 + n) of the n partners that it is from: those nearest to the third count most, it
            itself does not. 0 partners make an offset of 0.
    """

    probe: Ints
    target: Ints
    pair: Ints
    far_km: Floats
    unlike: Floats
    stand_ins: Ints
    offset_ms: Singles
    spread_ms: Singles
    log_support: Singles


def hosts_of(arrays: PathArrays, level: Floats, neighbours: int) -> Hosts:
    """Compare hosts by the levels of their pairs, and by their places.

    Two hosts are as unlike as the standard deviation of the difference of their RTTs to common partners, blended with how long
    light in fibre takes there and back between them.

    Args:
        arrays: the pairs.
        level: (P,) usual RTT in ms, NaN where it is not seen.
        neighbours: k, how many mates are wanted.
    """
    ends = np.concatenate([arrays.probe_end.host, arrays.target_end.host])
    _, first, number = np.unique(ends, return_index=True, return_inverse=True)
    count = len(first)
    probe, target = number[: arrays.pairs], number[arrays.pairs :]
    pair = np.full((2, count, count), NOBODY, dtype=np.int64)
    family = (arrays.af == 6).astype(np.int64)
    column = np.arange(arrays.pairs)
    pair[family, target, probe] = column
    pair[family, probe, target] = column
    both = np.full((2, count, count), np.nan)
    both[family, target, probe] = level
    back = both[family, probe, target]
    both[family, probe, target] = np.where(np.isfinite(level), level, back)
    table = np.where(np.isfinite(both[0]), both[0], both[1])
    place = np.concatenate([on_sphere(arrays.probe_end), on_sphere(arrays.target_end)])[first]
    far_km = chord_km(place[:, None, :], place[None, :, :])
    unlike = _unlike(table, fibre_rtt_ms(far_km))
    stand_ins = np.argsort(unlike, axis=1, kind="stable")[:, 1 : 1 + STAND_INS * neighbours]
    offset, spread, support = _offsets(table, unlike, stand_ins)
    return Hosts(
        probe=probe,
        target=target,
        pair=pair,
        far_km=far_km,
        unlike=unlike,
        stand_ins=stand_ins,
        offset_ms=offset,
        spread_ms=spread,
        log_support=support,
    )


def _unlike(table: Floats, apart_ms: Floats) -> Floats:
    """(H, H) ms."""
    known = np.isfinite(table).astype(np.float64)
    x = np.where(np.isfinite(table), table, 0.0)
    common = known @ known.T
    squares, summed = (x**2) @ known.T, x @ known.T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (summed - summed.T) / common
        variance = (squares + squares.T - 2.0 * (x @ x.T)) / common - mean**2
    deviation = np.sqrt(np.maximum(np.where(common > 1.0, variance, 0.0), 0.0))
    apart = np.where(np.isfinite(apart_ms), apart_ms, _UNKNOWN_MS)
    weight = np.maximum(common - 1.0, 0.0)
    unlike = (weight * deviation + _PRIOR * apart) / (weight + _PRIOR)
    np.fill_diagonal(unlike, -1.0)  # itself comes first, and is left out
    return np.asarray(unlike)


def _offsets(table: Floats, unlike: Floats, stand_ins: Ints) -> tuple[Singles, Singles, Singles]:
    """See `Hosts`; each (H, S, H) float32."""
    known = np.isfinite(table)
    x = np.where(known, table, 0.0).astype(np.float32)
    near = (1.0 / (np.maximum(unlike, 0.0) + _NEAR_MS) ** 2).astype(np.float32)
    np.fill_diagonal(near, 0.0)  # the third host itself is no partner: that pair is what is asked
    count, several = stand_ins.shape
    offset, spread, support = (np.zeros((count, several, count), dtype=np.float32) for _ in range(3))
    for host in range(count):
        common = (known[host] & known[stand_ins[host]]).astype(np.float32)  # (S, H)
        difference = (x[host] - x[stand_ins[host]]) * common
        for _ in range(2):
            n = np.maximum(common.sum(axis=1, keepdims=True), 1.0)
            mean = difference.sum(axis=1, keepdims=True) / n
            reach = _DEVIATIONS * np.sqrt(((difference - mean) ** 2 * common).sum(axis=1, keepdims=True) / n)
            difference = np.clip(difference, mean - reach, mean + reach) * common
        weight = common @ near
        safe = np.where(weight > 0.0, weight, 1.0)
        mean = (difference @ near) / safe
        variance = np.maximum((difference**2) @ near / safe - mean**2, 0.0)
        squared = common @ (near**2)
        some = weight > 0.0
        offset[host] = mean
        spread[host] = np.where(some, np.sqrt(variance), unlike[host, stand_ins[host]][:, None])
        effective = np.where(some, weight**2 / np.where(squared > 0.0, squared, 1.0), 0.0)
        support[host] = np.log1p(effective)
    return offset, spread, support


def through_hosts(
    arrays: PathArrays, hosts: Hosts, speaking: Bools, *, usual: Floats, now: Floats, neighbours: int
) -> tuple[dict[str, Ints], dict[str, Singles]]:
    """Mates through the hosts most alike: `probe` keeps the pair's probe and takes another target, `target` the other way.

    Args:
        arrays: the pairs.
        hosts: compared.
        speaking: (P,) pairs that may be mates.
        usual: (P,) what is seen of them, in ms.
        now: (P,) likewise, of the asked window where it is seen there.
        neighbours: k.

    Returns:
        Edge type -> (P, k) mates, most alike first, and edge type -> (P, k, E) float32 edge numbers.
    """
    family = (arrays.af == 6).astype(np.int64)[:, None]
    column = np.arange(arrays.pairs)[:, None]
    heard: dict[str, Ints] = {}
    numbers: dict[str, Singles] = {}
    for side, kept, swapped in (
        ("probe", hosts.probe, hosts.target),
        ("target", hosts.target, hosts.probe),
    ):
        stand_in = hosts.stand_ins[swapped]
        same, other = (hosts.pair[one, kept[:, None], stand_in] for one in (family, 1 - family))
        mate = np.where((same != NOBODY) & speaking[same], same, other)
        usable = (mate != NOBODY) & speaking[mate] & (mate != column)
        slot = np.argsort(~usable, axis=1, kind="stable")[:, :neighbours]
        there = np.take_along_axis(usable, slot, axis=1)
        table = np.full((arrays.pairs, neighbours), NOBODY, dtype=np.int64)
        table[:, : slot.shape[1]] = np.where(there, np.take_along_axis(mate, slot, axis=1), NOBODY)
        edge = np.full((*table.shape, len(EDGE_COLUMNS)), np.nan, dtype=np.float32)
        at = (swapped[:, None], slot, kept[:, None])
        for place, values in enumerate((hosts.offset_ms, hosts.spread_ms, hosts.log_support)):
            edge[:, : slot.shape[1], place] = values[at]
        edge[:, : slot.shape[1], 8] = hosts.unlike[
            swapped[:, None], np.take_along_axis(stand_in, slot, axis=1)
        ]
        heard[side] = table
        # A mate may have the kept host at its other end, so what differs is looked up by host.
        far_km = np.full(table.shape, np.nan)
        far_km[:, : slot.shape[1]] = hosts.far_km[
            swapped[:, None], np.take_along_axis(stand_in, slot, axis=1)
        ]
        numbers[side] = _with_static(arrays, table, edge, usual=usual, now=now, far_km=far_km)
    return heard, numbers
