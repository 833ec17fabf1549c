"""What the baselines share that fit the levels of all pairs of one row: a table of hosts by hosts, part of it known."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array, identity
from scipy.sparse.linalg import cg

from gnn import history
from gnn.baselines.past import base_rate
from gnn.baselines.simple import SimpleBaseline
from gnn.inputs import Inputs
from gnn.neighbours import chord_km, fibre_rtt_ms, on_sphere
from gnn.protocols.protocol import Bools, Question
from kg.arrays import Floats, Ints, PathArrays, Strings

NOTHING_SEEN = "no answered packet of any pair was seen"

PRIOR_PAIRS = 2.0
"""What all pairs do counts as so many pairs of a host."""

ROUNDS, STEPS, TOLERANCE = 12, 200, 1e-6
"""Of drawing weights anew; the most steps of solving for each, and what may be left of what is solved."""

MOST_AT_ONCE = 1500
"""Terms whose weights are solved for at once, at a cost of their cube; more are solved for step by step."""

RIDGE = 0.5
"""Pairs that speak for an effect of 0: a host with one pair has an effect of about two thirds of what it shows."""

LEAST_ERROR = 0.1
"""Errors below this share of the middle one weigh alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """P pairs as cells of a table of H hosts by H hosts. A round trip is the same there and back, so it is symmetric.

    Attributes:
        here, there: (P,) number of the host at either end.
        hosts: H.
        place: (H, 3) on the unit sphere, NaN where unknown.
        fibre_ms: (P,) how long light takes there and back over the great circle, NaN where a place is unknown.
    """

    here: Ints
    there: Ints
    hosts: int
    place: Floats
    fibre_ms: Floats

    @classmethod
    def of(cls, arrays: PathArrays) -> Self:
        """The table of these pairs."""
        ends = np.concatenate([arrays.probe_end.host, arrays.target_end.host])
        _, first, number = np.unique(ends, return_index=True, return_inverse=True)
        place = np.concatenate([on_sphere(arrays.probe_end), on_sphere(arrays.target_end)])[first]
        here, there = number[: arrays.pairs], number[arrays.pairs :]
        return cls(
            here=here,
            there=there,
            hosts=len(first),
            place=place,
            fibre_ms=fibre_rtt_ms(chord_km(place[here], place[there])),
        )

    def seen(self, level: Floats) -> Seen:
        """The pairs whose level is known, from both ends."""
        pairs = np.flatnonzero(np.isfinite(level))
        end = np.concatenate([self.here[pairs], self.there[pairs]])
        return Seen(
            pairs=pairs,
            level=level[pairs],
            here=self.here[pairs],
            there=self.there[pairs],
            fibre_ms=self.fibre_ms[pairs],
            at_host=csr_array((np.ones(len(end)), (end, np.arange(len(end)))), shape=(self.hosts, len(end))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """N pairs of a table whose level is known.

    Attributes:
        pairs: (N,) which.
        level: (N,) in ms.
        here, there, fibre_ms: (N,) as in `Table`.
        at_host: (H, 2 N) 1 where a pair is a host's: the pairs by `here`, then again by `there`.
    """

    pairs: Ints
    level: Floats
    here: Ints
    there: Ints
    fibre_ms: Floats
    at_host: csr_array

    def of_hosts(self, values: Floats) -> Floats:
        """(H, …) sum over each host's pairs of values that are alike from both ends, (N, …)."""
        return np.asarray(self.at_host @ np.concatenate([values, values]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What is said of one target, each (Q, P): see `HostBaseline`.

    Attributes:
        stays, moves: the two options.
        spread: median absolute deviation.
    """

    stays: Floats
    moves: Floats
    spread: Floats


class HostBaseline(SimpleBaseline):
    """Reads a pair from what is seen of the pairs of its hosts.

    A pair that has no past gets what they say. One that has keeps its usual, the median of its latest windows, or moves with them: by
    what they say now above what they say when all is usual. Which of the two erred less on the validation cells is learned for
    each target.

    Jitter and loss follow no law of distance. Of jitter the hosts say an additive effect each; of loss the mean of what their
    pairs have, drawn towards that of all.

    Attributes:
        lacking: what there is none of where there is no point.
    """

    default_windows: ClassVar[int] = 16
    options: ClassVar[tuple[str, ...]] = ("stays", "moves")
    lacking: ClassVar[str] = NOTHING_SEEN

    @abstractmethod
    def rtt(self, arrays: PathArrays, question: Question) -> Levels:
        """What is said of RTT."""

    def measures(self, arrays: PathArrays, question: Question) -> dict[str, Floats]:
        """Both options of each target, and how far they are off."""
        return self.beside(arrays, question, self.rtt(arrays, question))

    def beside(self, arrays: PathArrays, question: Question, rtt: Levels) -> dict[str, Floats]:
        """All that is measured: jitter and loss, beside what is said of RTT."""
        table = Table.of(arrays)
        lossy = history.any_loss(arrays)
        level = {
            "rtt_ms": rtt,
            "jitter_ms": self.by_row(table, arrays.jitter_ms, question, host_effects),
            "any_loss_probability": self.by_row(table, lossy, question, of_both_hosts, history.mean),
            "loss_ratio": self.by_row(table, arrays.loss_ratio, question, of_both_hosts, history.mean),
        }
        found: dict[str, Floats] = {}
        for target, told in level.items():
            most = np.inf if target.endswith("_ms") else 1.0
            found[self.named(target, "stays")] = np.clip(told.stays, 0.0, most)
            found[self.named(target, "moves")] = np.clip(told.moves, 0.0, most)
        # No loss is certain: how often all pairs lose weighs as much as one window more.
        rate = base_rate(arrays, question)
        for option in self.options:
            name = self.named("any_loss_probability", option)
            found[name] = (found[name] * self.windows + rate) / (self.windows + 1.0)
        return {
            **found,
            "rtt_spread_ms": level["rtt_ms"].spread,
            "jitter_spread_ms": level["jitter_ms"].spread,
            "windows_sent": history.counted(arrays.sent > 0, question),
        }

    def by_row(
        self,
        table: Table,
        values: Floats,
        question: Question,
        fit: Callable[[Table, Seen], Floats],
        middle: Callable[[Floats], Floats] = history.median,
    ) -> Levels:
        """What a fit says of (W, P) values, row by row.

        Args:
            table: where the pairs are.
            values: (W, P).
            question: Q rows.
            fit: gives (P,) from those that are seen, of which there is at least one.
            middle: what is usual of a past.
        """
        past, now = history.lagged(values, question, self.windows), question.now(values)
        usual = middle(past)
        rows = [_row(table, fit, *row) for row in zip(usual, now, strict=True)]
        stays, moves, left = (np.stack(several) for several in zip(*rows, strict=True))
        own = history.spread(past, usual)
        return Levels(stays=stays, moves=moves, spread=np.where(np.isfinite(own), own, left))

    def reasons(self, known: Bools, inputs: Inputs) -> Strings:  # noqa: ARG002  it is the same for all
        """What there is none of."""
        return np.where(known, "", self.lacking).astype(object)


class LevelBaseline(HostBaseline):
    """Fits, in each row, the levels of the pairs that are seen, and reads all others from the fit.

    The level of a pair is its value in the asked window where that is seen, else its usual. The deviation of a pair is that of
    its past, or else what the fit leaves at its two hosts.
    """

    @abstractmethod
    def fitted(self, table: Table, seen: Seen) -> Floats:
        """(P,) the level of all pairs in ms, NaN where the fit has nothing to say.

        Args:
            table: where the pairs are.
            seen: those whose level is seen; at least one.
        """

    def rtt(self, arrays: PathArrays, question: Question) -> Levels:
        """What the fit says."""
        return self.by_row(Table.of(arrays), arrays.rtt_ms, question, self.fitted)


def _row(
    table: Table, fit: Callable[[Table, Seen], Floats], usual: Floats, now: Floats
) -> tuple[Floats, Floats, Floats]:
    """(P,) what stays, what moves, and what the fit leaves at both hosts."""
    level = np.where(np.isfinite(now), now, usual)
    seen, before = table.seen(level), table.seen(usual)
    nothing = np.full_like(level, np.nan)
    if len(seen.pairs) == 0:
        return nothing, nothing, nothing
    own = np.isfinite(usual)
    told = fit(table, seen)
    moved = told - fit(table, before) if (own & np.isfinite(now)).any() else np.zeros_like(level)
    left = nothing.copy()
    left[seen.pairs] = np.abs(told[seen.pairs] - seen.level)
    wrong = table.seen(left)
    return (
        np.where(own, usual, told),
        np.where(own, usual + np.where(np.isfinite(moved), moved, 0.0), told),
        of_both_hosts(table, wrong) if len(wrong.pairs) > 0 else nothing,
    )


def level_seen(values: Floats, question: Question) -> Floats:
    """(Q, P) the value in the asked window where it is seen, else the usual one; NaN where nothing is seen."""
    now = question.now(values)
    return np.where(
        np.isfinite(now), now, history.median(history.lagged(values, question, history.HISTORY_WINDOWS))
    )


def of_both_hosts(table: Table, seen: Seen) -> Floats:
    """(P,) mean over both hosts of a pair of what their pairs have, drawn towards the mean of all."""
    everyone = float(seen.level.mean())
    counted = seen.of_hosts(np.ones_like(seen.level))
    mean = (seen.of_hosts(seen.level) + PRIOR_PAIRS * everyone) / (counted + PRIOR_PAIRS)
    return np.asarray((mean[table.here] + mean[table.there]) / 2.0)


def host_effects(table: Table, seen: Seen, more: Floats | None = None) -> Floats:
    """(P,) a constant, an effect of either host, and more terms, which together leave the least absolute errors.

    Args:
        table: where the pairs are.
        seen: those that are fitted.
        more: (P, T) terms, each of a size about 1.
    """
    more = np.empty((len(table.here), 0)) if more is None else more
    middle = float(np.median(seen.level))  # what ridge draws towards
    terms = _terms(table, seen.here, seen.there, more[seen.pairs])
    found = least_absolute(terms, seen.level - middle, ridge=RIDGE)
    return np.asarray(middle + _terms(table, table.here, table.there, more) @ found)


def _terms(table: Table, here: Ints, there: Ints, more: Floats) -> csr_array:
    """(N, H + 1 + T): 1 for either host, 1 for all, and what is more."""
    count, terms = more.shape
    row = np.arange(count)
    values = np.concatenate([np.ones(3 * count), more.T.reshape(-1)])
    columns = [here, there, *(np.full(count, table.hosts + term) for term in range(1 + terms))]
    cells = (np.tile(row, len(columns)), np.concatenate(columns))
    return coo_array((values, cells), shape=(count, table.hosts + 1 + terms)).tocsr()


# --- least absolute errors


def least_absolute(terms: csr_array, level: Floats, *, ridge: float = 0.0) -> Floats:
    """(T,) the weights of the terms that leave the least absolute errors, by least squares with weights that are drawn anew.

    Holland, Welsch: Robust regression using iteratively reweighted least-squares (Communications in Statistics 6, 1977). Errors
    below a tenth of the middle one count by their square, which keeps the weights finite.

    Args:
        terms: (N, T).
        level: (N,).
        ridge: keeps weights of terms that few rows have small; in rows. Without it terms must not say the same.
    """
    found = np.zeros(terms.shape[1])
    weight = np.ones(len(level))
    transposed = terms.T.tocsr()
    damping = ridge * identity(terms.shape[1], format="csr")
    for _ in range(ROUNDS):
        squares = transposed.multiply(weight[None, :]).tocsr() @ terms + damping
        found = _solved(squares, transposed @ (weight * level), found)
        wrong = np.abs(level - terms @ found)
        middle = float(np.median(wrong))
        if middle == 0.0:
            break
        weight = 1.0 / np.maximum(wrong / middle, LEAST_ERROR)
        weight /= weight.mean()
    return found


def _solved(squares: csr_array, sums: Floats, start: Floats) -> Floats:
    """The solution of a positive definite system: at once, or where it is too large for that, from a start."""
    if len(sums) <= MOST_AT_ONCE:
        return np.asarray(np.linalg.solve(squares.toarray(), sums))
    nearly = diags_array(1.0 / squares.diagonal())
    return np.asarray(cg(squares, sums, x0=start, rtol=TOLERANCE, maxiter=STEPS, M=nearly)[0])
