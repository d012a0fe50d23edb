"""The JavaScript package: its own tests in Node, and against real servers, in Node and Chromium."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import soundfile
from chromium import chromium
from javascript import PACKAGE, TOOLS, node, play, program, run
from live import LiveServer, demo_pcm, live_server

from emotrace_clients import connect
from emotrace_clients.demo import shipped
from emotrace_clients.streaming import converse, hurried
from emotrace_clients.turns import TurnMatcher, read_turns
from emotrace_protocol import ServerEvent

BLOCK = 12_800  # bytes
SETTINGS: dict[str, Any] = {"speakers": ["Ann", "Ben"], "transcription": "client", "interim": False}
CUTS = (4_000, 15_000, 9_000)  # bytes from the server, after which a connection is cut


@pytest.mark.parametrize("name", ["pure", "session", "resume"])
async def test_the_packages_own_tests_pass(name: str) -> None:
    assert await node(name) >= 15


# The demo dialogue against a real server


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, audio_queue_ms=3_000) as running:
        yield running


async def python_hears(server: LiveServer, pcm: bytes) -> list[ServerEvent]:
    heard: list[ServerEvent] = []
    async with connect(server.stream_url, **SETTINGS) as session:
        blocks = hurried([pcm[at : at + BLOCK] for at in range(0, len(pcm), BLOCK)])
        await converse(session, blocks, heard.append, TurnMatcher(read_turns(shipped.TURNS)))
    return heard


@pytest.fixture(scope="module")
def demo(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo dialogue as a task: what the Python client hears of it is to be heard again."""
    audio, pcm = demo_pcm()
    path = tmp_path_factory.mktemp("javascript") / "demo.pcm"
    path.write_bytes(pcm)
    heard = asyncio.run(python_hears(server, pcm))
    emotions = [one.model_dump(mode="json") for one in heard if one.type.startswith("emotion.")]
    assert len(emotions) >= 10
    return {
        "play": "the demo dialogue",
        "url": server.stream_url,
        "settings": {**SETTINGS, "audio": audio.model_dump(mode="json")},
        "pcm": str(path),
        "audio_bytes": len(pcm),
        "turns": [turn.model_dump() for turn in read_turns(shipped.TURNS)],
        "expected": emotions,
    }


async def test_node_hears_what_the_python_client_hears(
    demo: dict[str, Any], tmp_path: Path
) -> None:
    await play(demo, tmp_path)


async def test_and_so_it_does_with_another_websocket(demo: dict[str, Any], tmp_path: Path) -> None:
    if not (TOOLS / "ws").exists():
        pytest.skip("needs ws: npm ci --prefix tests/js")
    await play({**demo, "ws": True}, tmp_path)


async def test_and_over_connections_that_break(demo: dict[str, Any], tmp_path: Path) -> None:
    assert len(json.dumps(demo["expected"])) > 1.2 * sum(CUTS), "every cut comes before the end"
    async with cut_after(CUTS, demo["url"]) as url:
        await play({**demo, "url": url, "breaks": len(CUTS)}, tmp_path)


@asynccontextmanager
async def cut_after(cuts: tuple[int, ...], url: str) -> AsyncIterator[str]:
    """The address of a way to a server whose first connections break without a word: each after
    so many bytes from the server."""
    host, port = url.removeprefix("ws://").partition("/")[0].split(":")
    left = list(cuts)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bytes_left = left.pop(0) if left else None
        server_reader, server_writer = await asyncio.open_connection(host, int(port))

        async def forward() -> None:
            while data := await reader.read(65_536):
                server_writer.write(data)
                await server_writer.drain()

        forwarding = asyncio.create_task(forward())
        try:
            while data := await server_reader.read(1_000):
                if bytes_left is not None and (bytes_left := bytes_left - len(data)) <= 0:
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the client left
        finally:
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            for one in (writer, server_writer):
                one.transport.abort()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as way:
        yield f"ws://127.0.0.1:{way.sockets[0].getsockname()[1]}/v1/stream"


IN_A_PAGE = """
(async () => {
  const { connect, TurnMatcher } = await import("/emotrace/index.js");
  const session = connect(%(url)s, %(settings)s);
  const turns = new TurnMatcher(%(turns)s);
  const said = [];
  session.onEvent = (event) => {
    if (event.type === "speech.ended") {
      session.sendText(turns.take(event), { utterance: event.utterance });
    }
    if (event.type.startsWith("emotion.")) said.push(event);
  };
  session.sendAudio(Uint8Array.from(atob(%(pcm)s), (one) => one.charCodeAt(0)));
  session.end();
  return session.finished.then(() => said, ({ code, message }) => ({ code, message }));
})()
"""


def in_a_page(task: dict[str, Any], **changed: Any) -> str:
    pcm = base64.b64encode(Path(task["pcm"]).read_bytes()).decode()
    values = {**task, "pcm": pcm, **changed}
    return IN_A_PAGE % {name: json.dumps(value) for name, value in values.items()}


