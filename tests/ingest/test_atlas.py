"""The API source, against a real https server of the test's own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import logging
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from domain.errors import (
    InputError,
    NotFoundError,
    QoetwinError,
    SourceError,
    UnreachableError,
    UntrustedError,
)
from ingest.atlas import AtlasSource
from ingest.parse import parse_batch

Make = Callable[..., dict[str, Any]]

KEY = "0123-not-a-real-key"
START = dt.datetime(2019, 5, 13, tzinfo=dt.UTC)


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"[]"
    delay_s: float = 0.0
    announced: int | None = None
    pieces: Iterator[bytes] | None = None
    head: Iterator[bytes] | None = None


@dataclass
class Server:
    """Gives its answers in turn (the last again and again), or those of `respond`; keeps what it was asked."""

    address: str
    certificate: Path
    answers: list[Answer] = field(default_factory=list)
    respond: Callable[[str, dict[str, str]], object] | None = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def source(self, **settings: Any) -> AtlasSource:
        chosen: dict[str, Any] = {
            "verify": self.certificate,
            "timeout_s": 5.0,
            "first_wait_s": 0.01,
        } | settings
        return AtlasSource(server=self.address, **chosen)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    certificate, key = write_certificate(tmp_path_factory.mktemp("certificate"))

    state = Server(address="", certificate=certificate)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            parameters = {name: values[0] for name, values in parse_qs(parts.query).items()}
            state.asked.append((parts.path, parameters))
            state.keys.append(self.headers["Authorization"])
            if state.respond is not None:
                found = state.respond(parts.path, parameters)
                answer = found if isinstance(found, Answer) else Answer(body=orjson.dumps(found))
            else:
                answer = state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]
            time.sleep(answer.delay_s)
            try:
                for letter in answer.head or ():
                    self.wfile.write(letter)
                    time.sleep(0.02)
                self.send_response(answer.status)
                if answer.pieces is not None:
                    self.end_headers()  # its end is that of the connection
                    for piece in answer.pieces:
                        self.wfile.write(piece)
                    return
                length = len(answer.body) if answer.announced is None else answer.announced
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                pass  # the client has stopped waiting, which is what is tested

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    state.address = f"127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def server(running: Server) -> Server:
    running.answers, running.respond = [Answer()], None
    running.asked.clear()
    running.keys.clear()
    return running


def results(source: AtlasSource, days: float = 1 / 24, **more: Any) -> list[Any]:
    batches = source.results(1001, START, START + dt.timedelta(days=days), **more)
    return [record for batch in batches for record in batch.records]


def test_results_come_as_batches_that_the_parser_takes(server: Server, ping: Make) -> None:
    server.answers = [Answer(body=orjson.dumps([ping(prb_id=number) for number in (1, 2, 3)]))]
    (batch,) = server.source().results(1001, START, START + dt.timedelta(hours=1))
    assert parse_batch(batch).pings.column("probe_id").to_pylist() == [1, 2, 3]
    assert batch.source.startswith(f"https://{server.address}/api/v2/measurements/1001/results?start=")
    assert (batch.first_position, batch.cut) == (0, None)


def test_a_long_span_is_asked_in_slices_that_neither_overlap_nor_leave_a_gap(server: Server) -> None:
    beirut = dt.timezone(dt.timedelta(hours=3))
    start = dt.datetime(2019, 5, 13, 3, tzinfo=beirut)
    list(server.source().results(1001, start, start + dt.timedelta(days=2, hours=1), probe_ids=(4, 5)))
    first = int(START.timestamp())
    spans = [(int(asked["start"]) - first, int(asked["stop"]) - first) for _, asked in server.asked]
    assert [begin for begin, _ in spans] == [0, *(end + 1 for _, end in spans[:-1])]
    assert spans[-1][1] == (2 * 24 + 1) * 3600 - 1
    lengths = [end - begin + 1 for begin, end in spans]
    assert lengths == [3600, 7200, 14400, 28800, 57600, 64800]
    assert max(lengths) <= 86400
    assert {asked["probe_ids"] for _, asked in server.asked} == {"4,5"}
    assert {path for path, _ in server.asked} == {"/api/v2/measurements/1001/results"}


def test_many_probes_are_asked_for_in_several_requests(server: Server) -> None:
    results(server.source(), days=0.04, probe_ids=range(1, 1202))
    assert [len(asked["probe_ids"].split(",")) for _, asked in server.asked] == [500, 500, 201]


def test_memory_is_bounded_by_the_answer_that_is_wanted_not_by_the_span(server: Server, ping: Make) -> None:
    record = orjson.dumps(ping())

    def a_record_a_second(path: str, asked: dict[str, str]) -> object:
        seconds = int(asked["stop"]) - int(asked["start"]) + 1
        whole, rest = divmod(seconds - 1, 100)
        pieces = chain([b"[" + record], repeat((b"," + record) * 100, whole), [(b"," + record) * rest + b"]"])
        return Answer(pieces=pieces)

    server.respond = a_record_a_second
    source = server.source(most_bytes=300_000)
    list(source.results(1001, START, START + dt.timedelta(minutes=1)))
    count = 0
    tracemalloc.start()
    for batch in source.results(1001, START, START + dt.timedelta(hours=10)):
        count += len(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 36_000
    assert count * len(record) > 12_000_000
    assert peak < 4_000_000


def test_latest_results_may_be_an_object_of_arrays_as_the_manual_has_it(server: Server, ping: Make) -> None:
    by_probe = {str(number): [ping(prb_id=number, dst_name='a:"b"')] for number in (1, 2, 3)}
    server.answers = [Answer(body=orjson.dumps(by_probe))]
    (batch,) = server.source().latest(1001)
    assert [orjson.loads(record)["prb_id"] for record in batch.records] == [1, 2, 3]
    assert server.asked[0][0] == "/api/v2/measurements/1001/latest"
    for body in (b'{"1": [', b'{"1": [{}]} x'):
        server.answers = [Answer(body=body)]
        with pytest.raises(SourceError, match="not what the Atlas API answers"):
            list(server.source().latest(1001))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_trouble_that_passes_is_waited_out(server: Server, ping: Make, status: int) -> None:
    server.answers = [Answer(status=status), Answer(status=status), Answer(body=orjson.dumps([ping()]))]
    assert len(results(server.source())) == 1
    assert len(server.asked) == 3


def test_trouble_that_does_not_pass_ends_after_the_attempts(server: Server) -> None:
    server.answers = [Answer(status=500, body=b"<html>oops</html>")]
    with pytest.raises(SourceError, match="status 500") as error:
        results(server.source(attempts=3))
    assert len(server.asked) == 3
    assert error.value.found == "status 500: Internal Server Error"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InputError), (401, SourceError), (403, SourceError), (404, NotFoundError)]
)
def test_a_refusal_is_told_in_atlas_s_own_words_and_not_asked_again(
    server: Server, status: int, kind: type[QoetwinError]
) -> None:
    refusal = {"error": {"status": status, "code": 104, "title": "Not so", "detail": "No such measurement"}}
    server.answers = [Answer(status=status, body=orjson.dumps(refusal))]
    with pytest.raises(kind, match=f"status {status}: Not so: No such measurement"):
        results(server.source())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'[{"af": 4', b'{"results": []}', b"7", b"\xff\xfe", b"[] []", b'[{"af": 4}] x']
)
def test_an_answer_that_is_not_an_array_of_results_is_an_error(server: Server, body: bytes) -> None:
    server.answers = [Answer(body=body)]
    with pytest.raises(SourceError, match="not what the Atlas API answers"):
        results(server.source())


def test_a_slow_answer_is_waited_for_so_long_and_no_longer(server: Server) -> None:
    server.answers = [Answer(delay_s=0.5), Answer(delay_s=0.5), Answer()]
    assert results(server.source(timeout_s=0.1)) == []
    server.answers = [Answer(delay_s=0.5)]
    with pytest.raises(UnreachableError, match=r"nothing within 0\.1 s"):
        results(server.source(timeout_s=0.1, attempts=2))


def test_the_head_of_an_answer_that_drips_is_not_waited_for_without_end(server: Server) -> None:
    server.answers = [Answer(head=repeat(b"H", 500))]
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match=r"nothing within 0\.2 s"):
        results(server.source(timeout_s=0.2, attempts=2))
    assert time.monotonic() - begun < 3.0


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server, ping: Make) -> None:
    body = orjson.dumps([ping()])
    server.answers = [Answer(body=body[:40], announced=len(body)), Answer(body=body)]
    assert len(results(server.source())) == 1


def test_an_untrusted_certificate_is_an_error_of_its_own_and_not_asked_again(server: Server) -> None:
    with pytest.raises(UntrustedError, match="certificate") as error:
        results(server.source(verify=True, first_wait_s=60.0))
    assert server.asked == []
    assert error.value.next_step is not None


def test_a_certificate_of_another_host_is_not_trusted(server: Server) -> None:
    source = AtlasSource(
        server=server.address.replace("127.0.0.1", "localhost"), verify=server.certificate, first_wait_s=60.0
    )
    with pytest.raises(UntrustedError, match="localhost"):
        results(source)


def test_nothing_listening_is_unreachable() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, not listening: the port is nobody else's
        port = bound.getsockname()[1]
        source = AtlasSource(server=f"127.0.0.1:{port}", attempts=2, first_wait_s=0.01)
        with pytest.raises(UnreachableError, match="Connection refused"):
            results(source)
        with pytest.raises(UnreachableError, match="Connection refused"):
            list(source.probes())


def test_a_listing_follows_its_pages_also_past_one_without_objects(server: Server) -> None:
    def page(path: str, asked: dict[str, str]) -> object:
        number = int(asked.get("page", "1"))
        objects = {1: [{"id": 1}, {"id": 2}], 2: [], 3: [{"id": 3}]}[number]
        following = f"https://elsewhere.example{path}?page={number + 1}&country_code={asked['country_code']}"
        return {"count": 3, "next": following if number < 3 else None, "previous": None, "results": objects}

    server.respond = page
    assert [probe["id"] for probe in server.source().probes(country_code="LB")] == [1, 2, 3]
    assert {path for path, _ in server.asked} == {"/api/v2/probes/"}
    assert server.asked[0][1] == {"country_code": "LB", "page_size": "500"}


def test_probes_anchors_and_measurements_have_their_own_addresses(server: Server) -> None:
    server.respond = lambda path, asked: {"count": 0, "next": None, "results": []}
    source = server.source()
    assert (
        list(source.probes(ids=(5, 6))) == list(source.anchors()) == list(source.measurements(ids=[7])) == []
    )
    assert list(source.probes(ids=())) == []  # none asked for is not all
    assert [(path, asked.get("id__in")) for path, asked in server.asked] == [
        ("/api/v2/probes/", "5,6"),
        ("/api/v2/anchors/", None),
        ("/api/v2/measurements/", "7"),
    ]


def test_thousands_of_ids_are_asked_for_in_parts_and_none_is_lost(server: Server) -> None:
    def page(path: str, asked: dict[str, str]) -> object:
        ids = [int(one) for one in asked["id__in"].split(",")]
        return {"count": 1, "next": None, "results": [{"id": one} for one in ids if one > 2000]}

    server.respond = page
    found = [probe["id"] for probe in server.source().probes(ids=range(1000, 3000))]
    assert found == list(range(2001, 3000))


def test_a_value_of_a_filter_cannot_add_another_filter(server: Server) -> None:
    server.respond = lambda path, asked: {"count": 0, "next": None, "results": []}
    list(server.source().measurements(description__contains="a&b=c d"))
    assert server.asked[0][1]["description__contains"] == "a&b=c d"


@pytest.mark.parametrize("page", [[], {"results": 5}, {"results": [1]}, {"detail": "x"}])
def test_a_page_that_is_none_is_an_error(server: Server, page: object) -> None:
    server.respond = lambda path, asked: page
    with pytest.raises(SourceError, match="not what the Atlas API answers"):
        list(server.source().probes())


@pytest.mark.parametrize("following", [5, {"a": 1}, "http://[::bad"])
def test_a_next_page_that_has_no_address_is_an_error(server: Server, following: object) -> None:
    server.respond = lambda path, asked: {"next": following, "results": [{"id": 1}]}
    with pytest.raises(SourceError, match="not what the Atlas API answers"):
        list(server.source().probes())


def test_a_page_that_leads_back_to_itself_is_an_error(server: Server) -> None:
    server.respond = lambda path, asked: {"next": f"https://x{path}?page=2", "results": [{"id": 1}]}
    with pytest.raises(SourceError, match="leads back"):
        list(server.source().probes())


def test_the_key_is_sent_and_never_shown(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = server.source(api_key=KEY)
    assert results(source) == []
    server.respond = lambda path, asked: {"results": []}
    list(source.probes())
    assert server.keys == [f"Key {KEY}"] * 2
    server.respond, server.answers = None, [Answer(status=403, body=b"no")]
    with pytest.raises(SourceError) as refused:
        results(source)
    with pytest.raises(UntrustedError) as untrusted:
        results(server.source(api_key=KEY, verify=True))
    with pytest.raises(InputError) as impossible:
        AtlasSource(api_key=f"{KEY}\n")
    told = {"error": {"title": "Forbidden", "detail": f"your key {KEY} may not"}}
    for answer in (
        Answer(status=403, body=orjson.dumps(told)),
        Answer(body=f"you sent {KEY}".encode()),
        Answer(body=orjson.dumps(told)),
    ):
        server.answers = [answer]
        with pytest.raises(SourceError, match=r"\*\*\*") as repeated:  # by a server that repeats it
            results(source)
        assert KEY not in str(repeated.value)
    for shown in (source, str(refused.value), str(untrusted.value), str(impossible.value), caplog.text):
        assert KEY not in repr(shown)


def test_what_cannot_be_asked_is_refused_before_asking(server: Server, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="certificates"):
        AtlasSource(verify=tmp_path / "none.pem")
    with pytest.raises(InputError, match="slice"):
        AtlasSource(slice_length=dt.timedelta(0))
    with pytest.raises(InputError, match="span"):
        results(server.source(), days=0)
    with pytest.raises(InputError, match="aware"):
        list(server.source().results(1, START.replace(tzinfo=None), START))
    assert server.asked == []
