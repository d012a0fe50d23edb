"""What the tests of the fault table share: a server process for all that do not kill it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Replica, replica


@pytest.fixture(scope="session")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """With its default limits."""
    with replica(toy, tmp_path_factory.mktemp("server")) as running:
        yield running
        assert running.process is not None
        assert running.process.poll() is None, "the server died"
        assert "Traceback" not in running.log.read_text()
