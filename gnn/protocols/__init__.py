"""Protocols: who is hidden from whom when a prediction is asked.

protocol   what a protocol must do, the Question and the Split
forecast   a window from the windows before it
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from domain.errors import UnknownNameError
from gnn.protocols.forecast import Forecast
from gnn.protocols.protocol import Protocol

PROTOCOLS: Mapping[str, type[Protocol]] = MappingProxyType({Forecast.name: Forecast})
"""Every protocol by its name."""


def protocol_named(name: str) -> Protocol:
    """The protocol of that name, with its default settings.

    Raises:
        UnknownNameError: when there is none.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("no such protocol", found=repr(name), expected=" or ".join(sorted(PROTOCOLS)))
    return PROTOCOLS[name]()
