"""The parser: raw ping and traceroute records of every form Atlas has given them, to Arrow tables.

The record's forms are described in the Atlas documentation ("Measurement result format", firmware 1 to 5000 and later);
what the documentation leaves out was read off recorded results. Columns are filled directly: no Python object is
made for a reply or a hop.

A record is understood when it says what, who and when, and when something in it can be counted:

- its type, or a shape that tells it; `msm_id`, `prb_id`, and a `timestamp` in the years 2010 to 2099;
- a ping: a list (`result`) of which one packet is understood, or else the counts `sent` and `rcvd`;
- a traceroute: a list of which one hop is understood, or that is empty; of firmware 1 the text of the command.

Everything else is optional: what is odd there is None. A packet, reply or hop that is not understood is left out of the lists
and of the counts, and the record says so (`Doubt.PARTLY_UNDERSTOOD`). A record that is not understood is kept whole, with the
reason, in the quarantine table.

Most records have an ordinary form, and `ingest.ordinary` is faster with those, where it is installed; all others, and all
where it is not, are parsed here. What comes out is the same, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.errors import InputError
from domain.observation import CLOCK_IN_STEP_S, CLOCK_TOLERANCE_S, Doubt, Observation, ResultType
from ingest import ordinary
from ingest.batch import PING_SCHEMA, QUARANTINE_SCHEMA, TRACEROUTE_SCHEMA, Batch, Parsed, bounds_of
from ingest.ordinary import Rows

_FIRST_S = 1_262_304_000  # 2010-01-01: Atlas began in that year
_LAST_S = 4_102_444_800  # 2100-01-01
_MAX_RTT_MS = 1e6
_MAX_PACKETS = 1_000_000
_MAX_INT64 = 2**63 - 1
_SHARED = tuple(field.name for field in fields(Observation) if field.name != "doubts")

_PROTOCOLS = {"I": "ICMP", "U": "UDP", "T": "TCP"}
_NAMES_BEFORE_4460 = {
    "addr": "dst_addr", "address": "dst_addr", "name": "dst_name", "srcaddr": "src_addr", "pf": "af", "paris-id": "paris_id",
}  # fmt: skip
_ONLY_BEFORE_4460 = frozenset(_NAMES_BEFORE_4460) | {"mode"}
_FIRST_WITH_THESE_NAMES = 4460
_FIRST_WITHOUT_ICMP_HEADER_IN_SIZE = 4570
_ICMP_HEADER_BYTES = 8
_STRINGS_AND_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_MAX_DEPTH = 64
_TRACEROUTE_COMMAND = re.compile(r"traceroute to (\S+) \((\S+)\), \d+ hops max")


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


def parse_batch(batch: Batch, *, extension: bool = True) -> Parsed:
    """Parse a batch; of a source that is cut, the tail goes into quarantine under that reason.

    Args:
        batch: raw records.
        extension: False parses every record here, also where `ingest.ordinary` has its library; the result is the same.
    """
    recognised = ordinary.recognise(batch) if extension else None
    odd = np.arange(len(batch)) if recognised is None else recognised.odd
    pings, traceroutes = _Pings(), _Traceroutes()
    positions: list[int] = []
    reasons: list[str] = []
    raws: list[bytes] = []
    other_types = 0
    bounds = zip(odd.tolist(), batch.begin[odd].tolist(), batch.end[odd].tolist(), strict=True)
    for number, begin, end in bounds:
        raw = batch.data[begin:end]
        try:
            record = _object(raw)
            kind = _kind(record)
            if kind == ResultType.PING:
                pings.add(record, number)
            elif kind == ResultType.TRACEROUTE:
                traceroutes.add(record, number)
            else:
                _identity(record)
                other_types += 1
                positions.append(batch.first_position + number)
                reasons.append(
                    f"an Atlas result of another type; found {_show(kind)}; expected ping or traceroute"
                )
                raws.append(raw)
        except InputError as error:
            positions.append(batch.first_position + number)
            reasons.append(error.line())
            raws.append(raw)
    if batch.cut is not None:
        positions.append(batch.first_position + len(batch))
        reasons.append(batch.cut)
        raws.append(batch.tail)
    name = batch.source.encode("utf-8", "backslashreplace").decode()
    latest_s = int(batch.read_at.timestamp()) + CLOCK_TOLERANCE_S
    return Parsed(
        pings=_table(PING_SCHEMA, pings, None if recognised is None else recognised.pings, latest_s),
        traceroutes=_table(
            TRACEROUTE_SCHEMA, traceroutes, None if recognised is None else recognised.traceroutes, latest_s
        ),
        quarantined=pa.table(
            {"source": [name] * len(raws), "position": positions, "reason": reasons, "raw": raws},
            schema=QUARANTINE_SCHEMA,
        ),
        other_types=other_types,
        cut=batch.cut,
        finished=batch.finished,
    )


def _object(raw: bytes) -> dict[str, Any]:
    """The record, with the names that Atlas gives its values today."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        value = _nearly_json(raw, error)
    if type(value) is not dict:
        raise InputError("not an Atlas result", found=_show(value), expected="a JSON object")
    record: dict[str, Any] = value
    # Some firmware wrote keys with a stray leading blank (" proto", " lts").
    if " " in "".join(record):
        record = {key.lstrip(" "): value for key, value in record.items()} | {
            key: value for key, value in record.items() if not key.startswith(" ")
        }
    if not _ONLY_BEFORE_4460.isdisjoint(record):
        record = _with_names_of_today(record)
    result = record.get("result")
    if type(result) is str and (command := _TRACEROUTE_COMMAND.match(result)) is not None:
        name, address = command.groups()
        record = {"dst_name": name, "dst_addr": address, **record, "result": _hops_of_text(result)}
    return record


