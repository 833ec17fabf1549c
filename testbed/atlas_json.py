"""Atlas's JSON: results as firmware 5080 reports them, probes, anchors and measurements as API v2 shows them.

What older firmware makes of the same results is in `testbed.firmware`.

Every object says `"synthetic": true`, which no object of the real Atlas does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np

from domain.observation import ResultType
from testbed.campaign import Campaign, Measurement
from testbed.chance import Ints
from testbed.firmware import as_precise, written
from testbed.internet import Host
from testbed.oddities import made_odd
from testbed.packets import PACKETS, has_gateway, ping_packets, traceroute_packets
from testbed.weather import Weather

Json: TypeAlias = dict[str, Any]
"""One JSON object on its way out."""

_MEASUREMENT_VERSION = "2.6.2"
_SEND_ERROR = "sendto failed: Network is unreachable"
_LOST = {"x": "*"}
_PING_BYTES, _TRACEROUTE_BYTES, _ICMP_ERROR_BYTES = 64, 48, 28
_GAVE_UP_HOP = 255


def results(
    campaign: Campaign, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> list[Json]:
    """The results of N hosts (by number) at their times (seconds since the epoch), in that order, as their firmware writes them."""
    return [written(result) for result in plain_results(campaign, weather, measurement, hosts, at_s)]


def plain_results(
    campaign: Campaign, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> list[Json]:
    """The same, each as today's firmware would write it: all that is known of it, before an older one leaves things out."""
    if measurement.type is ResultType.PING:
        found = _pings(campaign, weather, measurement, hosts, at_s)
        return [as_precise(result) for result in found]
    found = _traceroutes(campaign, weather, measurement, hosts, at_s)
    return made_odd(campaign, measurement, hosts, at_s, found)


