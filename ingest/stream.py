"""The RIPE Atlas stream, through cousteau's class: results as they are stored.

cousteau's `AtlasStream` is subclassed where it falls short: it connects for ever and without our certificates, waits for ever, ends
without a word at the first socket error, and makes Python objects of what it hears. https://atlas.ripe.net/docs/apis/streaming-api

A stream forgets: what is stored while it is down is never sent. Every such gap is noted and asked of the API, some of it twice
rather than none of it; the lake knows what it has.
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import websocket
from ripe.atlas.cousteau import AtlasStream as CousteauStream
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from domain.errors import InputError, SourceError, UnreachableError, UntrustedError
from domain.progress import Report
from ingest.atlas import AtlasSource, check_server, elements
from ingest.batch import Batch, Parsed, bounds_of
from ingest.json_array import ArraySplitter
from ingest.parse import parse_batch

_LOG = logging.getLogger(__name__)

_PATH = "/stream/?client=qoetwin"
_LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span in which results may have been stored that the stream did not bring.

    Attributes:
        start, end: of storing, aware.
        reason: why, in words.
    """

    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How a stream is listened to.

    Attributes:
        server: host, or host:port; always by TLS.
        batch_records: results that are given at once, at most.
        batch_s: how long the first of them waits for others, at most.
        most_waiting: results that wait for a slow reader, at most; what comes then is a gap.
        silence_s: how long nothing may be heard before the connection counts as dead; half of it before it is asked (a ping).
        attempts: connections in a row that failed, or broke within `silence_s`, after which listening fails.
        first_wait_s: wait before the second attempt; it doubles each time, up to a minute, with jitter.
        lateness: how much later than it began a result may be stored and still be found when a gap is filled.
        settling: how long after a gap the API is trusted to have everything that was stored in it.

    Raises:
        InputError: when the server or a bound is none.
    """

    server: str = "atlas-stream.ripe.net"
    batch_records: int = 2_000
    batch_s: float = 5.0
    most_waiting: int = 20_000
    silence_s: float = 60.0
    attempts: int = 20
    first_wait_s: float = 1.0
    lateness: timedelta = timedelta(minutes=15)
    settling: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        check_server(self.server)
        for name, value, least in (
            ("batch_records", self.batch_records, 1),
            ("batch_s", self.batch_s, 0.0),
            ("most_waiting", self.most_waiting, 1),
            ("silence_s", self.silence_s, 1e-3),
            ("attempts", self.attempts, 1),
            ("first_wait_s", self.first_wait_s, 0.0),
            ("lateness", self.lateness.total_seconds(), 0.0),
            ("settling", self.settling.total_seconds(), 0.0),
        ):
            if not value >= least:
                raise InputError(
                    "a bound that is none", where=name, found=str(value), expected=f"at least {least:g}"
                )


def _now() -> datetime:
    return datetime.now(UTC)


class AtlasStreamed:
    """Results of measurements as they are stored, as a source; it is read once.

    Args:
        source: the Atlas whose API fills the gaps, and whose certificates the stream is checked by.
        measurements: their ids.
        probes: only these probes; empty means all.
        lasting: how long to listen, by `now`; None: until `stop`.
        stop: ends it soon: what was heard is given, gaps that are left are failures.
        since: what was stored from then on until the stream began is asked of the API too; `heard_until` of the run before.
        settings: how it is listened to.
        now: the time.

    Raises:
        InputError: when there is nothing to listen to, or no end would ever come.

    Attributes:
        failures: subscriptions that were refused, measurements whose gaps the API refuses to fill, and gaps that were not filled.
        gaps: all gaps that there were, filled or not; what was on its way when time was over is the last of them.
        heard_until: all that was stored until then was given; None before anything is known.
    """

    def __init__(
        self,
        source: AtlasSource,
        measurements: Sequence[int],
        probes: Sequence[int] = (),
        *,
        lasting: timedelta | None = None,
        stop: threading.Event | None = None,
        since: datetime | None = None,
        settings: StreamSettings | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        if not measurements:
            raise InputError("no measurement to listen to", expected="at least one id")
        if lasting is None and stop is None:
            raise InputError("a stream without an end", expected="how long it lasts, or what stops it")
        self.failures: list[InputError] = []
        self.gaps: list[Gap] = []
        self.heard_until: datetime | None = None
        self._source = source
        self._measurements = measurements
        self._probes = probes
        self._lasting = lasting
        self._stop = threading.Event() if stop is None else stop
        self._since = since
        self._settings = StreamSettings() if settings is None else settings
        self._now = now

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give the results, parsed, as they come; what fills a gap comes when the gap is over.

        Raises:
            SourceError: when the stream cannot be reached any more; what was given before is good, and gaps are in `failures`.
        """
        begun = self._now()
        listener = _Listener(self._source, self._settings, self._subscriptions(), self._now, self._since)
        listener.start()
        position = 0
        pending: list[Gap] = []
        try:
            while True:
                records, over = self._heard(listener, begun)
                if records:
                    yield parse_batch(self._batch(records, position))
                    position += len(records)
                    report("listening: results heard", position, None)
                pending += self._noted(listener)
                due = [gap for gap in pending if self._now() >= gap.end + self._settings.settling]
                pending = [gap for gap in pending if gap not in due]
                for gap in self._joined(due):
                    yield from self._filled(gap, pending)
                if over:
                    break
            listener.end(None if self._stop.is_set() else "what was on its way when time was over")
            yield from self._last(listener, position)
            pending += self._noted(listener)
            if listener.failure is not None:
                raise listener.failure
            if pending and not self._stop.is_set():
                report("waiting until Atlas has stored what was on its way, to ask for it", 0, None)
            yield from self._settled(pending)
        finally:
            listener.end(None)
            self.heard_until = min([listener.sure_until, *(gap.start for gap in pending)])
            self.failures += listener.refusals
            self.failures += [
                InputError(
                    "a gap in the stream that was not filled",
                    where=f"{gap.start:%Y-%m-%dT%H:%M:%SZ} to {gap.end:%Y-%m-%dT%H:%M:%SZ}",
                    found=gap.reason,
                    next_step="ingest that time through the API",
                )
                for gap in pending
            ]

    def _subscriptions(self) -> list[dict[str, int]]:
        return [
            {"msm": msm_id, **({} if probe is None else {"prb": probe})}
            for msm_id in self._measurements
            for probe in self._probes or (None,)
        ]

    def _over(self, begun: datetime) -> bool:
        return self._stop.is_set() or (self._lasting is not None and self._now() >= begun + self._lasting)

    def _heard(self, listener: _Listener, begun: datetime) -> tuple[list[bytes], bool]:
        """Some results, and whether that was all."""
        settings = self._settings
        records: list[bytes] = []
        until_s = time.monotonic() + settings.batch_s
        while len(records) < settings.batch_records:
            if self._over(begun) or listener.failure is not None:
                return records, True
            left_s = until_s - time.monotonic()
            if left_s <= 0.0:
                break
            try:
                records.append(listener.heard.get(timeout=min(left_s, 0.1)))
            except queue.Empty:
                if records and listener.gapped:
                    break
        return records, False

    def _last(self, listener: _Listener, position: int) -> Iterator[Parsed]:
        records: list[bytes] = []
        while not listener.heard.empty():
            records.append(listener.heard.get_nowait())
            if len(records) == self._settings.batch_records:
                yield parse_batch(self._batch(records, position))
                position += len(records)
                records = []
        if records:
            yield parse_batch(self._batch(records, position))

    def _batch(self, records: list[bytes], position: int) -> Batch:
        data, begin, end = bounds_of(records)
        return Batch(
            source=f"wss://{self._settings.server}/stream/",
            first_position=position,
            data=data,
            begin=begin,
            end=end,
            read_at=datetime.now(UTC),
        )

    def _noted(self, listener: _Listener) -> list[Gap]:
        found = listener.taken_gaps()
        self.gaps += found
        return found

    def _settled(self, pending: list[Gap]) -> Iterator[Parsed]:
        """Fill the gaps that are left, once they can be filled, unless it is to stop."""
        while pending and self._now() < max(gap.end for gap in pending) + self._settings.settling:
            if self._stop.wait(0.1):
                return
        joined = self._joined(pending)
        pending.clear()
        for gap in joined:
            yield from self._filled(gap, pending)

    def _joined(self, gaps: list[Gap]) -> list[Gap]:
        """Gaps so near to each other that they are asked for at once."""
        joined: list[Gap] = []
        for gap in sorted(gaps, key=lambda gap: gap.start):
            if joined and gap.start - self._settings.lateness <= joined[-1].end:
                before = joined.pop()
                gap = Gap(start=before.start, end=max(before.end, gap.end), reason=before.reason)
            joined.append(gap)
        return joined

    def _filled(self, gap: Gap, pending: list[Gap]) -> Iterator[Parsed]:
        """What the API has of a gap; the gap is pending again where the API does not answer."""
        _LOG.info("filling a gap from %s to %s: %s", gap.start, gap.end, gap.reason)
        for msm_id in self._measurements:
            try:
                for batch in self._source.results(
                    msm_id,
                    gap.start - self._settings.lateness,
                    gap.end + timedelta(seconds=1),
                    self._probes,
                ):
                    yield parse_batch(batch)
            except SourceError as error:
                _LOG.warning("a gap is not filled yet: %s", error)
                pending.append(
                    Gap(start=gap.start, end=max(gap.end, self._now()), reason=f"{gap.reason}; {error.what}")
                )
                return
            except InputError as error:
                if str(error) not in map(str, self.failures):  # said of an earlier gap
                    self.failures.append(error)