def _nearly_json(raw: bytes, error: orjson.JSONDecodeError) -> Any:
    """What Python's reader makes of what orjson refuses: NaN, control characters, bytes that are no UTF-8, deep nesting.

    Raises:
        InputError: when it is not even that.
    """
    try:
        return json.loads(_shallow(raw.decode("utf-8", "replace")), strict=False)
    except ValueError:
        raise InputError("not JSON", found=str(error), expected="a JSON object") from error


def _shallow(text: str) -> str:
    """The JSON with null for what is nested deeper than any record, which readers give up on."""
    pieces = []
    depth = kept = 0
    for token in _STRINGS_AND_BRACKETS.finditer(text):
        bracket = token.group()
        if bracket in ("[", "{"):
            depth += 1
            if depth == _MAX_DEPTH:
                pieces.append(text[kept : token.start()] + "null")
        elif bracket in ("]", "}"):
            if depth == _MAX_DEPTH:
                kept = token.end()
            depth -= 1
    return text if not pieces else "".join(pieces) + text[kept:]


def _with_names_of_today(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a firmware before 4460, or of one that wrote both names; what has today's name is what counts."""
    renamed = dict(record)
    for old, new in _NAMES_BEFORE_4460.items():
        if record.get(old) is not None and renamed.get(new) is None:
            renamed[new] = record[old]
    mode = record.get("mode")  # ICMP4, UDP6 …
    if type(mode) is str and mode[-1:] in ("4", "6"):
        for name, value in (("proto", mode[:-1]), ("af", int(mode[-1]))):
            if renamed.get(name) is None:
                renamed[name] = value
    return renamed


def _hops_of_text(text: str) -> list[dict[str, Any]]:
    """The hops in what the traceroute command wrote, for firmware 1 kept it so: a line a hop, `NEWLINE` between them.

    A line is a number, then packet by packet `*`, or the address where it is another one than before, the RTT, `ms`, and
    perhaps `!` and a letter, which stands for an ICMP error.
    """
    hops = []
    for line in text.replace("\n", " NEWLINE ").split("NEWLINE")[1:]:
        number, *words = line.split() or [""]
        if number == "":
            continue
        replies: list[dict[str, Any]] = []
        sender = None
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == "*":
                replies.append({"x": "*"})
            elif after == "ms":
                replies.append({"from": sender, "rtt": word})
            elif word.startswith("!") and replies:
                replies[-1]["err"] = word[1:] or None
            elif word != "ms":
                sender = word.strip("()")
        hops.append({"hop": number, "result": replies})
    return hops


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
    except RecursionError:
        return _show(value)


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


def _rtt_ms(value: Any) -> float | None:
    rtt = _number(value)
    return rtt if rtt is not None and 0.0 <= rtt <= _MAX_RTT_MS else None


def _count(value: Any) -> int | None:
    """A count of packets, else None."""
    count = _integer(value)
    return count if count is not None and 0 <= count <= _MAX_PACKETS else None


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


def _shared(record: Mapping[str, Any]) -> tuple[object, ...]:
    """The values of `Observation`'s fields but `doubts`, in their order; times in seconds, the clock's age as it is stated."""
    msm_id, probe_id, timestamp_s = _identity(record)
    target, target_name = None, record.get("dst_name")
    family = None
    stated_target = record.get("dst_addr")
    if type(stated_target) is str:
        target, family = _address_and_family(stated_target)
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
    protocol = _text(record.get("proto"))
    if protocol is not None:
        protocol = protocol.upper()
        protocol = _PROTOCOLS.get(protocol, protocol)
    return (
        msm_id,
        probe_id,
        timestamp_s,
        _moment_s(record.get("stored_timestamp")),
        family,
        target,
        _text(target_name),
        _address(record.get("from")),
        source_address,
        protocol,
        _integer(record.get("fw")),
        _integer(record.get("lts")),
        _integer(record.get("size")),
        record.get("synthetic") is True,
    )


class _Filling:
    """Columns being filled, a row a record; `partly` says of which rows a part was not understood."""

    def __init__(self, schema: pa.Schema, nested: str) -> None:
        self._columns: dict[str, list[Any]] = {
            name: [] for name in schema.names if name not in (nested, "doubts")
        }
        self._targets = tuple(self._columns.values())
        self._schema = schema
        self.numbers: list[int] = []
        self.partly: list[bool] = []

    def _append(self, number: int, values: tuple[object, ...], *, partly: bool) -> None:
        self.numbers.append(number)
        self.partly.append(partly)
        for column, value in zip(self._targets, values, strict=True):
            column.append(value)

    def columns(self) -> dict[str, pa.Array]:
        """The columns by name, all of the schema but `doubts`."""
        arrays = {}
        for name, values in self._columns.items():
            kind = self._schema.field(name).type
            if pa.types.is_timestamp(kind):  # the columns hold seconds
                arrays[name] = pc.multiply(pa.array(values, type=pa.int64()), 1_000_000).cast(kind)
            else:
                arrays[name] = pa.array(values, type=kind)
        return arrays


class _Pings(_Filling):
    """The columns of `PingObservation`."""

    def __init__(self) -> None:
        super().__init__(PING_SCHEMA, "replies")
        self._offsets: list[int] = [0]
        self._rtt: list[float | None] = []
        self._ttl: list[int | None] = []
        self._duplicate: list[bool] = []
        self._error: list[str | None] = []

    def add(self, record: Mapping[str, Any], number: int) -> None:
        """Add a record.

        Raises:
            InputError: when it is not understood; the columns are then as they were.
        """
        shared = _ping_sizes(_shared(record))
        result = record.get("result")
        partly = False
        counted = None
        if type(result) is list and result:
            counted, partly = self._packets(result, _integer(record.get("ttl")))
        if counted is None:
            counted = _summary(record)
            partly = result is not None and result != []
        self._offsets.append(len(self._rtt))
        self._append(number, shared + counted, partly=partly)

    def _packets(self, result: list[Any], usual_ttl: int | None) -> tuple[tuple[object, ...] | None, bool]:
        """Add the packets of a list. A reply states its TTL only where it differs from the usual one.

        Returns:
            Sent, received, duplicates, errors, and RTT min, mean and max, or None when no packet is understood; and whether
            something was not.
        """
        add_rtt, add_ttl = self._rtt.append, self._ttl.append
        add_duplicate, add_error = self._duplicate.append, self._error.append
        answered: list[float] = []
        lost = duplicates = errors = 0
        partly = False
        for reply in result:
            if type(reply) is not dict:
                partly = True
                continue
            stated = reply.get("rtt")
            if type(stated) is float and len(reply) == 1 and 0.0 <= stated <= _MAX_RTT_MS:  # nine of ten
                answered.append(stated)
                add_rtt(stated)
                add_ttl(usual_ttl)
                add_duplicate(False)
                add_error(None)
                continue
            rtt = _rtt_ms(stated)
            error = reply.get("error")
            duplicate = _flag(reply.get("dup"))
            said = (stated is not None) + (error is not None) + (reply.get("x") is not None)
            if duplicate:
                duplicates += 1
                error = None
            elif said != 1 or (stated is not None and rtt is None):
                partly = True
                continue
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
        if received + lost + duplicates + errors == 0:
            return None, partly
        sent = received + lost
        if received == 0:
            return (sent, 0, duplicates, errors, None, None, None), partly
        total = 0.0
        for rtt in answered:  # `sum` rounds otherwise since Python 3.12
            total += rtt
        return (
            sent,
            received,
            duplicates,
            errors,
            min(answered),
            total / received,
            max(answered),
        ), partly

    def columns(self) -> dict[str, pa.Array]:
        """The columns by name, all of the schema but `doubts`."""
        replies = _list(
            PING_SCHEMA.field("replies").type,
            self._offsets,
            (self._rtt, self._ttl, self._duplicate, self._error),
        )
        return super().columns() | {"replies": replies}


_FIRMWARE, _SIZE, _PROTOCOL = (_SHARED.index(name) for name in ("firmware", "size_bytes", "protocol"))


def _ping_sizes(shared: tuple[Any, ...]) -> tuple[object, ...]:
    """The shared values with the size of the payload, as firmware 4570 and later state it.

    Firmware before counted the ICMP header, and what firmware before 4460 counted is not known.
    """
    firmware, size = shared[_FIRMWARE], shared[_SIZE]
    if firmware is None or size is None or not 0 < firmware < _FIRST_WITHOUT_ICMP_HEADER_IN_SIZE:
        return shared
    if firmware < _FIRST_WITH_THESE_NAMES:
        size = None
    elif shared[_PROTOCOL] == "ICMP" and size >= _ICMP_HEADER_BYTES:
        size -= _ICMP_HEADER_BYTES
    return (*shared[:_SIZE], size, *shared[_SIZE + 1 :])


def _summary(record: Mapping[str, Any]) -> tuple[object, ...]:
    """The same numbers from the counts and the mean, which is all that the first firmwares gave.

    Where there is a list and it is empty, a missing count is 0.
    """
    sent, received = _count(record.get("sent")), _count(record.get("rcvd"))
    if record.get("result") == []:
        received = 0 if received is None else received
        sent = received if sent is None else sent
    if sent is None or received is None or received > sent:
        raise InputError(
            "a ping without packets",
            found=f"sent {_show(record.get('sent'))}, rcvd {_show(record.get('rcvd'))}, result {_show(record.get('result'))}",
            expected="a list of packets (result), or sent and rcvd",
        )
    duplicates = _count(record.get("dup"))
    statistics = [_rtt_ms(record.get(key)) if received > 0 else None for key in ("min", "avg", "max")]
    return (sent, received, 0 if duplicates is None else duplicates, 0, *statistics)


class _Traceroutes(_Filling):
    """The columns of `TracerouteObservation`."""

    def __init__(self) -> None:
        super().__init__(TRACEROUTE_SCHEMA, "hops")
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

    def add(self, record: Mapping[str, Any], number: int) -> None:
        """Add a record.

        Raises:
            InputError: when it is not understood; the columns are then as they were.
        """
        shared = _shared(record)
        result = record.get("result")
        if type(result) is not list:
            raise InputError("a traceroute without hops", found=_show(result), expected="a list (result)")
        trouble, partly = self._add_hops(result)
        if partly and trouble is None and len(self._hop) == self._hop_offsets[-1]:
            raise InputError(
                "a traceroute of which no hop is understood",
                found=_show(result),
                expected="hop and result, or error",
            )
        self._hop_offsets.append(len(self._hop))
        own = (_moment_s(record.get("endtime")), _integer(record.get("paris_id")), trouble)
        self._append(number, shared + own, partly=partly)

    def _add_hops(self, result: list[Any]) -> tuple[str | None, bool]:
        """Add the hops.

        Returns:
            The trouble that the probe had with the whole traceroute, and whether something was not understood.
        """
        trouble: str | None = None
        partly = False
        for item in result:
            if type(item) is not dict:
                partly = True
                continue
            error = _words(item.get("error"))
            if "hop" not in item:
                if error is None:
                    partly = True
                else:
                    trouble = error
                continue
            hop, replies = _integer(item["hop"]), item.get("result")
            if hop is None or not 0 <= hop <= 255 or (type(replies) is not list and error is None):
                partly = True
                continue
            if type(replies) is list:
                reply_error, odd = self._add_replies(replies)
                error = reply_error if error is None else error
                partly = partly or odd
            self._hop.append(hop)
            self._hop_error.append(error)
            self._reply_offsets.append(len(self._rtt))
        return trouble, partly

    def _add_replies(self, replies: list[Any]) -> tuple[str | None, bool]:
        """Add the replies of a hop.

        Returns:
            The trouble that the probe had in it, and whether something was not understood.
        """
        add_from, add_rtt, add_ttl = self._from.append, self._rtt.append, self._ttl.append
        add_size, add_icmp_error = self._size.append, self._icmp_error.append
        add_late, add_duplicate = self._late.append, self._duplicate.append
        trouble: str | None = None
        partly = False
        for reply in replies:
            if type(reply) is not dict:
                partly = True
                continue
            sender, rtt = reply.get("from"), reply.get("rtt")
            if sender is None:
                if rtt is None and reply.get("x") is not None:
                    add_from(None)
                    add_rtt(None)
                    add_ttl(None)
                    add_size(None)
                    add_icmp_error(None)
                    add_late(None)
                    add_duplicate(False)
                elif rtt is None and reply.get("error") is not None:  # the packet was not sent
                    trouble = _words(reply["error"])
                else:
                    partly = True
                continue
            address = _address(sender)
            if address is None:
                partly = True
                continue
            if not (type(rtt) is float and 0.0 <= rtt <= _MAX_RTT_MS):
                rtt = _rtt_ms(rtt)
            icmp_error, late = reply.get("err"), reply.get("late")
            if late is not None:
                late = _integer(late)
                if late is None:  # nobody knows how late, and so not of which packet this is the RTT
                    rtt = None
            add_from(address)
            add_rtt(rtt)
            add_ttl(_integer(reply.get("ttl")))
            add_size(_integer(reply.get("size")))
            add_icmp_error(None if icmp_error is None else _words(icmp_error))
            add_late(late)
            add_duplicate(_flag(reply.get("dup")))
        return trouble, partly

    def columns(self) -> dict[str, pa.Array]:
        """The columns by name, all of the schema but `doubts`."""
        hops_type = TRACEROUTE_SCHEMA.field("hops").type
        replies = _list(
            hops_type.value_type.field("replies").type,
            self._reply_offsets,
            (self._from, self._rtt, self._ttl, self._size, self._icmp_error, self._late, self._duplicate),
        )
        hops = _list(hops_type, self._hop_offsets, (self._hop, self._hop_error, replies))
        return super().columns() | {"hops": hops}


def _list(kind: pa.ListType, offsets: list[int], columns: Sequence[list[Any] | pa.Array]) -> pa.ListArray:
    """A list of structs from its offsets and the columns of the struct."""
    struct = kind.value_type
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=field.type)
        for field, column in zip(struct, columns, strict=True)
    ]
    values = pa.StructArray.from_arrays(arrays, fields=list(struct))
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), values, type=kind)


