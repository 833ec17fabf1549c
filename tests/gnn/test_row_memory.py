"""What was said of a row is remembered for as long as its arrays are in use, and taken for nothing else."""

from __future__ import annotations

import gc
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest

from gnn import row_memory
from gnn.prediction import Prediction
from gnn.protocols import protocol_named
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.registry import PREDICTORS, predictor_class
from gnn.row_memory import RowMemory
from tests.gnn.anchor_mesh import anchor_mesh
from tests.gnn.conftest import synthetic_arrays
from tests.gnn.straight_line import Straight

WINDOWS = 10


class Mouth:
    """Says in everything how many rows it was asked so far, and keeps the windows of these."""

    def __init__(self):
        self.asked = []

    def __call__(self, arrays, question):
        assert len(question) == 1
        self.asked.append(int(question.windows[0]))
        said = np.full(question.asked.shape, float(len(self.asked)))
        return Prediction(**{field.name: said for field in fields(Prediction)})


@pytest.fixture
def small():
    return synthetic_arrays(probes=3, targets=2, windows=WINDOWS)


@pytest.fixture
def mouth():
    return Mouth()


@pytest.fixture
def memory(mouth):
    return RowMemory(mouth)


def imputed(arrays, windows):
    """Half of each window is seen, half asked."""
    hidden = np.broadcast_to(np.arange(arrays.pairs) % 2 == 0, (len(windows), arrays.pairs))
    return Imputation().question(arrays, np.asarray(windows), hidden)


def test_a_row_is_worked_out_once_for_one_set_of_arrays(small, mouth, memory):
    first = memory.ask(small, imputed(small, [3, 5, 3]))
    assert mouth.asked == [3, 5]
    assert first.rtt_ms[:, 0].tolist() == [1.0, 2.0, 1.0]
    again = memory.ask(small, imputed(small, [5, 6]))
    assert mouth.asked == [3, 5, 6]
    assert again.rtt_ms[:, 0].tolist() == [2.0, 3.0]


def test_a_question_of_no_row_is_answered_with_none_and_asks_nobody(small, mouth, memory):
    told = memory.ask(small, imputed(small, [3]).part(slice(0, 0)))
    assert {getattr(told, field.name).shape for field in fields(Prediction)} == {(0, small.pairs)}
    assert mouth.asked == []


def test_another_set_of_arrays_is_not_taken_for_it_though_all_values_are_the_same(small, mouth, memory):
    question = imputed(small, [3])
    other = replace(small)
    told = [memory.ask(arrays, question).rtt_ms[0, 0] for arrays in (small, other, small)]
    assert told == [1.0, 2.0, 1.0]
    assert mouth.asked == [3, 3]


def test_what_is_kept_for_arrays_is_let_go_of_with_them(small):
    own = replace(small)
    said = []

    def answer(arrays, question):
        told = Mouth()(arrays, question)
        said.append(weakref.ref(told.rtt_ms))
        return told

    memory = RowMemory(answer)
    memory.ask(own, imputed(own, [3]))
    gone = weakref.ref(own)
    gc.collect()
    assert said[0]() is not None  # it is kept
    del own
    gc.collect()
    assert gone() is None
    assert said[0]() is None


def test_beyond_so_many_cells_the_oldest_rows_go(small, mouth, memory, monkeypatch):
    monkeypatch.setattr(row_memory, "MOST_CELLS", 3 * small.pairs)
    memory.ask(small, imputed(small, [2, 3, 4, 5]))
    mouth.asked.clear()
    memory.ask(small, imputed(small, [3, 4, 5]))
    assert mouth.asked == []
    memory.ask(small, imputed(small, [2]))  # in place of 3
    memory.ask(small, imputed(small, [4, 5]))
    memory.ask(small, imputed(small, [3]))
    assert mouth.asked == [2, 3]


def test_more_rows_than_are_kept_are_answered_all_the_same(small, mouth, memory, monkeypatch):
    monkeypatch.setattr(row_memory, "MOST_CELLS", 1)
    told = memory.ask(small, imputed(small, [2, 3, 4]))
    assert told.rtt_ms[:, 0].tolist() == [1.0, 2.0, 3.0]
    memory.ask(small, imputed(small, [4]))
    assert mouth.asked == [2, 3, 4]


def turned(question, name, at):
    values = getattr(question, name).copy()
    values[at] = ~values[at]
    return replace(question, **{name: values})


@pytest.mark.parametrize(
    "other",
    [
        lambda question: turned(question, "seen_past", (0, 4)),
        lambda question: turned(question, "seen_now", (0, 5)),
        lambda question: turned(question, "held_out", (1, 2)),
        lambda question: replace(question, held_out=None),
        lambda question: replace(question, seen_until=question.seen_until - 1),
        lambda question: replace(question, windows=question.windows + 1),
        lambda question: replace(question, case=question.case + 1),
        lambda question: replace(question, unmet=not question.unmet),
    ],
    ids=["past", "now", "held out", "nothing held out", "until", "window", "case", "unmet"],
)
def test_two_questions_that_differ_in_one_bit_of_what_they_show_are_told_apart(small, mouth, memory, other):
    question = replace(imputed(small, [3]), held_out=np.zeros((WINDOWS, small.pairs), dtype=bool))
    for asked in (question, other(question), question, other(question)):
        memory.ask(small, asked)
    assert len(mouth.asked) == 2


@pytest.mark.parametrize("under", ["imputation", "unseen-probe"])
@pytest.mark.parametrize("name", [name for name in PREDICTORS if not predictor_class(name).members])
@pytest.mark.usefixtures("rough_fits")
def test_what_a_predictor_sees_does_not_depend_on_which_pairs_are_asked(name, under):
    # What is made of others sees what these say.
    if under == "imputation":
        arrays = synthetic_arrays(probes=4, targets=3, windows=12)
    else:
        arrays = anchor_mesh(anchors=8, probes=12, windows=1)
    protocol = protocol_named(under)
    arrays = protocol.view(arrays)
    question = protocol.splits(arrays, seed=0)[-1].test
    question = question.part(slice(len(question) - 1, None))
    few = replace(question, asked=question.asked & (np.random.default_rng(0).random(arrays.pairs) < 0.5))
    assert (few.asked != question.asked).any()
    predictor = predictor_class(name)()
    seen, other = (
        {(kind, named): values for kind, named, values in predictor.inputs(arrays, each).of_row(0)}
        for each in (question, few)
    )
    assert seen.keys() == other.keys()
    for key, values in seen.items():
        assert values.tobytes() == other[key].tobytes(), key


def test_a_row_that_is_asked_of_other_pairs_is_known(small, mouth, memory):
    question = imputed(small, [3])
    memory.ask(small, question)
    memory.ask(small, replace(question, asked=np.zeros_like(question.asked)))
    assert mouth.asked == [3]


def test_a_predictor_that_takes_back_another_state_forgets_what_it_said():
    arrays = synthetic_arrays(probes=4, targets=3, windows=20)
    split = Forecast().splits(arrays, seed=0)[-1]
    predictor = Straight()
    predictor.fit(arrays, split, Forecast(), seed=0)
    said = predictor.raw(arrays, split.test)
    state = predictor.state()
    predictor.restore({**state, "line": 2.0 * state["line"]}, predictor.columns)
    np.testing.assert_allclose(predictor.raw(arrays, split.test).rtt_ms, 2.0 * said.rtt_ms)
