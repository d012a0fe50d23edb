"""A server and its clients on two sides of a cable that can be cut: network namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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


@dataclass(frozen=True)
class Connection:
    """held: by the server's process. unsent: bytes that wait in the kernel."""

    held: bool
    unsent: int


@dataclass
class Server:
    """In its namespace."""

    process: subprocess.Popen[bytes]

    def connections(self, peer: str) -> list[Connection]:
        """The kernel's own, also those that no process has any more."""
        descriptors, found = self._descriptors(), []
        for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            other = bytes.fromhex(fields[2].partition(":")[0])[::-1]
            if fields[1].endswith(f":{PORT:04X}") and socket.inet_ntoa(other) == peer:
                held = f"socket:[{fields[9]}]" in descriptors
                found.append(Connection(held, int(fields[4].partition(":")[0], 16)))
        return found

    def _descriptors(self) -> set[str]:
        folder, found = Path(f"/proc/{self.process.pid}/fd"), set()
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                found.add(os.readlink(folder / name))
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
def clients(namespace: str, way: str, peers: int = 1) -> Iterator[None]:
    """cable_client.py in a namespace, once all have said that they are where they should be."""
    program = str(Path(__file__).with_name("cable_client.py"))
    inside = ["ip", "netns", "exec", namespace, sys.executable, program, way, str(peers)]
    process = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for _ in range(peers):
            assert process.stdout.readline() == "there\n"
        yield
    finally:
        process.kill()
        process.communicate()