def _pings(
    campaign: Campaign, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> list[Json]:
    packets = ping_packets(campaign.internet, weather, measurement, hosts, at_s)
    answered = ~np.isnan(packets.rtt_ms)
    received = answered.sum(axis=1)
    known = np.where(answered, packets.rtt_ms, 0.0)
    total_ms = known[:, 0] + known[:, 1] + known[:, 2]
    rows = zip(
        _envelopes(campaign, measurement, hosts, at_s),
        packets.rtt_ms.tolist(),
        packets.duplicate_ms.tolist(),
        packets.unsent.tolist(),
        packets.ttl.tolist(),
        received.tolist(),
        np.where(received > 0, np.round(total_ms / np.maximum(received, 1), 10), -1).tolist(),
        np.where(received > 0, np.where(answered, packets.rtt_ms, np.inf).min(axis=1), -1).tolist(),
        np.where(received > 0, np.where(answered, packets.rtt_ms, -np.inf).max(axis=1), -1).tolist(),
        strict=True,
    )
    found = []
    for result, rtts, twice, unsent, ttl, count, avg, least, most in rows:
        replies: list[Json] = []
        duplicates = 0
        for number in range(PACKETS):
            if number == unsent:
                replies.append({"error": _SEND_ERROR})
            elif math.isnan(rtts[number]):
                replies.append(_LOST)
            else:
                replies.append({"rtt": rtts[number]})
                if not math.isnan(twice[number]):
                    replies.append({"dup": 1, "rtt": twice[number]})
                    duplicates += 1
        result["result"] = replies
        result["dup"] = duplicates
        result["rcvd"] = count
        result["sent"] = PACKETS if unsent < 0 else PACKETS - 1
        result["size"] = _PING_BYTES
        result["step"] = measurement.interval_s
        if count > 0:
            result["avg"], result["min"], result["max"], result["ttl"] = avg, least, most, ttl
        else:
            result["avg"] = result["min"] = result["max"] = -1
        found.append(result)
    return found


def _traceroutes(
    campaign: Campaign, weather: Weather, measurement: Measurement, hosts: Ints, at_s: Ints
) -> list[Json]:
    internet = campaign.internet
    packets = traceroute_packets(internet, weather, measurement, hosts, at_s)
    routers = packets.paths.routers.tolist()
    lengths = packets.paths.length.tolist()
    addresses = internet.router_v4 if measurement.af == 4 else internet.router_v6
    gateway = has_gateway(internet, measurement.af)[hosts].tolist()
    paris = (at_s // measurement.interval_s % 16).tolist()
    rows = zip(
        _envelopes(campaign, measurement, hosts, at_s),
        hosts.tolist(),
        packets.gateway_ms.tolist(),
        packets.router_ms.tolist(),
        packets.target_ms.tolist(),
        strict=True,
    )
    found = []
    for row, (result, host, home_ms, router_ms, target_ms) in enumerate(rows):
        hops: list[Json] = []
        if gateway[row] == 1:
            hops.append(_hop(1, internet.hosts[host].gateway, home_ms, _ICMP_ERROR_BYTES, 64))
        for column in range(lengths[row] - 1):
            number = len(hops) + 1
            address = addresses[routers[row][column]]
            hops.append(_hop(number, address, router_ms[column], _ICMP_ERROR_BYTES, 256 - number))
        distance = len(hops)
        for times_ms in target_ms:
            number = len(hops) + 1
            hops.append(_hop(number, result["dst_addr"], times_ms, _TRACEROUTE_BYTES, 64 - distance))
            if any(not math.isnan(time_ms) for time_ms in times_ms):
                break
        else:
            hops.append({"hop": _GAVE_UP_HOP, "result": [_LOST] * PACKETS})
        lost = sum(reply is _LOST for hop in hops for reply in hop["result"])
        result["endtime"] = result["timestamp"] + 1 + lost  # a second's wait for each answer that never came
        result["paris_id"] = paris[row]
        result["result"] = hops
        result["size"] = _TRACEROUTE_BYTES
        found.append(result)
    return found


def _hop(number: int, address: str | None, times_ms: list[float], size: int, ttl: int) -> Json:
    replies = [
        _LOST if math.isnan(time_ms) else {"from": address, "ttl": ttl, "size": size, "rtt": time_ms}
        for time_ms in times_ms
    ]
    return {"hop": number, "result": replies}


def _envelopes(campaign: Campaign, measurement: Measurement, hosts: Ints, at_s: Ints) -> Iterable[Json]:
    """What all results have in common, a fresh object each."""
    internet, habits = campaign.internet, campaign.habits
    seed, msm_id, af = internet.seed, measurement.msm_id, measurement.af
    target = internet.hosts[measurement.target].address(af)
    name = measurement.type.value
    for number, timestamp, stored, clock, firmware in zip(
        hosts.tolist(),
        (at_s + habits.skew_s(seed, hosts)).tolist(),
        habits.stored_s(seed, msm_id, hosts, at_s).tolist(),
        habits.clock_age_s(seed, msm_id, hosts, at_s).tolist(),
        habits.firmware(seed, hosts).tolist(),
        strict=True,
    ):
        host = internet.hosts[number]
        public = host.address(af)
        yield {
            "fw": firmware,
            "mver": _MEASUREMENT_VERSION,
            "lts": clock,
            "dst_name": target,
            "dst_addr": target,
            "src_addr": host.private_address if af == 4 and host.private_address is not None else public,
            "proto": "ICMP",
            "af": af,
            "msm_id": msm_id,
            "prb_id": host.probe_id,
            "timestamp": timestamp,
            "msm_name": name.capitalize(),
            "from": public,
            "type": name,
            "group_id": measurement.group_id,
            "stored_timestamp": stored,
            "synthetic": True,
        }


def probe(campaign: Campaign, host: Host) -> Json:
    """A probe, or an anchor as a probe."""
    since = int(campaign.window.start.timestamp()) - 30 * 86_400
    tags = ["synthetic", host.line_type.value, *(["system-anchor"] if host.anchor_id is not None else [])]
    tags += ["system-ipv4-works", *(["system-ipv6-works"] if host.address_v6 is not None else [])]
    return {
        "address_v4": host.address_v4,
        "address_v6": host.address_v6,
        "asn_v4": host.asn,
        "asn_v6": host.asn if host.address_v6 is not None else None,
        "country_code": host.city.country,
        "description": host.name,
        "firmware_version": int(campaign.habits.firmware(campaign.internet.seed, np.array([host.number]))[0]),
        "first_connected": since,
        "geometry": _point(host),
        "id": host.probe_id,
        "is_anchor": host.anchor_id is not None,
        "is_public": True,
        "last_connected": int(campaign.window.end.timestamp()),
        "prefix_v4": host.prefix_v4,
        "prefix_v6": host.prefix_v6,
        "status": {"id": 1, "name": "Connected", "since": _iso(since)},
        "status_since": since,
        "synthetic": True,
        "tags": [{"name": slug, "slug": slug} for slug in tags],
        "total_uptime": int(campaign.window.end.timestamp()) - since,
        "type": "Probe",
    }


def anchor(campaign: Campaign, host: Host) -> Json:
    """An anchor as a target."""
    system = campaign.internet.systems[host.system]
    return {
        "id": host.anchor_id,
        "type": "Anchor",
        "fqdn": host.name,
        "probe": host.probe_id,
        "is_ipv4_only": host.address_v6 is None,
        "ip_v4": host.address_v4,
        "as_v4": host.asn,
        "ip_v4_gateway": None,
        "ip_v4_netmask": None,
        "ip_v6": host.address_v6,
        "as_v6": host.asn if host.address_v6 is not None else None,
        "ip_v6_gateway": None,
        "ip_v6_prefix": None,
        "city": host.city.name,
        "country": host.city.country,
        "company": system.name,
        "nic_handle": "",
        "geometry": _point(host),
        "tlsa_record": "",
        "is_disabled": False,
        "date_live": _iso(int(campaign.window.start.timestamp()) - 30 * 86_400),
        "hardware_version": 99,
        "synthetic": True,
    }


def measurement(campaign: Campaign, of: Measurement, address: str) -> Json:
    """A measurement's definition; `address` is the server's, for the links in it."""
    target = campaign.internet.hosts[of.target]
    start_s = int(campaign.window.start.timestamp())
    pinging = of.type is ResultType.PING
    api = f"https://{address}/api/v2/measurements"
    own: Json = (
        {"packet_interval": 1000}
        if pinging
        else {"first_hop": 1, "max_hops": 32, "paris": 16, "protocol": "ICMP"}
    )
    return {
        "af": of.af,
        "creation_time": start_s,
        "description": f"Synthetic Mesh Measurement: {of.type.value.capitalize()} IPv{of.af} for anchor {target.name}",
        "estimated_results_per_day": len(of.participants) * 86_400 // of.interval_s,
        "group": f"{api}/groups/{of.group_id}/",
        "group_id": of.group_id,
        "id": of.msm_id,
        "interval": of.interval_s,
        "is_all_scheduled": True,
        "is_oneoff": False,
        "is_public": True,
        "packets": PACKETS,
        "participant_count": len(of.participants),
        "probes_requested": len(of.participants),
        "probes_scheduled": len(of.participants),
        "resolve_on_probe": False,
        "resolved_ips": [target.address(of.af)],
        "result": f"{api}/{of.msm_id}/results/",
        "size": _PING_BYTES if pinging else _TRACEROUTE_BYTES,
        "spread": None,
        "start_time": start_s,
        "status": {"id": 2, "name": "Ongoing", "when": None},
        "stop_time": None,
        "synthetic": True,
        "tags": ["anchoring", "mesh", "synthetic", str(target.probe_id)],
        "target": target.name,
        "target_asn": target.asn,
        "target_ip": target.address(of.af),
        "target_prefix": target.prefix_v4 if of.af == 4 else target.prefix_v6,
        "type": of.type.value,
        **own,
    }


def _point(host: Host) -> Json:
    return {"type": "Point", "coordinates": [host.longitude, host.latitude]}


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
