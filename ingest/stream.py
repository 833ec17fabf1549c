"""The RIPE Atlas stream, through cousteau's class: results as they are stored.

cousteau's `AtlasStream` is subclassed where it falls short: it connects for ever and without our certificates, waits for ever, ends
without a word at the first socket error, and makes Python objects of what it hears. https://atlas.ripe.net/docs/apis/streaming-api

A stream forgets: what is stored while it is down is never sent. Every such gap is noted and asked of the API, some of it twice
rather than none of it; the lake knows what it has. The time between two runs is such a gap: up to when all is in the lake is kept
in the home (`ingest.heard`).
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson
import websocket
from ripe.atlas.cousteau import AtlasStream as CousteauStream
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from domain.errors import InputError, SourceError, UnreachableError, UntrustedError
from domain.progress import Report
from ingest.atlas import AtlasSource, check_server, elements
from ingest.batch import Batch, Parsed, bounds_of
from ingest.heard import Heard, Subscription
from ingest.json_array import ArraySplitter
from ingest.parse import parse_batch
from ingest.stopping import StoppedError, until_stopped

_LOG = logging.getLogger(__name__)

_PATH = "/stream/?client=qoetwin"
_LONGEST_BACKOFF_S = 60.0


_PART = timedelta(days=1)
"""A gap is asked for in parts no longer than this, so that what was asked for is remembered part by part."""

_BEFORE = "before the stream began"
_BEGINNING = "what was stored until the stream had begun"
_ON_ITS_WAY = "what was on its way when time was over"
_NO_TROUBLE = (_BEGINNING, _ON_ITS_WAY)
"""Gaps that every stream has: asked for, and not told."""

_END_S = 3.0
"""An end waits no longer for a connection that is being made, which may hang for as long as the source has patience."""


class End(StrEnum):
    """How listening ended."""

    OVER = "time is over"
    STOPPED = "stopped"
    """It was asked for; gaps that are left are for the next run."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A span in which results may have been stored that the stream did not bring.

    Attributes:
        start, end: of storing, aware.
        reason: why, in words.
        asked: whose results: each a measurement and probes of it, none for all of them; empty for all that is listened to.
    """

    start: datetime
    end: datetime
    reason: str
    asked: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def parts(self, cut: datetime | None = None) -> Iterator[Gap]:
        """The gap in parts of a day at most, in order; none of them goes on across `cut`."""
        start, end = self.start, None
        while end != self.end:
            end = min(start + _PART, self.end)
            if cut is not None and start < cut < end:
                end = cut
            yield replace(self, start=start, end=end)
            start = end


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
        catch_up: how far back what was missed since the run before is asked for, at most.

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
    catch_up: timedelta = timedelta(days=7)

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
            ("catch_up", self.catch_up.total_seconds(), 0.0),
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
        stop: ends it soon, and well: what was heard is given, and gaps that are left are for the next run.
        heard: remembers until when all is in the lake; what was stored from then on until the stream began is asked of the API.
        since: what was stored from then on is asked for likewise, whatever is remembered.
        settings: how it is listened to.
        now: the time.

    Raises:
        InputError: when there is nothing to listen to, or no end would ever come.
        StoreError: when it cannot be read what is remembered.

    Attributes:
        failures: subscriptions that were refused, measurements whose gaps the API refuses to fill, and gaps that the API did not fill.
        gaps: all gaps that there were, filled or not, but for those that every stream has where it begins and ends.
        missed: what was missed before the stream began, and is asked for.
        too_long_ago: what was missed as well, and is not asked for.
        ended: how it ended; None before it began.
        remembered: until when all is known to be in the lake, for the next run; None when nothing is.
    """

    def __init__(
        self,
        source: AtlasSource,
        measurements: Sequence[int],
        probes: Sequence[int] = (),
        *,
        lasting: timedelta | None = None,
        stop: threading.Event | None = None,
        heard: Heard | None = None,
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
        self.missed: list[Gap] = []
        self.too_long_ago: list[Gap] = []
        self.ended: End | None = None
        self.remembered: datetime | None = None
        self._source = source
        self._measurements = tuple(dict.fromkeys(measurements))
        self._probes = tuple(dict.fromkeys(probes))
        self._lasting = lasting
        self._stop = threading.Event() if stop is None else stop
        self._heard = heard
        self._settings = StreamSettings() if settings is None else settings
        self._now = now
        self._begun = now()
        self._find_missed(since)
        # All that was stored until then was given, but for what is in gaps that are open, and for those left behind.
        self._given_until = self._begun
        self._open = [
            part for gap in self.missed for part in gap.parts(self._begun - self._settings.settling)
        ]
        self._left_behind: set[int] = set()
        self._asks_from = self._begun

    @property
    def heard_until(self) -> datetime | None:
        """All that was stored until then was given; None when all that is listened to was refused."""
        return min(self._heard_until().values(), default=None)

    def remember(self) -> None:
        """Keep until when all was given, for the next run: all of that must be in the lake.

        Raises:
            StoreError: when it cannot be written.
        """
        until = self._heard_until()
        if self._heard is not None:
            self._heard.keep(self._settings.server, until)
        self.remembered = min(until.values(), default=None)

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give the results, parsed, as they come; what fills a gap comes when the gap is over.

        Raises:
            SourceError: when the stream cannot be reached any more; what was given before is good, and gaps are in `failures`.
            StoreError: when nothing can be remembered.
        """
        self.remember()  # whoever is killed before anything came has listened from here on
        listener = _Listener(
            self._source, self._settings, self._subscriptions(), self._now, self._begun, bool(self.missed)
        )
        listener.start()
        position = 0
        self.ended = End.FAILED
        try:
            while True:
                heard, over = self._next(listener)
                self._note(listener)  # gaps come before what was heard after them
                if heard:
                    self._given_until = heard[-1][1]
                    yield parse_batch(self._batch(heard, position))
                    position += len(heard)
                    report("listening: results heard", position, None)
                due = self._due()
                if due is not None and not over:
                    yield from self._filled(due)
                if over:
                    break
            listener.end(None if self._stop.is_set() else _ON_ITS_WAY)
            yield from self._last(listener, position)
            self._note(listener)
            if listener.failure is not None and not self._stop.is_set():
                raise listener.failure
            yield from self._settled(report)
            if self._stop.is_set():
                self.ended = End.STOPPED
            elif not self._open:
                self.ended = End.OVER
        finally:
            listener.end(None)
            self._note(listener)
            self.failures += listener.refusals
            if self._open and self.ended is End.FAILED:
                first, last = min(gap.start for gap in self._open), max(gap.end for gap in self._open)
                self.failures.append(
                    InputError(
                        "a gap in the stream that was not filled",
                        where=f"{first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}",
                        found="; ".join(dict.fromkeys(gap.reason for gap in self._open)),
                        next_step="ingest that time through the API"
                        if self._heard is None
                        else "listen to the same again: it begins with what is missing",
                    )
                )

    # What is listened to, and what of it is known

    def _subscriptions(self) -> list[Subscription]:
        return [(msm_id, probe) for msm_id in self._measurements for probe in self._probes or (None,)]

    def _find_missed(self, since: datetime | None) -> None:
        """See what was not heard since it was last listened to: of each subscription, or of what is part of it."""
        settings = self._settings
        known = {} if self._heard is None else self._heard.until(settings.server)
        missed: dict[tuple[int, datetime], set[int | None]] = defaultdict(set)
        for msm_id, probe in self._subscriptions():
            untils = [known[one] for one in ((msm_id, probe), (msm_id, None)) if one in known]
            if not untils and probe is None:
                for (other, part), until in known.items():
                    if other == msm_id:
                        missed[msm_id, until].add(part)
            starts = [*([max(untils)] if untils else []), *([since] if since is not None else [])]
            if starts:
                missed[msm_id, min(starts)].add(probe)
        earliest = self._begun - settings.catch_up
        if since is not None:
            earliest = min(earliest, since)
        for (msm_id, until), probes in sorted(missed.items(), key=lambda item: item[0]):
            # A memory of the future is of a clock that was wrong: nobody knows what it missed. One that was set back a little may
            # have been ahead as much, and is no reason to ask for days.
            if until <= self._begun:
                start = max(until, earliest)
            elif until <= self._begun + settings.lateness:
                start = max(self._begun - settings.lateness, earliest)
            else:
                start = earliest
            asked = ((msm_id, tuple(sorted(probe for probe in probes if probe is not None))),)
            gap = Gap(start=min(start, self._begun), end=self._begun, reason=_BEFORE, asked=asked)
            self.missed.append(gap)
            if until < start:
                self.too_long_ago.append(replace(gap, start=until, end=start))

    def _heard_until(self) -> dict[Subscription, datetime]:
        """Of each subscription, until when all was given."""
        until = {
            msm_id: min(
                [
                    self._given_until,
                    *(
                        gap.start
                        for gap in self._open
                        if not gap.asked or msm_id in (one for one, _ in gap.asked)
                    ),
                ]
            )
            for msm_id in self._measurements
            if msm_id not in self._left_behind
        }
        return {one: until[one[0]] for one in self._subscriptions() if one[0] in until}

    # What is heard

    def _over(self) -> bool:
        return self._stop.is_set() or (
            self._lasting is not None and self._now() >= self._begun + self._lasting
        )

    def _next(self, listener: _Listener) -> tuple[list[tuple[bytes, datetime]], bool]:
        """Some results, and whether that was all. Where a gap can be filled, nothing is waited for."""
        settings = self._settings
        heard: list[tuple[bytes, datetime]] = []
        until_s = time.monotonic() + (settings.batch_s if self._due() is None else 0.0)
        while len(heard) < settings.batch_records:
            if self._over() or listener.failure is not None:
                return heard, True
            left_s = until_s - time.monotonic()
            try:
                heard.append(listener.heard.get(timeout=max(0.0, min(left_s, 0.1))))
            except queue.Empty:
                if left_s <= 0.0 or (heard and listener.gapped):
                    break
        return heard, False

    def _last(self, listener: _Listener, position: int) -> Iterator[Parsed]:
        """What is waiting still, when no more comes."""
        while not listener.heard.empty():
            heard: list[tuple[bytes, datetime]] = []
            while len(heard) < self._settings.batch_records and not listener.heard.empty():
                heard.append(listener.heard.get_nowait())
            self._note(listener)
            self._given_until = heard[-1][1]
            yield parse_batch(self._batch(heard, position))
            position += len(heard)
        self._note(listener)
        self._given_until = listener.sure_until
        self._left_behind |= listener.deaf

    def _batch(self, heard: list[tuple[bytes, datetime]], position: int) -> Batch:
        data, begin, end = bounds_of([record for record, _ in heard])
        return Batch(
            source=f"wss://{self._settings.server}/stream/",
            first_position=position,
            data=data,
            begin=begin,
            end=end,
            read_at=datetime.now(UTC),
        )

    # Gaps

    def _note(self, listener: _Listener) -> None:
        """Take the gaps that ended."""
        self._left_behind |= listener.deaf
        for gap in listener.taken_gaps():
            if gap.reason not in _NO_TROUBLE:
                first = min([gap.start, *(one.start for one in self.missed if gap.reason == _BEFORE)])
                self.gaps.append(replace(gap, start=first))
            self._open += gap.parts()

    def _due(self) -> Gap | None:
        """The earliest gap that can be filled now, joined with those that are near."""
        now = self._now()
        due: list[Gap] = []
        later: list[Gap] = []
        for gap in self._open:
            (due if gap.end + self._settings.settling <= now else later).append(gap)
        if not due or now < self._asks_from:
            return None
        joined = self._joined(due)
        self._open = [*joined, *later]
        return joined[0]

    def _settled(self, report: Report) -> Iterator[Parsed]:
        """Fill the gaps that are left, once they can be filled, until it is to stop or the API does not answer."""
        if not self._open:
            return
        can_be = max(self._asks_from, *(gap.end + self._settings.settling for gap in self._open))
        while self._now() < can_be:
            report("waiting until Atlas has stored what was on its way, to ask for it", 0, None)
            if self._stop.wait(0.1):
                return
        while (due := self._due()) is not None and not self._stop.is_set():
            yield from self._filled(due)

    def _joined(self, gaps: list[Gap]) -> list[Gap]:
        """Gaps in order; those of the same that are near to each other are asked for at once, a day at most."""
        joined: list[Gap] = []
        for gap in sorted(gaps, key=lambda gap: (gap.asked, gap.start)):
            before = joined[-1] if joined and joined[-1].asked == gap.asked else None
            if (
                before is not None
                and gap.start - self._settings.lateness <= before.end
                and gap.end - before.start <= _PART
            ):
                joined[-1] = replace(before, end=max(before.end, gap.end))
            else:
                joined.append(gap)
        return sorted(joined, key=lambda gap: gap.start)

    def _filled(self, gap: Gap) -> Iterator[Parsed]:
        """What the API has of a gap, which stays open where the API does not answer, or it is to stop."""
        _LOG.info("filling a gap from %s to %s: %s", gap.start, gap.end, gap.reason)
        first, end = gap.start - self._settings.lateness, gap.end + timedelta(seconds=1)
        held: list[Parsed] = []
        for msm_id, probes in gap.asked or [(msm_id, self._probes) for msm_id in self._measurements]:
            try:
                for batch in until_stopped(self._source.results(msm_id, first, end, probes), self._stop):
                    yield from held
                    held = [parse_batch(batch)]
            except StoppedError:
                yield from held
                return
            except SourceError as error:
                _LOG.warning("a gap is not filled yet: %s", error)
                self._asks_from = self._now() + self._settings.settling
                if error.what not in gap.reason:
                    self._open[self._open.index(gap)] = replace(gap, reason=f"{gap.reason}; {error.what}")
                yield from held
                return
            except InputError as error:
                self._left_behind.add(msm_id)
                if str(error) not in map(str, self.failures):  # said of an earlier gap
                    self.failures.append(error)
        self._open.remove(gap)  # when the last of it is given, all of it is
        yield from held


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
        heard: records, each with the time until which all that was stored is heard with it, but for the gaps.
        failure: why it listens no more.
        refusals: what the server said against subscriptions.
        deaf: measurements to which a subscription was refused.
        sure_until: all that was stored until then was heard, but for the gaps.
    """

    def __init__(
        self,
        source: AtlasSource,
        settings: StreamSettings,
        subscriptions: list[Subscription],
        now: Callable[[], datetime],
        begun: datetime,
        gapped: bool,
    ) -> None:
        self.heard: queue.Queue[tuple[bytes, datetime]] = queue.Queue(maxsize=settings.most_waiting)
        self.failure: SourceError | None = None
        self.refusals: list[InputError] = []
        self.deaf: set[int] = set()
        self._source = source
        self._settings = settings
        self._now = now
        self._gaps: list[Gap] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="atlas-stream", daemon=True)
        self._connection = _Connection(source, settings.server, min(1.0, settings.silence_s / 8))
        self._subscriptions = subscriptions
        for msm_id, probe in subscriptions:
            parameters = {"msm": msm_id} if probe is None else {"msm": msm_id, "prb": probe}
            self._connection.subscribe(CousteauStream.STREAM_TYPE_RESULT, **parameters)
        # Until when all that was stored was heard, and why it is no longer; None while all is heard. Until all is subscribed to,
        # nothing is.
        self.sure_until = begun
        self._gap_reason: str | None = _BEFORE if gapped else _BEGINNING

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self, reason: str | None) -> None:
        """End, once: nothing more is heard; a gap that is open lasts until now, and where there is a reason for one, one is."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(_END_S)  # where it hangs in a connection, it adds nothing when it goes on
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
        if self._gap_reason is None or self._gap_reason == _BEGINNING:  # trouble is told
            _LOG.info("the stream has a gap from %s on: %s", self.sure_until, reason)
            self._gap_reason = reason

    def _close_gap(self) -> None:
        """From now on all is heard."""
        moment = self._now()
        if self._gap_reason is not None:
            start, end = sorted((self.sure_until, moment))  # a clock may have been put back
            with self._lock:
                self._gaps.append(Gap(start=start, end=end, reason=self._gap_reason))
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
        confirmed: set[Subscription] = set()
        refused = False
        connected_s = heard_s = time.monotonic()
        pinged = False
        while not self._ended.is_set():
            name, payload = connection.recv(connection.opened)
            if self._ended.is_set():  # the end may not have waited for this
                return
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
                    refused = True
                    self._refused(payload)
                else:
                    confirmed |= _subscription(payload)
                if unconfirmed == 0:
                    if refused:
                        self.deaf = self.deaf | {
                            one[0] for one in self._subscriptions if one not in confirmed
                        }
                    self._close_gap()
            elif name == "garbage":
                # Whatever it was, it may have been a result.
                raise _DroppedError(f"a message that is none: {payload[:60].decode(errors='replace')!r}")
            if unconfirmed > 0 and moment_s - connected_s > self._source.timeout_s:
                raise _DroppedError(f"subscriptions were not confirmed within {self._source.timeout_s:g} s")

    def _take(self, record: bytes, confirmed: bool) -> None:
        if self.heard.full():
            self._open_gap("more came than was read")
            return
        # Before all is confirmed, the gap is open yet.
        if confirmed and (self._gap_reason is None or self.heard.qsize() <= self._settings.most_waiting // 2):
            self._close_gap()
        self.heard.put_nowait((record, self.sure_until))

    def _refused(self, payload: bytes) -> None:
        said = self._source.masked(payload[:200].decode(errors="replace"))
        if not any(refusal.found == said for refusal in self.refusals):
            _LOG.warning("the stream refuses a subscription: %s", said)
            self.refusals.append(
                InputError(
                    "the stream refuses a subscription",
                    where=self._connection.url,
                    found=said,
                    expected="the id of a public measurement",
                )
            )


def _subscription(payload: bytes) -> set[Subscription]:
    """The subscription that the server repeats as it confirms it; none where it does not."""
    try:
        said = orjson.loads(payload)
        return {(said["msm"], said.get("prb"))}
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        return set()
