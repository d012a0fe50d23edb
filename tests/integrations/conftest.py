"""A real server as a process of its own: a framework's environment need not have its models."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_S = 240


def server_python() -> str:
    """An interpreter that has the service: this one, or the repository's."""
    if importlib.util.find_spec("torch") is not None:
        return sys.executable
    own = ROOT / ".venv" / "bin" / "python"
    if not own.exists():
        pytest.skip("needs the service: `make test` sets it up in .venv")
    return str(own)


@pytest.fixture(scope="session")
def emotrace_url() -> Iterator[str]:
    """The stream's address of a server with the shipped bundle."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("service", "models"))
    process = subprocess.Popen(
        [server_python(), "-m", "emotrace_service", "--port", "0", "--whisper", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert process.stdout is not None
    late = threading.Timer(START_S, process.kill)
    late.start()
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if (found := re.search(r"ready at http(://\S+?)/?$", line)) is not None:
                break
        else:
            pytest.fail(f"the server was not ready within {START_S} s: {''.join(said)}")
        late.cancel()
        yield f"ws{found[1]}/v1/stream"
    finally:
        late.cancel()
        process.terminate()
        process.communicate(timeout=30)
