"""Adaptation: intervals follow how the latest ones did, in windows that are seen.

A model that asks about window t knows how its intervals would have done in the windows before: it asks itself about those, as it would have
been asked then, and compares with what is seen of them. So alpha is no state of the model: it follows from the arrays, and whoever
changes what is hidden does not change it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gnn.conformal import COVERAGE, Calibration, next_alpha
from gnn.prediction import Prediction
from gnn.protocols.protocol import Bools, Question
from kg.arrays import Floats, Ints, PathArrays

MOST_WINDOWS = 112
"""At least so many windows before the one that is asked about are looked at: two weeks of 3 h. What was longer ago is forgotten anyway."""

SHARED_WINDOWS = 28
"""So many windows after each other look back to the same one, so that a rehearsal serves them all. Where those begin is counted from
the first window that nothing was learned from, and so does not depend on what else is asked."""

LEAST_HIDDEN = 0.1
"""Of an earlier window at least so much is hidden to be asked, where the question hides less of the pairs that it knows a past of."""


def rehearsal(arrays: PathArrays, question: Question, windows: Ints, ahead: int) -> Question:
    """Ask about earlier windows as the question asks about its own: as far ahead, and with as large a share of the window hidden.

    Args:
        arrays: the measurements.
        question: rows of one case, from whose windows one share is hidden, see `hidden_share`.
        windows: (R,) earlier windows.
        ahead: windows between what is seen as past and the asked window, plus 1.
    """
    visible = np.broadcast_to(question.seen_past[0], (len(windows), arrays.pairs))
    if question.held_out is not None:
        visible = visible & ~question.held_out[windows]
    share = hidden_share(question)[0]
    drawn = [np.random.default_rng([0x4EA2, int(w)]).random(arrays.pairs) < share for w in windows]
    asked: Bools = visible & np.stack(drawn)
    seen_now = visible & ~asked
    return replace(
        question,
        windows=windows,
        seen_until=np.maximum(windows - ahead + 1, 0),
        seen_past=np.broadcast_to(question.seen_past[0], asked.shape),
        seen_now=seen_now,
        asked=asked,
        case=np.full(len(windows), question.case[0]),
    )


def hidden_share(question: Question) -> Floats:
    """(Q,) share of the pairs with a past of which the window itself is not seen, in tenths; 1 where it is of none."""
    known = question.seen_past.sum(axis=1)
    seen = (question.seen_past & question.seen_now).sum(axis=1)
    share = np.round(1.0 - seen / np.maximum(known, 1), 1)
    return np.where(seen > 0, np.clip(share, LEAST_HIDDEN, 1.0 - LEAST_HIDDEN), 1.0)


def alphas(
    answer: Callable[[Question], Prediction],
    arrays: PathArrays,
    question: Question,
    calibrations: dict[str, Calibration],
    first: int,
) -> dict[str, Floats]:
    """The miss ratio to aim at in each row, so that a tenth is missed.

    Args:
        answer: raw predictions.
        arrays: the measurements; of windows and pairs that the question hides nothing is looked at.
        question: Q rows.
        calibrations: of RTT and of jitter.
        first: the first window that nothing was learned from.

    Returns:
        `rtt` and `jitter`, each (Q,).
    """
    found = {name: np.full(len(question), 1.0 - COVERAGE) for name in calibrations}
    ahead = question.windows - question.seen_until + 1
    back = np.maximum(question.windows - MOST_WINDOWS - first, 0) // SHARED_WINDOWS * SHARED_WINDOWS
    alike = np.stack([question.case, ahead, first + back, hidden_share(question)], axis=1)
    kinds, kind = np.unique(alike, axis=0, return_inverse=True)
    for number_of_kind, (case, distance, start) in enumerate(kinds[:, :3].astype(np.int64).tolist()):
        rows = np.flatnonzero(kind.reshape(-1) == number_of_kind)
        own = question.part(rows)
        until = own.seen_until
        windows = np.arange(start, int(until.max()))
        windows = windows[arrays.measured[windows].any(axis=1)]
        if len(windows) == 0:
            continue
        asked = rehearsal(arrays, own, windows, distance)
        told = answer(asked)
        for name, calibration in calibrations.items():
            values = arrays.rtt_ms if name == "rtt" else arrays.jitter_ms
            truth = np.where(asked.asked, values[windows], np.nan)
            low, middle, high = (getattr(told, f"{name}{bound}_ms") for bound in ("_low", "", "_high"))
            chain = [1.0 - COVERAGE]
            for number, window in enumerate(windows):
                # What was known when this window was asked: the windows before its horizon.
                known = int(np.searchsorted(windows, window - distance + 1))
                bounds = calibration.widen(low[number], middle[number], high[number], case, chain[known])
                inside = (bounds[0] <= truth[number]) & (truth[number] <= bounds[1])
                scored = np.isfinite(truth[number]) & np.isfinite(bounds[0])
                cells = int(scored.sum())
                missed = float((~inside[scored]).mean()) if cells > 0 else np.nan
                chain.append(next_alpha(chain[-1], missed, cells))
            found[name][rows] = [chain[int(np.searchsorted(windows, one))] for one in until]
    return found
