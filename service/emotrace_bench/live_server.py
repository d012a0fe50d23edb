"""A server of its own for a benchmark: started, waited for, watched and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

READY_S = 120
DEMO = "/demo/dialogue.flac"


class ServerFailed(RuntimeError):
    """The server did not start."""


@dataclass(frozen=True, slots=True)
class LiveServer:
    """pid: None where it runs elsewhere."""

    url: str
    pid: int | None

    @property
    def stream_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    def demo(self) -> bytes:
        """The demo dialogue, which the server's page has. Raises httpx.HTTPError."""
        return httpx.get(self.url + DEMO).raise_for_status().content

    def metrics(self) -> dict[str, float]:
        """Prometheus' samples by name with labels."""
        found = {}
        for line in httpx.get(self.url + "/metrics", timeout=30).text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def processor_s(self) -> float:
        """Seconds of processor time that the server and its processes have used."""
        metrics = self.metrics()
        return metrics["process_cpu_seconds_total"] + metrics["emotrace_compute_processor_seconds"]

    def memory_mib(self) -> float | None:
        """Of the server and its processes; memory that they share is counted once."""
        if self.pid is None:
            return None
        return sum(map(_own_mib, _family(self.pid)))


def _family(pid: int) -> list[int]:
    """A process and all that it started, directly or not."""
    found = [pid]
    for one in found:
        try:
            children = Path(f"/proc/{one}/task/{one}/children").read_text()
        except FileNotFoundError:
            continue
        found += map(int, children.split())
    return found


def _own_mib(pid: int) -> float:
    """A process's proportional share of memory."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1_024


@contextmanager
def own_server(settings: Mapping[str, str]) -> Iterator[LiveServer]:
    """emotrace-serve on a free port. settings: by environment variable. Raises ServerFailed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("emotrace-serve"), "--log-format", "json"],
        env={**os.environ, **settings, "EMOTRACE_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = LiveServer(f"http://127.0.0.1:{port}", process.pid)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(60)


def _wait(server: LiveServer, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise ServerFailed(
                f"emotrace-serve ended with exit code {process.returncode}; start it by hand to "
                "see why"
            )
        try:
            if httpx.get(server.url + "/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise ServerFailed(f"emotrace-serve was not ready within {READY_S} s")
