"""The rarer forms of traceroutes: the probe's own errors, late and repeated answers, ICMP errors, an end before the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from testbed.campaign import Campaign, Measurement
from testbed.chance import Ints, Purpose, draw, uniform

_Json: TypeAlias = dict[str, Any]


def made_odd(
    campaign: Campaign, measurement: Measurement, hosts: Ints, at_s: Ints, traceroutes: list[_Json]
) -> list[_Json]:
    """Traceroutes of N hosts at their times, some of them (`Habits.odd_ratio`) odd."""
    if campaign.habits.odd_ratio == 0.0:
        return traceroutes
    key = (measurement.msm_id, hosts, at_s)
    odd = uniform(draw(campaign.internet.seed, Purpose.ODD, *key)) < campaign.habits.odd_ratio
    which = uniform(draw(campaign.internet.seed, Purpose.WHICH_ODDITY, *key)) * len(_ODDITIES)
    return [
        _ODDITIES[number](result) if is_odd else result
        for result, is_odd, number in zip(
            traceroutes, odd.tolist(), which.astype(np.int64).tolist(), strict=True
        )
    ]


def _unresolved(result: _Json) -> _Json:
    kept = {key: value for key, value in result.items() if key not in ("dst_addr", "src_addr")}
    reason = "name resolution failed: non-recoverable failure in name resolution (1)"
    return {**kept, "endtime": result["timestamp"], "result": [{"error": reason}]}


def _unbound(result: _Json) -> _Json:
    hops = [{"hop": 1, "result": [{"error": "bind failed: Invalid argument"}]}]
    return {**result, "endtime": result["timestamp"], "result": hops}


def _unsent(result: _Json) -> _Json:
    hops = [*result["result"][:1], {"hop": 2, "error": "sendto failed: Network is unreachable"}]
    return {**result, "result": hops}


def _late(result: _Json) -> _Json:
    """Answers to earlier packets come while later ones are waited for."""
    sender = next((_sender(hop) for hop in result["result"] if _sender(hop) is not None), None)
    if sender is None:
        return result
    answer = {"from": sender, "late": 2, "size": 28, "ttl": 250}
    timed = {"from": sender, "late": 3, "rtt": 4012.5, "size": 28, "ttl": 250}
    hops = [*result["result"]]
    hops[-1] = {**hops[-1], "result": [answer, *hops[-1]["result"], timed]}
    return {**result, "result": hops}


def _prohibited(result: _Json) -> _Json:
    """A router on the way says that nobody may go on; some firmware gives the ICMP code as a number."""
    for number, hop in enumerate(result["result"]):
        if _sender(hop) is not None:
            code: object = "A" if result["timestamp"] % 2 == 0 else 10
            replies = [{**reply, "err": code} if "from" in reply else reply for reply in hop["result"]]
            return {**result, "result": [*result["result"][:number], {**hop, "result": replies}]}
    return result


def _repeated(result: _Json) -> _Json:
    hops = [*result["result"]]
    hops[0] = {
        **hops[0],
        "result": [*hops[0]["result"], *({**r, "dup": True} for r in hops[0]["result"] if "rtt" in r)],
    }
    return {**result, "result": hops}


def _labelled(result: _Json) -> _Json:
    """Answers carry what nobody here reads: the TTL they were sent with, MPLS labels, header sizes."""
    label = {
        "obj": [{"class": 1, "mpls": [{"exp": 0, "label": 300, "s": 1, "ttl": 1}], "type": 1}],
        "rfc4884": 0,
    }
    more = {"icmpext": {"version": 2, **label}, "ittl": 2, "mtu": 1500, "itos": 0, "flags": "SA"}
    hops = [
        {**hop, "result": [{**reply, **more} if "from" in reply else reply for reply in hop["result"]]}
        for hop in result["result"]
    ]
    return {**result, "result": hops}


def _backwards(result: _Json) -> _Json:
    return {**result, "endtime": result["timestamp"] - 7}


def _sender(hop: _Json) -> str | None:
    return next((reply["from"] for reply in hop["result"] if "from" in reply), None)


_ODDITIES: tuple[Callable[[_Json], _Json], ...] = (
    _unresolved,
    _unbound,
    _unsent,
    _late,
    _prohibited,
    _repeated,
    _labelled,
    _backwards,
)
