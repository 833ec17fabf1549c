"""What several models need alike is worked out once, told apart by all that it follows from, and counted for each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gnn.baselines import level_fits as module
from gnn.baselines.level_fits import LEVEL_FITS, level_fits
from gnn.baselines.levels import Table, level_seen
from gnn.protocols.unseen_pair import UnseenPair
from gnn.shared_work import SharedWork, clock_s
from tests.gnn.anchor_mesh import anchor_mesh

pytestmark = pytest.mark.usefixtures("rough_fits")

ROW_BYTES = 8 * 100


@pytest.fixture
def work():
    return SharedWork(3 * ROW_BYTES)


class Labour:
    """Gives a row of the number of times that it was done, after so long."""

    def __init__(self, seconds: float = 0.0):
        self.done, self.seconds = 0, seconds

    def __call__(self):
        self.done += 1
        until = clock_s() + self.seconds
        while clock_s() < until:
            pass
        return np.full(100, float(self.done))


def test_it_is_done_once_under_each_key(work):
    labour = Labour()
    first, other, again = (work.once(key, labour) for key in ("one", "two", "one"))
    assert labour.done == 2
    assert again is first
    assert other[0] == 2.0


def test_what_came_first_is_let_go_of_first_and_what_is_too_large_is_given_and_not_kept(work):
    labour = Labour()
    for key in ("one", "two", "three", "four"):
        work.once(key, labour)
    work.once("two", labour)
    assert labour.done == 4
    work.once("one", labour)
    assert labour.done == 5
    tiny, slow = SharedWork(ROW_BYTES - 1), Labour()
    assert [tiny.once("one", slow)[0] for _ in range(2)] == [1.0, 2.0]


def test_what_is_remembered_cannot_be_written_to(work):
    with pytest.raises(ValueError, match="read-only"):
        work.once("one", Labour())[0] = 7.0


def test_work_that_failed_is_done_again(work):
    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work.once("one", fails)
    assert work.once("one", Labour())[0] == 1.0


def test_the_clock_counts_what_was_spared_as_if_it_had_been_done(work):
    labour = Labour(seconds=0.05)
    work.once("one", labour)
    began = clock_s()
    for _ in range(20):
        work.once("one", labour)
    assert labour.done == 1
    assert clock_s() - began >= 20 * 0.05


MESH = UnseenPair().view(anchor_mesh(anchors=12, probes=0, windows=2, families=(4,)))


def questions():
    """The test's, the first fitted row under its first mask, and under another."""
    rule = UnseenPair()
    split = rule.splits(MESH, seed=0)[0]
    first, other = (rule.redraw(split.fit, MESH, np.random.default_rng(seed)) for seed in (0, 1))
    return [split.test, first.part(slice(0, 1)), other.part(slice(0, 1))]


def said_alone(arrays, question):
    """What each fit says, asked for itself."""
    table = Table.of(arrays)
    return np.stack(
        [
            np.column_stack([np.maximum(fit().fitted(table, table.seen(level)), 0.0) for fit in LEVEL_FITS])
            for level in level_seen(arrays.rtt_ms, question)
        ]
    )


def moved(arrays):
    """The arrays, one host elsewhere."""
    ends = {
        name: replace(end, latitude=np.where(end.host == end.host.min(), -30.0, end.latitude))
        for name, end in (("probe_end", arrays.probe_end), ("target_end", arrays.target_end))
    }
    return replace(arrays, **ends)


def one_later(arrays):
    """The arrays, one pair that is not hidden a millisecond slower."""
    seen = np.flatnonzero(questions()[1].seen_past[0])[0]
    rtt = arrays.rtt_ms.copy()
    rtt[:, seen] += 1.0
    return replace(arrays, rtt_ms=rtt)


def test_fits_that_were_remembered_say_bit_for_bit_what_they_say_alone_of_these_arrays_and_no_others():
    asked = questions()
    for _ in range(2):
        for arrays in (MESH, moved(MESH), one_later(MESH)):
            for question in asked:
                np.testing.assert_array_equal(level_fits(arrays, question), said_alone(arrays, question))
    told = [level_fits(arrays, asked[1]) for arrays in (MESH, moved(MESH), one_later(MESH))]
    assert not np.array_equal(told[0], told[1])
    assert not np.array_equal(told[0], told[2])


def test_fits_are_worked_out_once_for_two_models_that_are_shown_the_same(monkeypatch):
    fitted = []
    really = module._fitted
    monkeypatch.setattr(module, "_fitted", lambda table, level: fitted.append(level) or really(table, level))
    question = questions()[1]
    for arrays in (MESH, replace(MESH, rtt_ms=MESH.rtt_ms.copy())):
        level_fits(arrays, question)
    assert len(fitted) == 1
