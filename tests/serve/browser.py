"""A real browser controlled by a test: Chromium over a pipe, with the DevTools protocol."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One page; ``messages`` holds its console messages and failed requests."""

    def __init__(self, sending: int, hearing: int) -> None:
        self._sending, self._hearing, self._number, self._rest = sending, hearing, 0, b""
        self.messages: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the page."""
        return self._ask(method, self._session, **parameters)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> Any:
        """Wait until an expression is true, and return it."""
        until = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < until, f"never true: {expression}; the page says {self.messages}"
            time.sleep(0.1)
        return found

    def open(self, address: str, width: int = 1360, height: int = 900) -> None:
        """Open an address in a window of a size."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def choose_file(self, selector: str, *files: Path) -> None:
        """Choose files in an input of the page."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self) -> bytes:
        """Return the window as a PNG."""
        import base64

        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"])

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._sending, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard["error"])
                return heard["result"]
            self._note(heard)

    def _hear(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._hearing], [], [], seconds)
            assert ready, "the browser does not answer"
            part = os.read(self._hearing, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Runtime.consoleAPICalled":
                self.messages.append(" ".join(str(one.get("value")) for one in event["params"]["args"]))
            case "Runtime.exceptionThrown":
                self.messages.append(str(event["params"]["exceptionDetails"]))
            case "Log.entryAdded":
                self.messages.append(event["params"]["entry"]["text"])


@contextmanager
def browsing(folder: Path, *more_flags: str) -> Iterator[Browser]:
    """Start Chromium with a profile in a folder and perhaps more flags, and end it."""
    assert CHROMIUM is not None
    their_input, our_output = os.pipe()
    our_input, their_output = os.pipe()
    # It reads from descriptor 3 and writes to 4; a shell puts them there.
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
    ]  # fmt: skip
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{their_input} 4>&{their_output}', CHROMIUM, *flags, *more_flags],
        pass_fds=(their_input, their_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_input)
    os.close(their_output)
    try:
        yield Browser(our_output, our_input)
    finally:
        process.terminate()
        process.wait(30)
        os.close(our_output)
        os.close(our_input)
