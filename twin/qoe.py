"""How good is an application: from where, to where, when. Answers come from the graph and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.application import Application
from domain.errors import DataError, EmptyError, UnknownNameError
from domain.selection import Selection
from kg.schema import (
    ASSIGNED,
    ATLAS_PROBE,
    COUNTRY,
    MEASURED,
    PATH,
    PATH_SCORE,
    PATH_STATE,
    SCORE_COSTS,
    WINDOW,
)
from kg.store import GraphStore
from qoe.sensitivity import METRICS
from twin.scoring import STATE_COLUMNS


class GroupBy(StrEnum):
    """What a row of an answer stands for."""

    COUNTRY = "country"
    ASN = "asn"
    PROBE = "probe"
    TARGET = "target"
    TARGET_ASN = "target-asn"


_COLUMN = {
    GroupBy.COUNTRY: "probe_country",
    GroupBy.ASN: "probe_asn",
    GroupBy.PROBE: "probe_id",
    GroupBy.TARGET: "target",
    GroupBy.TARGET_ASN: "target_asn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Quality of one application on a group of paths.

    Each path counts once: its score is the mean over its windows, the group's score the mean over its paths.

    Attributes:
        application: the application.
        group_by, group: what the row stands for; group is None for paths of which that is not known.
        score: 0..100; None when it is not known of any path, and then `reason` says why.
        score_low, score_high: interval of the score; None until intervals are measured.
        mos: opinion score; None, as the sensitivity profile defines none.
        paths: paths in the group; `measured` and `predicted` of them have a score of that origin.
        rtt_ms, loss_ratio, jitter_ms: what the paths measured: mean over all windows that know it, also those without a
            score, then over the paths. RTT is the windows' median.
        windows: path-windows measured; `windows_without_score` of them are in no score, and `reason` says why.
        limiting_metric: the metric that takes most points on average; None when nothing takes any.
        window_start, window_end: the span that the scored windows cover; None when none is.
        model: what predicted; None for measurements.
        profile: the profile, with its version.
        synthetic: True when any of it comes from the testbed.
        reason: why there is no score, or why windows or paths are not in it, and how many.
    """

    application: Application
    group_by: GroupBy | None
    group: str | int | None
    score: float | None
    score_low: float | None
    score_high: float | None
    mos: float | None
    paths: int
    measured: int
    predicted: int
    rtt_ms: float | None
    loss_ratio: float | None
    jitter_ms: float | None
    windows: int
    windows_without_score: int
    limiting_metric: str | None
    window_start: datetime | None
    window_end: datetime | None
    model: str | None
    profile: str | None
    synthetic: bool
    reason: str | None


def qoe(
    store: GraphStore,
    applications: Sequence[Application],
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
) -> list[Answer]:
    """Ask for the quality of applications on the selected paths.

    Args:
        store: the graph.
        applications: which.
        selection: which paths and windows.
        group_by: a row for each of these; None is one row for all.

    Returns:
        Rows by application, then by group. Where nothing was ever measured a row says so.

    Raises:
        UnknownNameError: when a country is in nobody's records here.
    """
    check_countries(store, selection)
    pairs = store.pairs(selection)
    rows = _scored(store, selection, applications)
    _check_lengths(store, selection, rows)
    nothing = None if pairs.num_rows > 0 else why_none(store, selection)
    answers: list[Answer] = []
    for application in applications:
        own = rows.filter(pc.equal(rows["application"], str(application)))
        answers += _answers(application, group_by, own, pairs, nothing)
    return answers


def _scored(store: GraphStore, selection: Selection, applications: Sequence[Application]) -> pa.Table:
    """Measured scores, each with what its state measured, in the order of `GraphStore.facts`."""
    key = [*PATH, *(column.name for column in WINDOW)]
    scores = store.facts(
        PATH_SCORE,
        selection,
        ("score", *SCORE_COSTS, "reason", "profile"),
        among={"application": applications, "origin": [MEASURED]},
    )
    states = store.facts(PATH_STATE, selection, (*STATE_COLUMNS, "synthetic"))
    row = pa.array(np.arange(scores.num_rows), pa.int64())
    return scores.append_column("row", row).join(states, key).sort_by("row")


def check_countries(store: GraphStore, selection: Selection) -> None:
    """A country in which nothing is was mistyped.

    Raises:
        UnknownNameError: when a country is in nobody's records here.
    """
    known = set(store.nodes(COUNTRY)["country_code"].to_pylist())
    for country in selection.countries:
        if country not in known:
            measured = pc.drop_null(store.pairs(Selection())["probe_country"]).unique().to_pylist()
            raise UnknownNameError(
                "no probe or node in the graph is in that country",
                found=repr(country),
                expected=f"a country with measurements: {', '.join(sorted(measured)) or 'there is none yet'}",
                next_step=None
                if known
                else "load a list of probes (qoetwin probes load FILE), or say it of nodes (qoetwin ingest table SAMPLES --nodes FILE); then: qoetwin graph build",
            )


