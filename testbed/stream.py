"""The stream: results as they are stored, over a websocket, as https://atlas.ripe.net/docs/apis/streaming-api describes it.

A message is a JSON array of a name and a payload. A client sends `atlas_subscribe` with a measurement (`msm`), perhaps a probe
(`prb`), is told `atlas_subscribed`, and gets an `atlas_result` for each result that is stored from then on, by the testbed's clock.
What is stored while nobody is connected is not sent later: that is a gap.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from domain.errors import UnknownNameError
from testbed.api import Api
from testbed.campaign import Campaign
from testbed.faults import FaultKind, Faults, Place

_TICK_S = 0.02
_MOST_BYTES = 1 << 16


class Streams:
    """All streams of a testbed.

    Args:
        campaign: what is measured.
        api: knows the results.
        now: the testbed's clock.
        faults: what goes wrong.
    """

    def __init__(self, campaign: Campaign, api: Api, now: Callable[[], datetime], faults: Faults) -> None:
        self._campaign = campaign
        self._api = api
        self._now = now
        self._faults = faults
        self._closing = threading.Event()
        self._dropped = 0  # times that all connections were dropped

    def drop(self) -> None:
        """Break every connection that is open now."""
        self._dropped += 1

    def close(self) -> None:
        """End every connection, for good."""
        self._closing.set()

    def serve(self, connection: socket.socket, path: str, headers: Mapping[str, str]) -> None:
        """Speak with one client until it, or the testbed, has enough. The request for it has been read."""
        protocol = ServerProtocol(max_size=_MOST_BYTES)
        protocol.receive_data(Request(path, Headers(headers)).serialize())
        (request,) = protocol.events_received()
        if not isinstance(request, Request):
            raise AssertionError("the request was a request")
        protocol.send_response(protocol.accept(request))
        _flush(protocol, connection)
        connection.settimeout(_TICK_S)
        after_s: dict[tuple[int, int | None], int] = {}
        dropped = self._dropped
        while protocol.state is State.OPEN and not self._closing.is_set() and dropped == self._dropped:
            try:
                data = connection.recv(_MOST_BYTES)
            except TimeoutError:
                pass
            else:
                if not data:
                    return
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        protocol.send_text(orjson.dumps(self._heard(event.data, after_s)))
            _flush(protocol, connection)
            if protocol.state is State.OPEN and not self._told(protocol, connection, after_s):
                return

    def _heard(
        self, message: bytes | bytearray | memoryview, after_s: dict[tuple[int, int | None], int]
    ) -> list[object]:
        """What is answered to a message; subscriptions begin now."""
        try:
            name, asked = orjson.loads(message)
            msm_id, probe_id = asked["msm"], asked.get("prb")
            if name not in ("atlas_subscribe", "atlas_unsubscribe"):
                raise ValueError(name)
            self._campaign.measurement(msm_id)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return ["atlas_error", {"message": "not a message that is understood", "detail": str(error)}]
        except UnknownNameError as error:
            return ["atlas_error", {"message": error.line()}]
        if name == "atlas_unsubscribe":
            after_s.pop((msm_id, probe_id), None)
            return ["atlas_unsubscribed", asked]
        after_s[msm_id, probe_id] = int(self._now().timestamp())
        return ["atlas_subscribed", asked]

    def _told(
        self,
        protocol: ServerProtocol,
        connection: socket.socket,
        after_s: dict[tuple[int, int | None], int],
    ) -> bool:
        """Send what was stored since the last time; False when the connection is to break."""
        now_s = int(self._now().timestamp())
        for result in list(self._due(after_s, now_s)):
            fault = self._faults.next(Place.MESSAGE)
            if fault is not None and fault.kind is FaultKind.DROP:
                return False
            if fault is not None and fault.kind is FaultKind.HUSH:
                self._closing.wait(fault.seconds)
                for subscription in after_s:
                    after_s[subscription] = int(self._now().timestamp())
                return True
            if fault is not None:
                protocol.send_text(b'["atlas_result", {"msm_id": 1')
            protocol.send_text(orjson.dumps(["atlas_result", result]))
            _flush(protocol, connection)
        return True

    def _due(self, after_s: dict[tuple[int, int | None], int], now_s: int) -> Iterator[dict[str, Any]]:
        for (msm_id, probe_id), sent_s in after_s.items():
            if now_s > sent_s:
                after_s[msm_id, probe_id] = now_s
                measurement = self._campaign.measurement(msm_id)
                probe_ids = None if probe_id is None else frozenset({probe_id})
                yield from self._api.stored_between(measurement, probe_ids, sent_s, now_s)


def _flush(protocol: ServerProtocol, connection: socket.socket) -> None:
    """Send what the protocol has to send; the connection waits for as long as it takes."""
    patience_s = connection.gettimeout()
    connection.settimeout(None)
    for data in protocol.data_to_send():
        if data:
            connection.sendall(data)
    connection.settimeout(patience_s)
