"""Path arrays: what the graph gives to learning, as plain NumPy.

One row a window, one column a pair. This is all that `gnn` ever sees: no raw results, no lake.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.errors import DataError, EmptyError
from domain.selection import Selection
from kg.centrality import CENTRALITIES, centralities
from kg.schema import ASSIGNED, ATLAS_PROBE, IP, NEXT_HOP, PATH_STATE
from kg.store import GraphStore

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Strings: TypeAlias = NDArray[np.object_]

UNKNOWN_ASN = 0
"""AS 0 is reserved (RFC 7607) and names no network: it stands for 'not known' in integer columns."""

UNKNOWN_COUNTRY = ""

MOST_CELLS = 50_000_000
"""Windows x pairs that arrays may hold: 1.6 GB. Records of years with gaps would fill memory with nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """One end (the probes, or the targets) of P pairs. What the graph does not know is NaN, 0 or "".

    Attributes:
        host: (P,) machine behind the end. Equal numbers mean the same machine: an anchor's probe id, its IPv4
            and its IPv6 address share one, in both roles, and so do nodes of a table that name the same host.
        latitude, longitude: (P,) WGS84 degrees, NaN where unknown.
        asn: (P,) AS number, 0 where unknown.
        country: (P,) ISO 3166-1 alpha-2, "" where unknown.
        centrality: (P, C) centralities of the end in NTKG, NaN where the end is not in it; columns are named by
            `PathArrays.centrality_names`.
    """

    host: Ints
    latitude: Floats
    longitude: Floats
    asn: Ints
    country: Strings
    centrality: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class PathArrays:
    """States of P pairs in W consecutive windows of equal length. Unmeasured cells are NaN (floats) or 0 (counts).

    Nothing of it is ever changed in place; two of them are the same only when they are one object.

    Attributes:
        window_start_s: (W,) start of each window, seconds since the epoch, ascending, no gaps: windows in which
            nothing was measured are there and empty.
        window_s: length of a window.
        probe_id, target, af: (P,) the pairs, sorted by them.
        probe_end, target_end: where the two ends are.
        centrality_names: names of the C centralities.
        rtt_ms: (W, P) median RTT of the window.
        jitter_ms: (W, P).
        sent, received: (W, P) packets; both 0 where none was sent, or where they are not known.
        synthetic: True when any of it comes from the testbed.
        untimely: states that were left out, as the time of a result is in doubt.
        doubtful: states with such results that are in here all the same.
    """

    window_start_s: Ints
    window_s: int
    probe_id: Ints
    target: Strings
    af: Ints
    probe_end: Ends
    target_end: Ends
    centrality_names: tuple[str, ...]
    rtt_ms: Floats
    jitter_ms: Floats
    sent: Ints
    received: Ints
    synthetic: bool
    untimely: int = 0
    doubtful: int = 0

    @property
    def windows(self) -> int:
        """W."""
        return int(self.window_start_s.shape[0])

    @property
    def pairs(self) -> int:
        """P."""
        return int(self.probe_id.shape[0])

    @property
    def measured(self) -> NDArray[np.bool_]:
        """(W, P) where something was measured: packets were sent, or an RTT is known of which the packets were not counted."""
        return (self.sent > 0) | np.isfinite(self.rtt_ms)

    @property
    def loss_ratio(self) -> Floats:
        """(W, P) lost packets over sent packets; NaN where none was sent."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.sent > 0, (self.sent - self.received) / self.sent, np.nan)


def path_arrays(
    store: GraphStore,
    selection: Selection,
    *,
    topology_before: datetime | None = None,
    timely: bool = False,
) -> PathArrays:
    """Read the selected pairs and windows from the graph, as arrays.

    Args:
        store: the graph.
        selection: which pairs and windows; `window_s` may be left out where the graph has one length only.
        topology_before: use only hops that were seen before this time, and places and networks as of then. A forecast must not know
            which routers will be met later, nor who will move where.
        timely: leave out states with results whose time is in doubt (rule `untimely` of `domain.observation`): what they say may belong
            to a neighbouring window. They are neither seen nor asked; `PathArrays.untimely` counts them.

    Raises:
        EmptyError: when no state is selected.
        DataError: when the graph has windows of several lengths and none was chosen, or when the span is too long.
    """
    states = store.facts(
        PATH_STATE,
        selection,
        ("rtt_median_ms", "jitter_ms", "sent", "received", "doubtful_results", "synthetic"),
    )
    # Unknown in old graphs: nobody doubted then.
    in_time = pc.equal(pc.fill_null(states["doubtful_results"], 0), 0)
    doubtful = states.filter(pc.invert(in_time)).num_rows
    untimely = doubtful if timely else 0
    if timely:
        states = states.filter(in_time)
    if states.num_rows == 0:
        raise EmptyError(
            "the graph has no path state there",
            found=f"{untimely} states, all of results whose time is in doubt" if untimely > 0 else None,
            next_step="run: qoetwin graph build --window 3h, or choose other paths or times",
        )
    start_s = _seconds(states["window_start"])
    length_s = np.unique(_seconds(states["window_end"]) - start_s)
    if length_s.shape[0] != 1:
        raise DataError(
            "the graph has windows of several lengths",
            found=", ".join(f"{length} s" for length in length_s),
            expected="one length",
            next_step="choose one with --window",
        )
    window_s = int(length_s[0])
    window = (start_s - start_s.min()) // window_s
    windows = int(window.max()) + 1
    pairs, column = _columns_of(states, store.pairs(selection))
    as_of = selection.as_of
    if topology_before is not None:  # where somebody moved to later must not be known either
        as_of = topology_before - timedelta(microseconds=1)
        then = store.pairs(Selection(at=as_of))
        pairs, _ = _columns_of(pairs, then)
    if windows * pairs.num_rows > MOST_CELLS:
        raise DataError(
            "too long a span for one table of windows and pairs",
            found=f"{windows} windows of {window_s} s, {pairs.num_rows} pairs, {states.num_rows} of the cells measured",
            expected=f"at most {MOST_CELLS} cells",
            next_step="choose a span with --from and --to, or longer windows",
        )

    counted = pc.and_(pc.is_valid(states["sent"]), pc.is_valid(states["received"]))
    for name in ("sent", "received"):  # one without the other says nothing of loss
        known = pc.if_else(counted, states[name], 0)
        states = states.set_column(states.column_names.index(name), name, known)

    def grid(name: str, empty: float, kind: type) -> NDArray[Any]:
        cells = np.full((windows, pairs.num_rows), empty, dtype=kind)
        cells[window, column] = states[name].to_numpy(zero_copy_only=False)
        return cells

    central = _centralities(store, topology_before)
    return PathArrays(
        window_start_s=start_s.min() + window_s * np.arange(windows, dtype=np.int64),
        window_s=window_s,
        probe_id=pairs["probe_id"].to_numpy(),
        target=_strings(pairs["target"]),
        af=pairs["af"].to_numpy(),
        **_ends_of(store, pairs, as_of, central),
        centrality_names=CENTRALITIES,
        rtt_ms=grid("rtt_median_ms", np.nan, np.float64),
        jitter_ms=grid("jitter_ms", np.nan, np.float64),
        sent=grid("sent", 0, np.int64),
        received=grid("received", 0, np.int64),
        synthetic=bool(pc.any(states["synthetic"]).as_py()),
        untimely=untimely,
        doubtful=doubtful - untimely,
    )


def _centralities(store: GraphStore, topology_before: datetime | None) -> tuple[pa.Array, Floats]:
    """Addresses (N,) and their centralities (N + 1, C); the last row is for those that are not among them.

    What the graph says of its nodes knows all hops that it has; of those seen before a time it is computed here.
    """
    if topology_before is None:
        nodes = store.nodes(IP)
        addresses = nodes["ip"].combine_chunks()
        columns = [_floats(pc.cast(nodes[name], pa.float64())) for name in CENTRALITIES]
    else:
        links = store.edges(NEXT_HOP)
        before = pa.scalar(topology_before, links["first_seen"].type)
        found = centralities(links.filter(pc.less(links["first_seen"], before)))
        addresses = pa.array(list(found), pa.string())
        columns = list(np.array(list(found.values()), dtype=np.float64).reshape(-1, len(CENTRALITIES)).T)
    return addresses, np.vstack([np.stack(columns, axis=1), np.full(len(CENTRALITIES), np.nan)])


def _ends_of(
    store: GraphStore, pairs: pa.Table, as_of: datetime | None, central: tuple[pa.Array, Floats]
) -> dict[str, Ends]:
    """Both ends of the pairs, under the names that `PathArrays` has for them."""
    addresses, values = central

    def of(address: pa.ChunkedArray) -> Floats:
        return values[_index(address, addresses)]

    assigned = store.edges(ASSIGNED, at=as_of)
    if as_of is None:
        assigned = assigned.filter(pc.is_null(assigned["valid_to"]))
    own = assigned.group_by(["target", "af"]).aggregate([("source", "min")])
    own = own.rename_columns(["probe_id", "af", "address"])
    row = pa.array(np.arange(pairs.num_rows), pa.int64())
    probes = (
        pairs.select(["probe_id", "af"])
        .append_column("row", row)
        .join(own, ["probe_id", "af"])
        .sort_by("row")
    )
    named = store.nodes(ATLAS_PROBE)
    named = named.filter(pc.is_valid(named["host"]))
    machine = named.group_by("host").aggregate([("id", "min")])
    first = machine["id_min"].take(pc.index_in(named["host"], value_set=machine["host"].combine_chunks()))

    def host(probe: pa.ChunkedArray) -> Ints:
        """Of the probes of one host the least id; any other probe is a machine of its own."""
        shared = first.take(pc.index_in(probe, value_set=named["id"].combine_chunks()))
        return np.asarray(pc.fill_null(pc.coalesce(shared, probe), 0).to_numpy(), dtype=np.int64)

    # An address that is assigned to no probe is a machine of its own, and gets a number that no probe has.
    strangers = -1 - _index(pairs["target"], pc.unique(pairs["target"]).sort())
    known = host(pairs["target_probe_id"])
    is_known = pairs["target_probe_id"].is_valid().to_numpy()
    return {
        "probe_end": _end(pairs, "probe", host=host(pairs["probe_id"]), centrality=of(probes["address"])),
        "target_end": _end(
            pairs, "target", host=np.where(is_known, known, strangers), centrality=of(pairs["target"])
        ),
    }


def _end(pairs: pa.Table, name: str, *, host: Ints, centrality: Floats) -> Ends:
    return Ends(
        host=np.asarray(host, dtype=np.int64),
        latitude=_floats(pairs[f"{name}_latitude"]),
        longitude=_floats(pairs[f"{name}_longitude"]),
        asn=pc.fill_null(pairs[f"{name}_asn"], UNKNOWN_ASN).to_numpy(),
        country=_strings(pc.fill_null(pairs[f"{name}_country"], UNKNOWN_COUNTRY)),
        centrality=centrality,
    )


def _columns_of(states: pa.Table, pairs: pa.Table) -> tuple[pa.Table, Ints]:
    """The pairs that have a state, and for each state the number of its pair among them."""
    targets = pc.unique(pairs["target"])
    probes = pc.unique(pairs["probe_id"])

    def code(table: pa.Table) -> Ints:
        probe, target = _index(table["probe_id"], probes), _index(table["target"], targets)
        return np.asarray((probe * len(targets) + target) * 2 + (table["af"].to_numpy() == 6), dtype=np.int64)

    codes = code(pairs)
    order = np.argsort(codes)
    number = order[np.searchsorted(codes, code(states), sorter=order)]
    used, column = np.unique(number, return_inverse=True)
    return pairs.take(pa.array(used)), column.astype(np.int64)


def _index(values: pa.ChunkedArray, among: pa.Array) -> Ints:
    """The place of each value among others, -1 where it is not there."""
    found = pc.fill_null(pc.index_in(values, value_set=among), -1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def _seconds(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.cast(pa.int64()).to_numpy() // 1_000_000, dtype=np.int64)


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _strings(column: pa.ChunkedArray) -> Strings:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.object_)
