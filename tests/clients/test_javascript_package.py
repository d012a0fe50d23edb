"""The JavaScript package as it is published: types, size, files."""

from __future__ import annotations

import gzip
import json
import re
import tomllib
from pathlib import Path

import pytest
from javascript import FOLDER, PACKAGE, TOOLS, program, run, tool

MAX_BYTES = 15_000


async def test_types_are_checked() -> None:
    """The package's own code, and a program of which some lines must not compile."""
    await run(tool("tsc"), "--project", str(FOLDER))


async def test_the_types_refuse_what_is_wrong(tmp_path: Path) -> None:
    """Without its marks, each line that must not compile is told of."""
    compiler = tool("tsc")
    text = (FOLDER / "types.ts").read_text()
    expected = text.count("// @ts-expect-error")
    assert expected >= 10
    text = text.replace("// @ts-expect-error", "// wrong:").replace("../..", str(FOLDER.parents[1]))
    config = json.loads((FOLDER / "tsconfig.json").read_text())
    (tmp_path / "types.ts").write_text(text)
    (tmp_path / "tsconfig.json").write_text(json.dumps({**config, "include": ["types.ts"]}))
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(TOOLS)
    with pytest.raises(AssertionError) as refused:
        await run(compiler, "--project", str(tmp_path))
    assert len(set(re.findall(r"types\.ts\((\d+),", str(refused.value)))) == expected


async def test_the_bundle_is_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "emotrace.js"
    options = ("--bundle", "--minify", "--format=esm", "--log-level=warning")
    await run(tool("esbuild"), str(PACKAGE / "index.js"), *options, f"--outfile={bundle}")
    size, packed = bundle.stat().st_size, len(gzip.compress(bundle.read_bytes(), 9))
    with capsys.disabled():
        print(f"\nemotrace.js: {size} bytes minified, {packed} with gzip")
    assert size <= MAX_BYTES


async def test_what_is_published_is_what_is_needed(tmp_path: Path, root: Path) -> None:
    report = await run(
        program("npm"), "pack", "--dry-run", "--json", "--offline", folder=PACKAGE,
        npm_config_cache=str(tmp_path), npm_config_update_notifier="false",
    )  # fmt: skip
    (packed,) = json.loads(report[report.index("[") :])
    published = {file["path"] for file in packed["files"]}
    scripts = {path.name for path in PACKAGE.glob("*.js")}
    types = {"index.d.ts", "events.d.ts", "messages.d.ts"}
    assert published == {*scripts, *types, "package.json", "README.md", "LICENSE"}
    assert (PACKAGE / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()


def test_the_package_needs_nothing(root: Path) -> None:
    manifest = json.loads((PACKAGE / "package.json").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (manifest["name"], manifest["version"]) == (project["name"], project["version"])
    assert not [name for name in manifest if "ependencies" in name]
    for script in PACKAGE.glob("*.js"):
        for imported in re.findall(r'from "([^"]+)"', script.read_text()):
            assert (PACKAGE / imported).is_file(), (script.name, imported)


def test_no_registry_is_written_down() -> None:
    lock = (FOLDER / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in lock
