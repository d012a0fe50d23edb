"""What every test of the service may rely on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from doubles import Stage


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
