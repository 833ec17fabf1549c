"""The five applications of the ASKG layer."""

from __future__ import annotations

from enum import StrEnum


class Application(StrEnum):
    """What people use the network for."""

    WEB = "web"
    VIDEO = "video"
    VOIP = "voip"
    GAMING = "gaming"
    FILE_TRANSFER = "file-transfer"