class _DroppedError(Exception):
    """The connection is gone."""


class _Connection(CousteauStream):  # type: ignore[misc] # cousteau has no types
    """A stream that connects once, checks certificates as told, waits so long and no longer, and gives bytes."""

    ws: websocket.WebSocket | None

    def __init__(self, source: AtlasSource, server: str, tick_s: float) -> None:
        super().__init__(base_url=f"https://{server}", path=_PATH)
        self._source = source
        self._tick_s = tick_s

    def connect(self) -> None:
        """Connect, and subscribe to what was asked for.

        Raises:
            UntrustedError: when the certificate cannot be trusted.
            SourceError: when nobody answers, or not as a stream does.
        """
        verify = self._source.verify
        tls: dict[str, Any] = {}
        if isinstance(verify, Path):
            tls["ca_certs"] = str(verify)
        elif not verify:
            tls |= {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
        try:
            opened = websocket.create_connection(
                self.url,
                timeout=self._source.timeout_s,
                header=self.headers,
                sslopt=tls,
                **self._get_proxy_options(),
            )
            self.ws = opened
            for subscription in self.subscriptions:
                self.send(opened, self.EVENT_NAME_SUBSCRIBE, subscription)
            opened.settimeout(self._tick_s)
        except ssl.SSLCertVerificationError as error:
            raise UntrustedError(
                "the stream's certificate is not trusted",
                where=self.url,
                found=error.verify_message,
                expected="a certificate of a trusted authority, valid now, for this host",
                next_step="check the address and this machine's clock, or name the file of the authority that signed it",
            ) from error
        except websocket.WebSocketBadStatusException as error:
            raise SourceError(
                "the stream refuses the connection",
                where=self.url,
                found=f"status {error.status_code}",
                expected="a websocket",
                next_step="try again later",
            ) from error
        except (OSError, websocket.WebSocketException) as error:
            raise UnreachableError(
                "the stream does not answer",
                where=self.url,
                found=str(error),
                expected="a websocket",
                next_step="check the address and the network, or try again later",
            ) from error

    def recv(self, ws: websocket.WebSocket) -> tuple[str, bytes]:
        """The next message: its name, and the bytes of its payload. Both are empty where there is none yet.

        Raises:
            _DroppedError: when there will be none.
        """
        try:
            opcode, frame = ws.recv_data_frame(control_frame=True)
        except websocket.WebSocketTimeoutException:
            return "", b""
        except (OSError, websocket.WebSocketException) as error:
            raise _DroppedError(str(error) or type(error).__name__) from error
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            raise _DroppedError("the server closed it")
        if opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
            return "pong", b""
        message = frame.data if isinstance(frame.data, bytes) else frame.data.encode()
        splitter = ArraySplitter()
        parts = list(elements(splitter, message)) if message.lstrip()[:1] == b"[" else []
        if len(parts) != 2 or not splitter.closed or splitter.rest:
            return "garbage", message
        return parts[0].strip(b'"').decode(errors="replace"), parts[1]

    def ping(self) -> None:
        """Ask whether anybody is there.

        Raises:
            _DroppedError: when nobody is.
        """
        try:
            self.opened.ping()
        except (OSError, websocket.WebSocketException) as error:
            raise _DroppedError(str(error) or type(error).__name__) from error

    @property
    def opened(self) -> websocket.WebSocket:
        """The connection that there is."""
        if self.ws is None:
            raise AssertionError("nobody has connected")
        return self.ws

    def drop(self) -> None:
        """Let go of the connection, whatever state it is in."""
        if self.ws is not None:
            try:
                self.ws.close(timeout=0)
            except (OSError, websocket.WebSocketException) as error:
                _LOG.debug("a stream that was already gone: %s", error)
            self.ws = None


class _Listener:
    """Listens in a thread of its own: keeps connected, and keeps what it hears in a queue of bounded length.

    Attributes:
        heard: records.
        failure: why it listens no more.
        refusals: what the server said against subscriptions.
        sure_until: all that was stored until then was heard, but for the gaps.
    """

    def __init__(
        self,
        source: AtlasSource,
        settings: StreamSettings,
        subscriptions: list[dict[str, int]],
        now: Callable[[], datetime],
        since: datetime | None,
    ) -> None:
        self.heard: queue.Queue[bytes] = queue.Queue(maxsize=settings.most_waiting)
        self.failure: SourceError | None = None
        self.refusals: list[InputError] = []
        self._source = source
        self._settings = settings
        self._now = now
        self._gaps: list[Gap] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atlas-stream", daemon=True)
        self._connection = _Connection(source, settings.server, min(1.0, settings.silence_s / 8))
        for subscription in subscriptions:
            self._connection.subscribe(CousteauStream.STREAM_TYPE_RESULT, **subscription)
        # Until when all that was stored was heard, and why it is no longer; None while all is heard.
        self.sure_until = now() if since is None else since
        self._gap_reason: str | None = None if since is None else "before the stream began"

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self, reason: str | None) -> None:
        """End: nothing more is heard; a gap that is open lasts until now, and where there is a reason for one, one is."""
        self._ended.set()
        self._thread.join()
        if reason is not None:
            self._open_gap(reason)
        if self._gap_reason is not None:
            self._close_gap()

    @property
    def gapped(self) -> bool:
        """Whether a gap is waiting to be taken."""
        with self._lock:
            return bool(self._gaps)

    def taken_gaps(self) -> list[Gap]:
        """The gaps that ended since they were last taken."""
        with self._lock:
            found, self._gaps = self._gaps, []
        return found

    def _open_gap(self, reason: str) -> None:
        if self._gap_reason is None:
            _LOG.info("the stream has a gap from %s on: %s", self.sure_until, reason)
            self._gap_reason = reason

    def _close_gap(self) -> None:
        """From now on all is heard."""
        moment = self._now()
        if self._gap_reason is not None:
            with self._lock:
                self._gaps.append(Gap(start=self.sure_until, end=moment, reason=self._gap_reason))
            self._gap_reason = None
        self.sure_until = moment

    def _run(self) -> None:
        attempts = self._settings.attempts
        ask = Retrying(
            stop=lambda state: self._ended.is_set() or state.attempt_number >= attempts,
            wait=wait_exponential(multiplier=self._settings.first_wait_s, max=_LONGEST_BACKOFF_S)
            + wait_random(0.0, self._settings.first_wait_s),
            retry=retry_if_exception(
                lambda error: isinstance(error, SourceError) and not isinstance(error, UntrustedError)
            ),
            before_sleep=self._told,
            sleep=self._slept,
            reraise=True,
        )
        try:
            while not self._ended.is_set():
                ask(self._heard_once)
                self._slept(self._settings.first_wait_s)
        except SourceError as error:
            self._open_gap(error.what)
            self.failure = None if self._ended.is_set() else error

    def _heard_once(self) -> None:
        """Connect, and hear what one connection brings.

        Raises:
            SourceError: when there is none, or it broke so soon that it is as good as none.
        """
        connection, begun_s = self._connection, time.monotonic()
        connection.connect()
        try:
            self._listen()
        except _DroppedError as error:
            self._open_gap(f"the connection broke: {error}")
            if time.monotonic() - begun_s < self._settings.silence_s:
                raise UnreachableError(
                    "the stream breaks as soon as it is there",
                    where=connection.url,
                    found=str(error),
                    expected=f"a connection that lives for {self._settings.silence_s:g} s",
                    next_step="try again later; meanwhile the API has the results",
                ) from error
        finally:
            connection.drop()

    def _slept(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def _told(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._open_gap(error.what if isinstance(error, SourceError) else str(error))
        _LOG.warning("trouble with the stream (attempt %d): %s", state.attempt_number, error)

    def _listen(self) -> None:
        """Hear what one connection brings.

        Raises:
            _DroppedError: when it brings no more.
        """
        connection, silence_s = self._connection, self._settings.silence_s
        unconfirmed = len(connection.subscriptions)
        connected_s = heard_s = time.monotonic()
        pinged = False
        while not self._ended.is_set():
            name, payload = connection.recv(connection.opened)
            moment_s = time.monotonic()
            if name:
                heard_s, pinged = moment_s, False
            elif moment_s - heard_s > silence_s:
                raise _DroppedError(f"nothing was heard for {silence_s:g} s")
            elif moment_s - heard_s > silence_s / 2 and not pinged:
                pinged = True
                connection.ping()
            if name == connection.EVENT_NAME_RESULTS:
                self._take(payload, unconfirmed == 0)
            elif name in (connection.EVENT_NAME_SUBSCRIBED, connection.EVENT_NAME_ERROR):
                unconfirmed -= 1
                if name == connection.EVENT_NAME_ERROR:
                    self._refused(payload)
                if unconfirmed == 0:
                    self._close_gap()
            elif name == "garbage":
                # Whatever it was, it may have been a result.
                raise _DroppedError(f"a message that is none: {payload[:60].decode(errors='replace')!r}")
            if unconfirmed > 0 and moment_s - connected_s > self._source.timeout_s:
                raise _DroppedError(f"subscriptions were not confirmed within {self._source.timeout_s:g} s")

    def _take(self, record: bytes, confirmed: bool) -> None:
        try:
            self.heard.put_nowait(record)
        except queue.Full:
            self._open_gap("more came than was read")
            return
        if not confirmed:
            return  # the gap before is open yet
        if self._gap_reason is None:
            self.sure_until = self._now()
        elif self.heard.qsize() <= self._settings.most_waiting // 2:
            self._close_gap()

    def _refused(self, payload: bytes) -> None:
        said = self._source.masked(payload[:200].decode(errors="replace"))
        if not any(refusal.found == said for refusal in self.refusals):
            self.refusals.append(
                InputError(
                    "the stream refuses a subscription",
                    where=self._connection.url,
                    found=said,
                    expected="the id of a public measurement",
                )
            )