def _check_lengths(store: GraphStore, selection: Selection, rows: pa.Table) -> None:
    """Windows of one length, and of the one that was chosen."""
    lengths = lengths_of(rows)
    if len(lengths) > 1:
        raise DataError(
            "the graph has windows of several lengths there",
            found=", ".join(f"{length} s" for length in lengths),
            expected="one length, or a measurement would count twice",
            next_step="choose one with --window",
        )
    if selection.window_s is not None and not lengths:
        there = lengths_of(store.facts(PATH_STATE, Selection(), ()))
        if there and selection.window_s not in there:
            raise EmptyError(
                "the graph has no windows of that length",
                found=f"{selection.window_s} s",
                expected=" or ".join(f"{length} s" for length in there),
                next_step="build them with: qoetwin graph build --window LENGTH",
            )


def lengths_of(rows: pa.Table) -> list[int]:
    """Lengths of the windows, in whole seconds, sorted."""
    lengths = pc.unique(pc.subtract(rows["window_end"], rows["window_start"])).to_pylist()
    return sorted(int(length.total_seconds()) for length in lengths)


_KNOWN_OF = {
    "asns": ("probe_asn", "the AS of the probe or node"),
    "target_asns": ("target_asn", "the target's AS"),
    "countries": ("probe_country", "the country of the probe or node"),
    "area": ("probe_latitude", "the place of the probe or node"),
}
"""Filter -> the attribute of a pair that it needs, and that attribute in words."""


def why_none(store: GraphStore, selection: Selection) -> str:
    """Why no path is selected: it was never measured, or what the filter asks for is not known of the paths."""
    every = store.pairs(Selection())
    if every.num_rows == 0:
        raise EmptyError("the graph holds no path yet", next_step="build it with: qoetwin graph build")
    probes = store.nodes(ATLAS_PROBE)[ATLAS_PROBE.key.name].to_pylist() if selection.probe_ids else []
    if nowhere := sorted({*selection.probe_ids} - {*probes}):
        return f"never measured: the graph knows no probe {', '.join(map(str, nowhere))}"
    measuring = {*every["probe_id"].to_pylist()} if selection.probe_ids else set()
    if silent := sorted({*selection.probe_ids} - measuring):
        return f"never measured: the graph knows probe {', '.join(map(str, silent))}, and no path from there"
    unknown = [
        f"{words} is known of {every.num_rows - every[column].null_count} of {every.num_rows} paths"
        for name, (column, words) in _KNOWN_OF.items()
        if getattr(selection, name) and every[column].null_count > 0
    ]
    if selection.prefixes:
        probes = pa.array(store.edges(ASSIGNED)["target"].unique())
        known = pc.sum(pc.is_in(every["probe_id"], value_set=probes)).as_py()
        if known < every.num_rows:
            unknown.append(f"an address of the probe or node is known of {known} of {every.num_rows} paths")
    if unknown:
        return f"no path is known to match: {', '.join(unknown)}"
    return "never measured: the graph has no such path"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """What is known of P paths in the selected windows, each window that has a score counting once.

    Attributes:
        score: (P,) mean over the windows that have one, NaN where none has.
        cost: (P, 3) points each metric takes, over the same windows.
        metrics: (P, 3) RTT in ms, loss ratio, jitter in ms: mean over the windows that know it, NaN where none does.
        start_us, end_us: (P,) span of those windows, microseconds since the epoch.
        windows: (P,) windows measured.
        unknown: reason -> (P,) windows measured that have no score for that reason.
        synthetic: (P,) whether any of it comes from the testbed.
        profiles: which profiles the scores were made with.
    """

    score: NDArray[np.float64]
    cost: NDArray[np.float64]
    metrics: NDArray[np.float64]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    windows: NDArray[np.int64]
    unknown: Mapping[str, NDArray[np.int64]]
    synthetic: NDArray[np.bool_]
    profiles: tuple[str, ...]


def _paths(rows: pa.Table, pairs: pa.Table) -> _Paths:
    """Bring the rows of one application together by path."""
    count = pairs.num_rows
    path = _path_of(rows, pairs)
    score = rows["score"].to_numpy(zero_copy_only=False)
    known = ~np.isnan(score)

    def mean(name: str, among: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """(P,) mean of a column over the windows, or those among them, in which it is known."""
        values = rows[name].to_numpy(zero_copy_only=False)
        there = ~np.isnan(values) if among is None else among & ~np.isnan(values)
        total = np.bincount(path[there], weights=values[there], minlength=count)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / np.bincount(path[there], minlength=count), dtype=np.float64)

    start_us = np.full(count, np.iinfo(np.int64).max)
    end_us = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(start_us, path[known], rows["window_start"].cast(pa.int64()).to_numpy()[known])
    np.maximum.at(end_us, path[known], rows["window_end"].cast(pa.int64()).to_numpy()[known])
    reason = rows["reason"].combine_chunks().dictionary_encode()
    number = pc.fill_null(reason.indices, -1).to_numpy(zero_copy_only=False)
    return _Paths(
        score=mean("score"),
        cost=np.stack([mean(name, known) for name in SCORE_COSTS], axis=1),
        metrics=np.stack([mean(name) for name in STATE_COLUMNS], axis=1),
        start_us=start_us,
        end_us=end_us,
        windows=np.bincount(path, minlength=count),
        unknown={
            words: np.bincount(path[number == index], minlength=count)
            for index, words in enumerate(reason.dictionary.to_pylist())
        },
        synthetic=np.bincount(path, weights=rows["synthetic"].to_numpy(zero_copy_only=False), minlength=count)
        > 0,
        profiles=tuple(sorted(rows["profile"].unique().to_pylist())),
    )


