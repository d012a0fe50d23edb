"""A real Redis as docker/redis.conf has it, on a loopback port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ports import free_port
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as NotThere
from redis.retry import Retry

CONFIGURATION = Path(__file__).parents[1] / "docker/redis.conf"
PATIENCE_S = 60.0


@dataclass
class RedisServer:
    """One that can be killed and started again, empty.

    users: the file of those who may use it; None: everybody may."""

    folder: Path
    users: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Redis:
        return Redis(
            port=self.port, retry=Retry(ConstantBackoff(0.05), 200, supported_errors=(NotThere,))
        )

    def start(self) -> None:
        """Returns once it listens."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (make system-deps)")
        self.process = subprocess.Popen(
            [
                *(program, CONFIGURATION, "--aclfile", str(self.users or "")),
                *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder),
            ],
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self.process.poll() is None, "redis-server did not start"
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)
        pytest.fail("redis-server does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextmanager
def redis_server(folder: Path, users: Path | None = None) -> Iterator[RedisServer]:
    server = RedisServer(folder, users)
    server.start()
    try:
        yield server
    finally:
        server.kill()
