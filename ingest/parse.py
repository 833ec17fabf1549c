"""The parser: raw ping and traceroute records of every form Atlas has given them, to Arrow tables.

The record's forms are described in the Atlas documentation ("Data structure v2", firmware 1 to 5000 and later);
what the documentation leaves out was read off recorded results. Columns are filled directly: no Python object is
made for a reply or a hop. A record that is not understood is kept whole, with the reason, in the quarantine table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import InputError
from domain.observation import CLOCK_IN_STEP_S, CLOCK_TOLERANCE_S, Doubt, Observation, ResultType
from ingest.batch import PING_SCHEMA, QUARANTINE_SCHEMA, TRACEROUTE_SCHEMA, Batch, Parsed, bounds_of

_FIRST_S = 1_262_304_000  # 2010-01-01: Atlas began in that year
_LAST_S = 4_102_444_800  # 2100-01-01
_MAX_RTT_MS = 1e6
_MAX_PACKETS = 1_000_000
_MAX_INT64 = 2**63 - 1
_SHARED = tuple(field.name for field in fields(Observation))


def parse(records: Iterable[bytes | Mapping[str, Any]], source: str, first_position: int = 0) -> Parsed:
    """Parse raw records that were read now.

    Args:
        records: JSON objects, as bytes or as a JSON reader made them.
        source: where they come from; kept with the records that are not understood.
        first_position: number of the first record in that source.

    Returns:
        Tables; no record is in none or in two of them.
    """
    data, begin, end = bounds_of(
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    )
    return parse_batch(
        Batch(
            source=source,
            first_position=first_position,
            data=data,
            begin=begin,
            end=end,
            read_at=datetime.now(UTC),
        )
    )


def parse_batch(batch: Batch) -> Parsed:
    """Parse a batch; of a source that is cut, the tail goes into quarantine under that reason."""
    latest_s = int(batch.read_at.timestamp()) + CLOCK_TOLERANCE_S
    pings, traceroutes = _Pings(latest_s), _Traceroutes(latest_s)
    positions: list[int] = []
    reasons: list[str] = []
    raws: list[bytes] = []
    other_types = 0
    for position, raw in enumerate(batch.records, batch.first_position):
        try:
            record = _object(raw)
            kind = _kind(record)
            if kind == ResultType.PING:
                pings.add(record)
            elif kind == ResultType.TRACEROUTE:
                traceroutes.add(record)
            else:
                _identity(record)
                other_types += 1
                positions.append(position)
                reasons.append(
                    f"an Atlas result of another type; found {_show(kind)}; expected ping or traceroute"
                )
                raws.append(raw)
        except InputError as error:
            positions.append(position)
            reasons.append(error.line())
            raws.append(raw)
    if batch.cut is not None:
        positions.append(batch.first_position + len(batch))
        reasons.append(batch.cut)
        raws.append(batch.tail)
    name = batch.source.encode("utf-8", "backslashreplace").decode()
    return Parsed(
        pings=pings.table(),
        traceroutes=traceroutes.table(),
        quarantined=pa.table(
            {"source": [name] * len(raws), "position": positions, "reason": reasons, "raw": raws},
            schema=QUARANTINE_SCHEMA,
        ),
        other_types=other_types,
        cut=batch.cut,
        finished=batch.finished,
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InputError("not JSON", found=str(error), expected="a JSON object") from error
    if type(record) is not dict:
        raise InputError("not an Atlas result", found=_show(record), expected="a JSON object")
    # Some firmware wrote keys with a stray leading blank (" proto", " lts").
    if " " in "".join(record):
        record = {key.lstrip(" "): value for key, value in record.items()} | {
            key: value for key, value in record.items() if not key.startswith(" ")
        }
    return record


def _kind(record: Mapping[str, Any]) -> str:
    """The record's type, or, where it does not say, what its shape tells."""
    stated = record.get("type")
    if isinstance(stated, str):
        return stated.lower()
    result = record.get("result")
    if isinstance(result, list) and any(isinstance(item, dict) and "hop" in item for item in result):
        return ResultType.TRACEROUTE
    if "sent" in record or "rcvd" in record or "avg" in record:
        return ResultType.PING
    if isinstance(result, list) and ("endtime" in record or "paris_id" in record):
        return ResultType.TRACEROUTE
    raise InputError(
        "not an Atlas ping or traceroute",
        found=f"no type, and the keys {_show(sorted(record))}",
        expected="a type, hops, or the counts of a ping",
    )


