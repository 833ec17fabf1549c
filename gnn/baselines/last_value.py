"""Last value: the next window is like the latest one seen."""

from __future__ import annotations

from typing import ClassVar

from gnn import history
from gnn.baselines.past import PastBaseline
from gnn.protocols.protocol import Question
from kg.arrays import Floats


class LastValue(PastBaseline):
    """The latest visible value of the pair, however old: the naive (random walk) forecast."""

    name: ClassVar[str] = "last-value"
    citation: ClassVar[str] = (
        "Hyndman, Athanasopoulos: Forecasting: Principles and Practice, 3rd ed. (2021), section 5.2, naive method"
    )

    def point(self, values: Floats, question: Question, window_s: int) -> Floats:  # noqa: ARG002
        """The latest visible value."""
        return history.last_known(values, question.seen_until)
