"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import toy_bundle

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The research data beside the repository, where there is any."""
    path = ROOT.parent / "shared"
    if not (path / "data").is_dir():
        pytest.skip("needs the research data folder ../shared/data, which is not on this machine")
    return path


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a toy bundle with an acoustic and a lexical encoder."""
    return toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")
