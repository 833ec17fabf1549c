"""Figures of a comparison, as people read them."""

from __future__ import annotations

from gnn.evaluation import LEAST_CLUSTERS, Evaluation, Row, Target

NOTHING = "–"


def figure_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    """Every predictor on every target, a row each, formatted."""
    return [_figures(row) for row in evaluation.rows]


def _figures(row: Row) -> dict[str, str]:
    match Target(row.target):
        case Target.RTT | Target.JITTER:
            error, unit = row.mae_ms, " ms (MAE)"
        case Target.ANY_LOSS:
            error, unit = row.brier, " (Brier)"
        case Target.LOSS:
            error, unit = row.loss_rmse, " (RMSE)"
    return {
        "model": row.model,
        "kind": row.kind,
        "target": row.target.replace("_", " "),
        "error": _number(error, unit),
        "median error": _number(row.medae_ms, " ms"),
        "against the baseline": _difference(row),
        "90 % interval covers": NOTHING if row.coverage_90 is None else f"{100 * row.coverage_90:.1f} %",
        "its width": _number(row.width_90_ms, " ms"),
    }


def _difference(row: Row) -> str:
    """The 95 % interval of the difference in error to the baseline chosen before the test, and what it means."""
    if row.ci_low is None or row.ci_high is None:
        if row.tied_with_best:
            return "it is the baseline"
        return "too few clusters" if row.clusters < LEAST_CLUSTERS else "no baseline was chosen"
    verdict = "tied" if row.tied_with_best else "better" if row.ci_high < 0.0 else "worse"
    return f"{verdict} ({row.ci_low:+.3g} … {row.ci_high:+.3g})"


def _number(value: float | None, unit: str) -> str:
    return NOTHING if value is None else f"{value:.3g}{unit}"
