"""A headless Chromium, driven through its DevTools protocol over two pipes: no port, no driver, no further package."""

import base64
import fcntl
import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--disable-gpu", "--hide-scrollbars", "--force-color-profile=srgb", "--enable-precise-memory-info"),
    *("--disable-dev-shm-usage", "--disable-features=Translate,OptimizationHints,MediaRouter"),
)
_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Escape": 27, "Enter": 13, "Tab": 9}


class PageError(AssertionError):
    """A script of the test failed in the page, or what it waits for did not come."""


class Browser:
    """Chromium with a profile of its own; use `with`, which ends it."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="mmel-browser-")
        commands, self._to = (_high(fd) for fd in os.pipe())
        self._from, answers = (_high(fd) for fd in os.pipe())
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments = [str(CHROMIUM), *_FLAGS, *root, f"--user-data-dir={self._profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCH, str(commands), str(answers), *arguments],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)
        self._numbers = itertools.count(1)
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close", seconds=5)
        except (PageError, OSError):
            self.process.kill()
        self.process.wait(20)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, session: str | None = None, seconds: float = 60, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._numbers)
        self._answers[number] = queue.Queue()
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        try:
            answer = self._answers[number].get(timeout=seconds)
        except queue.Empty:
            raise PageError(f"{method}: no answer in {seconds} s") from None
        finally:
            del self._answers[number]
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def page(self, width: int = 1280, height: int = 900, *, dark: bool = False, scale: float = 1) -> "Page":
        """A new tab."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True, width=width, height=height)
        session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target["targetId"])
        page.start(width, height, dark=dark, scale=scale)
        return page

    def _listen(self) -> None:
        rest = b""
        while block := os.read(self._from, 1 << 20):
            *whole, rest = (rest + block).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if "id" in message:
                    waiting = self._answers.get(message["id"])
                    if waiting is not None:
                        waiting.put(message)
                elif message.get("sessionId") in self._pages:
                    self._pages[message["sessionId"]].hear(message["method"], message["params"])


class Page:
    """One tab: what it asked for (`requests`) and what went wrong in it (`errors`) are kept."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []

    def start(self, width: int, height: int, *, dark: bool, scale: float) -> None:
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self._call(f"{domain}.enable")
        self._call("Network.setCacheDisabled", cacheDisabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self.resize(width, height, scale)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def open(self, address: str, wait: str = "true", seconds: float = 30) -> None:
        """Go to an address and wait until it has loaded and `wait` holds."""
        self.errors.clear()
        self.requests.clear()
        self._call("Page.navigate", url=address)
        self.wait(f"location.href !== 'about:blank' && document.readyState === 'complete' && ({wait})", seconds)

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            told = answer["exceptionDetails"]
            raise PageError(told.get("exception", {}).get("description", told["text"]))
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 8) -> Any:
        """Until an expression is true; its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                if value := self.run(f"((value) => value instanceof Node || value)({script})"):
                    return value
            except PageError:
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise PageError(f"not true within {seconds} s: {script}; errors: {self.errors}")
            time.sleep(0.03)

    def texts(self, selector: str) -> list[str]:
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.innerText)")

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def centre(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> tuple[float, float]:
        """A place within the first element, on the screen after scrolling to it."""
        found = json.dumps(selector)
        x, y, width, height = self.run(
            f"(() => {{ const n = document.querySelector({found}); if (!n) throw new Error('nothing is ' + {found});"
            " n.scrollIntoView({block: 'center'}); const r = n.getBoundingClientRect();"
            " return [r.left, r.top, r.width, r.height]; })()"
        )
        return x + at[0] * width, y + at[1] * height

    def move(self, x: float, y: float, *, pressed: bool = False) -> None:
        self._mouse("mouseMoved", x, y, buttons=int(pressed), button="left" if pressed else "none")

    def hover(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        self.move(*self.centre(selector, at))

    def click(self, selector: str, at: tuple[float, float] = (0.5, 0.5)) -> None:
        x, y = self.centre(selector, at)
        self.move(x, y)
        for kind, buttons in (("mousePressed", 1), ("mouseReleased", 0)):
            self._mouse(kind, x, y, button="left", buttons=buttons, clickCount=1)

    def drag(self, selector: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the button down, from one place within an element to another."""
        x, y = self.centre(selector, start)
        to = self.centre(selector, end)
        self.move(x, y)
        self._mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        for part in (0.3, 0.6, 1):
            self.move(x + part * (to[0] - x), y + part * (to[1] - y), pressed=True)
        self._mouse("mouseReleased", *to, button="left", buttons=0, clickCount=1)

    def key(self, key: str, *, shift: bool = False) -> None:
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"windowsVirtualKeyCode": _KEYS.get(key, ord(key[0].upper())), "key": key, "modifiers": 8 * shift}
        self._call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **code)

    def type(self, selector: str, text: str) -> None:
        """In place of what stands in a field."""
        found = json.dumps(selector)
        self.run(f"(() => {{ const n = document.querySelector({found}); n.focus(); n.select(); }})()")
        self._call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """In a list."""
        self.run(
            f"(() => {{ const n = document.querySelector({json.dumps(selector)}); n.value = {json.dumps(value)};"
            " n.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def screenshot(self, path: Path, *, whole: bool = False, quality: int = 88) -> Path:
        """As PNG or JPEG by the file's name."""
        kind = {"format": "jpeg", "quality": quality} if path.suffix in (".jpg", ".jpeg") else {"format": "png"}
        data = self._call("Page.captureScreenshot", captureBeyondViewport=whole, **kind)["data"]
        path.write_bytes(base64.b64decode(data))
        return path

    def accessible(self) -> list[dict[str, Any]]:
        """The nodes of the accessibility tree that are not left out."""
        nodes = self._call("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node.get("ignored")]

    def heap(self) -> int:
        """Bytes of the JavaScript heap in use after a collection."""
        self._call("HeapProfiler.collectGarbage")
        return int(self._call("Runtime.getHeapUsage")["usedSize"])

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def hear(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(told["message"])

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)


def _high(fd: int) -> int:
    """A copy out of the way of 3 and 4, which the browser reads and writes."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return copy
