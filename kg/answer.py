"""What a query found, in whatever language it was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a query found.

    Attributes:
        columns: names.
        rows: values, as many as there are columns: None, text, numbers, booleans, times, and of Cypher lists and dictionaries
            of them; IRIs are text.
        cut: whether there were more rows than were asked for.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut: bool
