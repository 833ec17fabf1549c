"""Provenance: who said it, where, when. Every edge and every fact of the graph carries one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The five reference properties of the Internet Yellow Pages, how it was computed, and whether it is synthetic.

    Attributes:
        reference_name: name of the data set, such as `atlas.ping`.
        reference_org: who publishes it, such as `RIPE NCC`; `unknown` where that was not recorded.
        reference_url_data: where it was read; None where that was not recorded, as for local files.
        reference_time_fetch: when it was read, the newest of it; None when not recorded.
        reference_time_modification: when its publisher last changed it; None when unknown.
        method: how it was computed from that; None where it is the reference's own word.
        synthetic: True when it comes from the testbed.
    """

    reference_name: str
    reference_org: str
    reference_url_data: str | None
    reference_time_fetch: datetime | None
    reference_time_modification: datetime | None
    method: str | None
    synthetic: bool
