"""A real HAProxy as docker/haproxy.cfg has it, in front of servers on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from ports import free_port

CONFIGURATION = Path(__file__).parents[1] / "docker/haproxy.cfg"
REPLICAS = '    server-template replica 1-32 "${REPLICAS-replica:8080}"\n'
PATIENCE_S = 120.0


@dataclass
class HAProxy:
    """One that can be killed and started again. Only its ports differ from what is shipped, and
    that it knows the replicas by their ports instead of asking a resolver.

    variables: of its environment, such as RATE and TLS_CERTIFICATE."""

    folder: Path
    replicas: Sequence[int]
    variables: dict[str, str]
    port: int = field(default_factory=free_port)
    tls_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def start(self) -> None:
        """Returns once it listens."""
        text = CONFIGURATION.read_text()
        servers = "".join(f"    server r{port} 127.0.0.1:{port}\n" for port in self.replicas)
        for old, new in (
            (REPLICAS, servers),
            ("bind :8080", f"bind 127.0.0.1:{self.port}"),
            ("bind :8443", f"bind 127.0.0.1:{self.tls_port}"),
            ("bind :8405", f"bind 127.0.0.1:{self.metrics_port}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        file = self.folder / "haproxy.cfg"
        file.write_text(text)
        self.process = subprocess.Popen(
            [haproxy_program(), "-db", "-f", file],
            env={**os.environ, **self.variables},
            stdout=subprocess.DEVNULL,
        )
        self._until(lambda: httpx.get(self.metrics_url).status_code == 200, "does not listen")

    def ready(self, replicas: int) -> None:
        """Returns once so many replicas take newcomers."""
        name = 'haproxy_backend_active_servers{proxy="replicas"}'
        self._until(lambda: self._metric(name) == replicas, f"does not find {replicas} replicas")

    def sessions(self, replica: int) -> int:
        """Connections of the replica at that port."""
        name = f'haproxy_server_current_sessions{{proxy="replicas",server="r{replica}"}}'
        return self._metric(name)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def _metric(self, name: str) -> int:
        text = httpx.get(self.metrics_url).text
        return int(float(text.partition(f"{name} ")[2].split("\n")[0]))

    def _until(self, holds: Callable[[], bool], complaint: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self.process is not None
            assert self.process.poll() is None, "haproxy did not start"
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.01)
        pytest.fail(f"haproxy {complaint}")


def haproxy_program() -> str:
    """Skips where there is none."""
    program = shutil.which("haproxy")
    if program is None:
        pytest.skip("haproxy is not installed (make system-deps)")
    return program


@contextmanager
def haproxy(folder: Path, replicas: Sequence[int], **variables: str) -> Iterator[HAProxy]:
    """Skips where there is no HAProxy."""
    proxy = HAProxy(folder, replicas, variables)
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.kill()
