"""Unseen pair: two hosts that were never measured against each other, among pairs that were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from domain.errors import DataError
from gnn.protocols.hosts import both_directions, host_pair, windows_over
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from kg.arrays import Ints, PathArrays

TEST_SHARE, CALIBRATION_SHARE, VALIDATION_SHARE = 0.20, 0.10, 0.05
LEAST_PAIRS = 60
"""Fewer pairs of hosts leave too few to calibrate on."""

FIT_ROWS = 28
"""Masks that are learned under, each in a window of its own as far as there are windows."""

TEST_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class UnseenPair(Protocol):
    """A pair of hosts is hidden at all times, in both directions and both address families.

    What was measured in both directions is averaged. A fifth of the pairs of hosts, drawn by the seed, is the test; of the
    others a part is kept for validation and calibration, and is seen whenever others are asked.
    """

    name: ClassVar[str] = "unseen-pair"
    about: ClassVar[str] = (
        "A fifth of the pairs of hosts is hidden at all times, in both directions and over both address families."
    )

    def cases(self, window_s: int) -> tuple[str, ...]:  # noqa: ARG002  there is one
        """Both directions hidden."""
        return ("both directions hidden",)

    def view(self, arrays: PathArrays) -> PathArrays:
        """Both directions as one."""
        return both_directions(arrays)[0]

    def columns_of(self, arrays: PathArrays) -> Ints:
        """Both directions have one column."""
        return both_directions(arrays)[1]

    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:
        """One random split of the pairs of hosts."""
        hosts = host_pair(arrays)
        answered = np.unique(hosts[np.isfinite(arrays.rtt_ms).any(axis=0)])
        if len(answered) < LEAST_PAIRS:
            raise DataError(
                "too few pairs of hosts to hide some of them",
                found=f"{len(answered)} with an RTT",
                expected=f"at least {LEAST_PAIRS}",
                next_step="choose more paths, or measure more",
            )
        drawn = np.random.default_rng([seed, 0x0A12]).permutation(answered)
        counts = [round(share * len(drawn)) for share in (TEST_SHARE, CALIBRATION_SHARE, VALIDATION_SHARE)]
        test, calibration, validation, fit = (
            np.isin(hosts, part) for part in np.split(drawn, np.cumsum(counts))
        )
        rows = windows_over(arrays, TEST_WINDOWS)
        return (
            Split(
                name=f"seed {seed}",
                fit=self.question(arrays, np.resize(windows_over(arrays, FIT_ROWS), FIT_ROWS), fit, test),
                validation=self.question(arrays, rows, validation, test),
                calibration=self.question(arrays, rows, calibration, test),
                test=self.question(arrays, rows, test, test),
                sealed=np.broadcast_to(test, arrays.rtt_ms.shape),
            ),
        )

    def question(self, arrays: PathArrays, windows: Ints, asked: Bools, held_out: Bools) -> Question:
        """Ask about pairs, (P,), in these windows, given all others but those that are held out, (P,)."""
        every = np.ones((len(windows), 1), dtype=np.bool_)
        seen = every & ~(asked | held_out)
        return Question(
            windows=windows,
            seen_until=np.minimum(windows, arrays.windows),
            seen_past=seen,
            seen_now=seen,
            asked=every & asked,
            case=np.zeros(len(windows), dtype=np.int64),
            held_out=np.broadcast_to(held_out, (arrays.windows, arrays.pairs)),
            unmet=True,
        )

    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """In each row a fifth of the pairs of hosts that may be learned on is asked, the others are seen."""
        hosts = host_pair(arrays)
        asked = fit.asked & (generator.random((len(fit), int(hosts.max()) + 1)) < TEST_SHARE)[:, hosts]
        seen = fit.seen_past | (fit.asked & ~asked)
        return replace(fit, asked=asked, seen_past=seen, seen_now=seen)

    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about pairs that were measured in none of the windows up to these."""
        never = np.asarray(~arrays.measured.any(axis=0))
        return replace(self.question(arrays, windows, never, never), held_out=None)
