"""The RIPE Atlas API v2, through cousteau's request classes.

They are subclassed where they fall short: they wait for ever, ask once, read an answer of any size into memory, turn every
failure into `(False, message)`, and stop paging at the first page without objects.
https://atlas.ripe.net/docs/apis/rest-api-reference/

    AtlasSource     where Atlas is, how patiently it is asked; results, latest results, measurements, probes, anchors
    AtlasResults    the results of measurements in a span of time, as a source
    AtlasLatest     the latest results of measurements, as a source

The bytes of an answer are split into records and never become Python objects here.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

import numpy as np
import orjson
import requests
from numpy.typing import NDArray
from requests.adapters import HTTPAdapter
from ripe.atlas.cousteau import (
    AnchorRequest,
    AtlasLatestRequest,
    AtlasRequest,
    AtlasResultsRequest,
    MeasurementRequest,
    ProbeRequest,
)
from ripe.atlas.cousteau.api_listing import RequestGenerator
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from urllib3 import HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError

from domain.credentials import ATLAS_KEY_VARIABLE
from domain.errors import (
    InputError,
    NotFoundError,
    SourceError,
    UnreachableError,
    UntrustedError,
)
from domain.observation import ResultType
from domain.progress import Report
from ingest.batch import BATCH_BYTES, Batch, Parsed, bounds_of
from ingest.json_array import ArraySplitter
from ingest.parse import parse_batch

_PROBES_A_REQUEST = 500  # what cousteau's own listings put in one address
_PAGE_OBJECTS = 500  # the most that Atlas gives
_FIRST_SLICE_S = 3_600  # of most measurements an answer is then small, of the largest it fits
_LONGEST_BACKOFF_S = 30.0
_CHUNK_BYTES = 1 << 16
_BLANK = b" \t\r\n"


def check_server(server: str) -> None:
    """See that a text is `HOST` or `HOST:PORT`.

    Raises:
        InputError: when it is not; nothing of it is repeated, for it may hold a password or a key.
    """
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::([0-9]{1,5}))?", server)
    if match is None or not 0 < int(match[1] or 443) < 2**16:
        raise InputError("no server", expected="HOST or HOST:PORT, with nothing before or after it")


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSource:
    """Atlas, or something that answers like it.

    Attributes:
        server: host, or host:port; always asked by https.
        verify: whether to check its certificate, or the file of the authorities to trust.
        api_key: needed for measurements that are not public; sent in a header, never in an address.
        timeout_s: longest wait for a connection, and for each part of an answer.
        answer_timeout_s: longest wait for the whole of an answer.
        attempts: how often to ask, while there is a chance that the trouble passes.
        first_wait_s: wait before the second attempt; it doubles each time, with jitter.
        longest_wait_s: the longest wait that the server may ask for (`Retry-After`); if it asks for more, that is told instead.
        slice_length: the longest time span that is asked for in one request of results.
        most_bytes: an answer with more is not read: a shorter span is asked for. It bounds memory.
        sleep: waits so many seconds.

    Raises:
        NotFoundError: when the file of authorities is not there.
        InputError: when the server, the key, the file of authorities, or a bound cannot be one.
    """

    server: str = "atlas.ripe.net"
    verify: bool | Path = True
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    answer_timeout_s: float = 900.0
    attempts: int = 5
    first_wait_s: float = 1.0
    longest_wait_s: float = 300.0
    slice_length: timedelta = timedelta(days=1)
    most_bytes: int = 4 * BATCH_BYTES
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_server(self.server)
        if isinstance(self.verify, Path):
            try:
                ssl.create_default_context(cafile=self.verify)
            except FileNotFoundError as error:
                raise NotFoundError("no such file of certificates", where=str(self.verify)) from error
            except (ssl.SSLError, OSError) as error:
                raise InputError(
                    "not a file of certificates", where=str(self.verify), found=str(error), expected="PEM"
                ) from error
        if self.api_key is not None and not (
            self.api_key.isascii() and self.api_key.isprintable() and " " not in self.api_key and self.api_key
        ):
            raise InputError("not an Atlas API key", expected="printable characters without blanks")
        if self.slice_length < timedelta(seconds=1):
            raise InputError(
                "a slice of no length", found=str(self.slice_length), expected="at least a second"
            )
        for name, value, least in (
            ("attempts", self.attempts, 1),
            ("most_bytes", self.most_bytes, 1),
            ("timeout_s", self.timeout_s, 1e-3),
            ("answer_timeout_s", self.answer_timeout_s, 1e-3),
            ("first_wait_s", self.first_wait_s, 0.0),
            ("longest_wait_s", self.longest_wait_s, 0.0),
        ):
            if not value >= least:
                raise InputError(
                    "a bound that is none", where=name, found=str(value), expected=f"at least {least:g}"
                )

    def masked(self, text: str) -> str:
        """A text of the server's without the key, which it may have repeated."""
        return text if self.api_key is None else text.replace(self.api_key, "***")

    def not_atlas(self, url: str, answer: object, expected: str) -> SourceError:
        """The error for an answer that is none of Atlas's."""
        try:
            text = answer if isinstance(answer, str) else repr(answer)
        except RecursionError:
            text = "lists nested too deep"
        found = repr(self.masked(text)[:80])
        return SourceError("not what the Atlas API answers", where=url, found=found, expected=expected)

    def results(
        self, msm_id: int, start: datetime, stop: datetime, probe_ids: Sequence[int] = ()
    ) -> Iterator[Batch]:
        """Results of a measurement whose probes began in `[start, stop)`, in slices of time.

        Slices grow while answers are small, up to `slice_length`; one whose answer is too large is halved until it is not. The
        answer for a single second is read whatever its size, through a file on disk. Only whole answers are given.

        Args:
            msm_id: the measurement.
            start: aware time.
            stop: aware time.
            probe_ids: only these probes; empty means all.

        Raises:
            InputError: when the times are naive or leave nothing between them, or Atlas refuses this measurement.
            NotFoundError: when there is no such measurement.
            UntrustedError: when the server's certificate cannot be trusted.
            UnreachableError: when nothing answers there.
            SourceError: when it does not answer as the API does, or not to this key.
        """
        _check_span(start, stop)
        # Whole seconds, both ends of a slice inclusive: what the API understands.
        first_s, after_s = math.ceil(start.timestamp()), math.ceil(stop.timestamp())
        longest_s = int(self.slice_length.total_seconds())
        length_s = min(_FIRST_SLICE_S, longest_s)
        for group in _groups(probe_ids):
            slice_s = first_s
            while slice_s < after_s:
                end_s = min(slice_s + length_s, after_s)
                request = _Results(
                    self,
                    most_bytes=self.most_bytes if end_s - slice_s > 1 else None,
                    msm_id=msm_id,
                    start=datetime.fromtimestamp(slice_s, tz=UTC),
                    stop=datetime.fromtimestamp(end_s - 1, tz=UTC),
                    probe_ids=group,
                )
                try:
                    answer = request.answer()
                except _TooLargeError:
                    length_s = (end_s - slice_s) // 2
                    continue
                with answer:
                    yield from answer.batches(request.address)
                if answer.size < self.most_bytes // 4:
                    length_s = min(2 * length_s, longest_s)
                slice_s = end_s

    def latest(self, msm_id: int, probe_ids: Sequence[int] = ()) -> Iterator[Batch]:
        """The latest result of each probe of a measurement.

        Args:
            msm_id: the measurement.
            probe_ids: only these probes; empty means all.

        Raises:
            QoetwinError: as for `results`.
        """
        for group in _groups(probe_ids):
            request = _Latest(self, msm_id=msm_id, probe_ids=group)
            with request.answer() as answer:
                yield from answer.batches(request.address)

    def probes(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Probe objects, as the API has them.

        Args:
            ids: only these; None means all.
            **filters: the API's own, such as `country_code="LB"`.

        Raises:
            QoetwinError: as for `results`.
        """
        return self._listed(_Probes, ids, filters)

    def anchors(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Anchor objects; `ids` are those of anchors, not of their probes.

        Raises:
            QoetwinError: as for `results`.
        """
        return self._listed(_Anchors, ids, filters)

    def measurements(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Measurement objects, as the API has them.

        Raises:
            QoetwinError: as for `results`.
        """
        return self._listed(_Measurements, ids, filters)

    def find_measurements(
        self,
        *,
        target: str | None = None,
        kind: ResultType | None = None,
        af: int | None = None,
        tags: Sequence[str] = (),
        probe_ids: Sequence[int] = (),
        ongoing: bool = False,
        filters: Mapping[str, object] | None = None,
    ) -> Iterator[int]:
        """Ids of the ping and traceroute measurements that a filter names, each once.

        Args:
            target: name or address that is measured.
            kind: only of this type.
            af: only of this family, 4 or 6.
            tags: that have all of these tags.
            probe_ids: in which at least one of these probes takes part now.
            ongoing: only those that are running.
            filters: the API's own besides, such as `{"description__startswith": "Anchoring"}`.

        Raises:
            QoetwinError: as for `results`.
        """
        chosen: dict[str, object] = dict(filters or {})
        if target is not None:
            chosen["target_ip" if _is_address(target) else "target"] = target
        if kind is not None:
            chosen["type"] = kind.value
        if af is not None:
            chosen["af"] = af
        if tags:
            chosen["tags"] = ",".join(tags)
        if ongoing:
            chosen["status"] = _ONGOING
        seen: set[int] = set()
        for asked in [{"current_probes": probe} for probe in probe_ids] or [{}]:
            for found in self._listed(_Measurements, None, {**chosen, **asked}):
                number = found.get("id")
                if found.get("type") in _KINDS and isinstance(number, int) and number not in seen:
                    seen.add(number)
                    yield number

    def _listed(
        self, listing: type[_Listing], ids: Sequence[int] | None, filters: dict[str, object]
    ) -> Iterator[dict[str, Any]]:
        chosen: dict[str, object] = {
            name: quote(value, safe=",:") if isinstance(value, str) else value
            for name, value in filters.items()
        }
        chosen.setdefault("page_size", _PAGE_OBJECTS)
        if ids is not None:
            if not ids:
                return
            chosen["id__in"] = list(ids)
        yield from listing(self, chosen)


_KINDS = frozenset(kind.value for kind in ResultType)
_ONGOING = 2  # Atlas's id of that status


def _check_span(start: datetime, stop: datetime) -> None:
    if start.tzinfo is None or stop.tzinfo is None or start >= stop:
        raise InputError("no span of time", found=f"{start} to {stop}", expected="aware times, in order")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _groups(probe_ids: Sequence[int]) -> list[list[int]]:
    """Probes in groups that fit into an address; one empty group stands for all probes."""
    return [
        list(probe_ids[begin : begin + _PROBES_A_REQUEST])
        for begin in range(0, len(probe_ids), _PROBES_A_REQUEST)
    ] or [[]]


class AtlasResults:
    """The results of measurements whose probes began in `[start, stop)`, as a source; it is read once.

    Args:
        source: Atlas.
        measurements: their ids.
        start, stop: aware times.
        probes: only these probes; empty means all.

    Raises:
        InputError: when the times are naive or leave nothing between them.

    Attributes:
        failures: the measurements that Atlas refused; the others were read.
    """

    def __init__(
        self,
        source: AtlasSource,
        measurements: Sequence[int],
        start: datetime,
        stop: datetime,
        probes: Sequence[int] = (),
    ) -> None:
        _check_span(start, stop)
        self.failures: list[InputError] = []
        self._measurements = measurements
        self._asked = lambda msm_id: source.results(msm_id, start, stop, probes)

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give the results, parsed, measurement by measurement.

        Raises:
            SourceError: when the server does not answer as it should, or to no measurement at all with this key.
        """
        return _each(self._measurements, self._asked, self.failures, report)


class AtlasLatest:
    """The latest result of each probe of measurements, as a source; it is read once. Arguments as of `AtlasResults`."""

    def __init__(self, source: AtlasSource, measurements: Sequence[int], probes: Sequence[int] = ()) -> None:
        self.failures: list[InputError] = []
        self._measurements = measurements
        self._asked = lambda msm_id: source.latest(msm_id, probes)

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give the results, parsed, measurement by measurement.

        Raises:
            SourceError: as for `AtlasResults`.
        """
        return _each(self._measurements, self._asked, self.failures, report)


def _each(
    measurements: Sequence[int],
    asked: Callable[[int], Iterator[Batch]],
    failures: list[InputError],
    report: Report,
) -> Iterator[Parsed]:
    """The results of each measurement; one that is refused is a failure, and the others go on."""
    forbidden: list[_ForbiddenError] = []
    for number, msm_id in enumerate(measurements):
        report("asking for results", number, len(measurements))
        try:
            for batch in asked(msm_id):
                yield parse_batch(batch)
        except _ForbiddenError as error:
            forbidden.append(error)
            if len(forbidden) == len(measurements):  # it is the key, not the measurement
                raise
        except InputError as error:
            failures.append(error)
    failures += [
        InputError(
            error.what,
            where=error.where,
            found=error.found,
            expected=error.expected,
            next_step=error.next_step,
        )
        for error in forbidden
    ]
    report("asking for results", len(measurements), len(measurements))


class _ForbiddenError(SourceError):
    """This is not for whoever asks: it may be the key, or this one measurement."""


class _TooLargeError(Exception):
    """An answer has more bytes than are wanted of one."""


class _Trouble(Exception):  # noqa: N818 # it is no error yet
    """What went wrong with an attempt.

    Attributes:
        error: what to say if it does not pass.
        passes: whether it may pass.
        wait_s: how long the server asks to wait.
    """

    def __init__(self, error: SourceError | InputError, *, passes: bool, wait_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.passes = passes
        self.wait_s = wait_s


class _PunctualConnection(HTTPSConnection):
    """A connection on which the whole head of an answer comes within the time that is allowed for one part of it.

    The time-out of sockets begins anew with every byte, so a server that drips bytes would be waited for without end.
    """

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3 itself has it
        """The answer's head; the body is read by whoever asked, who looks at the clock.

        Raises:
            TimeoutError: when it does not come in time.
        """
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            # The plain shutdown: that of SSLSocket would take the TLS state from under its thread.
            with suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

        if not isinstance(self.timeout, int | float):
            return super().getresponse()
        watch = threading.Timer(self.timeout, hang_up)
        watch.daemon = True
        watch.start()
        try:
            return super().getresponse()
        except (OSError, HTTPException) as error:
            if late.is_set():
                raise TimeoutError("the head of the answer did not come in time") from error
            raise
        finally:
            watch.cancel()


class _PunctualPool(HTTPSConnectionPool):
    ConnectionCls = _PunctualConnection


class _PunctualAdapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
        super().init_poolmanager(*arguments, **named)
        self.poolmanager.pool_classes_by_scheme = {"https": _PunctualPool}


def _get(url: str, **arguments: Any) -> requests.Response:
    """What `requests.get` does, punctually."""
    with requests.Session() as session:
        session.mount("https://", _PunctualAdapter())
        return session.get(url, **arguments)


class _Asking(AtlasRequest):  # type: ignore[misc] # cousteau has no types
    """A request that waits so long and no longer, asks again, and fails with our errors; it is answered in JSON."""

    http_methods: ClassVar = {"GET": _get}

    def __init__(self, atlas: AtlasSource, **arguments: object) -> None:
        verify = str(atlas.verify) if isinstance(atlas.verify, Path) else atlas.verify
        super().__init__(server=atlas.server, verify=verify, key=atlas.api_key, **arguments)
        self._atlas = atlas
        self.http_method_args["timeout"] = atlas.timeout_s
        self.http_method_args["stream"] = True

    @property
    def address(self) -> str:
        """What was asked, with what was asked of it: as it is shown and kept."""
        asked = self.http_method_args["params"]
        return f"{self.url}?{urlencode(asked, safe=',')}" if asked else self.url

    def answer(self) -> Any:
        """What `taken` makes of the answer.

        Raises:
            QoetwinError: as for `AtlasSource.results`.
        """
        return self.get()[1]

    def http_method(self, method: str) -> tuple[bool, Any]:
        """What cousteau returns of a success; a failure is raised. Asks again while the trouble may pass."""
        self.build_url()
        atlas = self._atlas
        ask = Retrying(
            stop=stop_after_attempt(atlas.attempts),
            wait=_Patience(atlas),
            retry=retry_if_exception(lambda error: isinstance(error, _Trouble) and error.passes),
            sleep=atlas.sleep,
            reraise=True,
        )
        try:
            return True, ask(self._attempt, method)
        except _Trouble as trouble:
            raise trouble.error from trouble.__cause__

    def taken(self, chunks: Iterator[bytes]) -> Any:
        """What is made of the bytes of an answer.

        Raises:
            SourceError: when they are not what Atlas answers.
        """
        data = bytearray()
        for chunk in chunks:
            data += chunk
            if len(data) > self._atlas.most_bytes:
                raise SourceError(
                    "an answer without end",
                    where=self.url,
                    found=f"more than {self._atlas.most_bytes} bytes",
                    expected="a page of a listing",
                )
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self._atlas.not_atlas(self.url, data[:200].decode(errors="replace"), "JSON") from error
        except RecursionError as error:
            raise self._atlas.not_atlas(self.url, "lists nested too deep", "JSON of a few levels") from error

    def _attempt(self, method: str) -> Any:
        deadline_s = time.monotonic() + self._atlas.answer_timeout_s
        try:
            with closing(self.get_http_method(method)) as response:
                chunks = self._chunks(response, deadline_s)
                if not response.ok:
                    raise self._refused(response, b"".join(islice(chunks, 16)))
                return self.taken(chunks)
        except (requests.exceptions.RequestException, HTTPError) as error:
            raise self._broken(error) from error
        except SourceError as error:
            raise _Trouble(error, passes=True) from error.__cause__

    def _chunks(self, response: requests.Response, deadline_s: float) -> Iterator[bytes]:
        """The body as it comes in, decompressed; whatever is there is taken, so that no clock is forgotten."""
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            yield chunk
            if time.monotonic() > deadline_s:
                raise UnreachableError(
                    "the source does not come to an end with its answer",
                    where=self.url,
                    found=f"more to come after {self._atlas.answer_timeout_s:g} s",
                    expected="a whole answer within that time",
                    next_step="ask for a shorter span or fewer probes, or try again later",
                )

    def _refused(self, response: requests.Response, body: bytes) -> _Trouble:
        atlas, status = self._atlas, response.status_code
        said = atlas.masked(_refusal(body) or str(response.reason))
        found = f"status {status}: {said}"
        if status in (401, 403):
            return _Trouble(
                _ForbiddenError(
                    "Atlas wants an API key for this"
                    if atlas.api_key is None
                    else "Atlas does not take this API key for this",
                    where=self.url,
                    found=found,
                    expected="a public measurement, or a key that may see it",
                    next_step=f"put a key that is valid now and has the permission to get results of non-public measurements into {ATLAS_KEY_VARIABLE}",
                ),
                passes=False,
            )
        if status == 404:
            return _Trouble(
                NotFoundError(
                    "Atlas has nothing there",
                    where=self.url,
                    found=found,
                    expected="an id that Atlas knows",
                    next_step=f"check the id; what is not public may need a key in {ATLAS_KEY_VARIABLE}",
                ),
                passes=False,
            )
        if status == 429 or status >= 500 or status == 408:
            wait_s = _asked_wait_s(response.headers.get("Retry-After"))
            if wait_s > atlas.longest_wait_s:
                found += f", to be asked again in {wait_s:.0f} s"
            return _Trouble(
                SourceError(
                    "Atlas asks to slow down" if status == 429 else "Atlas has trouble of its own",
                    where=self.url,
                    found=found,
                    expected=f"an answer at one of {atlas.attempts} attempts, at most {atlas.longest_wait_s:g} s apart",
                    next_step="try again later"
                    + (", or ask for fewer measurements at a time" if status == 429 else ""),
                ),
                passes=wait_s <= atlas.longest_wait_s,
                wait_s=wait_s,
            )
        return _Trouble(
            InputError(
                "Atlas refuses what it is asked",
                where=self.url,
                found=found,
                expected="status 200",
                next_step="check the ids, the times and the filters",
            ),
            passes=False,
        )

    def _broken(self, error: requests.exceptions.RequestException | HTTPError) -> _Trouble:
        """The trouble of an attempt at which no whole answer came."""
        atlas, cause = self._atlas, _innermost(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _Trouble(
                UntrustedError(
                    "the source's certificate is not trusted",
                    where=self.url,
                    found=cause.verify_message,
                    expected="a certificate of a trusted authority, valid now, for this host",
                    next_step="check the address and this machine's clock, or name the file of the authority that signed it",
                ),
                passes=False,
            )
        passes = isinstance(
            error,
            requests.exceptions.ConnectionError
            | requests.exceptions.Timeout
            | requests.exceptions.ChunkedEncodingError
            | HTTPError,
        )
        if not passes:
            return _Trouble(
                SourceError("the source cannot be asked", where=self.url, found=atlas.masked(str(cause))),
                passes=False,
            )
        if isinstance(cause, TimeoutError) or isinstance(error, requests.exceptions.Timeout):
            found = f"nothing within {atlas.timeout_s:g} s"
        else:
            found = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        return _Trouble(
            UnreachableError(
                "no TLS with the source"
                if isinstance(error, requests.exceptions.SSLError)
                else "the source does not answer",
                where=self.url,
                found=atlas.masked(found),
                expected=f"an answer at one of {atlas.attempts} attempts",
                next_step="check the address and the network, or try again later",
            ),
            passes=True,
        )


class _Patience:
    """How long to wait before asking again: ever longer, with jitter, and at least as long as the server asks."""

    def __init__(self, atlas: AtlasSource) -> None:
        self._own = wait_exponential(multiplier=atlas.first_wait_s, max=_LONGEST_BACKOFF_S) + wait_random(
            0.0, atlas.first_wait_s
        )

    def __call__(self, state: RetryCallState) -> float:
        trouble = state.outcome.exception() if state.outcome is not None else None
        asked_s = trouble.wait_s if isinstance(trouble, _Trouble) else 0.0
        # What the server asks for gets jitter too: it told everybody the same second.
        return max(asked_s, 0.0) + self._own(state)


def _asked_wait_s(retry_after: str | None) -> float:
    """Seconds that `Retry-After` asks to wait: a number of them, or a date (RFC 9110, section 10.2.3); 0 where it is neither."""
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


class _Answer:
    """The records of one whole answer: in memory, or in a file that goes with it if there are too many.

    Attributes:
        size: bytes that came in.
    """

    def __init__(self, most_bytes: int) -> None:
        self.size = 0
        self._file = SpooledTemporaryFile(max_size=most_bytes)  # noqa: SIM115 # closed on leaving
        self._parts: list[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = []
        self._read_at = datetime.now(UTC)

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: list[bytes]) -> None:
        """Keep records as a batch of their own."""
        data, begin, end = bounds_of(records)
        self._file.write(data)
        self._parts.append((len(data), begin, end))

    def batches(self, source: str) -> Iterator[Batch]:
        """The batches, in order; none where there is no record."""
        self._file.seek(0)
        position = 0
        for length, begin, end in self._parts:
            yield Batch(
                source=source,
                first_position=position,
                data=self._file.read(length),
                begin=begin,
                end=end,
                read_at=self._read_at,
            )
            position += len(begin)


def elements(splitter: ArraySplitter, chunk: bytes) -> Iterator[bytes]:
    """The elements of a JSON array that are complete with these bytes of it."""
    return splitter.feed(chunk)


class _Records(_Asking):
    """A request that is answered with an array of results."""

    def __init__(self, atlas: AtlasSource, *, most_bytes: int | None = None, **arguments: object) -> None:
        super().__init__(atlas, **arguments)
        self._most_bytes = most_bytes

    def taken(self, chunks: Iterator[bytes]) -> _Answer:
        """The records of the answer, all of them.

        Raises:
            SourceError: when it is no whole array.
            _TooLargeError: when it has more bytes than wanted.
        """
        answer = _Answer(self._atlas.most_bytes)
        try:
            waiting: list[bytes] = []
            waiting_bytes = 0
            for record in self._elements(chunks, answer):
                waiting.append(record)
                waiting_bytes += len(record)
                if waiting_bytes >= BATCH_BYTES:
                    answer.add(waiting)
                    waiting, waiting_bytes = [], 0
            if waiting:
                answer.add(waiting)
        except BaseException:
            answer.__exit__()
            raise
        return answer

    def _elements(self, chunks: Iterator[bytes], answer: _Answer) -> Iterator[bytes]:
        splitter = ArraySplitter()
        begun = False
        for chunk in chunks:
            answer.size += len(chunk)
            if self._most_bytes is not None and answer.size > self._most_bytes:
                raise _TooLargeError
            if not begun and (first := chunk.lstrip(_BLANK)[:1]):
                if first not in self.opening:
                    raise self._no_array(chunk)
                begun = True
            yield from self.records_of(elements(splitter, chunk))
        if not splitter.closed or splitter.rest:
            raise self._no_array(splitter.rest)

    opening: tuple[bytes, ...] = (b"[",)

    def records_of(self, found: Iterator[bytes]) -> Iterator[bytes]:
        """The records in elements of the answer."""
        return found

    def _no_array(self, bytes_there: bytes) -> SourceError:
        return self._atlas.not_atlas(
            self.url, bytes_there[:200].decode(errors="replace"), "a whole JSON array of results"
        )


class _Results(_Records, AtlasResultsRequest):  # type: ignore[misc]
    pass


class _Latest(_Records, AtlasLatestRequest):  # type: ignore[misc]
    """Atlas answers an array; its manual has an object of arrays, one a probe, and both are taken."""

    opening = (b"[", b"{")

    def records_of(self, found: Iterator[bytes]) -> Iterator[bytes]:
        """The records in `"probe": [record, …]`, or the elements themselves."""
        for element in found:
            if element.startswith(b'"'):
                yield from elements(ArraySplitter(), element.partition(b":")[2])
            else:
                yield element


class _Listing(RequestGenerator):  # type: ignore[misc]
    """A listing that asks as `_Asking` does, goes on after a page without objects, and gives each object once.

    A listing that changes while it is read shows objects of one page again on the next.
    """

    def __init__(self, atlas: AtlasSource, filters: dict[str, object]) -> None:
        self._atlas = atlas
        self._asked: set[str] = set()
        self._given: set[object] = set()
        super().__init__(server=atlas.server, **filters)

    def next_batch(self) -> None:
        """Get the next page that has objects, or the last one."""
        self.current_batch: list[dict[str, Any]] = []
        while self.atlas_url and not self.current_batch:
            request = _Asking(self._atlas, url_path=self.atlas_url)
            page = request.answer()
            objects = page.get("results") if isinstance(page, dict) else None
            if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
                raise self._atlas.not_atlas(
                    request.url, page, "a JSON object with a list of objects (results)"
                )
            if self.atlas_url in self._asked:
                raise SourceError(
                    "a page that leads back to itself", where=request.url, expected="a next page"
                )
            self._asked.add(self.atlas_url)
            self.total_count = page.get("count")
            try:
                self.atlas_url: str | None = self.build_next_url(page.get("next"))
            except (AttributeError, TypeError, ValueError) as error:
                raise self._atlas.not_atlas(
                    request.url, page.get("next"), "the address of the next page, or null"
                ) from error
            for one in objects:
                number = one.get("id")
                if not isinstance(number, int):
                    raise self._atlas.not_atlas(request.url, one, "objects with an id")
                if number not in self._given:
                    self._given.add(number)
                    self.current_batch.append(one)


class _Probes(_Listing, ProbeRequest):  # type: ignore[misc]
    pass


class _Anchors(_Listing, AnchorRequest):  # type: ignore[misc]
    pass


class _Measurements(_Listing, MeasurementRequest):  # type: ignore[misc]
    pass


def _innermost(error: BaseException) -> BaseException:
    inner = error.__cause__ or error.__context__
    return error if inner is None else _innermost(inner)


def _refusal(body: bytes) -> str:
    """Atlas's own words about a refusal; empty where there are none."""
    try:
        error = orjson.loads(body)["error"]
        words = [
            error.get("title"),
            error.get("detail"),
            *(one.get("detail") for one in error.get("errors", [])),
        ]
    except (orjson.JSONDecodeError, RecursionError, AttributeError, KeyError, TypeError):
        words = []
    return ": ".join(word for word in words if isinstance(word, str))