def test_a_browser_hears_it_too_and_a_stranger_is_told(
    server: LiveServer, demo: dict[str, Any], tmp_path: Path
) -> None:
    stranger = server.url.replace("127.0.0.1", "stranger.test")
    with chromium(tmp_path, "--host-resolver-rules=MAP stranger.test 127.0.0.1") as page:
        page.visit(f"{server.url}/icon.svg")
        said = page.evaluate(in_a_page(demo))
        page.visit(f"{stranger}/icon.svg")
        refused = page.evaluate(in_a_page(demo))
        rebound = page.evaluate(
            in_a_page(demo, url=demo["url"].replace("127.0.0.1", "stranger.test"))
        )
    assert [one["label"] for one in said] == [one["label"] for one in demo["expected"]]
    for one, other in zip(said, demo["expected"], strict=True):
        assert one["posterior"] == pytest.approx(other["posterior"], abs=1e-6)
    assert refused["code"] == "origin_forbidden"
    assert f"EMOTRACE_ORIGINS='[\"{stranger}\"]'" in refused["message"]
    assert rebound["code"] == "refused"


# The README


def example(heading: str, number: int = 0) -> str:
    """A block of code under a heading."""
    _, _, section = (PACKAGE / "README.md").read_text().partition(f"\n## {heading}\n")
    return re.findall(r"```js\n(.*?)```", section, re.DOTALL)[number]


async def test_the_readmes_lines_for_node(
    server: LiveServer, demo: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "emotrace").symlink_to(PACKAGE)
    (tmp_path / "dialogue.pcm").symlink_to(demo["pcm"])
    script = tmp_path / "example.mjs"
    address = "ws://127.0.0.1:8080/v1/stream"
    assert address in example("Node")
    script.write_text(example("Node").replace(address, server.stream_url) + example("Errors"))
    said = await run(
        program("node"), "--experimental-websocket", "--no-warnings", str(script), folder=tmp_path
    )
    assert len(re.findall(r"^(Ann|Ben) (anger|happiness|neutral|sadness) \{", said, re.M)) == 10
    assert "finals: 10" in said


async def test_the_quick_starts_lines_for_node(
    server: LiveServer, tmp_path: Path, root: Path
) -> None:
    (block,) = re.findall(r"```js\n(.*?)```", (root / "docs/quickstart.md").read_text(), re.DOTALL)
    address = "ws://127.0.0.1:8080/v1/stream"
    assert address in block
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "emotrace").symlink_to(PACKAGE)
    script = tmp_path / "example.mjs"
    script.write_text(block.replace(address, server.stream_url))
    options = ("--experimental-websocket", "--no-warnings")
    assert await run(program("node"), *options, str(script), folder=tmp_path) == "deleted\n"


def test_the_readmes_lines_for_the_browser(server: LiveServer, tmp_path: Path) -> None:
    lines = (
        example("Browser").replace('"./emotrace', '"/emotrace').replace('"capture.js"', "module")
    )
    lines = re.sub(r"import (\{.*\}) from (\S+);.*", r"const \1 = await import(\2);", lines)
    worklet = json.dumps(example("Browser", 1))
    script = f"""(async () => {{
      const module = URL.createObjectURL(new Blob([{worklet}], {{ type: "text/javascript" }}));
      {lines}
      await new Promise((heard) => session.addEventListener("event", ({{ detail }}) => {{
        if (detail.type === "emotion.final") heard();
      }}));
      session.end();
      return (await session.finished).finals;
    }})()"""
    soundfile.write(tmp_path / "voice.wav", *soundfile.read(shipped.AUDIO, frames=9 * 16_000))
    flag = f"--use-file-for-fake-audio-capture={tmp_path / 'voice.wav'}"
    with chromium(tmp_path / "profile", flag) as page:
        page.visit(f"{server.url}/icon.svg")
        assert page.evaluate(script) >= 1


# How it fails


async def test_a_refused_session_is_told_in_the_servers_words(
    server: LiveServer, tmp_path: Path
) -> None:
    task = {
        "play": "a failure",
        "url": server.stream_url,
        "settings": {"bundle": "none such"},
        "code": "bundle_unknown",
        "message": r"GET /v1/models",
    }
    await play(task, tmp_path)


async def test_no_server_no_stream_and_no_session_now(server: LiveServer, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = f"ws://127.0.0.1:{unused.getsockname()[1]}/v1/stream"
        await play(
            {
                "play": "a failure",
                "url": nowhere,
                "code": "unreachable",
                "message": "No server answers at 127.0.0.1:.*Is it running",
            },
            tmp_path,
        )
    await play(
        {
            "play": "a failure",
            "url": server.stream_url.replace("stream", "stroem"),
            "code": "refused",
            "message": "no stream for this client at /v1/stroem",
        },
        tmp_path,
    )
    async with starting_server("The models are warming up.") as url:
        await play(
            {
                "play": "a failure",
                "url": url,
                "code": "not_ready",
                "message": "takes no session now. The models are warming up. Try again",
            },
            tmp_path,
        )


@asynccontextmanager
async def starting_server(reason: str) -> AsyncIterator[str]:
    """Answers every request as /readyz does before the models are warm."""
    body = json.dumps({"ready": False, "reason": reason})

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 503 -\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as answering:
        yield f"ws://127.0.0.1:{answering.sockets[0].getsockname()[1]}/v1/stream"
