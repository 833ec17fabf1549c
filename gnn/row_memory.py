"""Row memory: what a predictor said of a row is not worked out again.

Intervals are adapted by asking about earlier windows, which are often asked about for themselves too, and an ensemble asks its members what
they were asked before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gnn.prediction import Prediction
from gnn.protocols.protocol import Question
from kg.arrays import PathArrays

MOST_CELLS = 3_000_000
"""Pairs x rows that are remembered for one set of arrays: some 250 MB."""


class RowMemory:
    """Predictions by row, for each set of arrays that is still in use.

    Rows are worked out one by one: beside others sums of another length would move the last digits of a row, and what is said of it
    must not depend on what else is asked. Nor does it depend on which pairs are asked: inputs follow from what is shown, and all
    pairs are answered. So a row that is rehearsed (`gnn.adaptation`) and asked for itself, of other pairs, is worked out once.

    Args:
        answer: predicts a question of one row.
    """

    def __init__(self, answer: Callable[[PathArrays, Question], Prediction]) -> None:
        self._answer = answer
        self._known: WeakKeyDictionary[PathArrays, dict[bytes, Prediction]] = WeakKeyDictionary()

    def ask(self, arrays: PathArrays, question: Question) -> Prediction:
        """The rows of the question, those that are not known worked out."""
        known = self._known.setdefault(arrays, {})
        held_out = b"" if question.held_out is None else hashlib.sha256(question.held_out.tobytes()).digest()
        keys = [_key(question, row, held_out) for row in range(len(question))]
        told = {key: known[key] for key in keys if key in known}
        for row, key in enumerate(keys):
            if key not in told:
                said = self._answer(arrays, question.part(slice(row, row + 1)))
                told[key] = known[key] = _row(said, 0)
        while len(known) * arrays.pairs > MOST_CELLS and len(known) > 1:
            del known[next(iter(known))]
        names = [field.name for field in fields(Prediction)]
        shape = (len(question), arrays.pairs)
        if not keys:
            empty: dict[str, NDArray[Any]] = {name: np.empty(shape) for name in names}
            empty |= {"in_range": np.empty(shape, dtype=np.bool_), "reason": np.empty(shape, dtype=object)}
            return Prediction(**empty)
        return Prediction(**{name: np.stack([getattr(told[key], name) for key in keys]) for name in names})


def _key(question: Question, row: int, held_out: bytes) -> bytes:
    """Which window a row is about, and everything that it shows; not which pairs it asks, since no answer depends on these."""
    digest = hashlib.sha256(held_out)
    for name in ("windows", "seen_until", "case"):
        digest.update(int(getattr(question, name)[row]).to_bytes(8, "little", signed=True))
    for name in ("seen_past", "seen_now"):
        digest.update(np.packbits(getattr(question, name)[row]).tobytes())
    digest.update(bytes([question.unmet]))
    return digest.digest()


def _row(prediction: Prediction, number: int) -> Prediction:
    return Prediction(**{field.name: getattr(prediction, field.name)[number] for field in fields(Prediction)})
