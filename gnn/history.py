"""The visible past of each pair, column-wise over windows and pairs.

Every function takes values of (W, P) and what a question may see, and looks at no later window.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from gnn.protocols.protocol import Bools, Question
from kg.arrays import Floats, Ints, PathArrays

DAY_S = int(timedelta(days=1).total_seconds())

HISTORY_WINDOWS = 56
"""Latest windows that a pair's usual is taken over, unless said otherwise: a week of 3 h."""


def any_loss(arrays: PathArrays) -> Floats:
    """(W, P) 1 where a packet was lost, 0 where none was, NaN where none was sent."""
    return np.where(arrays.sent > 0, (arrays.received < arrays.sent).astype(np.float64), np.nan)


def lagged(values: Floats, question: Question, count: int) -> Floats:
    """The last `count` windows of the past that may be seen, newest first.

    Args:
        values: (W, P).
        question: Q rows.
        count: how many windows.

    Returns:
        (Q, P, count), NaN where unmeasured, hidden, or before the first window.
    """
    return _rows(values, question, question.seen_until[:, None] - 1 - np.arange(count)[None, :])


def same_slot(values: Floats, question: Question, window_s: int) -> Floats:
    """The same slot of the day on earlier days, newest first, as far as it may be seen.

    Where the window does not divide the day no slot ever returns, and nothing is known.

    Args:
        values: (W, P).
        question: Q rows.
        window_s: length of a window in seconds.

    Returns:
        (Q, P, D) for the D earlier days that the windows span, at least 1; NaN where unmeasured, hidden or too early.
    """
    slots, rest = divmod(DAY_S, window_s)
    if rest != 0:
        return np.full((len(question), values.shape[1], 1), np.nan)
    days = max(1, -(-int(question.windows.max(initial=0)) // slots))
    return _rows(values, question, question.windows[:, None] - slots * (1 + np.arange(days))[None, :])


def _rows(values: Floats, question: Question, rows: Ints) -> Floats:
    """(Q, P, R) the values of so many windows for each row of the question, NaN where they are not seen as past."""
    picked = values[np.clip(rows, 0, values.shape[0] - 1)]  # (Q, R, P)
    if question.held_out is not None:
        picked[question.held_out[np.clip(rows, 0, values.shape[0] - 1)]] = np.nan
    picked[(rows < 0) | (rows >= question.seen_until[:, None])] = np.nan
    picked[np.broadcast_to(~question.seen_past[:, None, :], picked.shape)] = np.nan
    return np.ascontiguousarray(picked.transpose(0, 2, 1))


def last_known_row(known: Bools, question: Question) -> Ints:
    """(Q, P) the latest window of the past in which each pair is known and may be seen; -1 where none is.

    Args:
        known: (W, P).
        question: Q rows.
    """
    if question.held_out is not None:
        known = known & ~question.held_out
    rows = np.where(known, np.arange(known.shape[0], dtype=np.int64)[:, None], -1)
    latest = np.maximum.accumulate(rows, axis=0)[np.maximum(question.seen_until - 1, 0)]
    return np.where(question.seen_past & (question.seen_until > 0)[:, None], latest, -1)


def last_known(values: Floats, question: Question) -> Floats:
    """(Q, P) the latest value of each pair in the past that is seen, however old; NaN where there is none."""
    rows = last_known_row(np.isfinite(values), question)
    picked = np.take_along_axis(values, np.maximum(rows, 0), axis=0)
    return np.where(rows >= 0, picked, np.nan)


def median(past: Floats) -> Floats:
    """Median of the known values along the last axis, NaN where none is.

    `numpy.nanmedian` walks the rows one by one and warns at empty ones; sorting puts NaN last for all at once.

    >>> median(np.array([[3.0, np.nan, 1.0, 5.0], [np.nan, np.nan, 4.0, 2.0]]))
    array([3., 3.])
    """
    ordered = np.sort(past, axis=-1)
    known = np.isfinite(ordered).sum(axis=-1)[..., None]
    low = np.take_along_axis(ordered, np.maximum(known - 1, 0) // 2, axis=-1)[..., 0]
    high = np.take_along_axis(ordered, known // 2, axis=-1)[..., 0]
    return np.asarray(np.where(known[..., 0] > 0, (low + high) / 2.0, np.nan))


def spread(past: Floats, centre: Floats) -> Floats:
    """Median absolute deviation of the known values from a centre, along the last axis; NaN where none is known."""
    return median(np.abs(past - centre[..., None]))


def mean(past: Floats) -> Floats:
    """Mean of the known values along the last axis; NaN where none is known."""
    return weighted_mean(past, np.inf)


def weighted_mean(past: Floats, half_life: float) -> Floats:
    """Mean of the known values, newest first, the weight halving every `half_life` windows; NaN where none is known.

    An exponentially weighted mean in which unmeasured windows keep their place in time.
    """
    weights = np.where(np.isfinite(past), 0.5 ** (np.arange(past.shape[-1]) / half_life), 0.0)
    total = weights.sum(axis=-1)
    summed = (weights * np.where(np.isfinite(past), past, 0.0)).sum(axis=-1)
    return np.asarray(np.where(total > 0.0, summed / np.where(total > 0.0, total, 1.0), np.nan))


def counted(values: Ints | Bools, question: Question) -> Floats:
    """(Q, P) sum of (W, P) counts over the windows of the past that are seen."""
    if question.held_out is not None:
        values = np.where(question.held_out, 0, values)
    summed = np.cumsum(values, axis=0, dtype=np.int64)
    running = np.concatenate([np.zeros((1, values.shape[1]), dtype=np.int64), summed])
    return np.where(question.seen_past, running[question.seen_until], 0).astype(np.float64)


def weighted_median(values: Floats, weights: Floats) -> Floats:
    """Median of the known values along the last axis, each counting by its weight; NaN where none is known.

    >>> weighted_median(np.array([1.0, 5.0, 3.0, np.nan]), np.array([1.0, 1.0, 3.0, 9.0]))
    array(3.)
    """
    weights = np.where(np.isfinite(values), weights, 0.0)
    order = np.argsort(values, axis=-1)  # NaN comes last
    running = np.cumsum(np.take_along_axis(weights, order, axis=-1), axis=-1)
    half = (running >= 0.5 * running[..., -1:]).argmax(axis=-1)[..., None]
    middle = np.take_along_axis(values, np.take_along_axis(order, half, axis=-1), axis=-1)[..., 0]
    return np.asarray(np.where(running[..., -1] > 0.0, middle, np.nan))
