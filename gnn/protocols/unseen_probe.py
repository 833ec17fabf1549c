"""Unseen probe: a host none, or only a few, of whose measurements were seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from domain.errors import DataError
from gnn.protocols.hosts import both_directions, host_pair, touches, windows_over
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from gnn.protocols.unseen_pair import FIT_ROWS, TEST_WINDOWS
from kg.arrays import Ints, PathArrays

TEST_SHARE, CALIBRATION_SHARE, VALIDATION_SHARE = 0.20, 0.15, 0.05
LEAST_HOSTS = 20
"""Fewer hosts that measure leave too few to calibrate on."""

SEEN = (0, 3, 5)
"""So many pairs of a hidden host are seen all the same, in three cases."""


@dataclass(frozen=True, slots=True)
class UnseenProbe(Protocol):
    """A host is hidden in both roles, all its addresses with it; but for k of its pairs, k being 0, 3 or 5.

    What was measured in both directions is averaged. A fifth of the hosts that measure, drawn by the seed, is the test. Pairs of two
    hidden hosts are not asked. The pairs asked are the same in each case: none of those that are seen in any.
    """

    name: ClassVar[str] = "unseen-probe"
    about: ClassVar[str] = (
        "A fifth of the hosts is hidden in both roles, but for none, three or five of the pairs of each."
    )
    pairs_seen: ClassVar[tuple[int, ...] | None] = SEEN

    def cases(self, window_s: int) -> tuple[str, ...]:  # noqa: ARG002  they are the same
        """How many pairs of the host are seen."""
        return tuple(f"{seen} pairs seen" for seen in SEEN)

    def view(self, arrays: PathArrays) -> PathArrays:
        """Both directions as one."""
        return both_directions(arrays)[0]

    def columns_of(self, arrays: PathArrays) -> Ints:
        """Both directions have one column."""
        return both_directions(arrays)[1]

    def splits(self, arrays: PathArrays, *, seed: int) -> tuple[Split, ...]:
        """One random split of the hosts that measure."""
        answered = np.isfinite(arrays.rtt_ms).any(axis=0)
        hosts = np.unique(arrays.probe_end.host[answered])
        if len(hosts) < LEAST_HOSTS:
            raise DataError(
                "too few probes to hide some of them",
                found=f"{len(hosts)} with an RTT",
                expected=f"at least {LEAST_HOSTS}",
                next_step="choose more paths, or measure from more probes",
            )
        generator = np.random.default_rng([seed, 0x0B0E])
        drawn = generator.permutation(hosts)
        counts = [round(share * len(drawn)) for share in (TEST_SHARE, CALIBRATION_SHARE, VALIDATION_SHARE)]
        test, calibration, validation, fit = np.split(drawn, np.cumsum(counts))
        order = self._order(arrays, generator)
        touched = touches(arrays, test)
        rows = windows_over(arrays, TEST_WINDOWS)
        asking = [
            self._question(arrays, rows, part, order, held_out=touches(arrays, others), most_seen=SEEN)
            for part, others in (
                (validation, np.concatenate([test, calibration])),
                (calibration, test),
                (test, np.empty(0, dtype=np.int64)),
            )
        ]
        learned = touches(arrays, fit) & ~touches(arrays, np.concatenate([test, calibration, validation]))
        fitted_rows = np.resize(windows_over(arrays, FIT_ROWS), FIT_ROWS)
        every = np.ones((FIT_ROWS, 1), dtype=np.bool_)
        return (
            Split(
                name=f"seed {seed}",
                fit=Question(
                    windows=fitted_rows,
                    seen_until=fitted_rows,
                    seen_past=every & ~(learned | touched),
                    seen_now=every & ~(learned | touched),
                    asked=every & learned,
                    case=np.zeros(FIT_ROWS, dtype=np.int64),
                    held_out=np.broadcast_to(touched, arrays.rtt_ms.shape),
                    unmet=True,
                ),
                validation=asking[0],
                calibration=asking[1],
                test=asking[2],
                sealed=np.broadcast_to(touched, arrays.rtt_ms.shape),
            ),
        )

    def redraw(self, fit: Question, arrays: PathArrays, generator: np.random.Generator) -> Question:
        """In each row a fifth of the hosts that may be learned on is hidden, but for as many pairs as is drawn."""
        may_be_asked = fit.asked.any(axis=0)
        hosts = np.unique(arrays.probe_end.host[may_be_asked])
        rows: list[Question] = []
        for row in range(len(fit)):
            hidden = hosts[generator.random(len(hosts)) < TEST_SHARE]
            rows.append(
                self._question(
                    arrays,
                    fit.windows[row : row + 1],
                    hidden,
                    self._order(arrays, generator),
                    held_out=np.zeros(arrays.pairs, dtype=np.bool_),
                    most_seen=(int(generator.choice(SEEN)),),
                )
            )
        asked = np.concatenate([row.asked for row in rows]) & may_be_asked
        seen = np.concatenate([row.seen_now for row in rows]) & (fit.seen_now | fit.asked)
        case = np.concatenate([row.case for row in rows])
        return replace(fit, asked=asked, seen_past=seen, seen_now=seen, case=case)

    def _order(self, arrays: PathArrays, generator: np.random.Generator) -> Ints:
        """(P,) a random order of the pairs of hosts; those that never answered, over neither family, come last."""
        hosts = host_pair(arrays)
        drawn = generator.permutation(int(hosts.max()) + 1)[hosts]
        answered = np.isin(hosts, hosts[np.isfinite(arrays.rtt_ms).any(axis=0)])
        return np.where(answered, drawn, drawn + len(hosts))

    def _question(
        self,
        arrays: PathArrays,
        windows: Ints,
        hidden: Ints,
        order: Ints,
        *,
        held_out: Bools,
        most_seen: tuple[int, ...],
    ) -> Question:
        """Ask about the hosts in `hidden`, in a row for each window and number of pairs seen; the first of `order` are those seen."""
        here, there = np.isin(arrays.probe_end.host, hidden), np.isin(arrays.target_end.host, hidden)
        one = (here ^ there) & ~held_out
        host = np.where(here, arrays.probe_end.host, arrays.target_end.host)
        rank = np.full(arrays.pairs, arrays.pairs, dtype=np.int64)
        own = np.flatnonzero(one)
        by = own[np.lexsort((order[own], host[own]))]
        # Addresses of both families of one other host share a rank: they are one pair of hosts.
        new_host = np.diff(host[by], prepend=-(2**62)) != 0
        new_pair = new_host | (np.diff(order[by], prepend=-1) != 0)
        running = np.cumsum(new_pair)
        first = np.maximum.accumulate(np.where(new_host, running, 0))
        rank[by] = running - first
        asked = one & (rank >= max(SEEN))
        questions = []
        for seen in most_seen:
            shown = ~(here | there | held_out) | (one & (rank < seen))
            questions.append((SEEN.index(seen), shown))
        every = np.ones((len(windows), 1), dtype=np.bool_)
        seen_rows = np.concatenate([every & shown for _, shown in questions])
        never = (here | there | held_out) & ~(one & (rank < max(SEEN)))
        repeated = np.tile(windows, len(questions))
        return Question(
            windows=repeated,
            seen_until=np.minimum(repeated, arrays.windows),
            seen_past=seen_rows,
            seen_now=seen_rows,
            asked=np.broadcast_to(asked, seen_rows.shape),
            case=np.repeat([case for case, _ in questions], len(windows)).astype(np.int64),
            held_out=np.broadcast_to(never, (arrays.windows, arrays.pairs)),
            unmet=True,
        )

    def ask(self, arrays: PathArrays, windows: Ints) -> Question:
        """Ask about pairs that were measured in no window, from all that is measured of their hosts."""
        measured = arrays.measured.any(axis=0)
        hosts = host_pair(arrays)
        ends = np.concatenate([arrays.probe_end.host, arrays.target_end.host])
        several = np.unique(np.stack([ends, np.tile(hosts, 2)]), axis=1)
        known = np.isin(several[1], hosts[measured])
        met, count = np.unique(several[0][known], return_counts=True)
        seen_of = np.zeros(arrays.pairs, dtype=np.int64)
        for end in (arrays.probe_end.host, arrays.target_end.host):
            place = np.clip(np.searchsorted(met, end), 0, max(len(met) - 1, 0))
            own = np.where(met[place] == end, count[place], 0) if len(met) > 0 else np.zeros_like(end)
            seen_of = own if end is arrays.probe_end.host else np.minimum(seen_of, own)
        # A row has one case, so the pairs are asked in a row for each, as many as their lesser known host has.
        case_of = np.searchsorted(np.asarray(SEEN), seen_of, side="right") - 1
        every = np.ones((len(windows), 1), dtype=np.bool_)
        seen = np.tile(every & measured, (len(SEEN), 1))
        repeated = np.tile(windows, len(SEEN))
        return Question(
            windows=repeated,
            seen_until=np.minimum(repeated, arrays.windows),
            seen_past=seen,
            seen_now=seen,
            asked=np.concatenate([every & (~measured & (case_of == case)) for case in range(len(SEEN))]),
            case=np.repeat(np.arange(len(SEEN)), len(windows)).astype(np.int64),
            unmet=True,
        )
