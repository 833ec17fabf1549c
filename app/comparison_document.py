"""`comparison.json` as types, read strictly: what is missing, of another type or not a finite number is named by its place.

The document holds more than this reads: adding keys is free, and what is not known here is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from domain.errors import InputError

Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
KindName: TypeAlias = Literal["baseline", "gnn", "mlp", "ensemble"]
TargetName: TypeAlias = Literal["rtt", "any_loss", "loss", "jitter"]
FeaturesName: TypeAlias = Literal["leaky", "honest", "copy"]
VerdictName: TypeAlias = Literal["better", "worse", "tied", "reference", "too few clusters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What was measured: `start` and `until` bound the windows, `cells` are pair-windows with a measurement."""

    windows: int
    window_s: int
    start: Annotated[str, Field(alias="from")]
    until: str
    pairs: int
    probes: int
    targets: int
    cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a model sees that changed with hidden values."""

    model: str
    kind: str
    name: str
    tampering: str | None
    window: int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The verdict of the leakage audit over all models. `noise_floor_ms`: a median error below it is a finding.

    Beside figures of the paper none was run, and `findings` are what is known to leak.
    """

    passed: bool
    findings: tuple[Finding, ...]
    windows: int
    models: int
    noise_floor_ms: Number | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One split of the windows or pairs: what was learned on, and what was asked."""

    name: str
    fit_rows: int
    validation_rows: int
    calibration_rows: int
    test_rows: int
    test_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on one target in one case, over seeds and splits. None does not apply.

    `ci_*` and `ratio*` set the mean error against the best baseline of the target, the row whose verdict is "reference". A tie in which
    the mean and the ranks do not say the same is explained in `verdict_why`, which else is empty. A row that is not `in_all_jobs` is of
    other cells than those that are.
    """

    model: str
    kind: KindName
    target: TargetName
    case: str
    seeds: int
    splits: int
    cells: int
    cells_left_out: int
    in_all_jobs: bool
    mae_ms: Number | None
    medae_ms: Number | None
    median_relative_error: Number | None
    rmse_ms: Number | None
    huber: Number | None
    r2: Number | None
    brier: Number | None
    log_loss: Number | None
    auc: Number | None
    loss_mae: Number | None
    loss_rmse: Number | None
    qoe_mae_points: Number | None
    coverage_90: Number | None
    coverage_90_least_decile: Number | None
    width_90_ms: Number | None
    interval_score_ms: Number | None
    width_against_best: Number | None
    ci_low: Number | None
    ci_high: Number | None
    ratio: Number | None
    ratio_low: Number | None
    ratio_high: Number | None
    p_holm: Number | None
    clusters: int | None
    verdict: VerdictName | None
    verdict_why: str
    tied_with_best: bool | None
    epochs: Number | None
    epochs_to_converge: Number | None
    fit_seconds: Number | None
    predict_seconds: Number | None
    peak_memory_mb: Number | None
    parameters: int | None
    stated: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """One graph model against the MLP, which is the same network without the graph, or against boosting."""

    model: str
    over: str
    target: TargetName
    case: str
    difference: Number | None
    ci_low: Number | None
    ci_high: Number | None
    ratio: Number | None
    ratio_low: Number | None
    ratio_high: Number | None
    p_holm: Number | None
    verdict: VerdictName | None
    verdict_why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGain(Gain):
    """A variant of a model against the model itself, on the same cells; `error` and `error_over` are their mean errors there."""

    seeds: int
    splits: int
    cells: int
    clusters: int
    error: Number | None
    error_over: Number | None
    stated: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """The error of one model in one group of cells."""

    model: str
    target: TargetName
    case: str
    by: Literal["distance", "country", "asn", "hour", "decile", "window"]
    group: str
    cells: int
    mae_ms: Number | None
    coverage_90: Number | None
    width_90_ms: Number | None
    qoe_mae_points: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Validation loss by epoch; epochs count from 1."""

    model: str
    split: str
    seed: int
    validation: tuple[Number | None, ...]
    best_epoch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Predicted probability against the observed share, a bin each."""

    model: str
    target: TargetName
    case: str
    predicted: tuple[Number | None, ...]
    observed: tuple[Number | None, ...]
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Nominal levels against the share of cells at or below the predicted quantile, before or after calibration."""

    model: str
    case: str
    of: Literal["raw", "calibrated"]
    nominal: tuple[Number | None, ...]
    observed: tuple[Number | None, ...]
    cells: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """One of the pairs with the most summed error of a model, beside a baseline, and why in words."""

    model: str
    baseline: str
    probe: int | str
    target: str
    af: int
    case: str
    cells: int
    mae_ms: Number | None
    baseline_mae_ms: Number | None
    measured_ms: Number | None
    predicted_ms: Number | None
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfRange:
    """Cells that were asked outside what was learned, for one reason."""

    reason: str
    cells: int
    mae_ms: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """How many test cells lie within what was learned."""

    in_range: int
    out_of_range: int
    reasons: tuple[OutOfRange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperFigures:
    """The figures that the paper gives for a model, or ours. `features` are what ours was given; of a quoted one they are None."""

    model: str
    features: FeaturesName | None = None
    r2: Number | None
    mae: Number | None
    rmse: Number | None
    huber: Number | None
    epochs: Number | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """The paper's figures, quoted, beside ours on a named set."""

    name: Annotated[str, Field(alias="set")]
    quoted: tuple[PaperFigures, ...]
    ours: tuple[PaperFigures, ...]
    warning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The whole comparison. A job is one split and one seed; `jobs` is None where they were not counted yet."""

    protocol: str
    about: str
    cases: tuple[str, ...]
    seed: int
    seeds: tuple[int, ...]
    jobs: int | None = None
    quick: bool
    dataset_hash: str
    synthetic: bool
    untimely: int
    data: Data
    audit: Audit
    conclusion: str
    notes: tuple[str, ...]
    command: str
    versions: Mapping[str, str]
    created: str
    seconds: Number
    splits: tuple[Part, ...]
    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]
    heads: tuple[HeadGain, ...]
    breakdowns: tuple[Breakdown, ...]
    curves: tuple[Curve, ...]
    reliability: tuple[Reliability, ...]
    quantiles: tuple[Quantiles, ...]
    worst: tuple[Worst, ...]
    range: Range
    paper: Paper | None


def read_document(document: Mapping[str, object]) -> Document:
    """The document as types.

    Args:
        document: `comparison.json`, as `json.loads` gives it.

    Raises:
        InputError: when a key is missing or a value is not what it should be; it says which.
    """
    try:
        # Through JSON's text, because strict types are JSON's: an array is a tuple here, and 1 is a float where one is due.
        return TypeAdapter(Document).validate_json(json.dumps(dict(document)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        missing = first["type"] == "missing"
        raise InputError(
            "the comparison cannot be drawn",
            where=f"comparison.json: {_place(first['loc'])}",
            found="no such key" if missing else _short(first["input"]),
            expected="it to be there, null where it does not apply" if missing else first["msg"],
            next_step="make it again with `qoetwin compare` of this version",
        ) from error
    except TypeError as error:
        raise InputError(
            "the comparison cannot be drawn", found=str(error), expected="what JSON can hold"
        ) from error


def _place(location: tuple[int | str, ...]) -> str:
    """As one would write it in a program: `rows[3].mae_ms`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "the document"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
