"""`make neo4j`: a server for a user without Docker, in the foreground. Its data stay in `.neo4j/home`.

Given a command, it runs that with the server's address and password in the environment, and then stops the server.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

from tests.neo4j.server import CACHE, USER, Neo4jServer, NoServerError, free_port, password_of

PORT = 7687
USAGE = """\
Neo4j answers at {address}; its data are in {home}. In another terminal:

    export QOETWIN_STORE={address} NEO4J_USER={user} NEO4J_PASSWORD="$(cat {home}/password)"
    qoetwin graph build --window 3h

Ctrl-C stops it.
"""


def usual_port() -> int:
    """Neo4j's own port, or another where somebody listens on it already."""
    with socket.socket() as probe:
        return free_port() if probe.connect_ex(("127.0.0.1", PORT)) == 0 else PORT


def main() -> int:
    home = CACHE / "home"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Neo4jServer(home=home, port=usual_port(), password=password_of(home)) as server:
            if sys.argv[1:]:
                login = {"QOETWIN_STORE": server.uri, "NEO4J_USER": USER, "NEO4J_PASSWORD": server.password}
                return subprocess.run(sys.argv[1:], env=os.environ | login, check=False).returncode
            sys.stdout.write(USAGE.format(address=server.uri, home=home, user=USER))
            sys.stdout.flush()
            threading.Event().wait()
    except NoServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
