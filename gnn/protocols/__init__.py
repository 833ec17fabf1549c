"""Protocols: who is hidden from whom when a prediction is asked. A protocol is added in one file and one line here.

protocol      what a protocol must do, the Question and the Split
rolling       rolling origins, for those that divide the time
hosts         pairs of hosts, for those that divide the pairs
forecast      a window from the windows before it, up to a day ahead
imputation    a part of a window's pairs from the others
unseen_pair   two hosts that never measured each other
unseen_probe  a host of which little or nothing was measured
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from domain.errors import DataError, UnknownNameError
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.protocols.protocol import Protocol
from gnn.protocols.unseen_pair import UnseenPair
from gnn.protocols.unseen_probe import UnseenProbe

PROTOCOLS: Mapping[str, type[Protocol]] = MappingProxyType(
    {kind.name: kind for kind in (Forecast, Imputation, UnseenPair, UnseenProbe)}
)
"""Every protocol by its name."""


PAPER = "paper"
"""Name of the leaky set-up of the published prototype (`gnn.paper`): it can be compared, and nothing else."""


def protocol_named(name: str) -> Protocol:
    """The protocol of that name, with its default settings.

    Raises:
        UnknownNameError: when there is none.
        DataError: for the paper's, which is none.
    """
    if name == PAPER:
        raise DataError(
            "the paper's set-up shows what it asks, so nothing that it teaches is worth keeping",
            expected=" or ".join(sorted(PROTOCOLS)),
            next_step="compare it: qoetwin compare --protocol paper",
        )
    if name not in PROTOCOLS:
        raise UnknownNameError(
            "no such protocol", found=repr(name), expected=" or ".join(sorted([*PROTOCOLS, PAPER]))
        )
    return PROTOCOLS[name]()
