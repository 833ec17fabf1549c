"""Progress: how long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and out of how much (None: not known)."""


def unheard(what: str, done: int, total: int | None) -> None:
    """Report to nobody."""
