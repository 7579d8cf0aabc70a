"""The browsers that are installed here: Playwright drives Chromium, and WebDriver BiDi (W3C) Firefox.

Playwright asks of Firefox what releases with long support do not know yet.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page
    from websockets.sync.client import ClientConnection

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
LIMIT = 120.0
"""Seconds that Firefox may take to start or end, and to answer."""
KEYS = {"Enter": "\ue007"}
"""Keys that write nothing, as WebDriver names them."""


class FirefoxTab:
    """A tab, with methods that are called as Playwright's are.

    Args:
        connection: To a Firefox.

    Attributes:
        version: The browser's.
        events: What it has told, the oldest first: BiDi's ``log.entryAdded``, ``network.beforeRequestSent`` and so on.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection = connection
        self._numbers = itertools.count()
        session = self._send("session.new", capabilities={})
        self.version: str = session["capabilities"]["browserVersion"]
        self._send(
            "session.subscribe", events=["log.entryAdded", "network.beforeRequestSent", "browsingContext.downloadEnd"]
        )
        self._tab = self._send("browsingContext.create", type="tab")["context"]

    def goto(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 (whatever JSON can hold)
        """The value of an expression in the page, or that of its promise."""
        text = self._script(f"(async () => JSON.stringify(await ({expression})))()").get("value")
        return None if text is None else json.loads(text)

    def set_input_files(self, selector: str, files: Sequence[str]) -> None:
        """Choose files in an element."""
        self._send("input.setFiles", context=self._tab, element=self._element(selector), files=list(files))

    def press(self, selector: str, key: str) -> None:
        """Focus an element and press one of `KEYS`."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        strokes = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": strokes}
        self._send("input.performActions", context=self._tab, actions=[keyboard])

    def click(self, selector: str) -> None:
        """Click at an element's center."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        move = {
            "type": "pointerMove",
            "x": 0,
            "y": 0,
            "origin": {"type": "element", "element": self._element(selector)},
        }
        strokes = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        mouse = {"type": "pointer", "id": "mouse", "actions": strokes}
        self._send("input.performActions", context=self._tab, actions=[mouse])

    def download(self, selector: str) -> Path:
        """Click at an element that saves a file; returns the file."""
        before = len(self.events)
        self.click(selector)
        end = time.monotonic() + LIMIT
        while True:
            ends = [each for each in self.events[before:] if each["method"] == "browsingContext.downloadEnd"]
            if ends:
                return Path(ends[0]["params"]["filepath"])
            self._receive(end - time.monotonic())

    def set_offline(self) -> None:
        """Take the network from the tab."""
        offline = {"type": "offline"}
        self._send("emulation.setNetworkConditions", contexts=[self._tab], networkConditions=offline)

    def set_viewport(self, width: int, height: int) -> None:
        """Set the size of the page in CSS pixels."""
        self._send("browsingContext.setViewport", context=self._tab, viewport={"width": width, "height": height})

    def _element(self, selector: str) -> dict[str, Any]:
        return {"sharedId": self._script(f"document.querySelector({json.dumps(selector)})")["sharedId"]}

    def _script(self, expression: str) -> dict[str, Any]:
        target = {"context": self._tab}
        answer = self._send("script.evaluate", expression=expression, target=target, awaitPromise=True)
        if "result" not in answer:
            raise RuntimeError(answer["exceptionDetails"]["text"])
        result: dict[str, Any] = answer["result"]
        return result

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        number, end = next(self._numbers), time.monotonic() + LIMIT
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._receive(end - time.monotonic())
            if message.get("id") == number:
                if message["type"] == "error":
                    raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
                answer: dict[str, Any] = message["result"]
                return answer

    def _receive(self, seconds: float) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(max(seconds, 0)))
        if message["type"] == "event":
            self.events.append(message)
        return message


@contextmanager
def chromium_tab() -> Iterator[Page]:
    """A tab of a Chromium of its own, which ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, driver.chromium.launch(executable_path=CHROMIUM) as browser:
        yield browser.new_page()


@contextmanager
def firefox_tab() -> Iterator[FirefoxTab]:
    """A tab of a Firefox of its own, which ends with the block; so do the files that were saved in it."""
    from websockets.sync.client import connect

    assert FIREFOX is not None
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # Firefox writes the port that it has chosen into the profile.
        told, saved = Path(profile) / "WebDriverBiDiServer.json", Path(profile) / "saved"
        command = [FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port=0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            port = _read_port(told, process)
            with connect(f"ws://127.0.0.1:{port}/session", max_size=None, open_timeout=LIMIT) as connection:
                tab = FirefoxTab(connection)
                folder = {"type": "allowed", "destinationFolder": str(saved)}
                tab._send("browser.setDownloadBehavior", downloadBehavior=folder)
                yield tab
                tab._send("browser.close")
            process.wait(LIMIT)
        finally:
            process.kill()
            process.wait()


def _read_port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < end:
        try:
            return int(json.loads(file.read_text())["ws_port"])
        except (OSError, ValueError):  # not there, or not yet written to its end
            time.sleep(0.05)
    raise RuntimeError(f"{FIREFOX} does not start")
