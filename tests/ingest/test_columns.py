from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest

from domain.observation import PingObservation, Quarantined, TracerouteObservation
from domain.path_state import PathState
from domain.probe import Probe
from ingest.columns import schema_of


def test_what_may_be_none_is_nullable_and_nothing_else_is() -> None:
    schema = schema_of(PingObservation)
    assert schema.field("msm_id") == pa.field("msm_id", pa.int64(), nullable=False)
    assert schema.field("af") == pa.field("af", pa.int64(), nullable=True)
    assert schema.field("timestamp") == pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False)
    assert schema.field("synthetic") == pa.field("synthetic", pa.bool_(), nullable=False)
    assert schema_of(Quarantined).field("raw") == pa.field("raw", pa.binary(), nullable=False)


def test_replies_within_hops_are_lists_of_structs() -> None:
    hops = schema_of(TracerouteObservation).field("hops").type
    assert pa.types.is_list(hops)
    replies = hops.value_type.field("replies").type
    assert replies.value_type.field("rtt_ms") == pa.field("rtt_ms", pa.float64(), nullable=True)
    assert not replies.value_field.nullable


@pytest.mark.parametrize("record", [PingObservation, TracerouteObservation, Quarantined, Probe, PathState])
def test_columns_are_the_fields_in_their_order(record: type) -> None:
    assert schema_of(record).names == list(record.__dataclass_fields__)  # type: ignore[attr-defined]


def test_an_annotation_without_a_column_type_is_refused() -> None:
    @dataclass
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="value"):
        schema_of(Odd)
