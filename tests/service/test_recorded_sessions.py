"""Sessions on a server that records, and replays of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from fakes import toy_bundle
from live import LiveServer, close_to, demo_pcm, live_server, pieces, settled, talk
from recording_keys import KEY, pem_pair
from typer.testing import CliRunner
from undaunted import PATIENT, Undaunted, lasting

from emotrace_clients import connect
from emotrace_protocol import Event, Message, decode_event
from emotrace_protocol.events import SessionStarted, SpeechEnded
from emotrace_protocol.messages import (
    Marker,
    Record,
    SessionEnd,
    SessionResume,
    SessionStart,
    Transcription,
    UtteranceText,
)
from emotrace_service.errors import StartRefused
from emotrace_service.replay_cli import replay
from emotrace_service.replaying import RecordedSession, Replay


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


@pytest.fixture(scope="module")
def server(
    toy: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    _, public = pem_pair(tmp_path_factory.mktemp("keys"))
    with live_server(toy, recordings=folder, recordings_key=public, **PATIENT) as running:
        yield running


@pytest.fixture(scope="module")
def session(server: LiveServer, folder: Path) -> tuple[list[Path], list[Event]]:
    """The recording of a live session whose connection broke once, and what its client heard."""
    heard = asyncio.run(recorded_session(server))
    assert isinstance(heard[0], SessionStarted)
    parts = sorted(folder.glob(f"{heard[0].session}.*"))
    assert len(parts) == 2
    return parts, heard


async def recorded_session(server: LiveServer) -> list[Event]:
    audio, pcm = demo_pcm()
    start = SessionStart(
        audio=audio,
        transcription=Transcription.CLIENT,
        resume=True,
        record=Record(consent="I agree"),
    )
    said: list[Message | bytes] = []
    for place, block in enumerate(pieces(pcm, 50_000)):
        said += [block, Marker(id=f"m{place}")]
    said += [UtteranceText(text="I see, wonderful!", speaker="Bot"), b"\1", SessionEnd()]

    def answer(event: SpeechEnded) -> Message:
        return UtteranceText(text=f"Well, turn {event.utterance}.", utterance=event.utterance)

    client = Undaunted(start, said, random.Random(7), answer)
    heard = list(await client.run(server, most_cuts=1))
    assert client.cuts == 1
    assert isinstance(heard[0], SessionStarted)
    assert heard[0].recording is not None
    assert sum(event.type == "emotion.final" for event in heard) > 5
    assert await settled(server)
    return heard


def compared(heard: Sequence[Event]) -> list[dict[str, Any]]:
    """What was heard, but for what depends on time."""
    return [one for one in lasting(heard) if one.get("code") not in ("text_late", "backpressure")]


# A replay.


async def test_a_replay_gives_the_events_of_the_live_session(
    server: LiveServer, session: tuple[list[Path], list[Event]]
) -> None:
    parts, heard = session
    told: list[Event] = []
    recorded = RecordedSession(parts, KEY)
    run = Replay(server.serving, recorded)
    await run.run(told.append)
    assert [event.sequence for event in told] == list(range(len(told)))
    live, again = compared(heard), compared(told)
    assert [one["type"] for one in again] == [one["type"] for one in live]
    for was, now in zip(live, again, strict=True):
        assert close_to(was, now, 1e-6), (was, now)
        assert was.get("label") == now.get("label")
        for label, probability in (was.get("posterior") or {}).items():
            assert abs(probability - now["posterior"][label]) <= 1e-6


async def test_a_recording_without_an_end_gives_what_is_sure(
    server: LiveServer, session: tuple[list[Path], list[Event]], tmp_path: Path
) -> None:
    """The client said its words last, so they are cut off; what was heard is not."""
    (first, _), heard = session
    cut = tmp_path / first.name
    cut.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    told: list[Event] = []
    recorded = RecordedSession([cut], KEY)
    await Replay(server.serving, recorded).run(told.append)
    assert told[-1].type != "session.ended"
    kinds = ("marker.reached", "speech.started", "speech.ended")
    live, again = ([one for one in compared(x) if one["type"] in kinds] for x in (heard, told))
    assert 5 < len(again) < len(live)
    assert again == live[: len(again)]


def run_replay(*arguments: object, typed: str = "") -> tuple[int, str, str]:
    cli = typer.Typer()
    cli.command()(replay)
    done = CliRunner().invoke(cli, [str(one) for one in arguments], input=typed)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_command_replays_by_the_same_bundle_or_another(
    session: tuple[list[Path], list[Event]],
    toy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, heard = session
    private, _ = pem_pair(tmp_path)
    monkeypatch.setenv("EMOTRACE_BUNDLE", str(toy))
    monkeypatch.setenv("EMOTRACE_WHISPER", "none")
    monkeypatch.setenv("EMOTRACE_THREADS", "1")
    code, out, err = run_replay(*parts, "--key", private)
    assert code == 0
    assert "recorded with" not in err
    told = [decode_event(line) for line in out.splitlines()]
    labels = [one["label"] for one in compared(heard) if one["type"] == "emotion.final"]
    again = [one["label"] for one in compared(told) if one["type"] == "emotion.final"]
    assert again == labels

    other = toy_bundle(tmp_path / "other", seed=5, name="other")
    code, out, err = run_replay(*parts, "--key", private, "--bundle", other)
    assert code == 0
    assert "recorded with toy 0 (exact), replayed with other 0 (exact)" in err
    third = [json.loads(line) for line in out.splitlines()]
    assert third[0]["bundle"]["name"] == "other"
    assert [one["type"] for one in third if one["type"] == "emotion.final"]


def test_the_command_says_what_is_wrong_with_a_recording_or_key(
    session: tuple[list[Path], list[Event]], tmp_path: Path
) -> None:
    path = session[0][0]
    private, public = pem_pair(tmp_path, password=b"secret")
    for arguments, why in (
        ((path, "--key", public), "no private X25519 key"),
        ((path, "--key", tmp_path / "no.pem"), "No such file"),
        ((path, "--key", private), "password is wrong"),
    ):
        with pytest.raises(StartRefused, match=why):
            run_replay(*arguments, typed="guess\n")
    with pytest.raises(StartRefused, match="no sealed file"):
        run_replay(private, "--key", private, typed="secret\n")


# A session on a server that records.


def parts_of(folder: Path, started: SessionStarted) -> list[Path]:
    return list(folder.glob(f"{started.session}.*"))


async def test_only_who_asks_with_consent_is_recorded(server: LiveServer, folder: Path) -> None:
    async with talk(server) as client:
        await client.say(SessionStart())
        started = await client.until("session.started")
        await client.say(b"\0" * 3_200, SessionEnd())
        await client.closed()
    assert isinstance(started, SessionStarted)
    assert started.recording is None
    assert not parts_of(folder, started)
    async with talk(server) as client:
        await client.say('{"type": "session.start", "record": {}}')
        assert await client.closed() == 4422


async def test_a_deleted_session_leaves_no_recording(server: LiveServer, folder: Path) -> None:
    async with connect(server.stream_url, record="yes") as session:
        assert parts_of(folder, session.started)
        await session.send_audio(b"\0" * 3_200)
        await session.delete()
        events = [event async for event in session]
        assert not parts_of(folder, session.started), "it is gone when the client is told"
    assert events[-1].type == "session.ended"


async def test_a_recording_deleted_meanwhile_does_not_end_the_session(
    server: LiveServer, folder: Path
) -> None:
    async with talk(server) as client, httpx.AsyncClient() as http:
        await client.say(SessionStart(record=Record(consent="yes")))
        started = await client.until("session.started")
        assert isinstance(started, SessionStarted)
        assert started.recording is not None
        answer = await http.delete(
            f"{server.url}/v1/recordings/{started.session}",
            headers={"Authorization": f"Bearer {started.recording.token}"},
        )
        assert answer.status_code == 204
        await client.say(b"\0" * 3_200, Marker(id="on"))
        await client.until("marker.reached")
        await client.say(b"\0" * 3_200, SessionEnd())
        await client.closed()
    assert [one.code for one in client.of("warning")].count("recording_lost") == 1
    assert client.heard[-1].type == "session.ended"
    assert not parts_of(folder, started)


async def test_what_was_deleted_while_the_client_was_away_is_not_begun_again(
    server: LiveServer, folder: Path
) -> None:
    async with talk(server) as client:
        await client.say(SessionStart(resume=True, record=Record(consent="yes")))
        started = await client.until("session.started")
        assert isinstance(started, SessionStarted)
        assert started.resume is not None
        client.socket.transport.abort()
    assert await settled(server)
    for part in parts_of(folder, started):
        part.unlink()
    async with talk(server) as again:
        await again.say(
            SessionResume(session=started.session, token=started.resume.token, sequence=1)
        )
        await again.until("session.resumed")
        await again.say(b"\0" * 3_200, SessionEnd())
        await again.closed()
    assert [one.code for one in again.of("warning")] == ["recording_lost"]
    assert not parts_of(folder, started)
