"""The leakage audit: whatever is hidden is changed, and nothing that the predictor sees may move by a bit.

First the split itself is looked at (`gnn.split_audit`): who asks, sees and seals what. Then rows of each of its questions are
asked as learning and evaluation ask them, several at once, so that nothing passes from one row to another. Everything that is
hidden from a row is perturbed, deleted, and added to where nothing was measured: the inputs of that row (columns,
categories, edges, their numbers, values), and of every other row from which as much is hidden, must stay bit-equal; so must the
constants that are taken from the data before learning. A fitted predictor's answers are audited the same way (`audit_answers`).
What was learned is audited by the tests alone (`audit_learning`), of small predictors: it takes learning several times.

Only some rows are audited; the verdict says how many, and how many cells were tampered with. What is constant over the windows is
tampered with nowhere: places, AS numbers, hosts, centralities. Whoever makes the arrays must cut it at the first window that
is not fitted on. What remains when inputs are clean is for `gnn.statistical_audit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from domain.errors import LeakError
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from gnn.split_audit import split_flaws
from kg.arrays import PathArrays

if TYPE_CHECKING:
    from gnn.prediction import Prediction
    from gnn.predictor import Array, Predictor

    Seen: TypeAlias = Mapping[tuple[str, str], Array]
    """What is seen in one row, by kind and name."""

MOST_ROWS = 3
ROW_PAIRS = 3000
"""Of each question up to `MOST_ROWS` rows are audited, as long as they are of no more pairs than this together; at least one is. What is
made of other predictors is audited in one, the last of these: it sees what they say, and each of them was audited in that row too."""

LEAST_CHANGE, MOST_CHANGE = 1e-4, 3.0
"""Hidden RTTs are multiplied by exp(± x), x between these, evenly on a logarithmic scale. Small changes are for inputs that cut
or leave out what is far from usual, large ones for those that round."""


class Tampering(StrEnum):
    """What is done to hidden values."""

    PERTURBED = "perturbed"
    DELETED = "deleted"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A leak, or what looks like one.

    Attributes:
        kind: column, category, edges, edge column, values, normalisation, answer or learned: these changed with hidden values;
            split: it shows or asks what it should not; error: of the test, it is less than it can be.
        name: which of them, in words.
        tampering: what was done to the hidden values; None where nothing was.
        window: the asked window, as index into the arrays; for what was learned the last fitted one.
    """

    kind: str
    name: str
    tampering: Tampering | None = None
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the audit found.

    Attributes:
        windows: the asked windows that were audited, one for each audited row.
        findings: empty when nothing leaks.
        perturbed, deleted, added: how many hidden cells were, each counted as often as it was.
    """

    windows: tuple[int, ...]
    findings: tuple[Finding, ...]
    perturbed: int = 0
    deleted: int = 0
    added: int = 0

    @property
    def passed(self) -> bool:
        """True when nothing that the predictor sees depends on hidden values."""
        return len(self.findings) == 0

    def with_other(self, other: Verdict) -> Verdict:
        """Both verdicts as one."""
        return Verdict(
            windows=(*self.windows, *other.windows),
            findings=(*self.findings, *other.findings),
            perturbed=self.perturbed + other.perturbed,
            deleted=self.deleted + other.deleted,
            added=self.added + other.added,
        )

    def require(self, predictor: str) -> None:
        """Refuse a predictor that leaks.

        Raises:
            LeakError: names each column, edge type or constant that changed, and whatever else was found.
        """
        if self.passed:
            return
        moved = [finding for finding in self.findings if finding.tampering is not None]
        how = sorted({finding.tampering.value for finding in moved if finding.tampering is not None})
        said = [f"{finding.kind}: {finding.name}" for finding in self.findings if finding.tampering is None]
        leaks = sorted({f"{finding.kind} {finding.name}" for finding in moved})
        if leaks:
            said.append(f"changed when hidden values were {' or '.join(how)}: {', '.join(leaks)}")
        raise LeakError(
            "the predictor sees what is hidden from it",
            where=predictor,
            found="; ".join(dict.fromkeys(said)),
            expected="inputs that depend on visible values only",
            next_step=(
                "compute these from what the question lets be seen only"
                if leaks
                else "explain or repair what was found, and train again"
            ),
        )


def audit(predictor: Predictor, arrays: PathArrays, split: Split, protocol: Protocol) -> Verdict:
    """Audit a split, and a predictor's inputs and constants, before it is trained.

    Args:
        predictor: need not be fitted.
        arrays: the measurements, as the protocol views them.
        split: rows of each of its four questions are audited; those of `fit` as they are redrawn, since that is what is learned on.
        protocol: that made the split.
    """
    drawn = protocol.redraw(split.fit, without(arrays, split.sealed), np.random.default_rng(0))
    flaws = split_flaws(arrays, split, drawn, protocol)
    verdict = Verdict(
        windows=(),
        findings=tuple(Finding(kind="split", name=flaw.name, window=flaw.window) for flaw in flaws),
    )
    most = _most_rows(predictor)
    few = replace(
        split,
        fit=_few(split.fit, most),
        validation=_few(split.validation, most),
        calibration=_few(split.calibration, most),
        test=_few(split.test, most),
    )

    def constants(given: PathArrays) -> list[Seen]:
        prepared = predictor.prepare(given, few)
        return [{("normalisation", name): values for name, values in prepared.items()}]

    verdict = verdict.with_other(
        replace(
            _tampered_with(constants, arrays, [_unfitted(arrays, few.fit)], few.fit.windows[-1:].tolist()),
            windows=(),
        )
    )
    for question in (drawn, split.validation, split.calibration, split.test):
        asked = _few(question, most)

        def inputs(given: PathArrays, asked: Question = asked) -> list[Seen]:
            seen = predictor.inputs(given, asked)
            return [
                {(kind, name): values for kind, name, values in seen.of_row(row)} for row in range(len(asked))
            ]

        verdict = verdict.with_other(_audited(inputs, arrays, asked))
    return verdict


def audit_answers(predictor: Predictor, arrays: PathArrays, question: Question) -> Verdict:
    """Audit the answers of a fitted predictor to some rows of a question.

    A predictor that hides from its inputs what it looks at is caught here. Intervals that follow earlier windows are audited in the
    first row only: they ask about each of these windows again.
    """
    asked = _few(question, _most_rows(predictor))
    first = question.part(slice(0, 1))

    # Arrays of their own, so that nothing is remembered.
    def answers(given: PathArrays) -> list[Seen]:
        return _of_rows(predictor.raw(replace(given), asked))

    def intervals(given: PathArrays) -> list[Seen]:
        return _of_rows(predictor.predict(replace(given), first))

    verdict = _audited(answers, arrays, asked)
    return verdict.with_other(replace(_audited(intervals, arrays, first), windows=()))


def audit_learning(
    new: Callable[[], Predictor], arrays: PathArrays, split: Split, protocol: Protocol, *, seed: int
) -> Verdict:
    """Audit what is learned: fit three times, and nothing learned may differ when sealed cells are tampered with.

    Called by tests. Weights, stopping and tuning are all in the state of a predictor, and beside it is how its intervals are widened and what
    it was made for. One that learns something else from the same numbers and the same seed fails too: what cannot be repeated cannot be
    audited.

    Args:
        new: makes an unfitted predictor; small ones, since each is learned three times.
        arrays: the measurements, as the protocol views them.
        split: what is learned on, and what is sealed.
        protocol: that made the split.
        seed: of learning.

    Raises:
        LeakError: when already the inputs leak.
    """

    def learned(given: PathArrays) -> list[Seen]:
        predictor = new()
        predictor.fit(given, split, protocol, seed=seed)
        calibrated = {} if predictor.calibrated is None else predictor.calibrated.state()
        return [{("learned", name): values for name, values in {**predictor.state(), **calibrated}.items()}]

    verdict = _tampered_with(learned, arrays, [split.sealed], split.fit.windows[-1:].tolist())
    return replace(verdict, windows=())


def without(arrays: PathArrays, hidden: Bools) -> PathArrays:
    """The arrays as if the hidden cells, (W, P), had never been measured."""
    return replace(
        arrays,
        rtt_ms=np.where(hidden, np.nan, arrays.rtt_ms),
        jitter_ms=np.where(hidden, np.nan, arrays.jitter_ms),
        sent=np.where(hidden, 0, arrays.sent),
        received=np.where(hidden, 0, arrays.received),
    )


def _of_rows(answer: Prediction) -> list[Seen]:
    return [
        {("answer", field.name): getattr(answer, field.name)[row] for field in fields(answer)}
        for row in range(len(answer.rtt_ms))
    ]


def _most_rows(predictor: Predictor) -> int:
    return 1 if predictor.members else MOST_ROWS


def _few(question: Question, most_rows: int) -> Question:
    """Some rows: several are evenly over the question, of the first case and of the last, early and late; one is the last of these."""
    most = min(len(question), max(1, min(most_rows, ROW_PAIRS // question.asked.shape[1])))
    share = np.linspace(0.0, 1.0, num=most) if most > 1 else np.ones(most)
    return question.part((share * (len(question) - 1)).round().astype(np.int64))


def _unfitted(arrays: PathArrays, fit: Question) -> Bools:
    """(W, P) cells that no fitted row sees, and none asks."""
    hidden = np.ones((arrays.windows, arrays.pairs), dtype=np.bool_)
    for row in range(len(fit)):
        hidden &= fit.hidden(arrays, row)
        hidden[fit.windows[row], fit.asked[row]] = False
    return hidden


def _audited(ask: Callable[[PathArrays], list[Seen]], arrays: PathArrays, asked: Question) -> Verdict:
    """Tamper with what is hidden from each row."""
    hidden = [asked.hidden(arrays, row) for row in range(len(asked))]
    return _tampered_with(ask, arrays, hidden, asked.windows.tolist())


def _tampered_with(
    ask: Callable[[PathArrays], list[Seen]],
    arrays: PathArrays,
    hidden: Sequence[Bools],
    windows: Sequence[int],
) -> Verdict:
    """Tamper with each of the hidden sets; rows from which as much is hidden must not change.

    All is perturbed and added to in one go, which is what takes time; which of the two it was is asked when something moved.

    Args:
        ask: what is seen in each row, given the arrays.
        arrays: as measured.
        hidden: (W, P) for each row.
        windows: of each row, to name it.
    """
    before = ask(arrays)
    findings: set[tuple[str, str, Tampering, int]] = set()
    counts = dict.fromkeys(Tampering, 0)
    for number, cells in enumerate(hidden):
        if any(np.array_equal(cells, earlier) for earlier in hidden[:number]):
            continue
        rows = [row for row, own in enumerate(hidden) if not (cells & ~own).any()]
        for together in ((Tampering.PERTURBED, Tampering.ADDED), (Tampering.DELETED,)):
            after = ask(_changed(arrays, cells, together))
            for how in together:
                counts[how] += int((cells & (arrays.measured ^ (how is Tampering.ADDED))).sum())
            moved = {row: _moved(before[row], after[row]) for row in rows}
            if not any(moved.values()):
                continue
            apart = {
                how: after if len(together) == 1 else ask(_changed(arrays, cells, (how,))) for how in together
            }
            for row, names in moved.items():
                for kind, name in names:
                    to_blame = [
                        how for how in together if (kind, name) in _moved(before[row], apart[how][row])
                    ]
                    findings |= {(kind, name, how, windows[row]) for how in to_blame or together}
    return Verdict(
        windows=tuple(windows),
        findings=tuple(
            Finding(kind=kind, name=name, tampering=how, window=window)
            for kind, name, how, window in sorted(findings)
        ),
        perturbed=counts[Tampering.PERTURBED],
        deleted=counts[Tampering.DELETED],
        added=counts[Tampering.ADDED],
    )


def _changed(arrays: PathArrays, hidden: Bools, how: Sequence[Tampering]) -> PathArrays:
    """The arrays with hidden cells changed: what was measured, where nothing was, or both. The draws are the same each time.

    A perturbed window may have lost all of its packets, and one that had may be answered.
    """
    if Tampering.DELETED in how:
        return without(arrays, hidden)
    generator = np.random.default_rng(0)
    shape = hidden.shape
    cells = np.zeros(shape, dtype=np.bool_)
    if Tampering.PERTURBED in how:
        cells |= hidden & arrays.measured
    if Tampering.ADDED in how:
        cells |= hidden & ~arrays.measured
    drawn = [np.exp(generator.uniform(0.0, np.log(1000.0), size=shape)) for _ in range(2)]
    exponent = np.exp(generator.uniform(np.log(LEAST_CHANGE), np.log(MOST_CHANGE), size=shape))
    factor = np.exp(exponent * generator.choice((-1.0, 1.0), size=shape))
    sent = arrays.sent + generator.integers(1, 10, size=shape)
    received = generator.integers(0, sent + 1)
    rtt, jitter = (
        np.where(np.isfinite(values) & (values > 0.0), values * factor, other)
        for values, other in zip((arrays.rtt_ms, arrays.jitter_ms), drawn, strict=True)
    )
    return replace(
        arrays,
        rtt_ms=np.where(cells, np.where(received > 0, rtt, np.nan), arrays.rtt_ms),
        jitter_ms=np.where(cells, np.where(received > 0, jitter, np.nan), arrays.jitter_ms),
        sent=np.where(cells, sent, arrays.sent),
        received=np.where(cells, received, arrays.received),
    )


def _moved(before: Seen, after: Seen) -> set[tuple[str, str]]:
    """Kind and name of all that differs in any bit, or is not on both sides."""
    return {
        key
        for key in before.keys() | after.keys()
        if key not in before or key not in after or not _same(before[key], after[key])
    }


def _same(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool((one == other).all())
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
