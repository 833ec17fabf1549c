"""Where things are kept, and which secrets the environment holds."""

from __future__ import annotations

import os
from pathlib import Path

from domain.credentials import ATLAS_KEY_VARIABLE, Credentials

CONFIG_NAME = "qoetwin.toml"
LAKE_NAME, MODELS_NAME, RDF_NAME = "lake", "models", "rdf"
"""Folders of a home."""

HOME_VARIABLE = "QOETWIN_HOME"
STORE_VARIABLE = "QOETWIN_STORE"
TRACEBACK_VARIABLE = "QOETWIN_TRACEBACK"
NEO4J_USER_VARIABLE = "NEO4J_USER"
NEO4J_PASSWORD_VARIABLE = "NEO4J_PASSWORD"  # noqa: S105 - the name of a variable, not a password


def default_home() -> Path:
    """The user's data folder (XDG Base Directory Specification)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    return (Path(data) if data else Path.home() / ".local" / "share") / "qoetwin"


def atlas_key() -> str | None:
    """The RIPE Atlas API key, which public measurements do not need."""
    return os.environ.get(ATLAS_KEY_VARIABLE) or None


def neo4j_credentials() -> Credentials | None:
    """Who we are to a Neo4j server; None where the environment does not say."""
    user, password = os.environ.get(NEO4J_USER_VARIABLE), os.environ.get(NEO4J_PASSWORD_VARIABLE)
    if password is None:
        return None
    return Credentials(user=user or "neo4j", password=password)


def bound_memory() -> None:
    """Have Arrow use the system's allocator; before it is imported. Its own keeps what it freed: 60 MB when an archive is ingested."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
