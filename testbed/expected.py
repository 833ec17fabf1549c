"""What a faultless reader would make of the results: plain rows, to be compared with what was read.

They are made from what the testbed knows of each result and of the firmware that wrote it, and share nothing with any reader of
Atlas's JSON. A field that the firmware's form does not tell is None, as the rules of the observations want it; the names are those of
`domain.observation`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from domain.observation import CLOCK_IN_STEP_S, CLOCK_TOLERANCE_S, Doubt, ResultType
from testbed import atlas_json
from testbed.atlas_json import Json
from testbed.campaign import Campaign
from testbed.weather import Weather

Row: TypeAlias = dict[str, Any]

_SUMMARY_ONLY = (0, 1)


def expected_results(
    campaign: Campaign, weather: Weather, kind: ResultType, start: datetime, stop: datetime, now: datetime
) -> list[Row]:
    """The observations of all results of a type that began in `[start, stop)` by their probe's clock and are stored by `now`.

    Times are whole seconds since the epoch. In order of measurement, time and probe.
    """
    rows: list[Row] = []
    habits, seed, skew_s = campaign.habits, campaign.internet.seed, campaign.habits.most_skew_s
    first_s, after_s, now_s = (int(moment.timestamp()) for moment in (start, stop, now))
    for measurement in campaign.measurements:
        if measurement.type is not kind:
            continue
        hosts = np.array(measurement.participants, dtype=np.int64)
        for who, at_s in campaign.moments(measurement, hosts, first_s - skew_s, after_s + skew_s, 4_000):
            said_s = at_s + habits.skew_s(seed, who)
            there = (said_s >= first_s) & (said_s < after_s)
            there &= habits.stored_s(seed, measurement.msm_id, who, at_s) <= now_s
            rows += [
                _ping(result) if kind is ResultType.PING else _traceroute(result)
                for result in atlas_json.plain_results(
                    campaign, weather, measurement, who[there], at_s[there]
                )
            ]
    return sorted(rows, key=lambda row: (row["msm_id"], row["timestamp"], row["probe_id"]))


def _envelope(result: Json) -> Row:
    firmware, pinging = result["fw"], result["type"] == "ping"
    listed = firmware not in _SUMMARY_ONLY
    stored_s = result["stored_timestamp"] if firmware >= 4970 else None
    age_s = result["lts"] if firmware >= (4550 if pinging else 4600) else None
    doubts = []
    # What was stored before it was measured was measured by a clock that is ahead; where nothing says when, only by now it is.
    if stored_s is not None and result["timestamp"] > stored_s + CLOCK_TOLERANCE_S:
        doubts.append(Doubt.CLOCK_AHEAD.value)
    if age_s is not None and not 0 <= age_s <= CLOCK_IN_STEP_S:
        doubts.append(Doubt.CLOCK_OUT_OF_STEP.value)
    if not pinging and result["endtime"] < result["timestamp"]:
        doubts.append(Doubt.ENDS_BEFORE_START.value)
    return {
        "msm_id": result["msm_id"],
        "probe_id": result["prb_id"],
        "timestamp": result["timestamp"],
        "stored_timestamp": stored_s,
        "af": result["af"],
        "target": result.get("dst_addr"),
        "target_name": result["dst_name"] if firmware != 0 else None,
        "probe_address": result["from"] if firmware != 0 else None,
        "source_address": result.get("src_addr") if firmware != 1 else None,
        "protocol": result["proto"] if listed else None,
        "firmware": firmware,
        "clock_age_s": age_s if age_s is not None and age_s >= 0 else None,
        # What size the first firmwares mean, nobody knows.
        "size_bytes": result["size"] if listed else None,
        "doubts": sorted(doubts),
        "synthetic": True,
    }


def _ping(result: Json) -> Row:
    listed = result["fw"] not in _SUMMARY_ONLY
    answered = [reply["rtt"] for reply in result["result"] if "rtt" in reply and "dup" not in reply]
    return {
        **_envelope(result),
        "sent": result["sent"],
        "received": len(answered),
        "duplicates": result["dup"],
        "errors": sum("error" in reply for reply in result["result"]) if listed else 0,
        "rtt_min_ms": min(answered) if answered else None,
        "rtt_avg_ms": sum(answered) / len(answered) if answered else None,
        "rtt_max_ms": max(answered) if answered else None,
        "replies": [
            {
                "rtt_ms": reply.get("rtt"),
                "ttl": result["ttl"] if "rtt" in reply else None,
                "duplicate": "dup" in reply,
                "error": reply.get("error"),
            }
            for reply in result["result"]
            if listed
        ],
    }


def _traceroute(result: Json) -> Row:
    hops = [hop for hop in result["result"] if "hop" in hop]
    return {
        **_envelope(result),
        "end_timestamp": result["endtime"],
        "paris_id": result["paris_id"],
        "error": next((hop["error"] for hop in result["result"] if "hop" not in hop), None),
        "hops": [
            {
                "hop": hop["hop"],
                "error": hop["error"]
                if "error" in hop
                else next((reply["error"] for reply in hop["result"] if "error" in reply), None),
                "replies": [
                    {
                        "address": reply.get("from"),
                        "rtt_ms": reply.get("rtt"),
                        "ttl": reply.get("ttl"),
                        "size_bytes": reply.get("size"),
                        "icmp_error": str(reply["err"]) if "err" in reply else None,
                        "late": reply.get("late"),
                        "duplicate": "dup" in reply,
                    }
                    for reply in hop.get("result", ())
                    if "error" not in reply
                ],
            }
            for hop in hops
        ],
    }