def _path_of(rows: pa.Table, pairs: pa.Table) -> NDArray[np.int64]:
    """For each row the number of its pair."""
    key = ["probe_id", "target", "af"]
    numbered = pairs.select(key).append_column("path", pa.array(np.arange(pairs.num_rows), pa.int64()))
    order = pa.array(np.arange(rows.num_rows), pa.int64())
    joined = rows.select(key).append_column("row", order).join(numbered, key)
    return np.asarray(joined.sort_by("row")["path"].to_numpy(), dtype=np.int64)


def _answers(
    application: Application, group_by: GroupBy | None, rows: pa.Table, pairs: pa.Table, nothing: str | None
) -> Iterator[Answer]:
    """A row a group; where no path is selected, one that says why: `nothing`."""
    if nothing is not None:
        nobody = np.empty(0, dtype=np.int64)
        yield replace(_answer(application, group_by, None, _paths(rows, pairs), nobody), reason=nothing)
        return
    paths = _paths(rows, pairs)
    groups = pa.repeat("all", pairs.num_rows) if group_by is None else pairs[_COLUMN[group_by]]
    names = groups.unique().to_pylist()
    number = pc.index_in(groups, value_set=groups.unique(), skip_nulls=False).to_numpy(zero_copy_only=False)
    for index in sorted(
        range(len(names)), key=lambda n: (names[n] is None, names[n] if names[n] is not None else 0)
    ):
        yield _answer(application, group_by, names[index], paths, np.flatnonzero(number == index))


def _answer(
    application: Application,
    group_by: GroupBy | None,
    group: str | int | None,
    paths: _Paths,
    members: NDArray[np.int64],
) -> Answer:
    """The answer for the paths in `members`."""
    score = paths.score[members]
    scored = members[~np.isnan(score)]
    cost = paths.cost[scored].mean(axis=0) if scored.shape[0] > 0 else np.zeros(len(METRICS))
    windows = int(paths.windows[members].sum())
    unknown = {words: int(count[members].sum()) for words, count in paths.unknown.items()}
    return Answer(
        application=application,
        group_by=group_by,
        group=group,
        score=float(paths.score[scored].mean()) if scored.shape[0] > 0 else None,
        score_low=None,
        score_high=None,
        mos=None,
        paths=members.shape[0],
        measured=scored.shape[0],
        predicted=0,
        rtt_ms=_known_mean(paths.metrics[members, 0]),
        loss_ratio=_known_mean(paths.metrics[members, 1]),
        jitter_ms=_known_mean(paths.metrics[members, 2]),
        windows=windows,
        windows_without_score=sum(unknown.values()),
        limiting_metric=str(METRICS[int(cost.argmax())]) if cost.max() > 0.0 else None,
        window_start=_moment(paths.start_us[scored].min()) if scored.shape[0] > 0 else None,
        window_end=_moment(paths.end_us[scored].max()) if scored.shape[0] > 0 else None,
        model=None,
        profile=", ".join(paths.profiles) if scored.shape[0] > 0 else None,
        synthetic=bool(paths.synthetic[members].any()),
        reason=_reason(
            unknown,
            windows,
            members.shape[0],
            int((paths.windows[members] == 0).sum()),
            None if group_by is None or group is not None else f"{group_by} of these paths unknown",
        ),
    )


def _reason(
    unknown: Mapping[str, int], windows: int, paths: int, unmeasured: int, nameless: str | None
) -> str | None:
    """Why there is no score, or no name, or why windows or paths are not in the score; None when there is nothing to say."""
    reasons = [] if nameless is None else [nameless]
    reasons += [
        f"{words} ({count} of {windows} windows)" for words, count in sorted(unknown.items()) if count > 0
    ]
    if unmeasured > 0:
        reasons.append(f"not measured in that time ({unmeasured} of {paths} paths)")
    return "; ".join(reasons) or None


def _known_mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.shape[0] > 0 else None


def _moment(microseconds: np.int64) -> datetime:
    return datetime.fromtimestamp(int(microseconds) / 1_000_000, tz=UTC)
