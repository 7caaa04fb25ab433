"""A headless Chromium for tests of pages, driven without any package."""

import json
import os
import select
import subprocess


class Browser:
    """Headless Chromium, driven over its debugging pipe; keeps every console message and request."""

    def __init__(self, program, profile):
        here, self._to = os.pipe()
        self._from, there = os.pipe()
        switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
        quiet = "--disable-background-networking --disable-component-update --remote-debugging-pipe"
        command = [program, *switches.split(), *quiet.split(), f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{here} 4>&{there}', "bash", *command],
            pass_fds=(here, there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(here)
        os.close(there)
        self._buffer, self._number, self._session, self.events = b"", 0, None, []
        pages = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            assert select.select([self._from], [], [], 60)[0], "the browser is silent"
            self._buffer += os.read(self._from, 1 << 16)
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, path, fragment=""):
        for address in ("about:blank", path.as_uri() + fragment):
            self.events.clear()
            self.call("Page.navigate", url=address)
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.events.append(self._read())

    def run(self, script):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **({"text": text} if text else {}))

    def complaints(self):
        loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event["method"] in loud]

    def requests(self):
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return {event["params"]["request"]["url"].split(":")[0] for event in sent}

    def close(self):
        self.call("Browser.close")
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)
