"""Conclusion: what a comparison found, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gnn.difference import LEAST_CLUSTERS, Outcome
from gnn.predictor import Kind
from gnn.report import ERROR_OF, REFERENCE
from gnn.scoring import Target

COVERAGE_ASKED: Final = (0.88, 0.92)
"""Share of the cells that a 90 % interval may hold and still be said to do what it says."""

COVERAGE_ASKED_OF_FEW_HOSTS: Final = (0.85, 0.95)
"""The same where whole hosts are hidden: intervals are calibrated on few of them, and those asked are few too."""

DECILE_COVERAGE_ASKED: Final = 0.85
"""The least in each decile of what is predicted."""

LEARNED: Final = (Kind.GNN, Kind.ENSEMBLE)


def chosen(
    rows: Sequence[Mapping[str, Any]], case: str, target: Target, kinds: Sequence[Kind]
) -> Mapping[str, Any] | None:
    """The row of the model of these kinds with the least error on the calibration cells; None where there are none: the test chooses nothing."""
    own = [
        row
        for row in rows
        if (row["target"], row["case"]) == (target, case) and row["in_all_jobs"] and row["kind"] in kinds
    ]
    known = [row for row in own if row["calibration_error"] is not None]
    return min(known, key=lambda row: float(row["calibration_error"]), default=None)


def best_rows(
    rows: Sequence[Mapping[str, Any]], case: str, target: Target
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The best baseline, and the best graph model or, where there is none, the MLP; both chosen before the test."""
    own = [row for row in rows if (row["target"], row["case"]) == (target, case)]
    best = next((row for row in own if row["verdict"] == REFERENCE), None)
    return best, chosen(own, case, target, LEARNED) or chosen(own, case, target, [Kind.MLP])


def conclusion(
    rows: Sequence[Mapping[str, Any]],
    gains: Sequence[Mapping[str, Any]],
    cases: Sequence[str],
    *,
    coverage_asked: tuple[float, float] = COVERAGE_ASKED,
    synthetic: bool,
) -> str:
    """In words, a line for each case: the best model beside the best baseline and the MLP on RTT, on loss, and its intervals.

    Args:
        rows: of `rows_and_gains`.
        gains: likewise.
        cases: in the order of the document.
        coverage_asked: the least and the most that 90 % intervals may cover.
        synthetic: the data is of the testbed.
    """
    lines: list[str] = []
    for case in cases:
        told = [
            *_of_rtt(rows, case),
            *_of_the_graph(rows, gains, case),
            *_of_loss(rows, case),
            *_of_intervals(rows, case, coverage_asked),
        ]
        if told:
            named = f"{case[0].upper()}{case[1:]}. " if len(cases) > 1 else ""
            lines.append(named + " ".join(told))
    if not lines:
        lines.append(
            "No model could be chosen before the test, as there are too few cells for it, so none is set against another."
            if rows
            else "Nothing could be scored."
        )
    if synthetic:
        lines.append("The data is synthetic: these figures say nothing about the accuracy on the Internet.")
    return "\n".join(lines)


def _of_rtt(rows: Sequence[Mapping[str, Any]], case: str) -> list[str]:
    best, row = best_rows(rows, case, Target.RTT)
    if best is None:
        return []
    if row is None:
        return [
            f"The best baseline is {best['model']}, with a mean absolute RTT error of {best['mae_ms']:.3g} ms."
        ]
    told = [
        f"{row['model']} has a mean absolute RTT error of {row['mae_ms']:.3g} ms, against {best['mae_ms']:.3g} ms of the best "
        f"baseline, {best['model']}{_beside(row)}."
    ]
    others = [
        f"{row[key]:.3g} against {best[key]:.3g} {unit}"
        for key, unit in (("medae_ms", "ms in the median cell"), ("qoe_mae_points", "QoE points in the mean"))
        if row[key] is not None and best[key] is not None
    ]
    # A mean can be won or lost on a few paths that jump. Of these no difference is tested.
    if others:
        told.append(f"The error is {', and '.join(others)}.")
    return [*told, *_luckier(rows, case, Target.RTT, (best, row), " ms")]


