"""No package is older than what is known to be safe: installed, allowed, or pinned."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

FLOORS = {
    name: Version(entry["floor"])
    for name, entry in tomllib.loads(
        Path(__file__).with_name("security-floors.toml").read_text()
    ).items()
}
# Those that this project does not name itself; what it names brings them.
INDIRECT = {"h11", "starlette"}


def least(requirement: Requirement) -> Version | None:
    """The oldest version that a requirement allows; None: any."""
    lower = [one.version for one in requirement.specifier if one.operator in (">=", "==", "~=")]
    return max(map(Version, lower), default=None)


def required(root: Path) -> dict[str, Version | None]:
    """By package, the oldest version that pyproject.toml allows."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    named = [project["dependencies"], *project["optional-dependencies"].values()]
    found: dict[str, Version | None] = {}
    for requirement in (Requirement(text) for group in named for text in group):
        found[canonicalize_name(requirement.name)] = least(requirement)
    return found


@pytest.mark.parametrize("name", FLOORS)
def test_what_is_installed_is_not_too_old(name: str) -> None:
    try:
        installed = Version(version(name))
    except PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    assert installed >= FLOORS[name]


@pytest.mark.parametrize("name", FLOORS)
def test_the_project_allows_nothing_too_old(root: Path, name: str) -> None:
    allowed = required(root)
    if name in INDIRECT:
        assert name not in allowed
        return
    oldest = allowed[name]
    assert oldest is not None
    assert oldest >= FLOORS[name], f"pyproject.toml: {name}>={FLOORS[name]}"


@pytest.mark.parametrize("name", FLOORS)
def test_the_versions_that_are_installed_together_are_not_too_old(root: Path, name: str) -> None:
    pins = re.findall(r"^([\w.-]+)==([\w.+]+)", (root / "constraints.txt").read_text(), re.M)
    pinned = {canonicalize_name(package): Version(number) for package, number in pins}
    assert pinned[name] >= FLOORS[name]


def test_every_installed_package_is_as_new_as_the_project_asks(root: Path) -> None:
    """Also those without a floor: an environment may have been made for an older pyproject.toml."""
    for name, oldest in required(root).items():
        try:
            installed = Version(version(name))
        except PackageNotFoundError:
            continue
        assert oldest is None or installed >= oldest, name


def test_every_floor_says_why() -> None:
    entries = tomllib.loads(Path(__file__).with_name("security-floors.toml").read_text())
    for name, entry in entries.items():
        assert set(entry) == {"floor", "reason"}, name
        assert entry["reason"]
