"""`make neo4j`: a server for a user without Docker, in the foreground. Its data stay in `.neo4j/home`."""

from __future__ import annotations

import signal
import sys
import time

from tests.neo4j.server import CACHE, USER, Neo4jServer, NoServerError, free_port, password_of

PORT = 7687


def main() -> int:
    home = CACHE / "home"
    try:
        port = PORT
        try:
            import socket

            with socket.create_connection(("127.0.0.1", PORT), timeout=1):
                port = free_port()  # somebody else is there
        except OSError:
            pass
        with Neo4jServer(home=home, port=port, password=password_of(home)) as server:
            print(f"Neo4j answers at {server.uri}; its data are in {home}. In another terminal:\n")
            print(
                f"    export QOETWIN_STORE={server.uri} NEO4J_USER={USER} NEO4J_PASSWORD=$(cat {home / 'password'})"
            )
            print("    qoetwin status\n")
            print("Ctrl-C stops it.", flush=True)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                print("stopping", flush=True)
    except NoServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
