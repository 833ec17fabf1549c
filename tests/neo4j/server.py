"""A real Neo4j without Docker: fetch its jars once, start it on its own port and folder, stop it."""

from __future__ import annotations

import atexit
import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import neo4j
from neo4j.exceptions import ClientError, DriverError

HERE = Path(__file__).parent
POM = HERE / "pom.xml"
CACHE = HERE.parents[1] / ".neo4j"
"""Jars, and the data of `make neo4j`; git ignores it."""

USER = "neo4j"
STARTS_WITHIN_S = 120.0
SMALL = ("-XX:+UseSerialGC",)
"""Options of Java for a small server on few cores. Compiling less would start it sooner, and make the tests longer."""

_OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in ("java.nio", "java.io", "sun.nio.ch")]


class NoServerError(Exception):
    """Neo4j cannot be fetched or started here; the message says why."""


def version() -> str:
    """The version in `pom.xml`."""
    found = re.search(r"<neo4j.version>(.+?)</neo4j.version>", POM.read_text())
    assert found is not None
    return found[1]


def jars() -> Path:
    """The folder of Neo4j's jars; fetched with Maven (123 MB) when it is not there yet.

    Raises:
        NoServerError: without Maven, or when it fails.
    """
    folder = CACHE / f"lib-{version()}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise NoServerError(
            "Neo4j's jars are not here yet, and Maven (mvn), which fetches them, is not installed"
        )
    CACHE.mkdir(exist_ok=True)
    with (
        (CACHE / "lock").open("w") as lock,
        tempfile.TemporaryDirectory(dir=CACHE) as fresh,  # beside the target: whole, or not there
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven's own folder wants one writer
        if folder.is_dir():
            return folder
        command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={fresh}/lib", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NoServerError(f"Maven cannot fetch Neo4j: {done.stdout[-2000:]}{done.stderr[-500:]}")
        Path(fresh, "lib").rename(folder)
    return folder


def free_port() -> int:
    """A port on the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(kw_only=True)
class Neo4jServer:
    """A server in a folder of its own, listening on the loopback address only, with a password.

    Attributes:
        home: the folder; a second server in it finds the data of the first.
        port: where it speaks Bolt.
        password: of the user `neo4j`.
        heap: most of Java's heap.
        java: further options of Java.
    """

    home: Path
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    heap: str = "512m"
    java: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """Its address."""
        return f"bolt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            NoServerError: without Java, or when it does not start.
        """
        java = shutil.which("java")
        if java is None:
            raise NoServerError("Java, which Neo4j runs on, is not installed")
        library = jars()
        for name in ("data", "conf", "logs", "plugins", "import", "run", "lib"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        (self.home / "conf" / "neo4j.conf").write_text(self._settings())
        command = [java, f"-Xmx{self.heap}", *self.java, *_OPENS, "-cp", f"{library}/*"]
        command += ["org.neo4j.server.CommunityEntryPoint", f"--home-dir={self.home}"]
        command += [f"--config-dir={self.home / 'conf'}"]
        with (self.home / "logs" / "java.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        atexit.register(self.kill)  # also where nobody gets to stop it
        self._wait()
        return self

    def _settings(self) -> str:
        return "\n".join(
            (
                f"server.bolt.listen_address=127.0.0.1:{self.port}",
                f"server.bolt.advertised_address=127.0.0.1:{self.port}",
                "server.http.enabled=false",
                "server.https.enabled=false",
                "dbms.usage_report.enabled=false",
                "server.memory.pagecache.size=64m",
                "dbms.security.auth_enabled=true",
                "internal.server.bolt.thread_pool_shutdown_wait_time=1s",
                "",
            )
        )

    def _wait(self) -> None:
        until = time.monotonic() + STARTS_WITHIN_S
        while True:
            assert self._process is not None
            if self._process.poll() is not None:
                raise NoServerError(f"Neo4j ended as soon as it was started: {self._log()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    pass
                self._set_password()
                return
            except (OSError, DriverError) as error:
                if time.monotonic() > until:
                    self.kill()
                    raise NoServerError(f"Neo4j does not answer: {error}; {self._log()}") from error
                time.sleep(0.1)

    def _set_password(self) -> None:
        """A new server has the password neo4j, and asks for another before it does anything."""
        try:
            with neo4j.GraphDatabase.driver(self.uri, auth=(USER, self.password)) as driver:
                driver.verify_connectivity()
            return
        except ClientError:
            pass
        with neo4j.GraphDatabase.driver(self.uri, auth=(USER, "neo4j")) as driver:
            driver.execute_query(
                "ALTER CURRENT USER SET PASSWORD FROM $old TO $new",
                old="neo4j",
                new=self.password,
                database_="system",
            )

    def _log(self) -> str:
        logs = (self.home / "logs" / name for name in ("java.log", "neo4j.log"))
        return "".join(log.read_text(errors="replace")[-1500:] for log in logs if log.exists())

    def stop(self) -> None:
        """Stop it as an administrator would."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """Stop it as a power cut would (kill -9)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def password_of(home: Path) -> str:
    """The password of the server kept in a folder; made up when it is new, and readable by its owner only."""
    kept = home / "password"
    if not kept.exists():
        home.mkdir(parents=True, exist_ok=True)
        with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - the mode
            file.write(secrets.token_urlsafe(12))
    return kept.read_text()
