"""A headless Chromium, driven by the DevTools protocol through a pair of pipes."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or ""
_PATIENCE = 120.0
"""Seconds that anything may take; a busy machine is slow."""
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40}
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"),
    # what the page should not ask for, it would not get
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9"),
)


class Chromium:
    """One browser with one page; a context manager."""

    def __init__(self, folder: Path) -> None:
        """folder: for its profile and for downloads."""
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._buffer = b""
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, BINARY, *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        answer = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self("enable", domain)
        self._ask(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=str(self.downloads),
            eventsEnabled=True,
        )

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def __call__(self, method: str, domain: str, **given: Any) -> Any:
        """Asks the page."""
        return self._ask(f"{domain}.{method}", self._session, **given)

    def open(self, address: str, ready: str = "true") -> None:
        """Loads a page anew and waits until an expression holds there."""
        self("navigate", "Page", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self("navigate", "Page", url=address)
        self.wait(f"document.readyState === 'complete' && ({ready})")

    def value(self, expression: str) -> Any:
        """What JavaScript gives in the page; AssertionError where it throws."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self("evaluate", "Runtime", **given)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until it holds."""
        end = time.monotonic() + _PATIENCE
        while not self.value(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never: {expression}"
            select.select([self._from], [], [], 0.05)

    def click(self, selector: str) -> None:
        """With the pointer, in the middle of what the selector finds."""
        x, y = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', inline: 'center'});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];"
            " })()"
        )
        button = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self("dispatchMouseEvent", "Input", type=kind, **button)

    def press(self, key: str) -> None:
        """A key of `_KEYS`, by its name."""
        given = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self("dispatchKeyEvent", "Input", type="keyDown", **given, **text)
        self("dispatchKeyEvent", "Input", type="keyUp", **given)

    def choose(self, selector: str, value: str) -> None:
        """As a reader who picks from a list or types."""
        self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            f" e.value = {json.dumps(value)};"
            " for (const kind of ['input', 'change'])"
            " e.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )

    def downloaded(self, name: str) -> str:
        """The content of the file, once it is whole. It makes room for the next of that name."""
        path = self.downloads / name
        end = time.monotonic() + _PATIENCE
        while not path.is_file() or list(self.downloads.glob("*.crdownload")):
            assert time.monotonic() < end, f"no download of {name}"
            self.value("0")
        text = path.read_bytes().decode()
        path.unlink()
        return text

    def _ask(self, method: str, session: str = "", **given: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": given}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _receive(self) -> Any:
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            read = os.read(self._from, 1 << 16)
            assert read, "Chromium has ended"
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        given = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(given["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(given["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and given["type"] == "error":
            self.errors.append(str(given["args"]))
