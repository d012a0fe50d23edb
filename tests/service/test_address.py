"""Where the server listens: from when on, and what it says where it cannot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from ports import free_port

from emotrace_service.__main__ import bound
from emotrace_service.errors import EXIT_CONFIG, StartRefused
from emotrace_service.settings import Settings

SERVER = [sys.executable, "-m", "emotrace_service"]


def test_an_address_that_another_program_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ended = subprocess.run(
            [*SERVER, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )
    assert ended.returncode == EXIT_CONFIG
    assert f"Cannot listen on 127.0.0.1 port {port}" in ended.stderr
    assert "--port 0 for any" in ended.stderr


def test_a_name_that_is_no_address() -> None:
    with pytest.raises(StartRefused, match=r"'no\.such\.host\.invalid' is no address"):
        bound(Settings(host="no.such.host.invalid"))


def test_whoever_gets_through_is_answered(toy: Path) -> None:
    """While models are loaded nobody waits for a server that says nothing."""
    port = free_port()
    environment = {**os.environ, "EMOTRACE_BUNDLE": str(toy), "EMOTRACE_WHISPER": "none"}
    with subprocess.Popen(
        [*SERVER, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL
    ) as server:
        try:
            refused = 0
            while True:
                assert server.poll() is None
                try:
                    # It listens a moment before its event loop runs.
                    status = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code
                    break
                except httpx.ConnectError:
                    refused += 1
                    time.sleep(0.02)
            assert refused
            assert status in (200, 503)
        finally:
            server.terminate()