def _table(schema: pa.Schema, odd: _Filling, recognised: Rows | None, latest_s: int) -> pa.Table:
    """The rows that were filled here and those of the extension, in the order of the batch, with their doubts."""
    if recognised is None or recognised.numbers.size == 0:
        return _doubted(schema, odd.columns(), np.array(odd.partly, dtype=bool), latest_s)
    ordinary_rows = _doubted(
        schema, recognised.columns, np.zeros(recognised.numbers.size, dtype=bool), latest_s
    )
    if not odd.numbers:
        return ordinary_rows
    odd_rows = _doubted(schema, odd.columns(), np.array(odd.partly, dtype=bool), latest_s)
    order = np.argsort(np.concatenate([recognised.numbers, odd.numbers]), kind="stable")
    return pa.concat_tables([ordinary_rows, odd_rows]).combine_chunks().take(pa.array(order))


def _doubted(
    schema: pa.Schema, columns: dict[str, pa.Array], partly: NDArray[np.bool_], latest_s: int
) -> pa.Table:
    """The table of these columns, with why each result is not trusted in everything.

    Args:
        schema: of the table.
        columns: all others; a clock's age of less than 0 says that the probe does not know, and becomes None.
        partly: (N,) whether a part of the record was not understood.
        latest_s: no result can be of later.
    """
    started = _microseconds(columns["timestamp"])
    latest = latest_s * 1_000_000
    stored = _microseconds(columns["stored_timestamp"], missing=latest) + CLOCK_TOLERANCE_S * 1_000_000
    ended = (
        _microseconds(columns["end_timestamp"], missing=_MAX_INT64) if "end_timestamp" in columns else started
    )
    stated_age = columns["clock_age_s"]
    age = stated_age.fill_null(0).to_numpy()
    found = {
        Doubt.CLOCK_OUT_OF_STEP: (age < 0) | (age > CLOCK_IN_STEP_S),
        Doubt.CLOCK_AHEAD: started > np.minimum(latest, stored),
        Doubt.ENDS_BEFORE_START: ended < started,
        Doubt.PARTLY_UNDERSTOOD: partly,
    }
    words = sorted(found)
    holds = np.column_stack([found[word] for word in words])
    offsets = np.concatenate([[0], np.cumsum(holds.sum(axis=1))]).astype(np.int32)
    doubts = pa.array([word.value for word in words]).take(pa.array(np.nonzero(holds)[1]))
    derived = {
        "doubts": pa.ListArray.from_arrays(pa.array(offsets), doubts, type=schema.field("doubts").type),
        "clock_age_s": pc.if_else(pc.less(stated_age, 0), pa.scalar(None, pa.int64()), stated_age),
    }
    return pa.Table.from_arrays([(columns | derived)[name] for name in schema.names], schema=schema)


def _microseconds(moments: pa.Array, missing: int = 0) -> NDArray[np.int64]:
    """Microseconds since 1970; `missing` where there is no moment."""
    known: NDArray[np.int64] = moments.view(pa.int64()).fill_null(missing).to_numpy()
    return known
