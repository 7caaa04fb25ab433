"""A real S3 server (moto's) on loopback, in a process of its own, and a proxy that counts what is asked of it."""

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread

KEY, SECRET = "AKIDOFTHETESTS", "wJalrXUtnFEMI/of+the+tests"  # the server takes any
START_S = 60


@dataclass(frozen=True)
class Server:
    """A running server: its address, and the options that open it."""

    endpoint: str

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint, "key": KEY, "secret": SECRET}

    def make_bucket(self, name: str) -> str:
        """A new bucket's URL."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")):  # noqa: S310
            return f"s3://{name}"


@contextlib.contextmanager
def serve(log: Path) -> Iterator[Server]:
    """Start a server on a free port, and end it."""
    # ThreadedMotoServer in a fresh interpreter: `moto_server` itself cannot choose a free port and tell which.
    code = (
        "import sys; from moto.server import ThreadedMotoServer as M; s = M('127.0.0.1', 0, verbose=False); s.start();"
        "print(s.get_host_and_port()[1], flush=True); sys.stdin.read()"
    )
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as process,
    ):
        try:
            server = Server(f"http://127.0.0.1:{int(process.stdout.readline())}")
            _wait_for(server)
            yield server
        finally:
            process.kill()


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{server.endpoint}/moto-api/"):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass
class Count:
    """Requests that passed: method, path, range, and how many bytes of body went back."""

    requests: list[tuple[str, str, str, int]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def gets(self, ending: str) -> list[tuple[str, int]]:
        """Range and bytes of each GET of a path that ends so."""
        return [(r, n) for method, path, r, n in self.requests if method == "GET" and path.endswith(ending)]


@contextlib.contextmanager
def counted(
    server: Server, stalls: Callable[[str, str], bool] = lambda method, path: False, late_s: float = 0.0
) -> Iterator[tuple[Server, Count]]:
    """A proxy before a server: the same buckets at another address, and a count of what passes.

    Each answer comes `late_s` later, and none to a method and path that `stalls`: such a request waits, its
    connection open, and is never passed on.
    """
    count, ended = Count(), Event()
    behind = server.endpoint.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if stalls(self.command, self.path):
                ended.wait()
                self.close_connection = True
                return
            ended.wait(late_s)
            connection = HTTPConnection(behind, timeout=60)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                payload = answer.read()
            with count.lock:
                path = self.path.partition("?")[0]
                count.requests.append((self.command, path, self.headers.get("Range", ""), len(payload)))
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(payload))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        thread = Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield Server(f"http://127.0.0.1:{proxy.server_port}"), count
        finally:
            ended.set()
            proxy.shutdown()
            thread.join()


@contextlib.contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """A folder over plain HTTP, with byte ranges and times of change, and without entity tags; its URL."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            payload = path.read_bytes()
            begin, end = 0, len(payload)
            if wanted := self.headers.get("Range"):
                first, last = wanted.removeprefix("bytes=").split("-")
                begin, end = int(first), int(last) + 1
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(payload)}")
            self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
            self.send_header("Content-Length", str(end - begin))
            self.end_headers()
            self.wfile.write(payload[begin:end])

        def log_message(self, *arguments: object) -> None:
            """Keep quiet."""

    handler = partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
