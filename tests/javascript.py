"""Runs Node and its tools for the tests of the JavaScript package.

Node's own tests lie in tests/js, with the tools that some need (`npm ci --prefix tests/js`); the
package itself needs nothing but Node or a browser.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import emotrace_clients

FOLDER = Path(__file__).parent / "js"
PACKAGE = Path(emotrace_clients.__file__).parent / "browser" / "emotrace"
TOOLS = FOLDER / "node_modules"


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}, which is not on this machine")
    return found


def tool(name: str) -> str:
    """A program of tests/js/package.json."""
    path = TOOLS / ".bin" / name
    if not path.exists():
        pytest.skip(f"needs {name}: npm ci --prefix tests/js")
    return str(path)


async def run(*command: str, folder: Path = FOLDER, **environment: str) -> str:
    """What a command printed. Fails where it does."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": str(Path(program("node")).parent), "HOME": str(folder), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def node(name: str, **environment: str) -> int:
    """Runs a file of tests/js; how many of its tests were not skipped. A fault there fails here."""
    report = await run(
        program("node"),
        "--experimental-websocket",  # built in, but behind a flag before Node 22
        "--no-warnings",
        "--test",
        "--test-reporter=tap",
        str(FOLDER / f"{name}.test.js"),
        **environment,
    )
    count = re.search(r"^# pass (\d+)$", report, re.MULTILINE)
    assert count is not None, report
    return int(count[1])


async def play(task: dict[str, Any], folder: Path) -> None:
    """Lets Node play one of wire.test.js."""
    path = folder / "task.json"
    path.write_text(json.dumps(task))
    assert await node("wire", EMOTRACE_TASK=str(path)) == 1, f"there is no {task['play']}"
