"""Other bundles while sessions are open: whoever talks keeps theirs, and nobody is cut off."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import Replica, replica
from eventually import eventually
from fakes import toy_bundle
from live import Talk, close_to, comparable, demo_pcm, pieces, stream, talk

from emotrace_models.bundle import WEIGHTS
from emotrace_protocol.errors import WarningCode
from emotrace_protocol.messages import SessionEnd, SessionResume, SessionStart, Transcription
from emotrace_service.metrics import CHANGES

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGUSR1"), reason="this system has no signal SIGUSR1"
)
AUDIO, PCM = demo_pcm(12.0)
START = SessionStart(audio=AUDIO, transcription=Transcription.OFF, interim=False, resume=True)
CHUNKS = pieces(PCM, 32_000)
HALF = len(CHUNKS) // 2


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("versions")
    return [toy_bundle(folder / f"v{seed}", seed=seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module", params=["threads"])
def started(
    request: pytest.FixtureRequest,
    versions: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Replica]:
    """It serves what the link `current` names."""
    folder = tmp_path_factory.mktemp("server")
    point(folder, versions[0])
    with replica(
        folder / "current", folder, EMOTRACE_WORKERS=request.param, EMOTRACE_THREADS="2"
    ) as running:
        yield running


@pytest.fixture
async def server(started: Replica, versions: list[Path]) -> Replica:
    """It serves the first version."""
    point(started.bundle.parent, versions[0])
    before = read_again(started)
    started.signal(signal.SIGUSR1)
    await eventually(lambda: read_again(started) > before)
    return started


def point(folder: Path, version: Path) -> None:
    (folder / "next").symlink_to(version)
    os.replace(folder / "next", folder / "current")


def changes(server: Replica, result: str) -> int:
    line = f'emotrace_bundle_changes_total{{result="{result}"}} '
    text = httpx.get(f"{server.url}/metrics").text
    (value,) = (one.removeprefix(line) for one in text.splitlines() if one.startswith(line))
    return int(float(value))


def models(server: Replica) -> Any:
    return httpx.get(f"{server.url}/v1/models").json()


def read_again(server: Replica) -> int:
    return sum(changes(server, result) for result in CHANGES)


async def change(server: Replica, version: Path, result: str = "changed") -> None:
    """Point the link to that version, and have the bundles read again."""
    point(server.bundle.parent, version)
    before = changes(server, result)
    server.signal(signal.SIGUSR1)
    await eventually(lambda: changes(server, result) > before)


def judged(client: Talk) -> list[dict[str, Any]]:
    """What does not depend on when the client was told what was safe."""
    told = comparable(client.heard)
    for one in told:
        del one["sequence"]
    return [one for one in told if one["type"].startswith("emotion.")]


async def whole(server: Any) -> list[dict[str, Any]]:
    """A session that nothing disturbs."""
    _, heard, _ = await stream(server, START, CHUNKS)
    told = [one for one in comparable(heard) if one["type"].startswith("emotion.")]
    for one in told:
        del one["sequence"]
    assert len(told) >= 3
    return told


def assert_close(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert close_to(one, other), (one, other)


@pytest.mark.parametrize("started", ["processes", "threads"], indirect=True)
async def test_who_talks_keeps_their_bundle_and_who_comes_gets_the_new_one(
    server: Replica, versions: list[Path]
) -> None:
    first = await whole(server)
    async with talk(server) as early:
        await early.say(START)
        await early.until("session.started")
        await early.say(*CHUNKS[:HALF])
        await early.until("emotion.final")
        await change(server, versions[1])
        assert not close_to(await whole(server), first)
        await early.say(*CHUNKS[HALF:], SessionEnd())
        await early.until("session.ended")
    assert_close(judged(early), first)
    await change(server, versions[0])
    assert_close(await whole(server), first)


async def test_a_session_that_comes_back_finds_its_bundle_until_the_next_but_one(
    server: Replica, versions: list[Path]
) -> None:
    async def cut() -> tuple[Talk, Any]:
        async with talk(server) as client:
            await client.say(START)
            started: Any = await client.until("session.started")
            await client.say(*CHUNKS[:HALF])
            await client.until("emotion.final")
            client.socket.transport.abort()
        return client, started

    async def back(client: Talk, started: Any) -> Talk:
        async with talk(server) as again:
            await again.say(
                SessionResume(
                    session=started.session,
                    token=started.resume.token,
                    sequence=client.heard[-1].sequence + 1,
                )
            )
            await again.until("session.resumed")
            await again.say(SessionEnd())
            await again.until("session.ended")
        return again

    one, other = await cut(), await cut()
    await change(server, versions[1])
    found = await back(*one)
    assert not [e for e in found.of("warning") if e.code == WarningCode.MODEL_CHANGED]
    await change(server, versions[2])
    found = await back(*other)
    (warning,) = [e for e in found.of("warning") if e.code == WarningCode.MODEL_CHANGED]
    assert "'toy'" in warning.message


async def test_what_cannot_be_served_changes_nothing(
    server: Replica, versions: list[Path], tmp_path: Path
) -> None:
    before = models(server)
    first = await whole(server)
    broken = toy_bundle(tmp_path / "broken", seed=2)
    weights = bytearray((broken / WEIGHTS).read_bytes())
    weights[-9] ^= 1
    (broken / WEIGHTS).write_bytes(weights)
    await change(server, broken, "refused")
    assert f"{broken.name}/{WEIGHTS}" in server.log.read_text()
    await change(server, versions[0], "unchanged")
    assert models(server) == before
    assert_close(await whole(server), first)