def _show(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return "something nested too deep to be shown"
    return text if len(text) <= 80 else text[:77] + "..."


def _integer(value: Any) -> int | None:
    """The whole number that a value is or spells, else None. A boolean is not a number."""
    if type(value) is int:
        return value if -_MAX_INT64 <= value <= _MAX_INT64 else None
    if value is None:
        return None
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) >= _MAX_INT64:
        return None
    return int(number)


def _number(value: Any) -> float | None:
    """The number that a value is or spells, which may be infinite or NaN, else None. A boolean is not a number."""
    if type(value) is float:
        return value
    try:
        if type(value) is int or (type(value) is str and value.isascii() and "_" not in value):
            return float(value)
    except (ValueError, OverflowError):
        return None
    return None


def _text(value: Any) -> str | None:
    """A string that can be stored, else None."""
    if type(value) is not str:
        return None
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def _words(value: Any) -> str | None:
    """What an error says, as text, whatever form it has; None when it is not there."""
    if value is None or type(value) is str:
        return _text(value)
    try:
        return json.dumps(value)
    except RecursionError as error:
        raise InputError("an error that is not a text", found=_show(value), expected="a text") from error


@lru_cache(maxsize=1 << 16)
def _address_and_family(text: str) -> tuple[str | None, int | None]:
    try:
        address = ip_address(text)
    except ValueError:
        return None, None
    if not text.isascii():  # the zone of an IPv6 address may be any text
        return None, None
    return address.compressed, address.version


def _address(value: Any) -> str | None:
    return _address_and_family(value)[0] if type(value) is str else None


def _rtt_ms(value: Any) -> float:
    rtt = _number(value)
    if rtt is None or not 0.0 <= rtt <= _MAX_RTT_MS:
        raise InputError("an RTT that is none", found=_show(value), expected=f"0 to {_MAX_RTT_MS:g} ms")
    return rtt


def _count(record: Mapping[str, Any], key: str) -> int | None:
    """A count of packets; None where the record has none.

    Raises:
        InputError: for a number that counts nothing.
    """
    value = record.get(key)
    count = _integer(value)
    if count is None:
        if _number(value) is not None:
            raise InputError(
                f"a packet count ({key}) that is none", found=_show(value), expected="a whole number"
            )
        return None
    if not 0 <= count <= _MAX_PACKETS:
        raise InputError(
            f"a packet count ({key}) that is none", found=str(count), expected=f"0 to {_MAX_PACKETS}"
        )
    return count


def _moment_s(value: Any) -> int | None:
    moment = _integer(value)
    return moment if moment is not None and _FIRST_S <= moment < _LAST_S else None


def _flag(value: Any) -> bool:
    """Whether a mark is set; Atlas writes such marks as `1` or `true`."""
    if type(value) is bool:
        return value
    return value is not None and _integer(value) != 0


def _identity(record: Mapping[str, Any]) -> tuple[int, int, int]:
    """Measurement, probe and time, without which a result is of no use."""
    msm_id, probe_id = _integer(record.get("msm_id")), _integer(record.get("prb_id"))
    if msm_id is None or msm_id < 0:
        raise InputError(
            "no measurement id (msm_id)", found=_show(record.get("msm_id")), expected="a whole number"
        )
    if probe_id is None or probe_id < 0:
        raise InputError("no probe id (prb_id)", found=_show(record.get("prb_id")), expected="a whole number")
    timestamp_s = _moment_s(record.get("timestamp"))
    if timestamp_s is None:
        raise InputError(
            "no usable timestamp",
            found=_show(record.get("timestamp")),
            expected="seconds since 1970, in the years 2010 to 2099",
        )
    return msm_id, probe_id, timestamp_s


_TRUSTED: tuple[str, ...] = ()
_OUT_OF_STEP = (Doubt.CLOCK_OUT_OF_STEP.value,)


