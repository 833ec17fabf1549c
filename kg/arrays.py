"""Path arrays: what the graph gives to learning, as plain NumPy.

One row a window, one column a pair. This is all that `gnn` ever sees: no raw results, no lake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Strings: TypeAlias = NDArray[np.object_]

UNKNOWN_ASN = 0
"""AS 0 is reserved (RFC 7607) and names no network: it stands for 'not known' in integer columns."""

UNKNOWN_COUNTRY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """One end (the probes, or the targets) of P pairs. What the graph does not know is NaN, 0 or "".

    Attributes:
        host: (P,) machine behind the end. Equal numbers mean the same machine: an anchor's probe id, its IPv4
            and its IPv6 address share one, in both roles.
        latitude, longitude: (P,) WGS84 degrees, NaN where unknown.
        asn: (P,) AS number, 0 where unknown.
        country: (P,) ISO 3166-1 alpha-2, "" where unknown.
        centrality: (P, C) centralities of the end in NTKG, NaN where the end is not in it; columns are named by
            `PathArrays.centrality_names`.
    """

    host: Ints
    latitude: Floats
    longitude: Floats
    asn: Ints
    country: Strings
    centrality: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PathArrays:
    """States of P pairs in W consecutive windows of equal length. Unmeasured cells are NaN (floats) or 0 (counts).

    Attributes:
        window_start_s: (W,) start of each window, seconds since the epoch, ascending, no gaps: windows in which
            nothing was measured are there and empty.
        window_s: length of a window.
        probe_id, target, af: (P,) the pairs, sorted by them.
        probe_end, target_end: where the two ends are.
        centrality_names: names of the C centralities.
        rtt_ms: (W, P) median RTT of the window.
        jitter_ms: (W, P).
        sent, received: (W, P) packets; sent = 0 means not measured.
        synthetic: True when any of it comes from the testbed.
    """

    window_start_s: Ints
    window_s: int
    probe_id: Ints
    target: Strings
    af: Ints
    probe_end: Ends
    target_end: Ends
    centrality_names: tuple[str, ...]
    rtt_ms: Floats
    jitter_ms: Floats
    sent: Ints
    received: Ints
    synthetic: bool

    @property
    def windows(self) -> int:
        """W."""
        return int(self.window_start_s.shape[0])

    @property
    def pairs(self) -> int:
        """P."""
        return int(self.probe_id.shape[0])

    @property
    def loss_ratio(self) -> Floats:
        """(W, P) lost packets over sent packets; NaN where none was sent."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.sent > 0, 1.0 - self.received / self.sent, np.nan)
