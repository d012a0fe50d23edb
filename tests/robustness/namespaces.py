"""A server and its clients on two sides of a cable that can be cut: network namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

SERVER, CLIENT = "10.201.77.1", "10.201.77.2"
PORT = 8080
READY_S = 90.0
NUMBERS = count()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Cable:
    """server, client: namespaces."""

    server: str
    client: str

    def cut(self) -> None:
        """Nothing arrives any more, and nobody is told."""
        ip("-n", self.client, "link", "set", "cable", "down")

    def mend(self) -> None:
        ip("-n", self.client, "link", "set", "cable", "up")


@contextmanager
def cable() -> Iterator[Cable]:
    """Skips where this machine does not let us make one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the program ip (make system-deps)")
    number = f"{os.getpid()}-{next(NUMBERS)}"
    names = [f"emotrace-{side}-{number}" for side in ("server", "client")]
    with ExitStack() as made:
        try:
            for name in names:
                ip("netns", "add", name)
                made.callback(ip, "netns", "del", name)
            ends = ["cable", "netns", names[0], "type", "veth"]
            ip("link", "add", *ends, "peer", "name", "cable", "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        for name, address in zip(names, (SERVER, CLIENT), strict=True):
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"{address}/30", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield Cable(*names)


@dataclass
class Server:
    """In its namespace."""

    process: subprocess.Popen[bytes]

    def sockets(self) -> int:
        """Descriptors of connections and of whatever else is a socket."""
        folder, count = Path(f"/proc/{self.process.pid}/fd"), 0
        for name in os.listdir(folder):
            try:
                count += os.readlink(folder / name).startswith("socket:")
            except FileNotFoundError:
                continue
        return count

    def connections(self) -> list[tuple[str, int]]:
        """The kernel's own: state, and bytes that wait to be sent. Also those that no process has
        any more; without the listening socket."""
        found = []
        for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{PORT:04X}") and fields[3] != "0A":
                found.append((fields[3], int(fields[4].partition(":")[0], 16)))
        return found

    def resident_kib(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@contextmanager
def served(cable: Cable, bundle: Path, log: Path, **settings: str) -> Iterator[Server]:
    """A server as it is started, ready."""
    environ = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "EMOTRACE_HOST": SERVER,
        "EMOTRACE_PORT": str(PORT),
        "EMOTRACE_OPEN": "true",
        "EMOTRACE_BUNDLE": str(bundle),
        "EMOTRACE_WHISPER": "none",
        "EMOTRACE_THREADS": "1",
        **settings,
    }
    inside = ["ip", "netns", "exec", cable.server, sys.executable, "-m", "emotrace_service"]
    with log.open("w") as stream:
        process = subprocess.Popen(inside, env=environ, stdout=stream, stderr=stream)
    try:
        end = time.monotonic() + READY_S
        while "is ready at" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield Server(process)
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def client(cable: Cable, way: str) -> Iterator[subprocess.Popen[str]]:
    """A client in its namespace (cable_client.py), once it has said that it is where it should
    be."""
    program = str(Path(__file__).with_name("cable_client.py"))
    inside = ["ip", "netns", "exec", cable.client, sys.executable, program, way]
    process = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.communicate()
