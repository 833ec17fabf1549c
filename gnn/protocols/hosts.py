"""Pairs of hosts: two machines that measure each other are one pair, seen from both sides."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace

import numpy as np

from gnn.protocols.protocol import Bools
from kg.arrays import Ends, Floats, Ints, PathArrays


def both_directions(arrays: PathArrays) -> tuple[PathArrays, Ints]:
    """Pairs that are each other's way back, as one.

    The round-trip time of a pair and that of its way back are of the same two paths, so what was measured in both directions is
    averaged (packets are summed). Which direction gives the merged pair its name is even among the pairs of a host, so that
    no host is always the probe.

    Returns:
        The arrays with P' pairs, and (P,) the number of each former pair among them.
    """
    here, there = arrays.probe_end.host, arrays.target_end.host
    low, high = np.minimum(here, there), np.maximum(here, there)
    _, merged = np.unique(np.stack([low, high, arrays.af]), axis=1, return_inverse=True)
    merged = merged.reshape(-1)
    # Several addresses of one host may be measured from one probe: only the way back is merged, not these.
    forward = (here < there) == ((here + there) % 2 == 0)
    ways = np.stack([np.bincount(merged, weights=one) for one in (forward, ~forward)])
    mutual = ((ways == 1.0).all(axis=0))[merged]
    if not mutual.any():
        return arrays, np.arange(arrays.pairs, dtype=np.int64)
    kept = np.flatnonzero(~mutual | forward)
    column = np.full(arrays.pairs, -1, dtype=np.int64)
    column[kept] = np.arange(len(kept))
    of_group = np.full(int(merged.max()) + 1, -1, dtype=np.int64)
    of_group[merged[kept[mutual[kept]]]] = column[kept[mutual[kept]]]
    back = np.flatnonzero(mutual & ~forward)
    column[back] = of_group[merged[back]]

    def mean(values: Floats) -> Floats:
        one = values[:, kept]
        other = np.full_like(one, np.nan)
        other[:, column[back]] = values[:, back]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
            return np.asarray(np.nanmean(np.stack([one, other]), axis=0))

    def total(values: Ints) -> Ints:
        summed = values[:, kept].copy()
        summed[:, column[back]] += values[:, back]
        return summed

    return (
        replace(
            arrays,
            probe_id=arrays.probe_id[kept],
            target=arrays.target[kept],
            af=arrays.af[kept],
            probe_end=_taken(arrays.probe_end, kept),
            target_end=_taken(arrays.target_end, kept),
            rtt_ms=mean(arrays.rtt_ms),
            jitter_ms=mean(arrays.jitter_ms),
            sent=total(arrays.sent),
            received=total(arrays.received),
        ),
        column,
    )


def _taken(end: Ends, rows: Ints) -> Ends:
    return Ends(**{field.name: getattr(end, field.name)[rows] for field in fields(end)})


def touches(arrays: PathArrays, hosts: Ints) -> Bools:
    """(P,) True where either end of the pair is one of the hosts."""
    return np.isin(arrays.probe_end.host, hosts) | np.isin(arrays.target_end.host, hosts)


def host_pair(arrays: PathArrays) -> Ints:
    """(P,) a number for each pair of hosts, whatever the direction and the address family."""
    here, there = arrays.probe_end.host, arrays.target_end.host
    ends = np.stack([np.minimum(here, there), np.maximum(here, there)])
    return np.unique(ends, axis=1, return_inverse=True)[1].reshape(-1).astype(np.int64)


def windows_over(arrays: PathArrays, most: int) -> Ints:
    """So many of the measured windows, evenly over the time, the last among them; ascending."""
    measured = np.flatnonzero(arrays.measured.any(axis=1)).astype(np.int64)
    rows = np.linspace(len(measured) - 1, 0, num=min(most, len(measured))).round().astype(np.int64)
    return measured[rows[::-1]]
