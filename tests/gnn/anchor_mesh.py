"""Synthetic anchors that measure each other, both ways and over both address families, and a few plain probes."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from kg.arrays import Ends, PathArrays

START_S = 1_557_619_200
FIRST_PROBE = 6000
"""Id of the first anchor's probe; the number of a host is the id of its probe."""


def anchor_mesh(
    *,
    anchors: int = 24,
    probes: int = 6,
    windows: int = 5,
    window_s: int = 10800,
    families: tuple[int, ...] = (4, 6),
    noise_ms: float = 0.5,
    measured: float = 0.9,
    seed: int = 0,
) -> PathArrays:
    """Synthetic: an RTT is light in fibre, a delay of each host, one of the family, and exponential noise."""
    generator = np.random.default_rng(seed)
    hosts = anchors + probes
    place = np.column_stack([generator.uniform(20.0, 55.0, hosts), generator.uniform(-10.0, 40.0, hosts)])
    delay = generator.exponential(5.0, hosts)
    ways = [(i, j, af) for i in range(hosts) for j in range(anchors) for af in families if i != j]
    here, there, af = np.array(ways).T
    number = FIRST_PROBE + np.arange(hosts)

    def end(host: np.ndarray) -> Ends:
        return Ends(
            host=number[host],
            latitude=place[host, 0],
            longitude=place[host, 1],
            asn=64500 + host // 3,
            country=np.array(["LB", "JO", "AE"], dtype=object)[host % 3],
            centrality=delay[host][:, None],
        )

    far = np.linalg.norm(place[here] - place[there], axis=1)
    base = 1.1 * far + delay[here] + delay[there] + 2.0 * (af == 6)
    shape = (windows, len(ways))
    there_is = generator.random(shape) < measured
    rtt = base + generator.exponential(noise_ms, shape)
    target = [f"192.0.2.{j}" if family == 4 else f"2001:db8::{j:x}" for _, j, family in ways]
    return PathArrays(
        window_start_s=START_S + window_s * np.arange(windows, dtype=np.int64),
        window_s=window_s,
        probe_id=number[here],
        target=np.array(target, dtype=object),
        af=af.astype(np.int64),
        probe_end=end(here),
        target_end=end(there),
        centrality_names=("degree",),
        rtt_ms=np.where(there_is, rtt, np.nan),
        jitter_ms=np.where(there_is, 0.1 + generator.exponential(0.2, shape), np.nan),
        sent=np.where(there_is, 3, 0),
        received=np.where(there_is, 3 - (generator.random(shape) < 0.05), 0),
        synthetic=True,
    )


def of_pairs(arrays: PathArrays, pairs: np.ndarray) -> PathArrays:
    """Some of the pairs, by mask or number."""
    ends = {
        side: Ends(**{f.name: getattr(getattr(arrays, side), f.name)[pairs] for f in fields(Ends)})
        for side in ("probe_end", "target_end")
    }
    own = {name: getattr(arrays, name)[pairs] for name in ("probe_id", "target", "af")}
    grids = {name: getattr(arrays, name)[:, pairs] for name in ("rtt_ms", "jitter_ms", "sent", "received")}
    return replace(arrays, **ends, **own, **grids)
