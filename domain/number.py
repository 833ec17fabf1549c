"""Counts in words."""

from __future__ import annotations


def many(count: int, one: str, several: str | None = None) -> str:
    """So many of something; the plural adds an s unless it is given.

    >>> many(1, "record"), many(0, "record"), many(2, "query", "queries")
    ('1 record', '0 records', '2 queries')
    """
    return f"{count} {one if count == 1 else several or one + 's'}"
