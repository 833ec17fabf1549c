"""The API: what is answered to which path and query. Knows nothing of sockets.

A subset of the RIPE Atlas API v2 (https://atlas.ripe.net/docs/apis/rest-api-reference/): measurements, results, latest
results, probes, anchors; reading only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from urllib.parse import parse_qsl, urlencode

import numpy as np
import orjson

from domain.errors import InputError, UnknownNameError
from domain.observation import ResultType
from testbed import atlas_json
from testbed.atlas_json import Json
from testbed.campaign import Campaign, Measurement
from testbed.chance import Ints
from testbed.faults import Fault, FaultKind, Place
from testbed.internet import FIRST_ANCHOR_ID
from testbed.weather import Weather

_ROOT = "/api/v2/"
_PAGE_SIZE = 100
MOST_PAGE_SIZE = 500
"""Atlas puts no more objects on a page, whatever it is asked for."""

_AT_ONCE = {ResultType.PING: 4_000, ResultType.TRACEROUTE: 1_000}
_CODES = {HTTPStatus.BAD_REQUEST: 102, HTTPStatus.NOT_FOUND: 104, HTTPStatus.METHOD_NOT_ALLOWED: 105}
_EVERYWHERE = frozenset({"format", "key"})

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer; a long body comes in pieces, each made only when the one before was sent."""

    status: HTTPStatus
    content_type: str
    body: bytes | Iterator[bytes]


def refusal(status: HTTPStatus, detail: str) -> Answer:
    """An error as Atlas reports it."""
    error = {
        "status": status.value,
        "code": _CODES.get(status, 100),
        "title": status.phrase,
        "detail": detail,
    }
    return _json({"error": error}, status)


def place_of(path: str) -> Place:
    """Which place of a plan of faults a path belongs to."""
    last = path.rstrip("/").rpartition("/")[2]
    return {"results": Place.RESULTS, "latest": Place.LATEST}.get(last, Place.LISTING)


