"""Which records in quarantine are meant, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from domain.errors import InputError

SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineFilter:
    """Records in quarantine that are meant: those to which all of it applies; without any of it, all.

    Attributes:
        source: they are of this source, as it is kept with them.
        reason: this text is in why they were not understood, in capitals or not.
        before: they came into quarantine before that, aware. Of those in a lake of an earlier version it is not known when they
            did, and this applies to none of them.

    Raises:
        InputError: when the time has no zone.
    """

    source: str | None = None
    reason: str | None = None
    before: datetime | None = None

    def __post_init__(self) -> None:
        if self.before is not None and self.before.tzinfo is None:
            raise InputError("a time without a zone", found=str(self.before), expected="an aware time")

    @property
    def parameters(self) -> dict[str, object]:
        """The values in `CHOSEN`."""
        return {"source": self.source, "reason": self.reason, "before": self.before}


CHOSEN = (
    "coalesce(($source::VARCHAR IS NULL OR source = $source) "
    "AND ($reason::VARCHAR IS NULL OR contains(lower(reason), lower($reason))) "
    "AND ($before::TIMESTAMPTZ IS NULL OR landed_at < $before), false)"
)
"""SQL: whether a row of the table `quarantine` is one that a filter means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """A record that was not understood, as it is shown: `bytes` long, `beginning` as text; `landed_at` is None where it is not known."""

    source: str
    position: int
    reason: str
    bytes: int
    beginning: str
    landed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """What is in quarantine: the first of it, and how much there is."""

    records: tuple[QuarantinedRecord, ...]
    total: int
