"""Real servers as processes: alone, or several behind HAProxy with sessions in Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from haproxy_server import HAProxy, haproxy, haproxy_program
from ports import free_port
from redis_server import RedisServer, redis_server

READY_S = 60.0
LOADS_ALONE = os.geteuid() == 0  # others may not raise a priority again


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

    def start(self, *, beside_others: bool = False) -> None:
        """beside_others: what it takes to load models, it takes from nobody, as if it were on a
        machine of its own, until it is ready (root only)."""
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
                process_group=0,
            )
        if beside_others and LOADS_ALONE:
            os.setpriority(os.PRIO_PGRP, self.process.pid, 15)

    def await_ready(self) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-2_000:]
            try:
                if httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200:
                    if LOADS_ALONE:
                        os.setpriority(os.PRIO_PGRP, self.process.pid, 0)
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
    """Servers, and what is between them and the clients."""

    replicas: Sequence[Replica]
    redis: RedisServer
    proxy: HAProxy

    @property
    def stream_url(self) -> str:
        return self.proxy.stream_url

    def restart_proxy(self) -> None:
        self.proxy.kill()
        self.proxy.start()


@contextmanager
def cluster(bundle: Path, folder: Path, replicas: int, **settings: str) -> Iterator[Cluster]:
    """Replicas behind HAProxy, ready. Skips where a program is missing."""
    haproxy_program()
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        settings = {"EMOTRACE_SESSION_STORE": redis.url, **settings}
        servers = [Replica(bundle, folder / f"{n}.log", settings) for n in range(replicas)]
        for server in servers:
            server.start()
            stack.callback(server.kill)
        for server in servers:
            server.await_ready()
        # All clients share an address here, and come again more often than people do.
        unlimited = {"RATE": "1000000", "CONNECTIONS": "1000000"}
        ports = [server.port for server in servers]
        proxy = stack.enter_context(haproxy(folder, ports, **unlimited))
        proxy.ready(replicas)
        yield Cluster(servers, redis, proxy)