def _of_the_graph(
    rows: Sequence[Mapping[str, Any]], gains: Sequence[Mapping[str, Any]], case: str
) -> list[str]:
    row = chosen(rows, case, Target.RTT, [Kind.GNN])
    if row is None:
        return []
    of = ("mlp", Target.RTT, case, row["model"])
    gain = next((one for one in gains if (one["over"], one["target"], one["case"], one["model"]) == of), None)
    if gain is None:
        return []
    return [
        f"What the graph adds: {row['model']} against the same network without the graph{_beside({**gain, 'clusters': row['clusters']})}."
    ]


def _of_loss(rows: Sequence[Mapping[str, Any]], case: str) -> list[str]:
    best, row = best_rows(rows, case, Target.ANY_LOSS)
    if best is None or row is None:
        return []
    return [
        f"On loss {row['model']} has a Brier score of {row['brier']:.3g}, against {best['brier']:.3g} of the best baseline, "
        f"{best['model']}{_beside(row)}.",
        *_luckier(rows, case, Target.ANY_LOSS, (best, row), ""),
    ]


def _of_intervals(rows: Sequence[Mapping[str, Any]], case: str, asked: tuple[float, float]) -> list[str]:
    best, row = best_rows(rows, case, Target.RTT)
    row = best if row is None else row
    if row is None:
        return []
    covered, least, width = (
        row[key] for key in ("coverage_90", "coverage_90_least_decile", "width_against_best")
    )
    if covered is None:
        return [f"{row['model']} gives no interval for some cells."]
    low, high = asked
    told = (
        f"The 90 % intervals of {row['model']} hold {100.0 * covered:.1f} % of the RTTs "
        f"({100.0 * low:.0f} to {100.0 * high:.0f} are asked: {_met(low <= covered <= high)})"
    )
    if least is not None:
        told += (
            f", and in each decile of the predicted RTT at least {100.0 * least:.1f} % "
            f"({100.0 * DECILE_COVERAGE_ASKED:.0f} are asked: {_met(least >= DECILE_COVERAGE_ASKED)})"
        )
    if width is not None and row is not best:
        told += f"; they are {width:.2f} times as wide as those of the best baseline"
    return [told + "."]


def _met(holds: bool) -> str:
    return "met" if holds else "not met"


def _luckier(
    rows: Sequence[Mapping[str, Any]],
    case: str,
    target: Target,
    told: tuple[Mapping[str, Any], Mapping[str, Any]],
    unit: str,
) -> list[str]:
    """Who did better in the test than the baseline and the model that were chosen before it."""
    key = ERROR_OF[target]
    best, row = told
    names: list[str] = []
    for one in told:
        own = [
            other
            for other in rows
            if (other["target"], other["case"]) == (target, case)
            and other["in_all_jobs"]
            and (other["kind"] in LEARNED if one["kind"] in LEARNED else other["kind"] == one["kind"])
        ]
        first = min(own, key=lambda other: float(other[key]))
        if f"{first[key]:.3g}" == f"{one[key]:.3g}":
            continue
        ahead = "the baseline " if one is best else ""
        beats = f", less than {row['model']}" if one is best and first[key] < row[key] else ""
        names.append(f"{ahead}{first['model']} came to {first[key]:.3g}{unit}{beats}")
    return (
        [f"{best['model']} and {row['model']} were chosen before the test; in it {' and '.join(names)}."]
        if names
        else []
    )


def _beside(of: Mapping[str, Any]) -> str:
    """The ratio and the verdict, to be said after what is compared."""
    if of["verdict"] == Outcome.TOO_FEW_CLUSTERS:
        return f"; {of['clusters']} clusters are too few to tell the two apart (at least {LEAST_CLUSTERS})"
    ratio = ""
    if of["ratio"] is not None:
        ratio = f", a ratio of {of['ratio']:.3f} ({of['ratio_low']:.3f} to {of['ratio_high']:.3f} at 95 %)"
    words = {
        Outcome.BETTER: "better",
        Outcome.WORSE: "worse",
        Outcome.TIED: "tied",
    }
    why = f", as {of['verdict_why']}" if of["verdict_why"] else ""
    return f"{ratio}: {words.get(of['verdict'], 'they were not set against each other')}{why}"
