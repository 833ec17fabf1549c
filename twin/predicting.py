"""Graph -> answers of a saved model: RTT, loss and jitter with intervals, and back into the graph as predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from domain.errors import ArtefactError, DataError, EmptyError, InputError, NotFoundError
from domain.number import many
from domain.progress import Report, unheard
from domain.provenance import Provenance
from domain.selection import Selection
from gnn.artefact import Card, load
from gnn.prediction import Prediction
from gnn.predictor import Predictor
from gnn.protocols import protocol_named
from gnn.protocols.protocol import Protocol, Question
from kg.arrays import Ends, Ints, PathArrays, path_arrays
from kg.predictions import put_predictions
from kg.schema import PATH_PREDICTION, PATH_STATE
from kg.store import GraphStore
from kg.tables import fact_schema
from twin.learning import without_hops
from twin.qoe import check_countries, lengths_of, why_none

Cell: TypeAlias = str | int | float | bool | datetime | None

PAIR_COLUMNS = ("probe", "target", "af", "at")
MOST_PAIRS = 1_000_000
MOST_ROWS = 5_000_000

_VALUES = (
    *("rtt_ms", "rtt_low_ms", "rtt_high_ms", "loss_ratio", "any_loss_probability"),
    *("jitter_ms", "jitter_low_ms", "jitter_high_ms"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What a model says.

    Attributes:
        rows: one a path and window, as `qoetwin predict` writes them.
        card: of the model.
        learned_until: nothing from this time on was learned from; None where a model is not of one time.
        synthetic: True when what it learned from, or what it saw, is.
    """

    rows: Sequence[dict[str, Cell]]
    card: Card
    learned_until: datetime | None
    synthetic: bool


def read_pairs(path: Path) -> pa.Table:
    """Pairs and times to predict, from CSV or Parquet with `probe,target,af,at`.

    Raises:
        NotFoundError: when there is no such file.
        InputError: when it cannot be read, lacks a column, or holds what is no probe, target, family or time.
    """
    try:
        if path.suffix in (".parquet", ".pq"):
            table = pyarrow.parquet.read_table(path)
        else:
            table = pyarrow.csv.read_csv(
                path,
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types={name: pa.string() for name in PAIR_COLUMNS}
                ),
            )
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(path)) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError("pairs that cannot be read", where=str(path), found=str(error)) from error
    if any(table.column_names.count(name) != 1 for name in PAIR_COLUMNS):
        raise InputError(
            "pairs without a column that they need, or with two of it",
            where=str(path),
            found=", ".join(map(repr, table.column_names)) or "no column",
            expected=", ".join(map(repr, PAIR_COLUMNS)),
        )
    if table.num_rows > MOST_PAIRS:
        raise InputError(
            "too many pairs", where=str(path), found=str(table.num_rows), expected=f"at most {MOST_PAIRS}"
        )
    read: dict[str, pa.Array] = {}
    for name, (kind, of_one) in _READ.items():
        column = table[name].combine_chunks()
        try:
            if kind is None:
                read[name] = _times(column)
            else:
                read[name] = pc.cast(column, kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError) as error:
            raise _no_pair(path, name, column, of_one) from error
        if read[name].null_count > 0:
            raise _no_pair(path, name, read[name], _known)
    for name, of_one in (("target", _known), ("af", _family)):
        if not all(_reads(of_one, value) for value in pc.unique(read[name]).to_pylist()):
            raise _no_pair(path, name, read[name], of_one)
    pairs = pa.table(read)
    once = pairs.group_by(["target", "af"]).aggregate([])
    if not all(_reads(_of_that_family, value) for value in once.to_pylist()):
        both = pa.StructArray.from_arrays([read["target"], read["af"]], ["target", "af"])
        raise _no_pair(path, "target and af", both, _of_that_family)
    return pairs


def _known(value: object) -> None:
    if value in (None, ""):
        raise ValueError("nothing")


def _family(value: int) -> None:
    if value not in (4, 6):
        raise ValueError("no family")


