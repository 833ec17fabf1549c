"""The command line, run in this process as a user would run it; and an Atlas that fails on order."""

from __future__ import annotations

import json
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest

from app.cli import main
from testbed.certificate import make_certificates
from testbed.server import TestbedServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Run]


@pytest.fixture
def qoetwin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run `qoetwin` with arguments."""

    def run(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["qoetwin", *map(str, arguments)])
        monkeypatch.setattr(sys, "warnoptions", ["error"])  # warnings stay errors here
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Run(code=code if isinstance(code, int) else 0, out=said.out, err=said.err)

    return run


@dataclass
class Relay:
    """A server between a client and the synthetic Atlas, which fails on order, and keeps what it was asked for.

    Attributes:
        address, certificate: how it is reached.
        asked: measurement, first and last second of each request for results that was answered well.
        keys: what was sent as a key.
        fails: status and body of a bad answer, by path; None answers well.
        listing: measurement objects that it lists instead of those of the synthetic Atlas.
        empty: no results are given, as if nothing was measured.
        hangs_after: so many requests for results are answered, and then none.
    """

    address: str
    certificate: Path
    atlas: TestbedServer
    asked: list[tuple[int, int, int]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    fails: Callable[[str], tuple[int, bytes] | None] = lambda path: None
    listing: list[dict[str, Any]] | None = None
    empty: bool = False
    hangs_after: int | None = None
    released: threading.Event = field(default_factory=threading.Event)
    """Set, those who hang are sent away."""

    def answer(self, target: str) -> tuple[int, bytes]:
        url = urlsplit(target)
        failure = self.fails(url.path)
        if failure is not None:
            return failure
        parts = url.path.strip("/").split("/")
        if parts[2:] == ["measurements"] and self.listing is not None:
            return 200, json.dumps({"results": self.listing, "next": None}).encode()
        if parts[-1] != "results":
            return self._forward(target)
        if self.hangs_after is not None and len(self.asked) >= self.hangs_after:
            self.released.wait(30)
            return 404, b"{}"
        query = parse_qs(url.query)
        answered = (200, b"[]") if self.empty else self._forward(target)
        self.asked.append((int(parts[3]), int(query["start"][0]), int(query["stop"][0])))
        return answered

    def _forward(self, target: str) -> tuple[int, bytes]:
        trusted = ssl.create_default_context(cafile=self.atlas.certificate)
        with urlopen(f"https://{self.atlas.address}{target}", context=trusted) as answer:
            return answer.status, answer.read()


@pytest.fixture(scope="session")
def relay_server(atlas: TestbedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    folder = tmp_path_factory.mktemp("relay")
    authority, presented = make_certificates(folder)
    relay = Relay(address="", certificate=authority, atlas=atlas)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            relay.keys.append(self.headers["Authorization"])
            status, body = relay.answer(self.path)
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                pass  # who asked was killed, or has stopped waiting, which is what is tested

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # likewise

    http = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(presented)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    relay.address = f"127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield relay
    relay.released.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def relay(relay_server: Relay, atlas: TestbedServer) -> Iterator[Relay]:
    """The relay, as if nobody had asked it yet."""
    relay_server.atlas = atlas
    relay_server.asked.clear()
    relay_server.keys.clear()
    relay_server.fails = lambda path: None
    relay_server.listing = relay_server.hangs_after = None
    relay_server.empty = False
    relay_server.released.clear()
    yield relay_server
    relay_server.released.set()
