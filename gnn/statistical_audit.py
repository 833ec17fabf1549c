"""The leakage audit by numbers: a predictor that is too good to be true, on measurements as they are and on worthless ones.

Inputs that no longer change with hidden values (`gnn.audit`) are the proof; this is the check that somebody was right about it.
`audit_statistics` is part of every comparison, `audit_worthless` of the tests: it learns once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gnn import history
from gnn.audit import Finding, Verdict, without
from gnn.prediction import Prediction
from gnn.predictor import Lesson, Predictor
from gnn.protocols.hosts import host_pair
from gnn.protocols.protocol import Protocol, Question, Split
from kg.arrays import Floats, Ints, PathArrays

LEAST_CELLS = 100
"""Fewer cells with both neighbours in time say too little about noise."""

LEAST_TOGETHER = 3
"""So many pairs of a host in a window tell what moved all of them."""

OF_NEIGHBOURS = 1.5**0.5
"""The difference of one value to the mean of two others, all of them equally noisy, is so much noisier than one."""

SAFETY = 0.5
"""Half of the noise that is estimated is what no honest predictor can be below."""

LEAST_SKILL = 0.1
"""An error less than the best by this share is a finding; anything less may be luck, where few hosts share most of the error."""

RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Worthless:
    """What a predictor made of measurements in which there is nothing to find.

    Attributes:
        cells, clusters: scored, and probe hosts among them.
        error_ms: mean absolute error of RTT.
        best_error_ms: that of the best that can be done without having seen the truth.
        most_ms: upper end of the 95 % interval, over clusters, of the first less the second but `LEAST_SKILL` of it; below 0
            there is skill.
        finding: set where there is.
    """

    cells: int
    clusters: int
    error_ms: float
    best_error_ms: float
    most_ms: float
    finding: Finding | None


def noise_floor_ms(arrays: PathArrays, question: Question) -> float | None:
    """What the median absolute error of RTT cannot be below in the asked cells, whoever predicts; from the measurements alone.

    An RTT of a window is the median of a few packets. Who knew the path perfectly would still miss it by how those few happened to
    fare. That noise is what is left of a value when the mean of the window before and the one after is taken away, and
    what all pairs of its probe, and then of its target, had in common (the median, where there are at least three): slow
    change and what others saw too could have been known. The difference holds the noise of three values, sqrt(3/2) that of one
    (Gasser, Sroka, Jennen-Steinmetz: Residual variance and residual pattern in nonlinear regression, Biometrika 73, 1986). What is left still holds sudden moves of a single path, which are no noise and which somebody might
    foresee, so half of the median is the floor. It uses the windows on both sides, which no predictor may.

    Returns:
        ms; None where it cannot be known: where windows have no measured neighbours, as in arrays of one window, or where RTTs do
        not move at all.
    """
    cells = question.cells(arrays).rtt
    rows = np.unique(question.windows)
    rows = rows[(rows > 0) & (rows < arrays.windows - 1)]
    asked = np.zeros((len(rows), arrays.pairs), dtype=np.bool_)
    for row, window in enumerate(rows):
        asked[row] = cells[question.windows == window].any(axis=0)
    rtt_ms = arrays.rtt_ms
    left = rtt_ms[rows] - (rtt_ms[rows - 1] + rtt_ms[rows + 1]) / 2.0
    for end in (arrays.probe_end, arrays.target_end):
        left = _less_common(left, end.host)
    known = left[asked & np.isfinite(left)]
    if len(known) < LEAST_CELLS:
        return None
    floor = SAFETY * float(np.median(np.abs(known))) / OF_NEIGHBOURS
    return floor if floor > 0.0 else None


def _less_common(values: Floats, group: Ints) -> Floats:
    """(W, P) less the median of each group in each window."""
    own = values.copy()
    for one in np.unique(group):
        members = group == one
        together = values[:, members]
        many = np.isfinite(together).sum(axis=1) >= LEAST_TOGETHER
        own[:, members] -= np.where(many, history.median(together), 0.0)[:, None]
    return own


def audit_statistics(arrays: PathArrays, question: Question, prediction: Prediction) -> Verdict:
    """A median error below the noise of the measurement is a leak until it is explained.

    Args:
        arrays: the measurements, as the protocol views them.
        question: of the test.
        prediction: of that question.
    """
    floor_ms = noise_floor_ms(arrays, question)
    scored = question.cells(arrays).rtt & np.isfinite(prediction.rtt_ms)
    if floor_ms is None or scored.sum() < LEAST_CELLS:
        return Verdict(windows=(), findings=())
    error_ms = float(np.median(np.abs(prediction.rtt_ms - arrays.rtt_ms[question.windows])[scored]))
    if error_ms >= floor_ms:
        return Verdict(windows=(), findings=())
    name = f"a median RTT error of {error_ms:.3g} ms is below the noise of the measurement, {floor_ms:.3g} ms"
    return Verdict(
        windows=(), findings=(Finding(kind="error", name=name, window=int(question.windows.min())),)
    )


def worthless(arrays: PathArrays, question: Question, generator: np.random.Generator) -> PathArrays:
    """The measurements, shuffled so that what is seen tells nothing of what is asked.

    Where pairs are unmet, pairs of hosts swap all that was ever measured of them: no place, no host and no neighbour tells which
    pair has which. Where a pair has a past, its windows are shuffled among those in which it was measured, each pair on its own:
    neither its last value nor what others do now tells anything. Each value is there as before, so nothing else changes.

    Args:
        arrays: the measurements, as the protocol views them.
        question: of the test; says whether pairs are unmet.
        generator: draws the order.
    """
    rows, columns = np.indices((arrays.windows, arrays.pairs))
    if question.unmet:
        hosts = host_pair(arrays)
        order = np.argsort(hosts, kind="stable")
        start = np.searchsorted(hosts[order], np.arange(int(hosts.max()) + 1))
        size = np.bincount(hosts)
        swapped = generator.permutation(len(size))[hosts]
        place = np.empty(arrays.pairs, dtype=np.int64)
        place[order] = np.arange(arrays.pairs) - start[hosts[order]]
        columns = np.broadcast_to(order[start[swapped] + place % size[swapped]], rows.shape)
    else:
        drawn = np.where(arrays.measured, generator.random(rows.shape), np.inf)
        taken = np.argsort(drawn, axis=0, kind="stable")  # measured windows first, in a drawn order
        rank = np.cumsum(arrays.measured, axis=0) - 1
        rows = np.where(arrays.measured, np.take_along_axis(taken, np.maximum(rank, 0), axis=0), rows)
    return replace(
        arrays,
        rtt_ms=arrays.rtt_ms[rows, columns],
        jitter_ms=arrays.jitter_ms[rows, columns],
        sent=arrays.sent[rows, columns],
        received=arrays.received[rows, columns],
    )


def audit_worthless(
    new: Callable[[], Predictor], arrays: PathArrays, split: Split, protocol: Protocol, *, seed: int
) -> Worthless:
    """Learn on measurements in which there is nothing to find, and see whether something is found.

    A permutation test in which everything is done again (Ojala, Garriga: Permutation tests for studying classifier performance,
    JMLR 11, 2010): inputs and targets are made from the same shuffled measurements, so an honest base, such as
    the last value, loses its skill as well, and an input that holds the target keeps it. Shuffling only the targets that are
    learned on would do neither: the base would stay good, and weights on a leaking input would vanish.

    What is hidden is then, given all that is seen, as good as drawn by lot: from the pair's own values, or, where pairs are
    unmet, from those of all pairs in the window. Nothing that does not know it can in the mean do better than the median
    of what is hidden, of the pair or of the row, which is the reference. Its error is less than that of every honest predictor
    unless by luck, and luck is in the interval.

    Args:
        new: makes an unfitted predictor; it is learned once, and its inputs are not audited.
        arrays: the measurements, as the protocol views them.
        split: what is learned on, and what is kept for the test.
        protocol: that made the split.
        seed: of the shuffling, of learning and of the interval.
    """
    generator = np.random.default_rng([seed, 0x5F1E])
    shuffled = worthless(arrays, split.test, generator)
    predictor = new()
    predictor.learn(
        Lesson(
            arrays=without(shuffled, split.sealed),
            split=replace(split, test=split.test.part(slice(0, 0))),
            protocol=protocol,
            seed=seed,
        )
    )
    point = predictor.raw(shuffled, split.test).rtt_ms
    truth = shuffled.rtt_ms[split.test.windows]
    scored = split.test.cells(shuffled).rtt & np.isfinite(point)
    known = np.where(scored, truth, np.nan)
    best = history.median(known)[:, None] if split.test.unmet else history.median(known.T)[None, :]
    errors, best_errors = np.abs(point - truth)[scored], np.abs(best - truth)[scored]
    host = np.broadcast_to(arrays.probe_end.host, scored.shape)[scored]
    most_ms = _most(errors - (1.0 - LEAST_SKILL) * best_errors, host, generator)
    finding = None
    if most_ms < 0.0:
        name = (
            f"an RTT error of {errors.mean():.3g} ms on measurements shuffled so that {best_errors.mean():.3g} ms is the best"
            " that can be"
        )
        finding = Finding(kind="error", name=name, window=int(split.test.windows.min()))
    return Worthless(
        cells=len(errors),
        clusters=len(np.unique(host)),
        error_ms=float(errors.mean()) if len(errors) > 0 else np.nan,
        best_error_ms=float(best_errors.mean()) if len(errors) > 0 else np.nan,
        most_ms=most_ms,
        finding=finding,
    )


def _most(difference: Floats, clusters: Ints, generator: np.random.Generator) -> float:
    """Upper end of the 95 % bootstrap interval of the mean; whole clusters are drawn."""
    if len(difference) == 0:
        return np.inf
    number = np.unique(clusters, return_inverse=True)[1]
    sums, counts = np.bincount(number, weights=difference), np.bincount(number)
    drawn = generator.multinomial(len(sums), np.full(len(sums), 1.0 / len(sums)), size=RESAMPLES)
    return float(np.quantile((drawn @ sums) / np.maximum(drawn @ counts, 1), 0.975))
