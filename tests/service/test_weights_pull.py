"""Pulling weights from a server on this machine: whole, resumed, broken, wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import httpx
import pytest
from typer.testing import CliRunner

from emotrace_models.weights import WeightFile, WeightSet, verify
from emotrace_service import weights_cli, weights_pull
from emotrace_service.weights_pull import PullFailed, pull

MODEL = bytes(range(256)) * 4_000
CONTENT = {"config.json": b'{"a": 1}', "model.bin": MODEL}


@dataclass
class Shelf:
    """What the server has, and how it misbehaves."""

    url: str = ""
    content: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    break_after: int | None = None  # bytes of a file, then the connection drops
    ranges: bool = True
    status: int | None = None
    redirect: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)


def _handler(shelf: Shelf) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            wanted = self.headers.get("Range")
            if shelf.redirect and not name.startswith("cdn/"):
                self.send_response(302)
                self.send_header("Location", f"{shelf.url}/cdn/{name}")
                self.end_headers()
                return
            name = name.removeprefix("cdn/")
            shelf.asked.append((name, wanted))
            if shelf.status is not None:
                self.send_error(shelf.status)
                return
            self._send(shelf.content[name], wanted)

        def _send(self, data: bytes, wanted: str | None) -> None:
            start = 0
            if shelf.ranges and wanted is not None:
                match = re.fullmatch(r"bytes=(\d+)-", wanted)
                assert match is not None
                start = int(match.group(1))
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = len(data) if shelf.break_after is None else start + shelf.break_after
            self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    shelf = Shelf()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(shelf))
    shelf.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield shelf
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture
def weights(shelf: Shelf) -> WeightSet:
    files = tuple(
        WeightFile(name, f"{shelf.url}/{name}", len(data), hashlib.sha256(data).hexdigest())
        for name, data in CONTENT.items()
    )
    return WeightSet("toy", "a toy", "MIT", shelf.url, "1", files, "transcriber")


def _silent(file: WeightFile, here: int) -> None:
    """No progress bar."""


def _names(root: Path) -> set[str]:
    return {path.name for path in (root / "toy").iterdir()}


def test_pulled_weights_are_whole_and_leave_nothing_beside(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    seen: dict[str, list[int]] = {}
    directory = pull(
        weights,
        tmp_path / "deep" / "root",
        client,
        lambda file, here: seen.setdefault(file.name, []).append(here),
    )
    assert verify(weights, tmp_path / "deep" / "root") == directory
    assert _names(tmp_path / "deep" / "root") == set(CONTENT)
    for name, steps in seen.items():
        assert steps == sorted(steps)
        assert steps[-1] == len(CONTENT[name])


def test_what_is_here_and_intact_is_not_fetched_again(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    pull(weights, tmp_path, client, _silent)
    shelf.asked.clear()
    pull(weights, tmp_path, client, _silent)
    assert shelf.asked == []
    (tmp_path / "toy" / "model.bin").write_bytes(MODEL[:-1] + b"!")
    pull(weights, tmp_path, client, _silent)
    assert shelf.asked == [("model.bin", None)]
    verify(weights, tmp_path)


def test_redirects_are_followed(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    shelf.redirect = True
    pull(weights, tmp_path, client, _silent)
    verify(weights, tmp_path)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path, ranges: bool
) -> None:
    shelf.break_after = 300_000
    with pytest.raises(PullFailed, match="run the command again"):
        pull(weights, tmp_path, client, _silent)
    part = tmp_path / "toy" / "model.bin.part"
    here = part.stat().st_size
    assert 0 < here <= 300_000
    assert part.read_bytes() == MODEL[:here]
    assert "model.bin" not in _names(tmp_path)
    shelf.break_after, shelf.ranges = None, ranges
    shelf.asked.clear()
    pull(weights, tmp_path, client, _silent)
    assert shelf.asked == [("model.bin", f"bytes={here}-")]
    assert _names(tmp_path) == set(CONTENT)
    verify(weights, tmp_path)


def test_a_file_that_ends_too_early_is_kept_as_a_part(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    shelf.content["model.bin"] = MODEL[:-5]
    with pytest.raises(PullFailed, match="ended after 1023995 of 1024000 bytes"):
        pull(weights, tmp_path, client, _silent)
    assert _names(tmp_path) == {"config.json", "model.bin.part"}


@pytest.mark.parametrize(
    "content", [MODEL[:-1] + b"!", MODEL + b"!"], ids=["another hash", "too long"]
)
def test_a_file_that_was_changed_is_deleted(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path, content: bytes
) -> None:
    shelf.content["model.bin"] = content
    with pytest.raises(PullFailed, match="not the file that was published"):
        pull(weights, tmp_path, client, _silent)
    assert _names(tmp_path) == {"config.json"}


def test_a_wrong_part_is_found_out_and_the_next_pull_begins_anew(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "toy").mkdir()
    part = tmp_path / "toy" / "model.bin.part"
    part.write_bytes(b"something else")
    with pytest.raises(PullFailed, match="not the file that was published"):
        pull(weights, tmp_path, client, _silent)
    pull(weights, tmp_path, client, _silent)
    part.write_bytes(MODEL + b"too much")
    (tmp_path / "toy" / "model.bin").unlink()
    pull(weights, tmp_path, client, _silent)
    verify(weights, tmp_path)
    assert _names(tmp_path) == set(CONTENT)


@pytest.mark.parametrize("status", [401, 404, 416, 500, 503])
def test_a_refusal_is_told_with_its_address(
    shelf: Shelf, weights: WeightSet, client: httpx.Client, tmp_path: Path, status: int
) -> None:
    shelf.status = status
    with pytest.raises(PullFailed, match=rf"{shelf.url}/config.json answered {status}"):
        pull(weights, tmp_path, client, _silent)


def test_no_server_at_all(
    weights: WeightSet, client: httpx.Client, tmp_path: Path, unused_tcp_port: int
) -> None:
    nowhere = WeightFile("a.bin", f"http://127.0.0.1:{unused_tcp_port}/a.bin", 1, "0" * 64)
    with pytest.raises(PullFailed, match="ConnectError"):
        pull(
            WeightSet("toy", "", "", "", "", (nowhere,), "transcriber"),
            tmp_path,
            client,
            _silent,
        )


def test_a_full_disk_is_told_before_the_download(
    shelf: Shelf,
    weights: WeightSet,
    client: httpx.Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(free=1_000_000))
    monkeypatch.setattr(weights_pull, "shutil", full)
    with pytest.raises(PullFailed, match=r"1 MB left\. Make room"):
        pull(weights, tmp_path, client, _silent)
    assert shelf.asked == []


def test_a_folder_that_cannot_be_written(
    weights: WeightSet, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PullFailed, match="cannot be written"):
        pull(weights, tmp_path / "file", client, _silent)


# The command -------------------------------------------------------------------------------------


@pytest.fixture
def local_lock(weights: WeightSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_cli, "load_lock", lambda: {"toy": weights})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.usefixtures("local_lock")
def test_the_command_lists_and_pulls(tmp_path: Path, weights: WeightSet) -> None:
    runner = CliRunner()
    options = ["--weights", str(tmp_path)]
    assert " no " in runner.invoke(weights_cli.app, ["list", *options]).stdout
    pulled = runner.invoke(weights_cli.app, ["pull", "toy", *options])
    assert pulled.exit_code == 0, pulled.output
    assert "toy is ready in" in pulled.stdout
    assert "Licence: MIT" in pulled.stdout
    verify(weights, tmp_path)
    assert " yes " in runner.invoke(weights_cli.app, ["list", *options]).stdout


@pytest.mark.usefixtures("local_lock")
def test_the_command_fails_with_a_sentence(shelf: Shelf, tmp_path: Path) -> None:
    shelf.status = 500
    failed = CliRunner().invoke(weights_cli.app, ["pull", "toy", "--weights", str(tmp_path)])
    assert failed.exit_code == 1
    assert "answered 500" in failed.stderr
    assert "Traceback" not in failed.output


@pytest.mark.usefixtures("local_lock")
def test_the_command_knows_its_names(tmp_path: Path) -> None:
    failed = CliRunner().invoke(weights_cli.app, ["pull", "huge", "--weights", str(tmp_path)])
    assert failed.exit_code == 1
    assert "there are toy" in failed.stderr


def test_the_default_weights_are_in_the_shipped_lock() -> None:
    assert weights_cli.DEFAULT_WEIGHTS in weights_cli.load_lock()