def _doubts(
    timestamp_s: int, stored_s: int | None, end_s: int | None, clock_age_s: int | None, latest_s: int
) -> tuple[str, ...]:
    """Why a result is not trusted in everything, sorted. `clock_age_s` is `lts` as it is stated: less than 0 is never."""
    out_of_step = clock_age_s is not None and not 0 <= clock_age_s <= CLOCK_IN_STEP_S
    ahead = timestamp_s > (latest_s if stored_s is None else min(latest_s, stored_s + CLOCK_TOLERANCE_S))
    backwards = end_s is not None and end_s < timestamp_s
    if not (ahead or backwards):
        return _OUT_OF_STEP if out_of_step else _TRUSTED
    found = {
        Doubt.CLOCK_OUT_OF_STEP: out_of_step,
        Doubt.CLOCK_AHEAD: ahead,
        Doubt.ENDS_BEFORE_START: backwards,
    }
    return tuple(sorted(doubt.value for doubt, holds in found.items() if holds))


def _shared(record: Mapping[str, Any], latest_s: int) -> tuple[object, ...]:
    """The values of `Observation`'s fields, in their order; times in seconds."""
    msm_id, probe_id, timestamp_s = _identity(record)
    target, target_name = None, record.get("dst_name")
    family = None
    stated_target = record.get("dst_addr")
    if stated_target is None:
        stated_target = record.get("addr")  # firmware 1
    if type(stated_target) is str:
        target, family = _address_and_family(stated_target)
    if target_name is None:
        target_name = record.get("name")  # firmware 1
    if target_name is None and target is None:
        target_name = stated_target
    source_address, source_family = None, None
    stated_source = record.get("src_addr")
    if type(stated_source) is str:
        source_address, source_family = _address_and_family(stated_source)
    if family is None:  # where the target's address is known it is the proof
        family = _integer(record.get("af"))
        if family not in (4, 6):
            family = source_family
    clock_age_s = _integer(record.get("lts"))
    stored_s = _moment_s(record.get("stored_timestamp"))
    end_s = _moment_s(record.get("endtime"))
    protocol = _text(record.get("proto"))
    return (
        msm_id,
        probe_id,
        timestamp_s,
        stored_s,
        family,
        target,
        _text(target_name),
        _address(record.get("from")),
        source_address,
        protocol.upper() if protocol is not None else None,
        _integer(record.get("fw")),
        clock_age_s if clock_age_s is not None and clock_age_s >= 0 else None,  # -1: never in step
        _integer(record.get("size")),
        _doubts(timestamp_s, stored_s, end_s, clock_age_s, latest_s),
        record.get("synthetic") is True,
    )


