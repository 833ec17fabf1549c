"""Figures of a comparison, as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gnn.difference import Outcome
from gnn.report import ERROR_OF, REFERENCE

NOTHING = "–"

ERROR_UNITS = {"mae_ms": " ms (MAE)", "brier": " (Brier)", "loss_rmse": " (MSE)"}


def figure_rows(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """Every predictor on every target of the first case, a row each, formatted.

    Args:
        document: of `gnn.report`.
    """
    return [_figures(row) for row in document["rows"] if row["case"] == document["cases"][0]]


def _figures(row: Mapping[str, Any]) -> dict[str, str]:
    key = ERROR_OF[row["target"]]
    error = row[key] ** 2 if key == "loss_rmse" else row[key]  # what is compared, so that the ratio is theirs
    coverage = row["coverage_90"]
    return {
        "model": row["model"],
        "kind": row["kind"],
        "target": row["target"].replace("_", " "),
        "error": _number(error, ERROR_UNITS[key]),
        "median error": _number(row["medae_ms"], " ms"),
        "against the baseline": _difference(row),
        "90 % interval covers": NOTHING if coverage is None else f"{100 * coverage:.1f} %",
        "its width": _number(row["width_90_ms"], " ms"),
    }


def _difference(row: Mapping[str, Any]) -> str:
    """The ratio of its error to that of the baseline chosen before the test, its 95 % interval, and what it means."""
    verdict = row["verdict"]
    if verdict == REFERENCE:
        return "it is the baseline"
    if verdict is None:
        return "no baseline was chosen"
    if verdict == Outcome.TOO_FEW_CLUSTERS or row["ratio"] is None:
        return str(verdict)
    within = "" if row["ratio_low"] is None else f" ({row['ratio_low']:.3f} … {row['ratio_high']:.3f})"
    return f"{verdict}: {row['ratio']:.3f}{within}"


def _number(value: float | None, unit: str) -> str:
    return NOTHING if value is None else f"{value:.3g}{unit}"


def paper_rows(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the paper states, and what comes of its set-up here; scaled units, as there."""
    paper = document["paper"]
    names = ("r2", "mae", "rmse", "huber", "epochs")
    stated = [{"model": row["model"], "features": "stated in the paper", **row} for row in paper["quoted"]]
    return [
        {
            "model": row["model"],
            "features": row["features"],
            **{name: NOTHING if row[name] is None else f"{row[name]:.4g}" for name in names},
        }
        for row in [*stated, *paper["ours"]]
    ]
