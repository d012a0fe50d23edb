"""What README and docs tell people to type in Python is typed here, against a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from live import DEMO, live_server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for number, code in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]


def test_there_are_blocks_to_run() -> None:
    assert any("README" in str(block.id) for block in BLOCKS)


@pytest.mark.parametrize("code", BLOCKS)
def test_a_code_block_runs(code: str, toy: Path, tmp_path: Path) -> None:
    shutil.copy(DEMO, tmp_path / "dialogue.flac")
    with live_server(toy) as server:
        # The pages use the default address; the test's server has another port.
        here = code.replace("connect(", f'connect("{server.stream_url}", ')
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", here],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip(), "the block printed nothing"
