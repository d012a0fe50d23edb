"""What README and docs tell people to type works as it stands there, against a real server."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from live import DEMO, live_server

from emotrace_clients.__main__ import app
from emotrace_clients.connecting import DEFAULT_URL

ROOT = Path(__file__).parents[2]
# models.md is a specification; its blocks are pseudo-code.
PAGES = tuple(
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.name != "models.md"
)


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language: where it stands, and what it holds."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        (f"{page.relative_to(ROOT)}-{number}", block)
        for page in PAGES
        for number, block in enumerate(fence.findall(page.read_text(encoding="utf-8")))
    ]


def test_the_pages_have_blocks_to_run() -> None:
    where = {name.rpartition("-")[0] for name, _ in blocks("python")}
    assert {"README.md", "docs/quickstart.md"} <= where


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")])
def test_a_python_block_runs(code: str, toy: Path, tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "dialogue.flac")
    recordings, key = tmp_path / "recordings", tmp_path / "public.pem"
    recordings.mkdir()
    public = X25519PrivateKey.generate().public_key()
    key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    kept = {"recordings": recordings, "recordings_key": key}
    with live_server(toy, audio_queue_ms=10_000, **kept) as server:
        # The pages name the default address, or rely on it; this server has another port.
        here = code.replace(DEFAULT_URL, server.stream_url)
        here = re.sub(r"connect\((?!\")", f'connect("{server.stream_url}", ', here)
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", here],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    assert "Error" not in result.stdout
    recorded = "record=" in code and ".delete()" not in code
    assert [file.suffix for file in recordings.iterdir()] == [".sealed"] * recorded


def test_the_commands_exist_with_their_options() -> None:
    group = typer.main.get_command(app)
    commands = [
        shlex.split(line, comments=True)
        for _, block in blocks("sh")
        for line in block.splitlines()
        if line.startswith("emotrace ")
    ]
    assert len(commands) >= 7
    for _, name, *arguments in commands:
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        group.commands[name].make_context(name, arguments)  # raises a usage error


def test_the_design_has_a_place_for_every_file_of_the_service() -> None:
    layout = (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("## 3.")[0]
    named = set(re.findall(r"\w+", layout))
    modules = {file.stem for file in (ROOT / "service/emotrace_service").glob("[a-z]*.py")}
    assert not modules - named