class Api:
    """Answers for one campaign.

    Args:
        campaign: what is measured.
        weather: of its Internet.
        now: the time: what is stored later is not there yet. None: all is there.
        most_page_size: objects on a page of a listing, at most.
    """

    def __init__(
        self,
        campaign: Campaign,
        weather: Weather,
        now: Callable[[], datetime] | None = None,
        most_page_size: int = MOST_PAGE_SIZE,
    ) -> None:
        self._most_page_size = most_page_size
        self._campaign = campaign
        self._weather = weather
        self._now = now

    def answer(self, path: str, query: str, address: str, fault: Fault | None = None) -> Answer:
        """Answer a GET.

        Args:
            path: of the request, with or without a slash at the end.
            query: what follows the question mark.
            address: host and port that the client used, for links to further pages.
            fault: what is wrong with the content, of the kinds that are.
        """
        try:
            answer = self._routed(
                path.rstrip("/") + "/", dict(parse_qsl(query, keep_blank_values=True)), address
            )
            if fault is not None and fault.kind is FaultKind.PAGE_TWICE:
                return self._page_twice(answer, path, query, address)
            if fault is not None and fault.kind in (FaultKind.SHUFFLED, FaultKind.TWICE):
                return _disordered(answer, fault.kind)
            return answer
        except UnknownNameError as error:
            return refusal(HTTPStatus.NOT_FOUND, error.line())
        except InputError as error:
            return refusal(HTTPStatus.BAD_REQUEST, error.line())

    def _page_twice(self, answer: Answer, path: str, query: str, address: str) -> Answer:
        """A page that begins with the objects of the page before it, as happens when the listing grew meanwhile."""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        page, number = orjson.loads(_whole_body(answer)), int(asked.get("page", "1"))
        if number == 1 or "results" not in page:
            return _json(page, answer.status)
        before = self.answer(path, urlencode({**asked, "page": number - 1}), address)
        page["results"] = orjson.loads(_whole_body(before))["results"] + page["results"]
        return _json(page, answer.status)

    def stored_between(
        self, measurement: Measurement, probe_ids: frozenset[int] | None, after_s: int, until_s: int
    ) -> list[Json]:
        """Results of a measurement that were stored in `(after_s, until_s]`, in order of that: what a stream sends."""
        habits, seed = self._campaign.habits, self._campaign.internet.seed
        hosts = self._taking_part(measurement, probe_ids)
        found: list[tuple[int, Json]] = []
        for who, at_s in self._campaign.moments(
            measurement,
            hosts,
            after_s - habits.longest_until_stored_s,
            until_s,
            _AT_ONCE[measurement.type],
        ):
            stored_s = habits.stored_s(seed, measurement.msm_id, who, at_s)
            due = (stored_s > after_s) & (stored_s <= until_s)
            results = atlas_json.results(self._campaign, self._weather, measurement, who[due], at_s[due])
            found += zip(stored_s[due].tolist(), results, strict=True)
        return [result for _, result in sorted(found, key=lambda pair: pair[0])]

    def _routed(self, path: str, query: Query, address: str) -> Answer:
        parts = path.removeprefix(_ROOT).strip("/").split("/") if path.startswith(_ROOT) else []
        link = f"https://{address}{path}"
        match parts:
            case ["measurements"]:
                return self._measurements(query, link, address)
            case ["measurements", number]:
                _check(query)
                found = self._campaign.measurement(_identifier(number))
                return _json(atlas_json.measurement(self._campaign, found, address))
            case ["measurements", number, "results"]:
                return self._results(self._campaign.measurement(_identifier(number)), query)
            case ["measurements", number, "latest"]:
                return self._latest(self._campaign.measurement(_identifier(number)), query)
            case ["probes"]:
                return self._probes(query, link)
            case ["probes", number]:
                _check(query)
                return _json(
                    atlas_json.probe(self._campaign, self._campaign.internet.host(_identifier(number)))
                )
            case ["anchors"]:
                return self._anchors(query, link)
            case ["anchors", number]:
                _check(query)
                place = _identifier(number) - FIRST_ANCHOR_ID
                anchors = self._campaign.internet.anchors
                if not 0 <= place < len(anchors):
                    raise UnknownNameError("no such synthetic anchor", found=number)
                return _json(atlas_json.anchor(self._campaign, anchors[place]))
            case _:
                raise UnknownNameError("nothing is served here", where=path)

    def _measurements(self, query: Query, link: str, address: str) -> Answer:
        _check(
            query, "type", "af", "id__in", "tags", "target", "target_ip", "status", "current_probes",
            "page", "page_size",
        )  # fmt: skip
        kind = (
            ResultType(_one_of(query, "type", [kind.value for kind in ResultType]))
            if "type" in query
            else None
        )
        af = int(_one_of(query, "af", ["4", "6"])) if "af" in query else None
        ids, probes, status = (
            _numbers(query, "id__in"), _numbers(query, "current_probes"), _numbers(query, "status")
        )  # fmt: skip
        hosts = self._campaign.internet.hosts
        found = [
            atlas_json.measurement(self._campaign, measurement, address)
            for measurement in self._campaign.measurements
            if (kind is None or measurement.type is kind)
            and (af is None or measurement.af == af)
            and (ids is None or measurement.msm_id in ids)
            and (
                probes is None or any(hosts[number].probe_id in probes for number in measurement.participants)
            )
        ]
        for name in ("target", "target_ip"):
            if name in query:
                found = [measurement for measurement in found if measurement[name] == query[name]]
        if status is not None:
            found = [measurement for measurement in found if measurement["status"]["id"] in status]
        if "tags" in query:
            wanted = set(query["tags"].split(","))
            found = [measurement for measurement in found if wanted <= set(measurement["tags"])]
        return _page(found, query, link, self._most_page_size)

    def _probes(self, query: Query, link: str) -> Answer:
        _check(query, "id__in", "country_code", "asn_v4", "is_anchor", "page", "page_size")
        ids, asns = _numbers(query, "id__in"), _numbers(query, "asn_v4")
        anchors = _one_of(query, "is_anchor", ["true", "false"]) == "true" if "is_anchor" in query else None
        found = [
            atlas_json.probe(self._campaign, host)
            for host in self._campaign.internet.hosts
            if (ids is None or host.probe_id in ids)
            and (asns is None or host.asn in asns)
            and (anchors is None or (host.anchor_id is not None) is anchors)
            and ("country_code" not in query or host.city.country == query["country_code"].upper())
        ]
        return _page(found, query, link, self._most_page_size)

    def _anchors(self, query: Query, link: str) -> Answer:
        _check(query, "country", "page", "page_size")
        found = [
            atlas_json.anchor(self._campaign, host)
            for host in self._campaign.internet.anchors
            if "country" not in query or host.city.country == query["country"].upper()
        ]
        return _page(found, query, link, self._most_page_size)

    def _results(self, measurement: Measurement, query: Query) -> Answer:
        _check(query, "start", "stop", "probe_ids")
        bounds_s = tuple(_number(query, name) if name in query else None for name in ("start", "stop"))
        hosts = self._taking_part(measurement, _numbers(query, "probe_ids"))
        pieces = (
            atlas_json.results(self._campaign, self._weather, measurement, who, at_s)
            for who, at_s in self._to_be_had(measurement, hosts, *bounds_s)
        )
        return _list(pieces, query)

    def _latest(self, measurement: Measurement, query: Query) -> Answer:
        _check(query, "probe_ids", "lookback_days")
        habits = self._campaign.habits
        end_s = int(self._campaign.window.end.timestamp())
        if self._now is not None:
            end_s = min(end_s, int(self._now().timestamp()))
        back_s = 2 * measurement.interval_s + habits.longest_until_stored_s + habits.most_skew_s
        last: dict[int, int] = {}
        hosts = self._taking_part(measurement, _numbers(query, "probe_ids"))
        for who, at_s in self._to_be_had(measurement, hosts, end_s - back_s, None):
            last.update(zip(who.tolist(), at_s.tolist(), strict=True))
        numbers = np.array(sorted(last), dtype=np.int64)
        times = np.array([last[number] for number in sorted(last)], dtype=np.int64)
        found = atlas_json.results(self._campaign, self._weather, measurement, numbers, times)
        return _list(iter([found] if found else []), query)

    def _to_be_had(
        self, measurement: Measurement, hosts: Ints, start_s: int | None, stop_s: int | None
    ) -> Iterator[tuple[Ints, Ints]]:
        """Which hosts measured when, of what is stored by now and began in `[start_s, stop_s]` by the hosts' own clocks."""
        habits, seed, window = self._campaign.habits, self._campaign.internet.seed, self._campaign.window
        first_s, last_s = int(window.start.timestamp()), int(np.ceil(window.end.timestamp())) - 1
        now_s = None if self._now is None else int(self._now().timestamp())
        # Clocks are wrong by so much at most; who measured when is told by the right one.
        skew_s = habits.most_skew_s
        begin_s = first_s if start_s is None else max(first_s, start_s - skew_s)
        end_s = last_s if stop_s is None else min(last_s, stop_s + skew_s)
        if now_s is not None:
            end_s = min(end_s, now_s)
        for who, at_s in self._campaign.moments(
            measurement, hosts, begin_s, end_s, _AT_ONCE[measurement.type]
        ):
            said_s = at_s + habits.skew_s(seed, who)
            wanted = np.ones(who.shape, dtype=np.bool_)
            if start_s is not None:
                wanted &= said_s >= start_s
            if stop_s is not None:
                wanted &= said_s <= stop_s
            if now_s is not None:
                wanted &= habits.stored_s(seed, measurement.msm_id, who, at_s) <= now_s
            if wanted.any():
                yield who[wanted], at_s[wanted]

    def _taking_part(self, measurement: Measurement, probe_ids: frozenset[int] | None) -> Ints:
        hosts = self._campaign.internet.hosts
        asked = [
            number
            for number in measurement.participants
            if probe_ids is None or hosts[number].probe_id in probe_ids
        ]
        return np.array(asked, dtype=np.int64)