class _Pings:
    """The columns of `PingObservation`, being filled."""

    def __init__(self, latest_s: int) -> None:
        self._latest_s = latest_s
        self._columns: dict[str, list[Any]] = {name: [] for name in PING_SCHEMA.names if name != "replies"}
        self._targets = tuple(self._columns.values())
        self._offsets: list[int] = [0]
        self._rtt: list[float | None] = []
        self._ttl: list[int | None] = []
        self._duplicate: list[bool] = []
        self._error: list[str | None] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record.

        Raises:
            InputError: when it is not understood; the columns are then as they were.
        """
        shared = _shared(record, self._latest_s)
        begin = len(self._rtt)
        try:
            counted = self._packets(record)
        except InputError:
            del self._rtt[begin:], self._ttl[begin:], self._duplicate[begin:], self._error[begin:]
            raise
        self._offsets.append(len(self._rtt))
        for column, value in zip(self._targets, shared + counted, strict=True):
            column.append(value)

    def _packets(self, record: Mapping[str, Any]) -> tuple[object, ...]:
        """Sent, received, duplicates, errors, and RTT min, mean and max, from the list of packets."""
        result = record.get("result")
        if result is None:
            return _summary(record)
        if type(result) is not list:
            raise InputError(
                "a ping without a list of packets", found=_show(result), expected="a list (result)"
            )
        if not result and _count(record, "rcvd") not in (None, 0):
            return _summary(record)  # the list names no packet, the counts say that some were answered
        add_rtt, add_ttl = self._rtt.append, self._ttl.append
        add_duplicate, add_error = self._duplicate.append, self._error.append
        usual_ttl = _integer(record.get("ttl"))  # a reply states its TTL only where it differs
        answered: list[float] = []
        lost = duplicates = errors = 0
        for reply in result:
            if type(reply) is not dict:
                raise InputError(
                    "a packet that is not an object", found=_show(reply), expected="rtt, x or error"
                )
            rtt = reply.get("rtt")
            if type(rtt) is float and len(reply) == 1 and 0.0 <= rtt <= _MAX_RTT_MS:  # nine of ten
                answered.append(rtt)
                add_rtt(rtt)
                add_ttl(usual_ttl)
                add_duplicate(False)
                add_error(None)
                continue
            error = reply.get("error")
            duplicate = _flag(reply.get("dup"))
            if rtt is not None:
                rtt = _rtt_ms(rtt)
            if duplicate:
                duplicates += 1
                error = None
            elif (rtt is not None) + (error is not None) + (reply.get("x") is not None) != 1:
                raise InputError(
                    "a packet that is not understood", found=_show(reply), expected="one of rtt, x and error"
                )
            elif rtt is not None:
                answered.append(rtt)
            elif error is not None:
                errors += 1
            else:
                lost += 1
            ttl = _integer(reply.get("ttl"))
            add_rtt(rtt)
            add_ttl(ttl if ttl is not None or rtt is None else usual_ttl)
            add_duplicate(duplicate)
            add_error(_words(error))
        received = len(answered)
        listed = received + lost
        stated = _count(record, "sent")
        # Packets that the counts know and the list does not were sent and not answered; the probe's own errors,
        # should the count include them, were not sent.
        sent = listed if stated is None else listed + max(0, stated - listed - errors)
        if received == 0:
            return sent, 0, duplicates, errors, None, None, None
        return sent, received, duplicates, errors, min(answered), sum(answered) / received, max(answered)

    def table(self) -> pa.Table:
        """The columns as a table of `PingObservation`."""
        replies = _list(
            PING_SCHEMA.field("replies").type,
            self._offsets,
            (self._rtt, self._ttl, self._duplicate, self._error),
        )
        return _table(PING_SCHEMA, self._columns, {"replies": replies})


def _summary(record: Mapping[str, Any]) -> tuple[object, ...]:
    """The same numbers from a record that has only the counts and the mean (firmware 0 and 1)."""
    sent, received = _count(record, "sent"), _count(record, "rcvd")
    if sent is None or received is None or received > sent:
        raise InputError(
            "a ping without packets",
            found=f"sent {_show(record.get('sent'))}, rcvd {_show(record.get('rcvd'))}",
            expected="a list of packets (result), or sent and rcvd",
        )
    duplicates = _count(record, "dup")
    statistics: list[float | None] = []
    for key in ("min", "avg", "max"):
        value = record.get(key)
        statistics.append(
            None if value is None or received == 0 or _number(value) == -1.0 else _rtt_ms(value)
        )
    return (sent, received, 0 if duplicates is None else duplicates, 0, *statistics)


class _Traceroutes:
    """The columns of `TracerouteObservation`, being filled."""

    def __init__(self, latest_s: int) -> None:
        self._latest_s = latest_s
        self._columns: dict[str, list[Any]] = {name: [] for name in TRACEROUTE_SCHEMA.names if name != "hops"}
        self._targets = tuple(self._columns.values())
        self._hop_offsets: list[int] = [0]
        self._hop: list[int] = []
        self._hop_error: list[str | None] = []
        self._reply_offsets: list[int] = [0]
        self._from: list[str | None] = []
        self._rtt: list[float | None] = []
        self._ttl: list[int | None] = []
        self._size: list[int | None] = []
        self._icmp_error: list[str | None] = []
        self._late: list[int | None] = []
        self._duplicate: list[bool] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record.

        Raises:
            InputError: when it is not understood; the columns are then as they were.
        """
        shared = _shared(record, self._latest_s)
        hops, replies = len(self._hop), len(self._rtt)
        try:
            trouble = self._add_hops(record.get("result"))
        except InputError:
            del self._hop[hops:], self._hop_error[hops:], self._reply_offsets[hops + 1 :]
            for column in self._reply_columns():
                del column[replies:]
            raise
        self._hop_offsets.append(len(self._hop))
        own = (_moment_s(record.get("endtime")), _integer(record.get("paris_id")), trouble)
        for target, value in zip(self._targets, shared + own, strict=True):
            target.append(value)

    def _reply_columns(self) -> tuple[list[Any], ...]:
        return self._from, self._rtt, self._ttl, self._size, self._icmp_error, self._late, self._duplicate

    def _add_hops(self, result: Any) -> str | None:
        """Add the hops; return the trouble that the probe had with the whole traceroute."""
        if type(result) is not list:
            raise InputError("a traceroute without hops", found=_show(result), expected="a list (result)")
        trouble: str | None = None
        for item in result:
            if type(item) is not dict:
                raise InputError("a hop that is not an object", found=_show(item), expected="hop and result")
            error = _words(item.get("error"))
            if "hop" not in item:
                if error is None:
                    raise InputError("a hop without a number", found=_show(item), expected="hop, or error")
                trouble = error
                continue
            hop = _integer(item["hop"])
            if hop is None or not 0 <= hop <= 255:
                raise InputError("a hop number that is none", found=_show(item["hop"]), expected="0 to 255")
            replies = item.get("result")
            if type(replies) is list:
                reply_error = self._add_replies(replies)
                error = reply_error if error is None else error
            elif error is None:
                raise InputError("a hop without replies", found=_show(item), expected="result, or error")
            self._hop.append(hop)
            self._hop_error.append(error)
            self._reply_offsets.append(len(self._rtt))
        return trouble

    def _add_replies(self, replies: list[Any]) -> str | None:
        """Add the replies of a hop; return the trouble that the probe had in it."""
        add_from, add_rtt, add_ttl = self._from.append, self._rtt.append, self._ttl.append
        add_size, add_icmp_error = self._size.append, self._icmp_error.append
        add_late, add_duplicate = self._late.append, self._duplicate.append
        trouble: str | None = None
        for reply in replies:
            if type(reply) is not dict:
                raise InputError(
                    "a reply that is not an object", found=_show(reply), expected="from, x or error"
                )
            sender = reply.get("from")
            rtt = reply.get("rtt")
            if sender is None:
                if rtt is None and reply.get("x") is not None:
                    add_from(None)
                    add_rtt(None)
                    add_ttl(None)
                    add_size(None)
                    add_icmp_error(None)
                    add_late(None)
                    add_duplicate(False)
                    continue
                if rtt is None and reply.get("error") is not None:  # the packet was not sent
                    trouble = _words(reply["error"])
                    continue
                raise InputError("a reply from nobody", found=_show(reply), expected="from, x or error")
            address = _address(sender)
            if address is None:
                raise InputError("a reply from no address", found=_show(sender), expected="an IP address")
            if not (type(rtt) is float and 0.0 <= rtt <= _MAX_RTT_MS) and rtt is not None:
                rtt = _rtt_ms(rtt)
            icmp_error = reply.get("err")
            add_from(address)
            add_rtt(rtt)
            add_ttl(_integer(reply.get("ttl")))
            add_size(_integer(reply.get("size")))
            add_icmp_error(None if icmp_error is None else _words(icmp_error))
            add_late(_integer(reply.get("late")))
            add_duplicate(_flag(reply.get("dup")))
        return trouble

    def table(self) -> pa.Table:
        """The columns as a table of `TracerouteObservation`."""
        hops_type = TRACEROUTE_SCHEMA.field("hops").type
        replies_type = hops_type.value_type.field("replies").type
        replies = _list(replies_type, self._reply_offsets, self._reply_columns())
        hops = _list(hops_type, self._hop_offsets, (self._hop, self._hop_error, replies))
        return _table(TRACEROUTE_SCHEMA, self._columns, {"hops": hops})


def _list(kind: pa.ListType, offsets: list[int], columns: Sequence[list[Any] | pa.Array]) -> pa.ListArray:
    """A list of structs from its offsets and the columns of the struct."""
    struct = kind.value_type
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
        for field, column in zip(struct, columns, strict=True)
    ]
    values = pa.StructArray.from_arrays(arrays, fields=list(struct))
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), values, type=kind)


def _table(schema: pa.Schema, columns: Mapping[str, list[Any]], nested: Mapping[str, pa.Array]) -> pa.Table:
    arrays = []
    for field in schema:
        if field.name in nested:
            arrays.append(nested[field.name])
        elif pa.types.is_timestamp(field.type):  # the columns hold seconds
            seconds = pa.array(columns[field.name], type=pa.int64())
            arrays.append(pc.multiply(seconds, 1_000_000).cast(field.type))
        else:
            arrays.append(pa.array(columns[field.name], type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
