"""What of a split leaks by itself, before any predictor is looked at.

A protocol hides hosts, not ids. Whatever it calls its pairs, the cells that are asked are held against what is seen beside them:
the way back, the other address family, the other names of a host, later windows, and the cells that the other parts ask.

Pairs are told apart by what the arrays say of them. Two ids of one machine that share neither a name nor a result look like
two machines, and no audit of arrays can know better: whoever makes them must (`Ends.host`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from domain.observation import NODE
from gnn.protocols.hosts import host_pair
from gnn.protocols.protocol import Bools, Protocol, Question, Split
from kg.arrays import Ints, PathArrays

SAME_RESULTS = 8
"""Two hosts with so many different RTTs in common, to the same partners in the same windows, had their results told twice."""

SAME_SHARE = 0.5
"""And this share of all that both measured."""

COARSE_MS = 0.01
"""RTTs that are whole multiples of this may be equal by chance, and count for nothing there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something that a split shows or asks and should not.

    Attributes:
        name: in words.
        window: the first asked window in which it is so.
    """

    name: str
    window: int


def split_flaws(arrays: PathArrays, split: Split, drawn: Question, protocol: Protocol) -> tuple[Flaw, ...]:
    """Everything that is wrong with a split.

    Args:
        arrays: the measurements, as the protocol views them.
        split: what is learned on, and what is kept for the test.
        drawn: one redrawing of `split.fit`, which is what weights are learned on.
        protocol: that made the split.
    """
    learned = {"fit": drawn, "validation": split.validation, "calibration": split.calibration}
    every = {**learned, "test": split.test}
    found = [
        *_doubtful(arrays, split, protocol),
        *_sealing(arrays, split, learned, hidden_hosts=protocol.pairs_seen is not None),
        *_shared_cells(arrays, {**every, "fit": split.fit}, drawn),
    ]
    if protocol.in_time:
        found += _later(split, learned)
    for part, question in every.items():
        found += _own_cells(part, question)
        if question.unmet:
            found += _other_ways(arrays, part, question)
            if protocol.pairs_seen is not None:
                found += _hosts_seen(arrays, part, question, protocol.pairs_seen)
    if split.test.unmet or bool(split.test.seen_now.any()):
        found += [Flaw(name=name, window=int(split.test.windows.min())) for name in two_ids(arrays)]
    return tuple(found)


def two_ids(arrays: PathArrays) -> tuple[str, ...]:
    """Names of hosts that the arrays take for two, though they themselves say that it is one.

    One probe id, or one target, has one host, and so has a node by its id as probe and as target. Results cannot be the same to all
    digits, partner for partner and window for window, unless they were told twice.
    """
    found = []
    for what, ids, end in (
        ("probe", arrays.probe_id.astype(str), arrays.probe_end),
        ("target", arrays.target.astype(str), arrays.target_end),
    ):
        named = np.unique(np.stack([ids, end.host.astype(str)]), axis=1)[0]
        ids, count = np.unique(named, return_counts=True)
        found += [f"{what} {one} has two hosts" for one in ids[count > 1]]
    is_node = np.char.startswith(arrays.target.astype(str), NODE)
    nodes = dict(zip(arrays.target[is_node], arrays.target_end.host[is_node].tolist(), strict=True))
    first = np.unique(arrays.probe_id, return_index=True)[1]
    found += [
        f"probe {probe} and target {NODE}{probe} are two hosts"
        for probe, host in zip(arrays.probe_id[first], arrays.probe_end.host[first], strict=True)
        if nodes.get(f"{NODE}{probe}", host) != host
    ]
    return (*found, *_told_twice(arrays))


def _told_twice(arrays: PathArrays) -> list[str]:
    """Hosts whose RTTs to common partners are the same to all digits."""
    windows = np.unique(np.linspace(0, arrays.windows - 1, num=min(arrays.windows, 16)).astype(np.int64))
    here, there = arrays.probe_end.host, arrays.target_end.host
    host, partner = np.concatenate([here, there]), np.concatenate([there, here])
    family = np.tile(arrays.af, 2)
    rtt_ms = np.tile(arrays.rtt_ms[windows], 2)
    fine = np.isfinite(rtt_ms) & (np.abs(rtt_ms / COARSE_MS - np.round(rtt_ms / COARSE_MS)) > 1e-6)
    row, column = np.nonzero(fine)
    value, own = rtt_ms[row, column], host[column]
    cell = (row, partner[column], family[column])
    order = np.lexsort((own, value, *cell))  # in each cell equal values stand together
    one, other = own[order[:-1]], own[order[1:]]
    same = one != other
    for key in (value, *cell):
        same &= np.diff(key[order]) == 0
    hosts, number = np.unique(np.stack([one, other])[:, same], axis=1, return_inverse=True)
    values = np.unique(np.stack([number.reshape(-1), value[order[1:]][same]]), axis=1)[0].astype(np.int64)
    found = []
    for place in np.flatnonzero(np.bincount(values, minlength=hosts.shape[1]) >= SAME_RESULTS):
        cells = [set(zip(*(key[own == id_] for key in cell), strict=True)) for id_ in hosts[:, place]]
        if int((number == place).sum()) >= SAME_SHARE * len(cells[0] & cells[1]):
            found.append(f"hosts {hosts[0, place]} and {hosts[1, place]} have the same results")
    return found


def _doubtful(arrays: PathArrays, split: Split, protocol: Protocol) -> Iterator[Flaw]:
    if protocol.timely and arrays.doubtful > 0:
        name = f"{arrays.doubtful} states with results whose time is in doubt"
        yield Flaw(name=name, window=int(split.test.windows.min()))


def _own_cells(part: str, question: Question) -> Iterator[Flaw]:
    """A question shows what it asks. `Question` refuses to be made so; whoever changes it afterwards is found out here."""
    shown = question.asked & (question.seen_now | (question.seen_until > question.windows)[:, None])
    if shown.any():
        yield _flaw(f"{part} sees what it asks", question, shown)


def _sealing(
    arrays: PathArrays, split: Split, learned: dict[str, Question], *, hidden_hosts: bool
) -> Iterator[Flaw]:
    """What the test asks is sealed, with its ways back where pairs are unmet; whole hosts where they are hidden; from all others."""
    tested = _asked(arrays, split.test)
    if (tested & ~split.sealed).any():
        window = int(np.argwhere(tested & ~split.sealed)[0, 0])
        yield Flaw(name="the test asks cells that are not sealed", window=window)
    for part, question in learned.items():
        sealed = split.sealed.astype(np.float64)
        asks = _of_windows(arrays, question, split.sealed) & question.asked
        sees = question.seen_before(split.sealed) | (question.now(sealed) == 1.0)
        if asks.any():
            yield _flaw(f"{part} asks sealed cells", question, asks)
        if sees.any():
            yield _flaw(f"{part} sees sealed cells", question, sees)
    first = int(split.test.windows.min())
    pairs, unsealed = (np.asarray(cells) for cells in (tested.any(axis=0), ~split.sealed.all(axis=0)))
    hosts = host_pair(arrays)
    if split.test.unmet and (np.isin(hosts, hosts[pairs]) & unsealed).any():
        yield Flaw(
            name="the way back or the other address family of a tested pair is not sealed", window=first
        )
    if hidden_hosts and bool(_pairs_of_ends(arrays, unsealed[None, :])[0].min(axis=0)[pairs].any()):
        yield Flaw(name="a tested host is not sealed in both roles and under all its ids", window=first)


def _shared_cells(arrays: PathArrays, parts: dict[str, Question], drawn: Question) -> Iterator[Flaw]:
    """No cell is asked by two parts."""
    cells = {part: _asked(arrays, question) for part, question in parts.items()}
    cells["fit"] |= _asked(arrays, drawn)
    for one, other in combinations(cells, 2):
        common = np.argwhere(cells[one] & cells[other])
        if len(common) > 0:
            yield Flaw(name=f"{one} and {other} ask the same cells", window=int(common[0, 0]))


def _later(split: Split, learned: dict[str, Question]) -> Iterator[Flaw]:
    """Where time is divided, nothing from the first window of the test on is asked or seen before the test."""
    first = split.test.windows.min()
    for part, question in learned.items():
        late = (question.windows >= first) | (question.seen_until > first)
        if late.any():
            yield _flaw(f"{part} reaches into the windows of the test", question, late[:, None])


def _other_ways(arrays: PathArrays, part: str, question: Question) -> Iterator[Flaw]:
    """Of two hosts whose pair is asked nothing is seen, in either direction or address family."""
    hosts = host_pair(arrays)
    seen = _seen_pairs(arrays, question)
    asked = np.zeros((len(question), int(hosts.max()) + 1), dtype=np.bool_)
    row, pair = np.nonzero(question.asked)
    asked[row, hosts[pair]] = True
    shown = asked[:, hosts] & seen
    if shown.any():
        yield _flaw(f"{part} sees the way back or the other address family of an asked pair", question, shown)


def _hosts_seen(arrays: PathArrays, part: str, question: Question, most: tuple[int, ...]) -> Iterator[Flaw]:
    """Of each asked pair one end is hidden: in both roles, under all its names, no more of its pairs are seen than the case allows."""
    seen = _pairs_of_ends(arrays, _seen_pairs(arrays, question)).min(axis=1)
    shown = (seen > np.asarray(most)[question.case][:, None]) & question.asked
    if shown.any():
        yield _flaw(f"{part} sees more pairs of a hidden host than its case allows", question, shown)


def _asked(arrays: PathArrays, question: Question) -> Bools:
    """(W, P) cells that a question asks in any row."""
    cells = np.zeros((arrays.windows, arrays.pairs), dtype=np.bool_)
    for window, asked in zip(question.windows, question.asked, strict=True):
        if window < arrays.windows:
            cells[window] |= asked
    return cells


def _of_windows(arrays: PathArrays, question: Question, cells: Bools) -> Bools:
    """(Q, P) the cells of the asked windows; those of windows that have not been yet are none."""
    there = question.windows < arrays.windows
    return np.asarray(cells[np.where(there, question.windows, 0)] & there[:, None])


def _seen_pairs(arrays: PathArrays, question: Question) -> Bools:
    """(Q, P) pairs of which any cell is seen, measured or not."""
    every = np.ones((arrays.windows, arrays.pairs), dtype=np.bool_)
    return np.asarray(question.seen_before(every) | (question.now(every.astype(np.float64)) == 1.0))


def _pairs_of_ends(arrays: PathArrays, seen: Bools) -> Ints:
    """(Q, 2, P) with how many hosts the host at either end of each pair is seen, of the pairs that are, (Q, P)."""
    ends = np.stack([arrays.probe_end.host, arrays.target_end.host])
    number = np.unique(ends, return_inverse=True)[1].reshape(2, -1)
    pairs, pair = np.unique(np.sort(number, axis=0), axis=1, return_inverse=True)
    counts = np.empty((len(seen), *number.shape), dtype=np.int64)
    for row, shown in enumerate(seen):
        known = np.bincount(pair.reshape(-1)[shown], minlength=pairs.shape[1]) > 0
        counts[row] = np.bincount(pairs[:, known].reshape(-1), minlength=int(number.max()) + 1)[number]
    return counts


def _flaw(name: str, question: Question, cells: Bools) -> Flaw:
    """A flaw in these cells of the question, (Q, P)."""
    return Flaw(name=name, window=int(question.windows[np.flatnonzero(cells.any(axis=1))].min()))
