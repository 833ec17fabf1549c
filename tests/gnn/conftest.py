"""Synthetic path arrays, small and seeded, in which several paths of a probe move for one cause."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gnn.shared_work import SharedWork
from kg.arrays import Ends, PathArrays

WINDOW_S = 10800
START_S = 1_557_619_200  # 2019-05-12T00:00Z, a Sunday


def synthetic_arrays(
    *,
    probes: int = 8,
    targets: int = 6,
    windows: int = 40,
    seed: int = 0,
    noise_ms: float = 1.0,
    unmeasured: float = 0.1,
    persistence: float = 0.7,
) -> PathArrays:
    """Synthetic: distance, a daily rhythm, and spells in which all paths of one probe are slow and lossy."""
    generator = np.random.default_rng(seed)
    pairs = probes * targets
    probe = np.repeat(np.arange(probes), targets)
    target = np.tile(np.arange(targets), probes)
    latitude = generator.uniform(20.0, 50.0, size=probes + targets)
    longitude = generator.uniform(0.0, 40.0, size=probes + targets)
    slow = np.zeros((windows, probes))
    for row in range(1, windows):  # a spell begins in one of twelve windows
        begins = generator.random(probes) < np.where(slow[row - 1] > 0.0, persistence, 0.08)
        slow[row] = np.where(begins, 30.0, 0.0)
    day = np.sin(2.0 * np.pi * (np.arange(windows) * WINDOW_S % 86400) / 86400)
    base = generator.uniform(10.0, 120.0, size=pairs)
    rtt = base + 4.0 * day[:, None] + slow[:, probe] + generator.exponential(noise_ms, size=(windows, pairs))
    sent = np.full((windows, pairs), 9, dtype=np.int64)
    lost = generator.binomial(9, np.where(slow[:, probe] > 0.0, 0.1, 0.005))
    silent = generator.random((windows, pairs)) < unmeasured
    sent[silent], lost[silent] = 0, 0
    jitter = 1.0 + 0.1 * slow[:, probe] + generator.exponential(0.2, size=(windows, pairs))
    country = np.array(["LB", "JO", "AE", ""], dtype=object)
    return PathArrays(
        window_start_s=START_S + WINDOW_S * np.arange(windows, dtype=np.int64),
        window_s=WINDOW_S,
        probe_id=probe.astype(np.int64) + 1,
        target=np.array([f"192.0.2.{number + 1}" for number in target], dtype=object),
        af=np.full(pairs, 4, dtype=np.int64),
        probe_end=Ends(
            host=probe.astype(np.int64),
            latitude=latitude[probe],
            longitude=longitude[probe],
            asn=64500 + probe.astype(np.int64) // 2,
            country=country[probe % 4],
            centrality=generator.random((probes, 1))[probe],
        ),
        target_end=Ends(
            host=100 + target.astype(np.int64),
            latitude=np.where(target == 0, np.nan, latitude[probes + target]),
            longitude=np.where(target == 0, np.nan, longitude[probes + target]),
            asn=np.where(target == 0, 0, 64600 + target // 3).astype(np.int64),
            country=country[target % 4],
            centrality=generator.random((targets, 1))[target],
        ),
        centrality_names=("degree",),
        rtt_ms=np.where(sent > lost, rtt, np.nan),
        jitter_ms=np.where(sent > lost, jitter, np.nan),
        sent=sent,
        received=sent - lost,
        synthetic=True,
    )


@pytest.fixture(scope="session")
def make_arrays() -> Callable[..., PathArrays]:
    """Builds synthetic arrays."""
    return synthetic_arrays


@pytest.fixture(scope="session")
def arrays() -> PathArrays:
    """48 pairs in 40 windows of 3 h."""
    return synthetic_arrays()


@pytest.fixture
def rough_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits to the levels of all pairs stop early; what they find is for test_baselines.py, and here they are inputs."""
    monkeypatch.setattr("gnn.baselines.levels.ROUNDS", 2)
    monkeypatch.setattr("gnn.baselines.low_rank.SWEEPS", 1)
    monkeypatch.setattr("gnn.baselines.vivaldi.STEPS", 10)
    monkeypatch.setattr("gnn.baselines.level_fits._shared", SharedWork(2**24))


@pytest.fixture
def few_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pairs or hosts are hidden, what is learned on is drawn a few times only."""
    monkeypatch.setattr("gnn.protocols.unseen_pair.FIT_ROWS", 8)
    monkeypatch.setattr("gnn.protocols.unseen_probe.FIT_ROWS", 8)
