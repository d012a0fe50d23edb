"""Real servers as processes: alone, or several behind HAProxy with sessions in Redis."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from redis_server import RedisServer, redis_server

READY_S = 60.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@dataclass
class Replica:
    """One server process on a port of its own, which can be killed and started again."""

    bundle: Path
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def start(self) -> None:
        settings = {
            "EMOTRACE_PORT": str(self.port),
            "EMOTRACE_BUNDLE": str(self.bundle),
            "EMOTRACE_WHISPER": "none",
            "EMOTRACE_WORKERS": "threads",
            "EMOTRACE_THREADS": "1",
            "EMOTRACE_AUDIO_QUEUE_MS": "60000",
            "EMOTRACE_COMPUTE_BUDGET": "100",
            **self.settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "emotrace_service", "--log-format", "json"],
                env={**os.environ, "OMP_NUM_THREADS": "1", **settings},
                stdout=log,
                stderr=log,
            )

    def await_ready(self) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2_000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        pytest.fail(f"the server was not ready within {READY_S:.0f} s: {self.log.read_text()}")

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def ended(self, timeout_s: float) -> int:
        """The exit code."""
        assert self.process is not None
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextmanager
def replica(bundle: Path, folder: Path, **settings: str) -> Iterator[Replica]:
    """A server, ready."""
    one = Replica(bundle, folder / "server.log", settings)
    one.start()
    try:
        one.await_ready()
        yield one
    finally:
        one.kill()


@dataclass
class Cluster:
    """url: of the proxy's stream."""

    replicas: Sequence[Replica]
    redis: RedisServer
    port: int
    proxy: subprocess.Popen[bytes]
    config: Path

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    def end_proxy(self) -> None:
        self.proxy.kill()
        self.proxy.wait(10)

    def restart_proxy(self) -> None:
        self.end_proxy()
        self.proxy = _haproxy(self.config)


PROXY = """
global
  maxconn 4096
defaults
  mode http
  timeout connect 500ms
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout http-request 5s
  option redispatch
  retries 3
frontend all
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance leastconn
  option httpchk GET /readyz
  default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
"""


@contextmanager
def cluster(bundle: Path, folder: Path, replicas: int, **settings: str) -> Iterator[Cluster]:
    """Replicas behind HAProxy, ready. Skips where a program is missing."""
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed (make system-deps)")
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        settings = {"EMOTRACE_SESSION_STORE": redis.url, **settings}
        servers = [Replica(bundle, folder / f"{n}.log", settings) for n in range(replicas)]
        for server in servers:
            server.start()
            stack.callback(server.kill)
        for server in servers:
            server.await_ready()
        port, config = free_port(), folder / "haproxy.cfg"
        lines = "".join(f"  server r{s.port} 127.0.0.1:{s.port} check\n" for s in servers)
        config.write_text(PROXY.format(port=port) + lines)
        running = Cluster(servers, redis, port, _haproxy(config), config)
        stack.callback(running.end_proxy)
        end = time.monotonic() + READY_S
        while httpx.get(f"http://127.0.0.1:{port}/readyz").status_code != 200:
            assert time.monotonic() < end, "the proxy finds no server"
            time.sleep(0.05)
        yield running


def _haproxy(config: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", str(config)])
    time.sleep(0.2)
    assert process.poll() is None, "haproxy did not start"
    return process
