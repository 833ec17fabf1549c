"""Credentials: who we are to a server."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user and a password, which is in no `repr` and no log."""

    user: str
    password: str = field(repr=False)