def _whole_body(answer: Answer) -> bytes:
    return answer.body if isinstance(answer.body, bytes) else b"".join(answer.body)


def _disordered(answer: Answer, kind: FaultKind) -> Answer:
    """An array, its elements in no order or every third of them twice; anything else as it is."""
    if answer.status is not HTTPStatus.OK:
        return answer
    found = orjson.loads(_whole_body(answer))
    if kind is FaultKind.TWICE:
        found = [result for number, result in enumerate(found) for _ in range(1 + (number % 3 == 0))]
    else:
        random.Random(len(found)).shuffle(found)  # noqa: S311 # no secret
    return Answer(status=answer.status, content_type=answer.content_type, body=orjson.dumps(found))


def _check(query: Query, *allowed: str) -> None:
    unknown = sorted(set(query) - _EVERYWHERE - set(allowed))
    if unknown:
        raise InputError(
            "a filter that is not served here",
            found=", ".join(unknown),
            expected=", ".join((*allowed, *sorted(_EVERYWHERE))),
        )
    if "format" in query:
        _one_of(query, "format", ["json", "txt"])


def _identifier(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UnknownNameError("not an id", found=repr(text), expected="a whole number")
    return int(text)


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InputError("not a whole number", where=name, found=repr(text))
    return int(text)


def _number(query: Query, name: str) -> int:
    return _whole(query[name], name)


def _numbers(query: Query, name: str) -> frozenset[int] | None:
    if name not in query:
        return None
    return frozenset(_whole(part.strip(), name) for part in query[name].split(","))


def _one_of(query: Query, name: str, values: list[str]) -> str:
    value = query[name].lower()
    if value not in values:
        raise InputError(
            "not a value of this filter", where=name, found=repr(query[name]), expected=" or ".join(values)
        )
    return value


def _page(found: list[Json], query: Query, link: str, most: int) -> Answer:
    page = _number(query, "page") if "page" in query else 1
    size = min(_number(query, "page_size") if "page_size" in query else _PAGE_SIZE, most)
    if size < 1:
        raise InputError("an empty page", where="page_size", found="0", expected=f"1 to {most}")
    pages = max(1, -(-len(found) // size))
    if not 1 <= page <= pages:
        raise UnknownNameError("no such page", found=str(page), expected=f"1 to {pages}")

    def linked(number: int) -> str | None:
        return f"{link}?{urlencode({**query, 'page': number})}" if 1 <= number <= pages else None

    return _json(
        {
            "count": len(found),
            "next": linked(page + 1),
            "previous": linked(page - 1),
            "results": found[(page - 1) * size : page * size],
        }
    )


def _json(content: Json, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(status=status, content_type="application/json", body=orjson.dumps(content))


def _list(pieces: Iterator[list[Json]], query: Query) -> Answer:
    """Results as a JSON array, or one a line."""

    def lines() -> Iterator[bytes]:
        for piece in pieces:
            yield b"".join(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE) for result in piece)

    def array() -> Iterator[bytes]:
        before = b"["
        for piece in pieces:
            yield before + b",".join(orjson.dumps(result) for result in piece)
            before = b","
        yield b"[]" if before == b"[" else b"]"

    if query.get("format", "json").lower() == "txt":
        return Answer(status=HTTPStatus.OK, content_type="text/plain; charset=utf-8", body=lines())
    return Answer(status=HTTPStatus.OK, content_type="application/json", body=array())
