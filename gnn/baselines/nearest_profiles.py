"""Nearest profiles: what the pairs tell whose RTTs were most like those of the asked one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gnn import history
from gnn.baselines.levels import HostBaseline, Levels
from gnn.baselines.told import told_by_mates
from gnn.path_graph import PathGraphConfig, path_graph
from gnn.protocols.protocol import Question
from kg.arrays import PathArrays


class NearestProfiles(HostBaseline):
    """Weighted median of what the mates of a pair tell: each its value, and by how much the pair usually lies above it.

    Mates share a host with the pair. One that has a past is compared with each over the windows both were measured in; for one that has none
    the hosts are compared, over the partners both were measured with (`gnn.mates`). Those count most whose differences were steadiest:
    by the fourth power of the spread. A pair that has a past hears only mates that are seen in the asked window.
    """

    name: ClassVar[str] = "nearest-profiles"
    citation: ClassVar[str] = (
        "Resnick, Iacovou, Suchak, Bergstrom, Riedl: GroupLens: An Open Architecture for Collaborative Filtering of Netnews "
        "(CSCW 1994), neighbours' deviations from their own mean, weighted by likeness"
    )
    lacking: ClassVar[str] = "no pair was seen that shares a host with it and can be compared"

    def rtt(self, arrays: PathArrays, question: Question) -> Levels:
        """What mates tell."""
        graph = path_graph(arrays, question, PathGraphConfig())
        past = history.lagged(arrays.rtt_ms, question, self.windows)
        usual = history.median(past)
        own = np.isfinite(usual)
        told = told_by_mates(graph)
        point = told.believed(only_now=own)
        off = told.deviation(point, only_now=own)
        return Levels(
            stays=np.where(own, usual, point),
            moves=np.where(own & ~np.isfinite(point), usual, point),
            spread=np.where(own, history.spread(past, usual), off),
        )