def _of_that_family(value: Mapping[str, Any]) -> None:
    """An address is of the family; what has no address, such as a node of a table, is of any."""
    try:
        family = ip_address(value["target"]).version
    except ValueError:
        return
    if family != value["af"]:
        raise ValueError("of the other family")


def _moment(value: str | datetime) -> datetime:
    """Aware; what says no zone is UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_READ: Mapping[str, tuple[pa.DataType | None, Callable[[Any], object]]] = MappingProxyType(
    {"probe": (pa.int64(), int), "target": (pa.string(), str), "af": (pa.int64(), int), "at": (None, _moment)}
)
"""The type that a column of pairs is cast to, and how one value of it is read, to say which of them is none."""


def _reads(of_one: Callable[[Any], object], value: object) -> bool:
    try:
        of_one(value)
    except (TypeError, ValueError):
        return False
    return True


def _no_pair(path: Path, name: str, column: pa.Array, of_one: Callable[[Any], object]) -> InputError:
    """What is wrong in which row, counted from 1."""
    found = f"as {name} what cannot be read: {column.type}"
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError):  # years that a datetime does not have
        values = []
    for number, value in enumerate(values, 1):
        if not _reads(of_one, value):
            told = " and ".join(map(str, value.values())) if isinstance(value, dict) else repr(value)
            found = f"in row {number} as {name} {'nothing' if value in (None, '') else told}"
            break
    return InputError(
        "a row that names no pair",
        where=str(path),
        found=found,
        expected="probe: an id, target: an address, af: its family, 4 or 6, at: ISO 8601",
    )


def _times(column: pa.Array) -> pa.Array:
    """Aware UTC."""
    if pa.types.is_timestamp(column.type):
        return pc.cast(column, pa.timestamp("us", "UTC"))
    return pa.array([_moment(text) for text in column.to_pylist()], pa.timestamp("us", "UTC"))


def predict(
    store: GraphStore,
    folder: Path,
    selection: Selection,
    *,
    model: str | None = None,
    protocol: str | None = None,
    wanted: pa.Table | None = None,
    report: Report = unheard,
) -> Predicted:
    """Ask a saved model.

    Args:
        store: the graph; nothing else is looked at.
        folder: of the model.
        selection: which paths and windows. Without a time, a forecast is of the window after the last measured one, and any
            other of the last measured one.
        model: what the model in the folder should be; None takes whatever it is.
        protocol: what it should be trained for, likewise.
        wanted: pairs and times, as `read_pairs` gives them, in place of the selection.
        report: hears how far it is.

    Raises:
        ArtefactError: when there is no such model, or it cannot be used, or is another one.
        EmptyError: when the graph has no state, or none of the windows that the model knows, or no path or window is selected.
        UnknownNameError: when a country is in nobody's records here.
        InputError: when a time is out of reach, or more is selected than can be answered at once.
        DataError: when other windows are selected than the model was trained on.
    """
    report("reading the graph", 0, 1)
    predictor, card = load(folder)
    _require_the_one(card, folder, model, protocol)
    _require_its_windows(card, folder, selection)
    rule = protocol_named(card.protocol)
    arrays = _read(store, card, folder, timely=rule.timely)
    if wanted is None:
        wanted = _wanted(store, selection, arrays, rule)
    _require_in_reach(wanted)
    windows = _window_of(arrays, wanted)
    if rule.in_time:  # nobody knew then what was met later
        first = max(int(windows.min(initial=arrays.windows)), 0)
        before = datetime.fromtimestamp(int(arrays.window_start_s[0]) + first * arrays.window_s, tz=UTC)
        every = Selection(window_s=card.window_s)
        arrays = path_arrays(store, every, topology_before=before, timely=rule.timely)
    else:
        arrays = without_hops(arrays)
    report("reading the graph", 1, 1)
    rows = _answered(predictor, card, rule, arrays, wanted, windows, report)
    learned_until_s = None if predictor.calibrated is None else predictor.calibrated.learned_until_s
    return Predicted(
        rows=rows,
        card=card,
        learned_until=None if learned_until_s is None else datetime.fromtimestamp(learned_until_s, tz=UTC),
        synthetic=arrays.synthetic or card.synthetic,
    )


def _require_the_one(card: Card, folder: Path, model: str | None, protocol: str | None) -> None:
    """A folder that was copied or renamed holds another model than its name says."""
    if model not in (None, card.model) or protocol not in (None, card.protocol):
        raise ArtefactError(
            "another model than its folder says",
            where=str(folder),
            found=f"{card.model}, {card.protocol}",
            expected=f"{model or card.model}, {protocol or card.protocol}",
            next_step=f"train it: qoetwin train {model or card.model} --protocol {protocol or card.protocol}",
        )


def _require_its_windows(card: Card, folder: Path, selection: Selection) -> None:
    """A model speaks of windows as long as those that it learned from."""
    if selection.window_s not in (None, card.window_s):
        raise DataError(
            "the model was trained on windows of another length",
            where=str(folder),
            found=f"{card.window_s} s",
            expected=f"{selection.window_s} s, as --window says",
            next_step="leave --window out, or train the model on such windows",
        )


def _read(store: GraphStore, card: Card, folder: Path, *, timely: bool) -> PathArrays:
    """All of the graph in windows of the model's length."""
    try:
        return path_arrays(store, Selection(window_s=card.window_s), timely=timely)
    except EmptyError as error:
        there = lengths_of(store.facts(PATH_STATE, Selection(), ()))
        if not there or card.window_s in there:
            raise
        raise EmptyError(
            "the graph has no windows of the length that the model was trained on",
            where=str(folder),
            found=" and ".join(f"{length} s" for length in there),
            expected=f"{card.window_s} s",
            next_step="build them with qoetwin graph build --window LENGTH, or train the model again",
        ) from error


EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Of windows further away start and end may be no time any more."""


def _require_in_reach(wanted: pa.Table) -> None:
    if wanted.num_rows == 0:
        return
    at_us = wanted["at"].cast(pa.int64()).to_numpy()  # datetime knows no years after 9999
    earliest, latest = (round(moment.timestamp()) * 1_000_000 for moment in (EARLIEST, LATEST))
    beyond = np.flatnonzero((at_us < earliest) | (at_us >= latest))
    if len(beyond) > 0:
        raise InputError(
            "a time that is out of reach",
            found=f"{np.datetime64(int(at_us[beyond[0]]), 'us'):}",
            expected=f"one from {EARLIEST:%Y} on and before {LATEST:%Y}",
        )


def _wanted(store: GraphStore, selection: Selection, arrays: PathArrays, rule: Protocol) -> pa.Table:
    """The selected paths, in each of the selected windows."""
    check_countries(store, selection)
    pairs = store.pairs(selection)
    if pairs.num_rows == 0:
        raise EmptyError(
            "no path to predict",
            found=why_none(store, selection),
            next_step="name pairs with --pairs, or choose others",
        )
    start_s, length_s = int(arrays.window_start_s[0]), arrays.window_s
    last = arrays.windows if rule.forecasts else arrays.windows - 1
    if selection.at is not None:
        first = (int(selection.at.timestamp()) - start_s) // length_s
        end = first + 1
    elif selection.start is not None or selection.end is not None:
        until_s = start_s + (last + 1) * length_s
        first_s = start_s if selection.start is None else int(selection.start.timestamp())
        end_s = until_s if selection.end is None else int(selection.end.timestamp())
        first, end = (-(-(one_s - start_s) // length_s) for one_s in (first_s, end_s))
    else:
        first, end = last, last + 1
    if end <= first:
        raise EmptyError(
            "no window to predict there",
            found="none that begins in the chosen span",
            expected=f"a window of {length_s} s, the last of them from {_time(start_s + last * length_s)}",
            next_step="choose another span with --from and --to, or one moment with --at",
        )
    if (end - first) * pairs.num_rows > MOST_ROWS:
        raise InputError(
            "too much to predict at once",
            found=f"{end - first} windows of {pairs.num_rows} paths",
            expected=f"at most {MOST_ROWS} in all",
            next_step="choose a shorter span with --from and --to, or fewer paths",
        )
    windows = np.arange(first, end)
    at_us = (start_s + np.repeat(windows, pairs.num_rows) * length_s) * 1_000_000
    rows = np.tile(np.arange(pairs.num_rows), len(windows))
    return pa.table(
        {
            "probe": pairs["probe_id"].take(rows),
            "target": pairs["target"].take(rows),
            "af": pairs["af"].take(rows),
            "at": pa.array(at_us, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%MZ}"


def _window_of(arrays: PathArrays, wanted: pa.Table) -> Ints:
    """The number of the window that holds each time; below 0 or past the last where it is of no measured one."""
    at_s = wanted["at"].cast(pa.int64()).to_numpy() // 1_000_000
    return np.asarray((at_s - int(arrays.window_start_s[0])) // arrays.window_s, dtype=np.int64)


NO_PROBE = "the graph has no path from this probe: nothing says where it is"
NO_TARGET = "the graph has no path to this target: nothing says where it is"
NEITHER = "the graph has no path from this probe, and none to this target: nothing says where they are"
NO_NUMBER = "the model gives no number"
NO_INTERVAL = "no interval: too few cells were kept to calibrate one"
ASK_OTHERWISE = "; pairs that were never measured are what a model for unseen-pair is asked about"
TOO_EARLY = "before the first measured window"
MEASURED = "it was measured: a model is asked about what was not"


def _answered(
    predictor: Predictor,
    card: Card,
    rule: Protocol,
    arrays: PathArrays,
    wanted: pa.Table,
    windows: Ints,
    report: Report,
) -> list[dict[str, Cell]]:
    """A row for each wanted pair and time."""
    measured = arrays.pairs
    arrays, pair = _with_pairs(arrays, wanted)
    viewed, column = rule.view(arrays), rule.columns_of(arrays)
    strange, never = pair, pair >= measured
    pair = np.where(pair >= 0, column[pair], -1)
    last = _time(int(arrays.window_start_s[-1]))
    ahead = rule.furthest(viewed.window_s)
    too_far = (
        f"further ahead than the model was trained for: {many(ahead, 'window')} of {viewed.window_s} s"
        if ahead > 0
        else f"under {rule.name} a model is asked about measured windows, of which the last begins at {last}"
    )
    rows: list[dict[str, Cell]] = []
    told: dict[int, tuple[Question, Prediction]] = {}
    askable = np.unique(windows[(windows >= 0) & (pair >= 0)])
    askable = askable[askable - viewed.windows < ahead]
    for number, window in enumerate(askable.tolist()):
        report("predicting", number, len(askable))
        question = rule.ask(viewed, np.array([window], dtype=np.int64))
        told[window] = (question, predictor.predict(viewed, question))
    report("predicting", len(askable), len(askable))
    for number, (probe, target, af) in enumerate(
        zip(*(wanted[name].to_pylist() for name in ("probe", "target", "af")), strict=True)
    ):
        window, own = int(windows[number]), int(pair[number])
        start = datetime.fromtimestamp(int(arrays.window_start_s[0]) + window * arrays.window_s, tz=UTC)
        row: dict[str, Cell] = {
            "probe": probe,
            "target": target,
            "af": af,
            "window_start": start,
            "window_end": start + timedelta(seconds=arrays.window_s),
        }
        values: dict[str, Cell] = dict.fromkeys(_VALUES)
        in_range, reason = False, ""
        if own < 0:
            reason = {-1: NO_PROBE, -2: NO_TARGET}.get(int(strange[number]), NEITHER)
        elif window < 0:
            reason = TOO_EARLY
        elif window not in told:
            reason = too_far
        else:
            question, prediction = told[window]
            asked = np.flatnonzero(question.asked[:, own])
            if len(asked) == 0:
                reason = MEASURED
            else:
                q = int(asked[0])
                values = {name: _number(getattr(prediction, name)[q, own]) for name in _VALUES}
                in_range, reason = bool(prediction.in_range[q, own]), str(prediction.reason[q, own])
                if values["rtt_ms"] is None:
                    in_range, reason = False, reason or NO_NUMBER
                    reason += ASK_OTHERWISE if never[number] and rule.forecasts else ""
                elif values["rtt_low_ms"] is None:
                    in_range, reason = False, reason or NO_INTERVAL
        rows.append(
            row
            | values
            | {
                "model": card.model,
                "protocol": card.protocol,
                "in_range": in_range,
                "reason": reason or None,
            }
        )
    return rows


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _with_pairs(arrays: PathArrays, wanted: pa.Table) -> tuple[PathArrays, Ints]:
    """The arrays with columns for wanted pairs that were never measured, and the column of each wanted pair.

    The ends of such a pair are known from other pairs of the same probe, and of the same target. It gets no column where there are none:
    -1 of the probe, -2 of the target, -3 of either.
    """
    known = {
        key: number
        for number, key in enumerate(
            zip(arrays.probe_id.tolist(), arrays.target.tolist(), arrays.af.tolist(), strict=True)
        )
    }
    of_probe = {(probe, af): number for (probe, _, af), number in known.items()}
    of_probe_alone = {probe: number for (probe, _, _), number in known.items()}
    of_target = {target: number for (_, target, _), number in known.items()}
    probe_rows: list[int] = []
    target_rows: list[int] = []
    added: list[tuple[int, str, int]] = []
    found: list[int] = []
    for key in zip(*(wanted[name].to_pylist() for name in ("probe", "target", "af")), strict=True):
        if key not in known:
            probe, target, af = key
            here = of_probe.get((probe, af), of_probe_alone.get(probe))
            there = of_target.get(target)
            if here is None or there is None:
                found.append(-(here is None) - 2 * (there is None))
                continue
            known[key] = arrays.pairs + len(added)
            added.append(key)
            probe_rows.append(here)
            target_rows.append(there)
        found.append(known[key])
    if not added:
        return arrays, np.array(found, dtype=np.int64)
    empty = np.full((arrays.windows, len(added)), np.nan)
    none = np.zeros((arrays.windows, len(added)), dtype=np.int64)
    return replace(
        arrays,
        probe_id=np.concatenate([arrays.probe_id, [key[0] for key in added]]),
        target=np.concatenate([arrays.target, np.array([key[1] for key in added], dtype=np.object_)]),
        af=np.concatenate([arrays.af, [key[2] for key in added]]),
        probe_end=_longer(arrays.probe_end, probe_rows),
        target_end=_longer(arrays.target_end, target_rows),
        rtt_ms=np.concatenate([arrays.rtt_ms, empty], axis=1),
        jitter_ms=np.concatenate([arrays.jitter_ms, empty], axis=1),
        sent=np.concatenate([arrays.sent, none], axis=1),
        received=np.concatenate([arrays.received, none], axis=1),
    ), np.array(found, dtype=np.int64)


def _longer(end: Ends, rows: list[int]) -> Ends:
    def longer(values: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([values, values[rows]])

    return Ends(**{field.name: longer(getattr(end, field.name)) for field in fields(end)})


def write_predictions(store: GraphStore, told: Predicted) -> int:
    """Keep predictions in the graph, beside measurements and never among them; gives how many.

    Rows without any number are not kept: they say nothing of the path.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    rows = [row for row in told.rows if any(row[name] is not None for name in _VALUES)]
    forecasts = protocol_named(told.card.protocol).forecasts
    table = pa.Table.from_pylist(
        [
            {
                "probe_id": row["probe"],
                **{
                    name: row[name]
                    for name in (
                        "target",
                        "af",
                        "model",
                        "protocol",
                        "window_start",
                        "window_end",
                        "in_range",
                        "reason",
                        *_VALUES,
                    )
                },
                "predicted_at": now,
                "trained_until": told.learned_until,
                "seen_until": row["window_start" if forecasts else "window_end"],
                "data_hash": told.card.data_hash,
                "synthetic": told.synthetic,
            }
            for row in rows
        ],
        schema=fact_schema(PATH_PREDICTION),
    )
    put_predictions(
        store,
        table,
        Provenance(
            reference_name=f"model {told.card.model}, {told.card.protocol}",
            reference_org="qoetwin",
            reference_url_data=None,
            reference_time_fetch=now,
            reference_time_modification=None,
            method=told.card.model,
            synthetic=told.synthetic,
        ),
    )
    return len(rows)
