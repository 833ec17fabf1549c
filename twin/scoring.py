"""States -> scores: every state of the graph, for every application, under a profile."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from domain.application import Application
from domain.provenance import Provenance
from kg.schema import MEASURED, PATH_SCORE, SCORE_COSTS
from kg.tables import fact_schema
from qoe.profile import UNITS, Metric, Profile
from qoe.sensitivity import METRICS, UNKNOWN_METRIC, sensitivity

STATE_COLUMNS = ("rtt_median_ms", "loss_ratio", "jitter_ms")
"""What scoring reads of a state."""

# In words that hold of results of Atlas and of samples of tables.
_UNKNOWN = {
    Metric.RTT: "RTT unknown: nothing answered, or not every answer's RTT is reported",
    Metric.LOSS: "loss unknown: no packet could be sent, or packets are not counted",
    Metric.JITTER: "jitter unknown: no two packets in a row answered, or RTTs of single packets are not reported",
}


def score_states(states: pa.Table, profile: Profile) -> pa.Table:
    """Scores of measured states, five rows a state.

    Args:
        states: rows of `domain.path_state.PathState`.
        profile: weights and anchors.

    Returns:
        All columns of the fact type PathScore, and `synthetic`.
    """
    rtt_ms, loss_ratio, jitter_ms = (
        states[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in STATE_COLUMNS
    )
    schema = fact_schema(PATH_SCORE)
    parts = []
    for application in Application:
        scores = sensitivity(profile, application, rtt_ms=rtt_ms, loss_ratio=loss_ratio, jitter_ms=jitter_ms)
        own = {
            "application": _same(application, states),
            "origin": _same(MEASURED, states),
            "score": pa.array(scores.score, from_pandas=True),
            "score_low": _unknown(states),
            "score_high": _unknown(states),
            **{
                name: pa.array(cost, from_pandas=True)
                for name, cost in zip(SCORE_COSTS, scores.cost.T, strict=True)
            },
            "limiting_metric": _words(scores.limiting, [str(metric) for metric in METRICS]),
            "reason": _words(scores.missing, [_UNKNOWN[metric] for metric in METRICS]),
            "profile": _same(profile.label, states),
        }
        columns = [own[name] if name in own else states[name] for name in schema.names]
        parts.append(pa.table(columns, schema=schema).append_column("synthetic", states["synthetic"]))
    return pa.concat_tables(parts)


def requirements(profile: Profile) -> tuple[pa.Table, pa.Table, Provenance]:
    """What a profile says of applications: the arguments of `kg.build.add_requirements`, but for the store."""
    rows = [
        {
            "source": str(application),
            "target": str(metric),
            "profile": profile.label,
            "weight_ratio": weights[metric],
            "worst": profile.anchors[metric],
            "citation": profile.source,
        }
        for application, weights in profile.weights.items()
        for metric in Metric
    ]
    units = [{"name": str(metric), "unit": UNITS[metric].removeprefix(f"{metric}_")} for metric in Metric]
    provenance = Provenance(
        reference_name=f"profile {profile.label}",
        reference_org="qoetwin",
        reference_url_data=None,
        reference_time_fetch=None,
        reference_time_modification=None,
        method=None,
        synthetic=False,
    )
    return pa.Table.from_pylist(rows), pa.Table.from_pylist(units), provenance


def _unknown(states: pa.Table) -> pa.Array:
    return pa.nulls(states.num_rows, pa.float64())


def _words(index: np.ndarray[tuple[int], np.dtype[np.int64]], words: list[str]) -> pa.Array:
    """The word at each index; null at -1."""
    known = index != UNKNOWN_METRIC
    return pa.DictionaryArray.from_arrays(pa.array(index, mask=~known), pa.array(words)).cast(pa.string())


def _same(word: str, states: pa.Table) -> pa.Array:
    return pa.repeat(str(word), states.num_rows)
