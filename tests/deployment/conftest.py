"""What the tests of `docker/` share: its folder, with passwords made, and programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from deployment.containers import Engine
from prometheus_client import CollectorRegistry

from emotrace_service.audit_log import AuditLog
from emotrace_service.metrics import Metrics
from emotrace_service.session_recording import SessionRecordings
from emotrace_service.settings import PREFIX, Settings


@pytest.fixture(scope="session")
def docker(root: Path) -> Path:
    return root / "docker"


@pytest.fixture(scope="session")
def prepared(docker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the folder in which passwords have been made."""
    copy = tmp_path_factory.mktemp("deployment") / "docker"
    shutil.copytree(docker, copy, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run(["sh", copy / "prepare.sh"], check=True, capture_output=True)
    return copy


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """The path of a program, beside this Python or on the PATH; skips where it is absent."""

    def find(name: str) -> str:
        beside = Path(sys.executable).parent / name
        path = str(beside) if beside.exists() else shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed (promtool: make system-deps)")
        return path

    return find


@pytest.fixture(scope="session")
def composer() -> list[str]:
    """`docker compose`, or `docker-compose` of version 2, beside this Python or on the PATH."""
    beside = str(Path(sys.executable).with_name("docker-compose"))
    for command in (["docker", "compose"], [beside], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        said = subprocess.run([*command, "version"], capture_output=True, text=True)
        if said.returncode == 0 and re.search(r"version v?[2-9]", said.stdout):
            return command
    pytest.skip("needs Docker Compose 2 (docker compose, docker-compose or make compose-tool)")


@pytest.fixture(scope="session")
def compose(docker: Path) -> dict[str, Any]:
    """compose.yaml as it is written."""
    read: dict[str, Any] = yaml.safe_load((docker / "compose.yaml").read_text())
    return read


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> CollectorRegistry:
    """All metrics that a server can have, which also keeps what it may be told to keep."""
    metrics, folder = Metrics().registry, tmp_path_factory.mktemp("kept")
    public = X25519PrivateKey.generate().public_key()
    audit = AuditLog(folder / "audit.log", metrics, structlog.get_logger())
    SessionRecordings(folder, public, 1, audit, metrics, structlog.get_logger()).close()
    audit.close()
    return metrics


@pytest.fixture(scope="session")
def variables() -> set[str]:
    """Every environment variable that the server takes; it refuses others with its prefix."""
    return {PREFIX + name.upper() for name in Settings.model_fields}


@pytest.fixture(scope="session")
def engine(docker: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """With the base image of the Dockerfile."""
    made = Engine.make(tmp_path_factory.mktemp("containers"))
    base = re.search(r"ARG DEBIAN_IMAGE=(\S+)", (docker / "Dockerfile").read_text())
    assert base
    try:
        made.debian(base[1])
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="session")
def image(engine: Engine, root: Path) -> Callable[[str], str]:
    """The name of a target's image, which is built when it is first asked for."""
    built: set[str] = set()

    def build(target: str) -> str:
        name = f"docker.io/library/emotrace:{target}"
        if target not in built:
            engine.build(root / "docker/Dockerfile", target, name, root)
            built.add(target)
        return name

    return build
