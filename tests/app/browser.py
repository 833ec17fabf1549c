"""A Chromium without a window, spoken to over its DevTools protocol: what a page measures there, how it looks, how it prints."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_S = 30.0


class NoBrowserError(Exception):
    """There is none here, or it does not start; says which."""


@dataclass(kw_only=True)
class Page:
    """One page, of a width in CSS pixels."""

    connection: websocket.WebSocket
    said: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        self.calls += 1
        self.connection.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self.connection.recv())
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
            self.said.append(answer)

    def open(self, path: Path, *, width: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True
        )
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        self.said.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(message.get("method") == "Page.loadEventFired" for message in self.said):
            self.said.append(json.loads(self.connection.recv()))

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is there."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def asked_for(self) -> list[str]:
        """Addresses that were asked for."""
        return [
            message["params"]["request"]["url"]
            for message in self.said
            if message.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the browser complained about."""
        return [
            message["params"]["entry"]["text"]
            for message in self.said
            if message.get("method") == "Log.entryAdded"
        ]

    def picture(self, *, top: int, width: int, height: int) -> bytes:
        """A PNG of a part of the page."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def pdf(self) -> bytes:
        """The page on A4."""
        answer = self.call(
            "Page.printToPDF",
            paperWidth=8.27,
            paperHeight=11.69,
            printBackground=False,
            preferCSSPageSize=True,
        )
        return base64.b64decode(answer["data"])


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    """A page of a new browser, which keeps what it must in `profile`.

    Raises:
        NoBrowserError: when there is none, or it does not start.
    """
    program = next((found for name in NAMES if (found := shutil.which(name)) is not None), None)
    if program is None:
        raise NoBrowserError(f"no browser here (none of {', '.join(NAMES)} is on the path)")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox refuses root
    command = [
        program,
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        *sandbox,
    ]
    process = subprocess.Popen(
        [
            *command,
            "--remote-debugging-port=0",
            "--no-first-run",
            f"--user-data-dir={profile}",
            "about:blank",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(process, profile / "DevToolsActivePort")
        pages = requests.get(f"http://127.0.0.1:{port}/json/list", timeout=START_S).json()
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        connection = websocket.create_connection(address, timeout=60.0, suppress_origin=True)
        try:
            yield Page(connection=connection)
        finally:
            connection.close()
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if file.exists() and (lines := file.read_text().splitlines()):
            return int(lines[0])
        time.sleep(0.05)
    raise NoBrowserError("the browser does not start")
