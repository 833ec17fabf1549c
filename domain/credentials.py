"""Credentials: who we are to a server."""

from __future__ import annotations

from dataclasses import dataclass, field

ATLAS_KEY_VARIABLE = "QOETWIN_ATLAS_KEY"
"""The variable of the environment that holds the RIPE Atlas API key; its name, and no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user and a password, which is in no `repr` and no log."""

    user: str
    password: str = field(repr=False)
