"""The leakage audit: whatever is hidden is changed, and nothing that the predictor sees may move by a bit.

Each question is asked whole, as learning and evaluation ask it, so that nothing passes from one of its windows to
another. For several of its windows, what is hidden from that one is perturbed, deleted, and added to where nothing was
measured. The inputs (columns, categories, edges) of that window, and of every other from which at least as much is hidden,
must stay bit-equal; so must the constants learned before training, of which everything after the last fitted window is
hidden. A fitted predictor's answers are audited the same way.

What is constant over the windows is not audited: places, AS numbers, hosts, centralities. It is tampered with nowhere, and
whoever makes the arrays must cut it at the first window that is not fitted on, as `twin.learning.export` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from domain.errors import LeakError
from gnn.protocols.protocol import Bools, Question, Split
from kg.arrays import Ints, PathArrays

if TYPE_CHECKING:
    from gnn.inputs import Inputs
    from gnn.predictor import Array, Predictor


class Tampering(StrEnum):
    """What is done to hidden values."""

    PERTURBED = "perturbed"
    DELETED = "deleted"
    ADDED = "added"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something that a predictor sees, and that changed with hidden values.

    Attributes:
        kind: column, category, edges, normalisation or answer.
        name: which of them.
        tampering: what was done to the hidden values.
        window: the asked window, as index into the arrays; for normalisation the last fitted one.
    """

    kind: str
    name: str
    tampering: Tampering
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the audit found.

    Attributes:
        windows: the asked windows that were audited.
        findings: empty when nothing leaks.
    """

    windows: tuple[int, ...]
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """True when nothing that the predictor sees depends on hidden values."""
        return len(self.findings) == 0

    def require(self, predictor: str) -> None:
        """Refuse a predictor that leaks.

        Raises:
            LeakError: names each column, edge type or constant that changed.
        """
        if self.passed:
            return
        leaks = sorted({f"{finding.kind} {finding.name}" for finding in self.findings})
        how = sorted({finding.tampering.value for finding in self.findings})
        raise LeakError(
            "the predictor sees what is hidden from it",
            where=predictor,
            found=f"changed when hidden values were {' or '.join(how)}: {', '.join(leaks)}",
            expected="inputs that depend on visible values only",
            next_step="compute these from windows before `seen_until` only",
        )


def audit(predictor: Predictor, arrays: PathArrays, split: Split) -> Verdict:
    """Audit inputs and constants of a predictor, before it is trained.

    Args:
        predictor: need not be fitted.
        arrays: the measurements.
        split: the first, middle and last window of each of its four parts are audited; each part is asked whole.
    """
    findings: set[Finding] = set()
    constants = predictor.prepare(arrays, split)
    for tampering, tampered in _tampered(arrays, split.sealed):
        for name in _changed(constants, predictor.prepare(tampered, split)):
            findings.add(
                Finding(
                    kind="normalisation", name=name, tampering=tampering, window=int(split.fit.windows[-1])
                )
            )
    audited: list[int] = []
    for question in (split.fit, split.validation, split.calibration, split.test):
        for row in _sampled(question):
            window = int(question.windows[row])
            audited.append(window)
            asked = question.part(slice(row, row + 1))
            seen = predictor.inputs(arrays, asked)
            for tampering, tampered in _tampered(arrays, question.hidden(arrays, row)):
                for kind, name in _moved(seen, predictor.inputs(tampered, asked)):
                    findings.add(Finding(kind=kind, name=name, tampering=tampering, window=window))
    return Verdict(windows=tuple(audited), findings=tuple(sorted(findings)))


def audit_answers(predictor: Predictor, arrays: PathArrays, question: Question) -> Verdict:
    """Audit the answers of a fitted predictor to a whole question: what is hidden from its first, middle and last window.

    A predictor that hides from its inputs what it looks at is caught here.
    """
    findings: set[Finding] = set()
    picked = _sampled(question)
    for row in picked:
        asked = question.part(slice(row, row + 1))
        answer = predictor.predict(arrays, asked)
        before = {field.name: getattr(answer, field.name) for field in fields(answer)}
        for tampering, tampered in _tampered(arrays, question.hidden(arrays, row)):
            again = predictor.predict(tampered, asked)
            for name in _changed(before, {name: getattr(again, name) for name in before}):
                findings.add(
                    Finding(kind="answer", name=name, tampering=tampering, window=int(question.windows[row]))
                )
    return Verdict(
        windows=tuple(int(question.windows[row]) for row in picked), findings=tuple(sorted(findings))
    )


def without(arrays: PathArrays, hidden: Bools) -> PathArrays:
    """The arrays as if the hidden cells, (W, P), had never been measured."""
    return replace(
        arrays,
        rtt_ms=np.where(hidden, np.nan, arrays.rtt_ms),
        jitter_ms=np.where(hidden, np.nan, arrays.jitter_ms),
        sent=np.where(hidden, 0, arrays.sent),
        received=np.where(hidden, 0, arrays.received),
    )


def _sampled(question: Question) -> list[int]:
    return sorted({0, len(question) // 2, len(question) - 1})


def _tampered(arrays: PathArrays, hidden: Bools) -> Iterator[tuple[Tampering, PathArrays]]:
    """The arrays three times over, their hidden cells changed. The numbers drawn only have to differ from what was there."""
    generator = np.random.default_rng(0)
    drawn = generator.uniform(1.0, 1000.0, size=hidden.shape)
    packets = generator.integers(1, 10, size=hidden.shape)
    lost = np.minimum(generator.integers(0, 3, size=hidden.shape), packets)
    changed = hidden & arrays.measured
    yield (
        Tampering.PERTURBED,
        replace(
            arrays,
            rtt_ms=np.where(changed, arrays.rtt_ms + drawn, arrays.rtt_ms),
            jitter_ms=np.where(changed, arrays.jitter_ms + drawn, arrays.jitter_ms),
            sent=np.where(changed, arrays.sent + packets, arrays.sent),
            received=np.where(changed, arrays.received + packets - lost, arrays.received),
        ),
    )
    yield Tampering.DELETED, without(arrays, hidden)
    added = hidden & ~arrays.measured
    yield (
        Tampering.ADDED,
        replace(
            arrays,
            rtt_ms=np.where(added, drawn, arrays.rtt_ms),
            jitter_ms=np.where(added, drawn[::-1], arrays.jitter_ms),
            sent=np.where(added, packets, arrays.sent),
            received=np.where(added, packets - lost, arrays.received),
        ),
    )


def _moved(before: Inputs, after: Inputs) -> set[tuple[str, str]]:
    """Kind and name of all that differs in the one asked row."""
    seen, again = (
        {f"{kind}|{name}": values for kind, name, values in inputs.of_row(0)} for inputs in (before, after)
    )
    return {(kind, name) for kind, _, name in (key.partition("|") for key in _changed(seen, again))}


def _changed(before: Mapping[str, Array], after: Mapping[str, Array]) -> list[str]:
    """Names whose arrays differ in any bit, or are not on both sides."""
    return [
        name
        for name in sorted(before.keys() | after.keys())
        if name not in before or name not in after or not _same(before[name], after[name])
    ]


def _same(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool((one == other).all())
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
