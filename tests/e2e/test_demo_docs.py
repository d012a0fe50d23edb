"""What the quick start and the README tell people to type works as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from live import LiveServer, live_server

from emotrace_clients.__main__ import app
from emotrace_clients.demo import shipped

PAGES = ("README.md", "docs/quickstart.md")


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, audio_queue_ms=10_000) as running:
        yield running


def blocks(root: Path, language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language: where, and what."""
    found = []
    for name in PAGES:
        text = (root / name).read_text(encoding="utf-8")
        found += [
            (f"{name}, block {n}", block)
            for n, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M))
        ]
    return found


def test_the_python_blocks_run(
    root: Path,
    server: LiveServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(shipped.AUDIO, tmp_path / "dialogue.flac")
    monkeypatch.chdir(tmp_path)
    found = blocks(root, "python")
    assert len(found) == 3
    for where, block in found:
        code = block.replace('"ws://127.0.0.1:8080/v1/stream"', f'"{server.stream_url}"')
        if server.stream_url not in code:  # the README relies on the default address
            code = code.replace("connect(audio", f'connect("{server.stream_url}", audio')
        assert server.stream_url in code
        exec(compile(code, where, "exec"), {"__name__": "block"})
        printed = capsys.readouterr().out
        assert "Error" not in printed
        if "soundfile" in code:
            assert sum("'happiness'" in line for line in printed.splitlines()) == 10, where


def test_the_commands_exist_with_their_options(root: Path) -> None:
    group = typer.main.get_command(app)
    commands = [
        shlex.split(line, comments=True)
        for _, block in blocks(root, "sh")
        for line in block.splitlines()
        if line.startswith("emotrace ")
    ]
    assert len(commands) >= 7
    for _, name, *arguments in commands:
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        group.commands[name].make_context(name, arguments)  # raises a usage error
