"""The RIPE Atlas API v2, through cousteau's request classes.

They are subclassed where they fall short: they wait for ever, ask once, turn every failure into `(False, message)`,
and stop paging at the first page without objects. https://atlas.ripe.net/docs/apis/rest-api-reference/
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import requests
from ripe.atlas.cousteau import (
    AnchorRequest,
    AtlasRequest,
    AtlasResultsRequest,
    MeasurementRequest,
    ProbeRequest,
)
from ripe.atlas.cousteau.api_listing import RequestGenerator
from tenacity import (
    RetryCallState,
    Retrying,
    retry_any,
    retry_if_exception,
    retry_if_result,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from domain.errors import (
    InputError,
    NotFoundError,
    SourceError,
    UnreachableError,
    UntrustedError,
)
from ingest.batch import Batch, bounds_of

_PROBES_A_REQUEST = 500  # what cousteau's own listings put in one address
_PAGE_OBJECTS = 500  # the most that Atlas gives
_PASSING_STATUS = frozenset({429, 500, 502, 503, 504})
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AtlasSource:
    """Atlas, or something that answers like it.

    Attributes:
        server: host, or host:port; always asked by https.
        verify: whether to check its certificate, or the file of the authorities to trust.
        api_key: needed for measurements that are not public.
        timeout_s: longest wait for a connection, and for each part of an answer.
        attempts: how often to ask, while there is a chance that the trouble passes.
        first_wait_s: wait before the second attempt; it doubles each time, with jitter.
        slice_length: time span asked for in one request of results.

    Raises:
        NotFoundError: when the file of authorities is not there.
        InputError: when the key, or the file of authorities, cannot be one.
    """

    server: str = "atlas.ripe.net"
    verify: bool | Path = True
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    attempts: int = 4
    first_wait_s: float = 1.0
    slice_length: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
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

        Args:
            msm_id: the measurement.
            start: aware time.
            stop: aware time.
            probe_ids: only these probes; empty means all.

        Raises:
            InputError: when the times are naive or leave nothing between them.
            UntrustedError: when the server's certificate cannot be trusted.
            UnreachableError: when nothing answers there.
            SourceError: when the answer is a refusal, or is not what the API answers.
        """
        if start.tzinfo is None or stop.tzinfo is None or start >= stop:
            raise InputError("no span of time", found=f"{start} to {stop}", expected="aware times, in order")
        # Timestamps of results are whole seconds; the API includes both its bounds.
        first_s, end_s = math.ceil(start.timestamp()), math.ceil(stop.timestamp())
        step_s = int(self.slice_length.total_seconds())
        groups = [
            probe_ids[at : at + _PROBES_A_REQUEST] for at in range(0, len(probe_ids), _PROBES_A_REQUEST)
        ]
        for slice_s in range(first_s, end_s, step_s):
            last_s = min(slice_s + step_s, end_s) - 1
            for group in groups or [()]:
                request = _Results(
                    self,
                    msm_id=msm_id,
                    start=datetime.fromtimestamp(slice_s, tz=UTC),
                    stop=datetime.fromtimestamp(last_s, tz=UTC),
                    probe_ids=list(group),
                )
                records = request.answer()
                if not isinstance(records, list):
                    raise self.not_atlas(request.url, records, "a JSON array of results")
                source = f"{request.url}?start={slice_s}&stop={last_s}"
                data, begin, end = bounds_of(map(orjson.dumps, records))
                yield Batch(
                    source=source,
                    first_position=0,
                    data=data,
                    begin=begin,
                    end=end,
                    read_at=datetime.now(UTC),
                )

    def probes(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Probe objects, as the API has them.

        Args:
            ids: only these; None means all.
            **filters: the API's own, such as `country_code="LB"`.

        Raises:
            SourceError: as for `results`.
        """
        return self._listed(_Probes, ids, filters)

    def anchors(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Anchor objects; `ids` are those of anchors, not of their probes.

        Raises:
            SourceError: as for `results`.
        """
        return self._listed(_Anchors, ids, filters)

    def measurements(self, ids: Sequence[int] | None = None, **filters: object) -> Iterator[dict[str, Any]]:
        """Measurement objects, as the API has them.

        Raises:
            SourceError: as for `results`.
        """
        return self._listed(_Measurements, ids, filters)

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


class _Asking(AtlasRequest):  # type: ignore[misc] # cousteau has no types
    """A request that waits so long and no longer, asks again, and fails with our errors."""

    def __init__(self, atlas: AtlasSource, **arguments: object) -> None:
        verify = str(atlas.verify) if isinstance(atlas.verify, Path) else atlas.verify
        super().__init__(server=atlas.server, verify=verify, key=atlas.api_key, **arguments)
        self._atlas = atlas
        self.http_method_args["timeout"] = atlas.timeout_s

    def answer(self) -> Any:
        """The answer's JSON.

        Raises:
            SourceError: when there is none.
        """
        return self.get()[1]

    def get_http_method(self, method: str) -> requests.Response:
        """Ask, and ask again while the trouble may pass; the last outcome counts."""
        atlas = self._atlas
        ask = Retrying(
            stop=stop_after_attempt(atlas.attempts),
            wait=wait_exponential(multiplier=atlas.first_wait_s, max=_LONGEST_WAIT_S)
            + wait_random(0.0, atlas.first_wait_s),
            retry=retry_any(retry_if_exception(_may_pass), retry_if_result(_is_busy)),
            retry_error_callback=_last_outcome,
        )
        response: requests.Response = ask(super().get_http_method, method)
        return response

    def http_method(self, method: str) -> tuple[bool, Any]:
        """What cousteau returns of a success; a failure is raised.

        Raises:
            SourceError: or one of its kinds.
        """
        self.build_url()
        try:
            response = self.get_http_method(method)
        except requests.exceptions.RequestException as error:
            raise self._failure(error) from error
        if not response.ok:
            raise SourceError(
                f"the source answers with status {response.status_code}",
                where=self.url,
                found=self._atlas.masked(_refusal(response)),
                expected="status 200",
            )
        try:
            return True, orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise self._atlas.not_atlas(self.url, response.text, "JSON") from error
        except RecursionError as error:
            raise self._atlas.not_atlas(self.url, "lists nested too deep", "JSON of a few levels") from error

    def _failure(self, error: requests.exceptions.RequestException) -> SourceError:
        cause = _innermost(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UntrustedError(
                "the source's certificate is not trusted",
                where=self.url,
                found=cause.verify_message,
                expected="a certificate of a trusted authority",
                next_step="check the address, or name the file of the authority that signed it",
            )
        if isinstance(error, requests.exceptions.SSLError):
            return SourceError("no TLS with the source", where=self.url, found=str(cause), expected="https")
        if isinstance(error, requests.exceptions.Timeout):
            found = f"nothing within {self._atlas.timeout_s:g} s"
        elif isinstance(
            error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError
        ):
            found = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
        else:
            return SourceError("the source cannot be asked", where=self.url, found=str(cause))
        return UnreachableError(
            "the source does not answer",
            where=self.url,
            found=found,
            expected=f"an answer at one of {self._atlas.attempts} attempts",
            next_step="check the address and the network, or try again later",
        )


class _Results(_Asking, AtlasResultsRequest):  # type: ignore[misc]
    pass


class _Listing(RequestGenerator):  # type: ignore[misc]
    """A listing that asks as `_Asking` does, and goes on after a page without objects."""

    def __init__(self, atlas: AtlasSource, filters: dict[str, object]) -> None:
        self._atlas = atlas
        self._asked: set[str] = set()
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
            self.current_batch = objects


class _Probes(_Listing, ProbeRequest):  # type: ignore[misc]
    pass


class _Anchors(_Listing, AnchorRequest):  # type: ignore[misc]
    pass


class _Measurements(_Listing, MeasurementRequest):  # type: ignore[misc]
    pass


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, requests.exceptions.SSLError):
        return not isinstance(_innermost(error), ssl.SSLCertVerificationError)
    return isinstance(
        error,
        requests.exceptions.ConnectionError
        | requests.exceptions.Timeout
        | requests.exceptions.ChunkedEncodingError,
    )


def _is_busy(response: requests.Response) -> bool:
    return response.status_code in _PASSING_STATUS


def _last_outcome(state: RetryCallState) -> Any:
    if state.outcome is None:
        raise AssertionError("tenacity gave up before it began")
    return state.outcome.result()


def _innermost(error: BaseException) -> BaseException:
    inner = error.__cause__ or error.__context__
    return error if inner is None else _innermost(inner)


def _refusal(response: requests.Response) -> str:
    """Atlas's own words about a refusal."""
    try:
        error = orjson.loads(response.content)["error"]
        words = [
            error.get("title"),
            error.get("detail"),
            *(one.get("detail") for one in error.get("errors", [])),
        ]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        words = []
    said = ": ".join(word for word in words if isinstance(word, str))
    return said if said else str(response.reason)
