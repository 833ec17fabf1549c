"""A connection to Neo4j: units of work that are tried again, and the driver's errors in our words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import (
    AuthError,
    ConfigurationError,
    ConnectionPoolError,
    ConstraintError,
    DriverError,
    Forbidden,
    ForbiddenOnReadOnlyDatabase,
    IncompleteCommit,
    Neo4jError,
    NotALeader,
    ServiceUnavailable,
    SessionExpired,
    UnsupportedServerProduct,
)

from domain.credentials import Credentials
from domain.errors import StoreError

Answer = TypeVar("Answer")
Work = Callable[[neo4j.ManagedTransaction], Answer]

OLDEST = (5, 26)
"""The oldest server that we speak to: `CALL (x) { … }`, relationship uniqueness, and a long-term release."""

DATABASE = "neo4j"
"""The one database of the Community edition, unless the address names another."""

RETRY_S = 60.0
"""How long a unit of work is tried again while the server is away: one that starts again takes about 10 s."""

ANSWER_S = 15.0
"""How long a server may take to accept a connection and to say that it is a Neo4j."""

WORK_TIMEOUT_S = 300.0
"""After so long the server ends a unit of work, so that a client that hangs holds no lock for ever."""

_AGAIN = "what was written so far stays; run the same again, and it is finished"
_START = "start it with: docker compose up neo4j, or: make neo4j"


class Connection:
    """The driver, one database, and who asks.

    Args:
        address: `bolt://HOST:PORT`, and the like; `/NAME` after it names the database.
        credentials: None where the server asks for none.

    Raises:
        StoreError: when nothing answers there, or it is not a Neo4j that we can use.
    """

    def __init__(self, address: str, credentials: Credentials | None) -> None:
        parts = urlsplit(address)
        if "@" in parts.netloc:
            raise StoreError(
                "a password in an address ends up in logs",
                where=f"{parts.scheme}://…@{parts.netloc.rpartition('@')[2]}",
                expected="an address without one",
                next_step="set NEO4J_USER and NEO4J_PASSWORD",
            )
        self.where = address
        self.database = parts.path.strip("/") or DATABASE
        auth = None if credentials is None else (credentials.user, credentials.password)
        with self.mapped("cannot open the graph"):
            self._driver = neo4j.GraphDatabase.driver(
                parts._replace(path="").geturl(),
                auth=auth,
                notifications_min_severity="OFF",
                telemetry_disabled=True,
                liveness_check_timeout=30,
                connection_timeout=ANSWER_S,
                connection_acquisition_timeout=ANSWER_S,
                max_transaction_retry_time=RETRY_S,
            )
        try:
            with self.mapped("cannot open the graph"):
                agent = self._driver.get_server_info().agent
            self._refuse_old(agent)
        except BaseException:
            self._driver.close()
            raise

    def _refuse_old(self, agent: str) -> None:
        found = re.fullmatch(r"Neo4j/(\d+)\.(\d+).*", agent)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise StoreError(
                "cannot open the graph with this server",
                where=self.where,
                found=agent,
                expected=f"Neo4j {OLDEST[0]}.{OLDEST[1]} or newer",
            )

    def close(self) -> None:
        """Close the driver."""
        self._driver.close()

    def session(self, access: str, fetch_size: int = 1000) -> neo4j.Session:
        """A session; close it. Its errors are the driver's: see `mapped`."""
        return self._driver.session(database=self.database, default_access_mode=access, fetch_size=fetch_size)

    def read(self, work: Work[Answer], *, timeout_s: float | None = None) -> Answer:
        """Run a unit of work that writes nothing; the server refuses writes.

        Raises:
            StoreError: when it cannot be done.
        """
        bounded: Work[Answer] = neo4j.unit_of_work(timeout=timeout_s)(work)
        with (
            self.mapped("cannot read the graph"),
            self.session(neo4j.READ_ACCESS) as session,
        ):
            return session.execute_read(bounded)

    def write(self, work: Work[Answer]) -> Answer:
        """Run a unit of work that may be run again: after it, its effect is there once.

        The driver tries again when the server is away, or when two writers lock each other out. It does not where the
        server went away in the middle of a commit, or where another writer made the same node just before: we do, as
        all that we write is idempotent.

        Raises:
            StoreError: when it cannot be done.
        """
        bounded: Work[Answer] = neo4j.unit_of_work(timeout=WORK_TIMEOUT_S)(work)
        until = time.monotonic() + RETRY_S
        conflicts = 0
        with self.mapped("cannot write the graph"):
            while True:
                try:
                    with self.session(neo4j.WRITE_ACCESS) as session:
                        return session.execute_write(bounded)
                except IncompleteCommit:
                    if time.monotonic() > until:
                        raise
                except ConstraintError:
                    conflicts += 1
                    if conflicts > 5:
                        raise

    def schema(self, statement: str) -> None:
        """Make a constraint or an index, each in a transaction of its own.

        Raises:
            StoreError: when it cannot be made.
        """
        with (
            self.mapped("cannot make the graph's constraints"),
            self.session(neo4j.WRITE_ACCESS) as session,
        ):
            session.run(statement).consume()

    @contextmanager
    def mapped(self, what: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (Neo4jError, DriverError) as error:
            raise in_our_words(error, what, self.where, self.database) from error


def in_our_words(error: Neo4jError | DriverError, what: str, where: str, database: str) -> StoreError:
    """What an error of the driver or the server means, and what to do about it."""
    code = getattr(error, "code", None) or ""
    message = first_line(getattr(error, "message", None) or str(error))
    match error:
        case _ if "DatabaseNotFound" in code:
            return StoreError(
                f"{what}: there is no database {database!r}",
                where=where,
                next_step="name another after the address, as in bolt://HOST:7687/NAME",
            )
        case _ if "CredentialsExpired" in code:
            return StoreError(
                f"{what}: the password must be changed before it can be used",
                where=where,
                next_step="change it with Neo4j's own tools",
            )
        case AuthError():
            return StoreError(
                f"{what}: the server does not know this user with this password",
                where=where,
                next_step="set NEO4J_USER and NEO4J_PASSWORD",
            )
        case _ if "Timed" in code or "Transaction.Terminated" in code:
            return StoreError(f"{what}: it took too long, and was stopped", where=where)
        case _ if "OutOfMemory" in code:
            return StoreError(
                f"{what}: the server has too little memory for it",
                where=where,
                next_step="ask for less at once, or give the server more (server.memory.heap.max_size)",
            )
        case ForbiddenOnReadOnlyDatabase() | NotALeader():
            return StoreError(f"{what}: the database takes no writes", where=where)
        case _ if "WriteOnReadOnlyAccessDatabase" in code or "AccessMode" in code:
            return StoreError(f"{what}: the database takes no writes", where=where)
        case Forbidden():
            return StoreError(f"{what}: this user may not", where=where, found=message)
        case ConstraintError():
            return StoreError(f"{what}: it breaks a constraint", where=where, found=message)
        case IncompleteCommit():
            return StoreError(
                f"{what}: the server went away while it committed", where=where, next_step=_AGAIN
            )
        case UnsupportedServerProduct():
            return StoreError(f"{what}: not a Neo4j server that we can use", where=where, found=message)
        case ServiceUnavailable() | SessionExpired() | ConnectionPoolError():
            next_step = _AGAIN if what == "cannot write the graph" else _START
            return StoreError(f"{what}: no Neo4j answers", where=where, found=message, next_step=next_step)
        case ConfigurationError():
            return StoreError(f"{what}: the address cannot be used", where=where, found=message)
        case _:
            found = message + (f" ({code})" if code else "")
            return StoreError(what, where=where, found=found)


def first_line(text: str) -> str:
    """The first line of a message; what follows repeats the query."""
    return text.strip().partition("\n")[0]
