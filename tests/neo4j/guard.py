"""The database that tests write into: one of our own, or, under a guard, one that `NEO4J_URI` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import neo4j

from domain.credentials import Credentials
from tests.neo4j.server import Neo4jServer

MARK = "QoetwinTest"
"""Label of the node that tests leave in a database that they may empty."""

ALLOWED = "QOETWIN_TEST_WRITES"
HOW_TO_RUN = (
    "the tests on Neo4j need Java 17 and, once, Maven (Debian: apt install openjdk-17-jre-headless maven), or a server"
    " that NEO4J_URI, NEO4J_USER and NEO4J_PASSWORD name, which they empty"
)


class NotOursError(Exception):
    """The database holds what tests did not write, so they must not empty it."""


@dataclass(frozen=True, kw_only=True)
class TestDatabase:
    """Where tests keep a graph in Neo4j.

    Attributes:
        address: of the server.
        credentials: of a user who may make constraints.
        server: it, where it is our own, to be stopped and started.
    """

    __test__ = False

    address: str
    credentials: Credentials
    server: Neo4jServer | None

    def driver(self) -> neo4j.Driver:
        """A driver; close it."""
        return neo4j.GraphDatabase.driver(
            self.address,
            auth=(self.credentials.user, self.credentials.password),
            notifications_min_severity="OFF",
        )

    def guard(self, environment: Mapping[str, str] = os.environ) -> None:
        """Refuse a database of somebody else; mark one that we may empty.

        Raises:
            NotOursError: when it holds something, and no mark of ours.
        """
        with self.driver() as driver, driver.session(database="neo4j") as session:
            ours = session.run(f"MATCH (n:{MARK}) RETURN count(n) > 0").single(strict=True)[0]
            used = session.run("MATCH (n) WITH n LIMIT 1 RETURN count(n) > 0").single(strict=True)[0]
            if used and not ours and environment.get(ALLOWED) != "yes":
                raise NotOursError(
                    f"the database at {self.address} holds something that these tests did not write; they empty the"
                    f" database, so give them another, or set {ALLOWED}=yes"
                )
            session.run(f"MERGE (:{MARK})").consume()

    def clear(self) -> None:
        """Empty the database, in batches that fit in a small server; the mark and the constraints stay."""
        self.guard()
        batches = "IN TRANSACTIONS OF 10000 ROWS"
        with self.driver() as driver, driver.session(database="neo4j") as session:
            session.run(f"MATCH ()-[r]->() CALL (r) {{ DELETE r }} {batches}").consume()
            session.run(f"MATCH (n) WHERE NOT n:{MARK} CALL (n) {{ DETACH DELETE n }} {batches}").consume()
