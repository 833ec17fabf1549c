"""What each firmware writes of a result: the forms that are found in recorded results of those versions.

A result comes in as today's firmware writes it, with the number of its own firmware in it, and leaves in that one's form. What an
older form does not say is lost on the way; what it says is the same. Read off the fixtures of ripe.atlas.sagan, whose
files are named by version, and off recorded results of 2012 to 2023:

    0       numbers are strings, only the summary and the addresses
    1       `addr` and `name`, only the summary
    4460    a list of packets, `af`, `proto`; still `addr` and `name`
    4550    `msm_name`, `lts` and `step` of pings; `srcaddr` in packets
    4570    the size of a ping is that of its payload; the ICMP header counted before
    4600    `group_id`; `lts` of traceroutes
    4700    stray blanks before keys (" proto", " lts")
    4720    RTTs of pings to the nanosecond, to the microsecond before
    4970    `stored_timestamp`
    5020    `mver`
"""

from __future__ import annotations

from typing import Any, TypeAlias

from testbed.habits import FIRMWARE

_Json: TypeAlias = dict[str, Any]

_SUMMARY = ("avg", "dup", "max", "min", "rcvd", "sent")
_IDENTITY = ("fw", "msm_id", "prb_id", "synthetic", "timestamp", "type")
_PACKETS, _NAMED, _PAYLOADS, _GROUPED = 4460, 4550, 4570, 4600
_NANOSECONDS, _STORED, _VERSIONED = 4720, 4970, 5020
_ICMP_HEADER_BYTES = 8
_WITHOUT_TYPE = 4480
_BLANKS = {4700: "proto", 4720: "lts"}


def as_precise(ping: _Json) -> _Json:
    """A ping, its RTTs as precise as its firmware measures them."""
    if ping["fw"] >= _NANOSECONDS:
        return ping
    replies = [
        {**reply, "rtt": round(reply["rtt"], 3)} if "rtt" in reply else reply for reply in ping["result"]
    ]
    answered = [reply["rtt"] for reply in replies if "rtt" in reply and "dup" not in reply]
    if not answered:
        return {**ping, "result": replies}
    mean = round(sum(answered) / len(answered), 10)
    return {**ping, "result": replies, "avg": mean, "min": min(answered), "max": max(answered)}


def written(result: _Json) -> _Json:
    """A result in the form of its firmware (`fw`)."""
    firmware = result["fw"]
    if firmware == FIRMWARE:
        return result
    pinging = result["type"] == "ping"
    if firmware < _PACKETS and pinging:
        return _summary(result)
    told = dict(result)
    if pinging and firmware < _NAMED:
        told["addr"], told["name"] = told["dst_addr"], told["dst_name"]
    absent = [
        (_NAMED, ("msm_name", "step")),
        (_NAMED if pinging else _GROUPED, ("lts",)),
        (_GROUPED, ("group_id",)),
        (_STORED, ("stored_timestamp",)),
        (_VERSIONED, ("mver",)),
    ]
    for since, keys in absent:
        if firmware < since:
            for key in keys:
                told.pop(key, None)
    if firmware == _WITHOUT_TYPE:
        del told["type"]
    if pinging and firmware < _PAYLOADS:
        told["size"] += _ICMP_HEADER_BYTES
    if pinging and _NAMED <= firmware < _STORED:
        told["result"] = _with_sources(told)
    stray = _BLANKS.get(firmware)
    return {f" {key}" if key == stray else key: value for key, value in told.items()}


def _summary(ping: _Json) -> _Json:
    told = {key: ping[key] for key in _IDENTITY}
    counts = {key: ping[key] for key in _SUMMARY}
    if ping["fw"] == 0:
        texts = {key: str(value) for key, value in counts.items()}
        return {**told, **texts, "dst_addr": ping["dst_addr"], "src_addr": ping["src_addr"]}
    named = {"addr": ping["dst_addr"], "name": ping["dst_name"], "from": ping["from"], "size": ping["size"]}
    return {**told, **counts, **named}


def _with_sources(ping: _Json) -> list[_Json]:
    """Its packets: lost ones say where they were sent from, and a last answer repeats its TTL."""
    replies = [{**reply, "srcaddr": ping["src_addr"]} if "x" in reply else reply for reply in ping["result"]]
    if "rtt" in replies[-1]:
        replies[-1] = {**replies[-1], "ttl": ping["ttl"]} if "ttl" in ping else replies[-1]
    return replies
