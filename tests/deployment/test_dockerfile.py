"""The Dockerfile and what it is built of, without building it (test_images.py does)."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

TARGETS = {"cpu", "gpu", "training"}


@pytest.fixture(scope="module")
def text(docker: Path) -> str:
    return re.sub(r"\\\n", " ", (docker / "Dockerfile").read_text())


@pytest.fixture(scope="module")
def stages(text: str) -> dict[str, tuple[str, list[str]]]:
    """By name, what a stage begins from and its instructions."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        if begun := re.match(r"FROM (\S+) AS (\S+)$", line):
            found[begun[2]] = begun[1], []
        elif found and re.match("[A-Z]+ ", line):
            list(found.values())[-1][1].append(line)
    return found


def whole(stages: dict[str, tuple[str, list[str]]], name: str) -> list[str]:
    """A stage's instructions after those of the stages that it begins from."""
    if name not in stages:
        return []
    base, instructions = stages[name]
    return whole(stages, base) + instructions


def test_hadolint_finds_nothing(docker: Path, program: Callable[[str], str]) -> None:
    lint = [program("hadolint"), docker / "Dockerfile"]
    done = subprocess.run(lint, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_images_run_as_nobody_special_and_talk_to_nobody(
    target: str, stages: dict[str, tuple[str, list[str]]]
) -> None:
    lines = whole(stages, target)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    environment = " ".join(line for line in lines if line.startswith("ENV"))
    for offline in ("HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "ORT_DISABLE_TELEMETRY=1"):
        assert offline in environment
    assert lines.index("STOPSIGNAL SIGTERM") < lines.index("USER 10001:10001")
    assert not any(line.startswith("RUN $PIP") for line in lines), "tools of the build are left"


def test_the_default_target_is_cpu(stages: dict[str, tuple[str, list[str]]]) -> None:
    assert list(stages)[-1] == "cpu"
    assert set(stages) >= TARGETS


def test_variables_of_images_are_settings(text: str, variables: set[str]) -> None:
    given = set(re.findall(r"\b(EMOTRACE_\w+)=", text))
    assert given
    assert given <= variables


def test_extras_exist(text: str, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {
        extra for extras in re.findall(r"'\.\[([\w,]+)\]'", text) for extra in extras.split(",")
    }
    assert wanted >= {"service", "redis", "recording", "otel", "gpu", "training"}
    assert wanted <= set(project["optional-dependencies"])
    assert f"ARG VERSION={project['version']}\n" in text


def test_every_package_gets_into_the_build_and_little_else(root: Path) -> None:
    lines = (root / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((root / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert let_in == packages | {"LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    assert "*" in lines
    assert not any(fnmatch.fnmatch("docker/secrets", one) for one in let_in)


def test_no_address_of_a_registry_is_written_down(docker: Path) -> None:
    for path in docker.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            for address in re.findall(r"https?://([^/\s\"':]+)", path.read_text()):
                assert address in {"127.0.0.1", "prometheus"}, f"{path}: {address}"
