"""The server: the API over https, and the stream over a websocket, on loopback, in background threads."""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from domain.errors import SourceError
from domain.observation import ResultType
from domain.window import Window
from testbed.api import MOST_PAGE_SIZE, Answer, Api, place_of, refusal
from testbed.campaign import NO_HABITS, PING_INTERVAL, TRACEROUTE_INTERVAL, Campaign
from testbed.certificate import Certificate, make_certificates
from testbed.events import Event, schedule
from testbed.expected import Row, expected_results
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.habits import Habits
from testbed.internet import SyntheticInternet
from testbed.stream import Streams
from testbed.truth import Truth
from testbed.weather import Weather

_LOG = logging.getLogger(__name__)
_IDLE_S = 60.0
_STATUS = {
    FaultKind.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    FaultKind.ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    FaultKind.BAD_GATEWAY: HTTPStatus.BAD_GATEWAY,
}


class TestbedServer:
    """A synthetic RIPE Atlas on 127.0.0.1; a context manager.

    Args:
        internet: what is measured.
        start, end: when, `[start, end)`, aware UTC. No result lies outside.
        events: what happens; by default the two of `testbed.events.schedule`.
        ping_interval, traceroute_interval: of the measurements.
        port: 0 takes a free one.
        habits: what probes and results do that they should not.
        now: the testbed's clock: a result is there from when it is stored, and the stream sends it then. None: everything is
            there, and there is no stream.
        faults: what goes wrong with which request.
        certificate: what kind the server presents.
        most_page_size: objects on a page of a listing, at most.

    Raises:
        InputError: when the window is naive or empty, or an interval too short.
        DataError: when the default events find no links.
        SourceError: on entering, when it cannot listen; when its address is asked for while it is not running.

    Attributes:
        truth: what is true of it, to be asked by tests.
        campaign: its measurements.
        faults: what goes wrong, and what did.
    """

    __test__ = False  # its name begins with Test, and it is none

    def __init__(
        self,
        internet: SyntheticInternet,
        start: datetime,
        end: datetime,
        *,
        events: tuple[Event, ...] | None = None,
        ping_interval: timedelta = PING_INTERVAL,
        traceroute_interval: timedelta = TRACEROUTE_INTERVAL,
        port: int = 0,
        habits: Habits = NO_HABITS,
        now: Callable[[], datetime] | None = None,
        faults: Faults | None = None,
        certificate: Certificate = Certificate.GOOD,
        most_page_size: int = MOST_PAGE_SIZE,
    ) -> None:
        window = Window(start=start, end=end)
        self.campaign = Campaign.plan(internet, window, ping_interval, traceroute_interval, habits)
        self.truth = Truth(internet, schedule(internet, window) if events is None else events)
        self.faults = Faults.none() if faults is None else faults
        self._weather = Weather(internet, self.truth.events)
        self._api = Api(self.campaign, self._weather, now, most_page_size)
        self._now = now
        self._kind = certificate
        self._port = port
        self._running: tuple[_Listener, threading.Thread, tempfile.TemporaryDirectory[str]] | None = None

    @property
    def address(self) -> str:
        """Host and port, as cousteau's `server=` takes them."""
        return f"127.0.0.1:{self._started()[0].server_address[1]}"

    @property
    def certificate(self) -> Path:
        """PEM of the authority to trust, for `verify=`."""
        return Path(self._started()[2].name) / "authority.pem"

    def expected(
        self, kind: ResultType, start: datetime, stop: datetime, stored_by: datetime | None = None
    ) -> list[Row]:
        """What a faultless reader has read of the results of a type that began in `[start, stop)` by their probes' clocks.

        Args:
            kind: of the results.
            start: aware time.
            stop: aware time.
            stored_by: when it read, at the latest; None is now.
        """
        if stored_by is None:
            stored_by = datetime.max.replace(tzinfo=UTC) if self._now is None else self._now()
        return expected_results(self.campaign, self._weather, kind, start, stop, stored_by)

    def drop_streams(self) -> None:
        """Break every stream that is open now; what is stored before it is open again is not sent."""
        streams = self._started()[0].streams
        if streams is not None:
            streams.drop()

    def _started(self) -> tuple[_Listener, threading.Thread, tempfile.TemporaryDirectory[str]]:
        if self._running is None:
            raise SourceError("the testbed server is not running", next_step="use it in a with statement")
        return self._running

    def __enter__(self) -> TestbedServer:
        folder = tempfile.TemporaryDirectory(prefix="qoetwin-testbed-")
        try:
            _, presented = make_certificates(Path(folder.name), self._kind)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(presented)
            streams = None if self._now is None else Streams(self.campaign, self._api, self._now, self.faults)
            listener = _Listener(("127.0.0.1", self._port), context, self._api, streams, self.faults)
        except OSError as error:
            folder.cleanup()
            raise SourceError(
                "the testbed server cannot listen",
                where=f"127.0.0.1:{self._port}",
                found=str(error),
                expected="a free port",
                next_step="use port 0, which takes one",
            ) from error
        thread = threading.Thread(target=listener.serve_forever, name="testbed", daemon=True, args=(0.05,))
        thread.start()
        self._running = (listener, thread, folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        listener, thread, folder = self._started()
        self._running = None
        listener.shutdown()
        thread.join()
        listener.closing.set()
        if listener.streams is not None:
            listener.streams.close()
        listener.hang_up()
        listener.server_close()
        folder.cleanup()


class _Listener(ThreadingHTTPServer):
    """Accepts TLS connections; each is served by a thread of its own, which also shakes hands."""

    daemon_threads = False  # so that closing waits for them
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext,
        api: Api,
        streams: Streams | None,
        faults: Faults,
    ) -> None:
        self.api = api
        self.streams = streams
        self.faults = faults
        self.closing = threading.Event()
        self._context = context
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, peer = super().get_request()
        connection = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(connection)
        return connection, peer

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep alive."""
        with self._lock:
            for connection in self._open:
                try:
                    # The plain shutdown: that of SSLSocket would take the TLS state from under its thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
                except OSError:
                    _LOG.debug("a connection was already gone", exc_info=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that distrusts the certificate, or hangs up, is its own affair; anything else is ours.
        hung_up = isinstance(sys.exception(), OSError)
        _LOG.log(
            logging.DEBUG if hung_up else logging.ERROR,
            "the connection from %s, %s, broke",
            client_address,
            request,
            exc_info=True,
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "qoetwin-testbed"
    sys_version = ""
    timeout = _IDLE_S
    wbufsize = 1 << 16  # header and body in one piece, else Nagle's algorithm costs 40 ms an answer
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.request.do_handshake()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        streaming = url.path.rstrip("/") == "/stream" and self.server.streams is not None
        fault = self.server.faults.next(Place.CONNECTION if streaming else place_of(url.path))
        status = None if fault is None else _STATUS.get(fault.kind)
        if fault is not None and status is not None:
            self._send(refusal(status, f"the testbed was told to: {fault.kind}"), fault)
        elif fault is not None and fault.kind is FaultKind.HANG:
            self.close_connection = True
            self.server.closing.wait(fault.seconds)
        elif streaming and self.server.streams is not None:
            self.close_connection = True
            self.server.streams.serve(self.connection, self.path, dict(self.headers.items()))
        else:
            host, port = self.server.server_address[:2]
            address = self.headers.get("Host", f"{host!s}:{port}")
            self._send(self.server.api.answer(url.path, url.query, address, fault), fault)

    def _refuse(self) -> None:
        self.close_connection = True  # the body of the request is not read
        self._send(refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.command}: the testbed can only be read"))

    do_POST = do_PUT = do_PATCH = do_DELETE = _refuse  # noqa: N815

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        broken = fault is not None and fault.kind in (FaultKind.CUT, FaultKind.DRIP, FaultKind.WRONG_JSON)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        if fault is not None and fault.retry_after is not None:
            self.send_header("Retry-After", fault.retry_after)
        self.close_connection |= broken
        if self.close_connection:
            self.send_header("Connection", "close")
        if isinstance(answer.body, bytes) and not broken:
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        pieces = iter([answer.body]) if isinstance(answer.body, bytes) else answer.body
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces if fault is None or not broken else self._broken(b"".join(pieces), fault):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if fault is None or fault.kind is not FaultKind.CUT:
            self.wfile.write(b"0\r\n\r\n")

    def _broken(self, body: bytes, fault: Fault) -> Iterator[bytes]:
        """The body, or as much of it as the fault lets through; nothing of it is empty."""
        if fault.kind is FaultKind.DRIP:
            for letter in body:
                yield bytes([letter])
                self.wfile.flush()
                if self.server.closing.wait(fault.seconds):
                    return
        else:
            yield body[: max(1, len(body) // 2)]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        _LOG.debug(format, *args)
