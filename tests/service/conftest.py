"""What every test of the service may rely on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from doubles import Stage
from redis_server import RedisServer, redis_server


@pytest.fixture
def stage(toy: Path) -> Stage:
    return Stage(toy)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A server that a test starts sets up logging for the process; the next test has its own."""
    root, ours = logging.getLogger(), logging.getLogger("emotrace")
    handlers, level, own = root.handlers, root.level, ours.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    ours.setLevel(own)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running
