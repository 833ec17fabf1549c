"""Settings: numbers by name, each in its range."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from types import MappingProxyType

from domain.errors import DataError

MOST = 10_000_000
"""Of any setting: more is a mistake."""


def require_in_range(
    settings: Mapping[str, int | float],
    *,
    may_be_zero: Collection[str] = (),
    below_one: Collection[str] = (),
    most: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Settings are finite and above 0, or where that makes sense 0; shares are below 1, and nothing is above what is the most of it.

    Raises:
        DataError: names the first that is not.
    """
    for name, value in settings.items():
        too_low = value < 0 or (value == 0 and name not in may_be_zero)
        if too_low or not math.isfinite(value) or (name in below_one and value >= 1):
            least = "0 or more" if name in may_be_zero else "above 0"
            raise DataError(
                "a setting out of its range",
                where=name,
                found=str(value),
                expected=f"{least}, below 1" if name in below_one else least,
            )
        if value > most.get(name, MOST):
            raise DataError(
                "a setting out of its range",
                where=name,
                found=str(value),
                expected=f"at most {most.get(name, MOST)}",
            )
