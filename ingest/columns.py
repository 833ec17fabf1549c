"""Arrow schemas, derived from the domain's dataclasses: fields are defined once."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import datetime
from enum import StrEnum

import pyarrow as pa

_PLAIN = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def schema_of(record: type) -> pa.Schema:
    """The Arrow schema of a dataclass, fields in its order.

    `X | None` is nullable and everything else is not; `tuple[X, ...]` is a list; a dataclass is a struct; a closed set of words
    is text.

    Raises:
        TypeError: for an annotation that has no Arrow type here; a mistake in the domain, not in the data.

    >>> from domain.observation import PingReply
    >>> print(schema_of(PingReply))
    rtt_ms: double
    ttl: int64
    duplicate: bool not null
    error: string
    """
    return pa.schema(_fields(record))


def _fields(record: type) -> list[pa.Field]:
    annotations = typing.get_type_hints(record)
    return [_field(field.name, annotations[field.name]) for field in dataclasses.fields(record)]


def _field(name: str, annotation: object) -> pa.Field:
    nullable = False
    if isinstance(annotation, types.UnionType):
        inner = [one for one in typing.get_args(annotation) if one is not types.NoneType]
        if len(inner) != 1 or len(typing.get_args(annotation)) != 2:
            raise TypeError(f"{name}: {annotation} is neither X nor X | None")
        annotation, nullable = inner[0], True
    return pa.field(name, _arrow_type(name, annotation), nullable=nullable)


def _arrow_type(name: str, annotation: object) -> pa.DataType:
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return pa.string()
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return pa.struct(_fields(annotation))
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return pa.list_(_field("element", arguments[0]))
    raise TypeError(f"{name}: no Arrow type for {annotation}")
