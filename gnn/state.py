"""What a predictor learned, checked against what it should look like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.errors import ArtefactError


def checked(
    state: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], *, where: str
) -> dict[str, NDArray[Any]]:
    """The arrays of the state, when they are exactly those expected.

    Args:
        state: name -> array.
        expected: name -> an array of the right shape and type; its values do not matter.
        where: which predictor.

    Raises:
        ArtefactError: when an array is missing, too many, or of another shape or type.
    """
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise ArtefactError(
            "a saved model with other arrays than its kind has",
            where=where,
            found=f"missing: {', '.join(missing) or 'none'}; not known: {', '.join(extra) or 'none'}",
            expected=f"{len(expected)} arrays",
        )
    for name, like in expected.items():
        if state[name].shape != like.shape or state[name].dtype != like.dtype:
            raise ArtefactError(
                "a saved model with an array of another shape or type",
                where=f"{where}, {name}",
                found=f"{state[name].dtype} {state[name].shape}",
                expected=f"{like.dtype} {like.shape}",
            )
    return {name: np.asarray(state[name]) for name in expected}
