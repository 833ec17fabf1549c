"""Habits: what single probes and results do that they should not. None of it by default.

A probe keeps its firmware and the fault of its clock; every result is late, or odd, by itself. All of it is drawn as everything
else is (`testbed.chance`), so the truth stays known.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from domain.errors import InputError
from testbed.chance import Ints, Purpose, draw, uniform

FIRMWARE = 5080
"""What probes have today."""

OLD_FIRMWARE = (0, 1, 4460, 4480, 4520, 4550, 4570, 4610, 4660, 4700, 4720, 4790, 4910, 4970, 5020)
"""One or more of each form that results have had."""

FIRST_TRACEROUTE_FIRMWARE = 4460
"""Older firmware wrote traceroutes that nobody has recorded: such probes take part in pings only."""

STORED_AFTER_S, STORED_WITHIN_S = 60, 120
"""A result is stored so long after it was measured, and up to so much longer."""

_LEAST_SKEW_S, _MOST_SKEW_S = 120, 7_200
_IN_STEP_S, _LONG_OUT_OF_STEP_S = 120, 1_000_000
_OUT_OF_STEP_S = 601


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How many do what.

    Attributes:
        old_firmware_ratio: probes with old firmware, 0..1.
        bad_clock_ratio: probes whose clock is wrong by minutes to hours, and says that it is out of step.
        late_ratio: results that are stored late.
        late_by_s: how late at most.
        odd_ratio: traceroutes in one of the rarer forms: errors, late and repeated answers, an end before the start.

    Raises:
        InputError: when a ratio is none, or lateness less than a second.
    """

    old_firmware_ratio: float = 0.0
    bad_clock_ratio: float = 0.0
    late_ratio: float = 0.0
    late_by_s: int = 1_800
    odd_ratio: float = 0.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.name.endswith("_ratio")):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise InputError("a ratio that is none", where=name, found=str(value), expected="0 to 1")
        if self.late_by_s < 1:
            raise InputError(
                "no lateness", where="late_by_s", found=str(self.late_by_s), expected="a second or more"
            )

    @property
    def longest_until_stored_s(self) -> int:
        """No result is stored later than this after it was measured."""
        return STORED_AFTER_S + STORED_WITHIN_S + (self.late_by_s if self.late_ratio > 0.0 else 0)

    @property
    def most_skew_s(self) -> int:
        """No clock is wrong by more."""
        return _MOST_SKEW_S if self.bad_clock_ratio > 0.0 else 0

    def firmware(self, seed: int, hosts: Ints) -> Ints:
        """(N,) firmware of hosts, by number."""
        share = uniform(draw(seed, Purpose.FIRMWARE, hosts))
        which = (uniform(draw(seed, Purpose.WHICH_FIRMWARE, hosts)) * len(OLD_FIRMWARE)).astype(np.int64)
        return np.where(share < self.old_firmware_ratio, np.array(OLD_FIRMWARE)[which], FIRMWARE)

    def skew_s(self, seed: int, hosts: Ints) -> Ints:
        """(N,) by how much the clocks of hosts are ahead."""
        size = uniform(draw(seed, Purpose.SKEW, hosts))
        length = _LEAST_SKEW_S + (size * (_MOST_SKEW_S - _LEAST_SKEW_S)).astype(np.int64)
        ahead = uniform(draw(seed, Purpose.SKEW_SIGN, hosts)) < 0.5
        return np.where(self._bad_clock(seed, hosts), np.where(ahead, length, -length), 0)

    def clock_age_s(self, seed: int, msm_id: int, hosts: Ints, at_s: Ints) -> Ints:
        """(N,) what results say of when the clock was last in step (`lts`); -1 is never."""
        share = uniform(draw(seed, Purpose.CLOCK, msm_id, hosts, at_s))
        never = uniform(draw(seed, Purpose.NEVER_IN_STEP, hosts)) < 0.5
        long_ago = _OUT_OF_STEP_S + (share * _LONG_OUT_OF_STEP_S).astype(np.int64)
        bad = np.where(never, -1, long_ago)
        return np.where(self._bad_clock(seed, hosts), bad, (share * _IN_STEP_S).astype(np.int64))

    def stored_s(self, seed: int, msm_id: int, hosts: Ints, at_s: Ints) -> Ints:
        """(N,) when results that were measured at `at_s` are stored, and from when on they can be had."""
        soon = (uniform(draw(seed, Purpose.STORING, msm_id, hosts, at_s)) * STORED_WITHIN_S).astype(np.int64)
        late = uniform(draw(seed, Purpose.LATE, msm_id, hosts, at_s)) < self.late_ratio
        by_s = (uniform(draw(seed, Purpose.LATE_BY, msm_id, hosts, at_s)) * self.late_by_s).astype(np.int64)
        return at_s + STORED_AFTER_S + soon + np.where(late, by_s, 0)

    def _bad_clock(self, seed: int, hosts: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        return uniform(draw(seed, Purpose.BAD_CLOCK, hosts)) < self.bad_clock_ratio
