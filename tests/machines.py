"""A Dask cluster of processes that share nothing but the network, for the tests of scheduling."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from distributed import Client

OWN = (Path(__file__).parent, Path(__file__).parents[1])


def python(*arguments, folder, path):
    """A Python process of its own, in its own folder, which can import what `path` names; what it says is kept."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    with (folder / "said").open("w") as said:
        command = [sys.executable, *map(str, arguments)]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)


class Machines:
    """A scheduler and workers without nannies, each a process with a folder of its own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")

    def start(self, name, kind, *options, path=OWN):
        (self.folder / name).mkdir()
        self.processes[name] = python("-m", "dask", kind, *options, folder=self.folder / name, path=path)

    def worker(self, name, **more):
        options = ("--no-nanny", "--no-dashboard", "--nthreads", "1", "--name", name)
        self.start(name, "worker", self.address, *options, **more)

    def wait_for(self, count):
        with Client(self.address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=30)

    def kill(self, name, number=signal.SIGKILL):
        self.processes[name].send_signal(number)

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
