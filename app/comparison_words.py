"""How the comparison's page says things: names of targets and kinds, numbers as words, and who is shown where not all fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from app.comparison_document import Breakdown, Document, FeaturesName, Gain, Reliability, Row, TargetName
from app.figures import NOTHING
from gnn.report import ERROR_OF

TARGETS: Mapping[TargetName, str] = {
    "rtt": "Round-trip time",
    "any_loss": "Any loss",
    "loss": "Loss ratio",
    "jitter": "Jitter",
}
"""Targets in the order of the page, as people call them."""

ERRORS: Mapping[TargetName, str] = {
    "rtt": "mean absolute error",
    "any_loss": "Brier score",
    "loss": "mean squared error of the ratio",
    "jitter": "mean absolute error",
}
"""What is averaged and compared on each target, as `gnn.scoring` does."""

KINDS: Mapping[str, str] = {
    "baseline": "baseline",
    "gnn": "graph network",
    "mlp": "MLP",
    "ensemble": "ensemble",
}
"""Kinds of models, in the order of the legends."""

GIVEN: Mapping[FeaturesName | None, str] = {
    "leaky": "leaky: the answer, among others",
    "honest": "honest: no answer",
    "copy": "the answer, and says it again",
    None: "as in the paper",
}
"""What a model of the paper's set-up was given of what it is asked."""


def figure(value: float | None) -> str:
    """Three digits that count; thousands whole; a minus that is one.

    >>> figure(0.9), figure(12345.6), figure(-0.0000123), figure(None)
    ('0.900', '12,346', '−1.23×10⁻⁵', '–')
    """
    if value is None:
        return NOTHING
    size = abs(value)
    if size == 0.0:
        return "0"
    if size >= 1e9 or size < 0.00095:
        return _with_power(value)
    text = f"{value:,.0f}" if size >= 999.5 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def _with_power(value: float, *, digits: int = 2, sign: str = "-") -> str:
    number, _, power = f"{value:{sign}.{digits}e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{number}×10{raised}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference, with its sign.

    >>> signed(3.0), signed(-3.0), signed(0.0)
    ('+3.00', '−3.00', '0')
    """
    return f"+{figure(value)}" if value is not None and value > 0.0 else figure(value)


def rough(value: float | None) -> str:
    """A difference, with its sign, in two digits that count: for the ends of an interval where there is little room.

    >>> rough(-0.04253), rough(0.0075), rough(-1.114), rough(31.2), rough(-0.0000123), rough(0.0), rough(None)
    ('−0.043', '+0.0075', '−1.1', '+31', '−1.2×10⁻⁵', '0', '–')
    """
    if value is None or value == 0.0:
        return figure(value)
    if abs(value) < 0.00095 or abs(value) >= 1e9:
        return _with_power(value, digits=1, sign="+")
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:+,.{digits}f}".replace("-", "−")


def decimals(value: float | None) -> str:
    """Three decimals, for what lies between 0 and 1 when all is well."""
    if value is None:
        return NOTHING
    return figure(value) if abs(value) >= 10.0 else f"{value:.3f}".replace("-", "−")


def ratio(value: float | None) -> str:
    """Two decimals."""
    if value is None:
        return NOTHING
    return figure(value) if abs(value) >= 10.0 else f"{value:.2f}".replace("-", "−")


def share(value: float | None) -> str:
    """In percent."""
    return NOTHING if value is None else f"{100.0 * value:.1f}\u00a0%".replace("-", "−")


def probability(value: float | None) -> str:
    """A p value: below a thousandth its size says nothing more."""
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def whole(value: float | None) -> str:
    """A count, or what was averaged over counts."""
    return NOTHING if value is None else f"{value:,.0f}".replace("-", "−")


def seconds(value: float) -> str:
    """A time that was spent.

    >>> seconds(0.0321), seconds(75.0), seconds(5400.0), seconds(9000.0)
    ('0.0321 s', '75.0 s', '90 min', '2 h 30 min')
    """
    if value < 120.0:
        return f"{figure(value)} s"
    minutes = round(value / 60.0)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def interval(low: float | None, high: float | None, words: Callable[[float | None], str]) -> str:
    """Both ends."""
    return NOTHING if low is None or high is None else f"{words(low)} to {words(high)}"


def minute(time: str) -> str:
    """A time of the document as people read it; what is no such time stays as it is.

    >>> minute("2019-05-12T00:00Z"), minute("yesterday")
    ('2019-05-12 00:00 UTC', 'yesterday')
    """
    return re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d(\.\d+)?)?(Z|\+00:00)", r"\1 \2 UTC", time)


def verdict(row: Row | Gain) -> str:
    """The verdict in a word or two."""
    return NOTHING if row.verdict is None else "best baseline" if row.verdict == "reference" else row.verdict


def targets_of(rows: Iterable[Row | Gain | Breakdown | Reliability]) -> list[TargetName]:
    """Those that there are, in the page's order."""
    there = {row.target for row in rows}
    return [target for target in TARGETS if target in there]


def cases_of(document: Document, there: Iterable[str]) -> list[str]:
    """Those that there are, in the document's order; one that it does not list comes last."""
    found = list(dict.fromkeys(there))
    listed = [case for case in document.cases if case in found]
    return listed + [case for case in found if case not in listed]


def title(document: Document, target: TargetName, case: str) -> str:
    """The target, and the case where there are several."""
    return TARGETS[target] if len(document.cases) < 2 else f"{TARGETS[target]}: {case}"


def rows_of(document: Document, target: TargetName, case: str) -> list[Row]:
    """The rows of a target in a case, the least error first; those of other cells than the rest are not among them."""
    own = [row for row in document.rows if row.target == target and row.case == case and row.in_all_jobs]
    return sorted(own, key=lambda row: (_error(row), row.verdict != "reference", row.model))


def _error(row: Row) -> float:
    """What is compared on the row's target; unknown is last."""
    value: float | None = getattr(row, ERROR_OF[row.target])
    return math.inf if value is None else value


def shown(document: Document, target: TargetName, case: str, models: Iterable[str]) -> list[Row]:
    """One model of each kind, of those named: the best baseline, and of the other kinds whoever errs least."""
    there = set(models)
    chosen: dict[str, Row] = {}
    for row in rows_of(document, target, case):
        if row.model in there and (row.kind not in chosen or row.verdict == "reference"):
            chosen[row.kind] = row
    return [chosen[kind] for kind in KINDS if kind in chosen]


def legend(rows: Sequence[Row]) -> tuple[tuple[str, str], ...]:
    """(style, text) of each."""
    return tuple(
        (row.kind, f"{row.model} (best baseline)" if row.verdict == "reference" else row.model)
        for row in rows
    )
