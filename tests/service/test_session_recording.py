"""Recorded sessions: sealed, whole up to the last chunk, deleted when asked, and replayed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from doubles import Stage
from fakes import toy_bundle
from live import LiveServer, close_to, demo_pcm, live_server, pieces, settled, talk
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner
from undaunted import PATIENT, Undaunted, lasting

from emotrace_clients import connect
from emotrace_models.bundle import Bundle
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
from emotrace_service.app import interface
from emotrace_service.auditing import Entry, NoAudit
from emotrace_service.errors import StartRefused
from emotrace_service.logs import logger
from emotrace_service.recorder import About, consent_digest
from emotrace_service.recording_choice import load_recordings
from emotrace_service.replay_cli import replay
from emotrace_service.replaying import RecordedSession, Replay
from emotrace_service.sealing import (
    Sealer,
    Unsealable,
    Unsealer,
    load_private_key,
    load_public_key,
    read_label,
)
from emotrace_service.session_recording import SessionRecordings
from emotrace_service.settings import Settings
from emotrace_service.witness import Observers

KEY = X25519PrivateKey.generate()
CANARY = "zanzibar-7c1f"


# A sealed file.


def sealed(*chunks: bytes, end: bool = True) -> bytes:
    sealer = Sealer(KEY.public_key(), b"label")
    last = len(chunks) - 1
    parts = [sealer.seal(chunk, last=end and at == last) for at, chunk in enumerate(chunks)]
    return sealer.opening + b"".join(parts)


def unsealed(content: bytes, key: X25519PrivateKey = KEY) -> tuple[list[bytes], bool]:
    unsealer = Unsealer(io.BytesIO(content), key)
    return list(unsealer.chunks()), unsealer.complete


CHUNKS = (b"one", b"", b"three" * 10)


def test_what_was_sealed_is_read_with_the_key_alone() -> None:
    content = sealed(*CHUNKS)
    assert unsealed(content) == (list(CHUNKS), True)
    assert read_label(io.BytesIO(content)) == b"label", "for which no key is needed"
    assert b"three" not in content
    with pytest.raises(Unsealable, match="another key"):
        unsealed(content, X25519PrivateKey.generate())
    assert content != sealed(*CHUNKS), "each file has a key of its own"


def test_every_flipped_bit_is_noticed() -> None:
    content = sealed(*CHUNKS)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        try:
            chunks, complete = unsealed(bytes(changed))
        except Unsealable:
            continue
        assert not complete, place
        assert chunks == list(CHUNKS)[: len(chunks)], place


def test_every_missing_end_is_noticed_and_what_is_whole_is_read() -> None:
    content = sealed(*CHUNKS)
    read = 0
    for size in range(len(sealed()), len(content)):
        chunks, complete = unsealed(content[:size])
        assert not complete
        assert chunks == list(CHUNKS)[: len(chunks)]
        read = max(read, len(chunks))
    assert read == len(CHUNKS) - 1
    for size in range(len(sealed())):
        with pytest.raises(Unsealable):
            unsealed(content[:size])
    assert unsealed(sealed(*CHUNKS, end=False)) == (list(CHUNKS), False)


def test_chunks_that_are_missing_moved_doubled_or_added_are_noticed() -> None:
    sealer = Sealer(KEY.public_key(), b"label")
    one, two, three = (sealer.seal(chunk, last=chunk == b"3") for chunk in (b"1", b"2", b"3"))
    for wrong in ([two, three], [one, three], [two, one, three], [one, one, two, three]):
        with pytest.raises(Unsealable):
            unsealed(sealer.opening + b"".join(wrong))
    with pytest.raises(Unsealable):
        unsealed(sealer.opening + one + two + three + two)


def test_keys_are_pem_files_as_openssl_writes_them(tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run([openssl, "genpkey", "-algorithm", "X25519", "-out", private], check=True)
    subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
    sealer = Sealer(load_public_key(public), b"")
    content = sealer.opening + sealer.seal(b"x", last=True)
    assert unsealed(content, load_private_key(private)) == ([b"x"], True)
    with pytest.raises(Unsealable, match="openssl"):
        load_public_key(private)
    with pytest.raises(Unsealable, match="no private"):
        load_private_key(public)


# A recording.


class Book:
    """An audit that remembers."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def record(self, entry: Entry) -> None:
        self.entries.append(entry)

    def close(self) -> None:
        pass

    @property
    def told(self) -> list[tuple[str, str | None]]:
        return [(entry.event.value, entry.reason or entry.consent) for entry in self.entries]


@asynccontextmanager
async def recordings(folder: Path, **options: Any) -> AsyncIterator[SessionRecordings]:
    options = {"keep_days": 30, "audit": NoAudit(), "registry": CollectorRegistry(), **options}
    kept = SessionRecordings(folder, KEY.public_key(), log=logger(), **options)
    try:
        yield kept
    finally:
        kept.close()


@pytest.fixture(scope="module")
def about(toy: Path) -> About:
    start = SessionStart(speakers=("Ann",), token=CANARY)
    consent = consent_digest(f"I agree {CANARY}")
    return About.of("s1", start, Bundle.load(toy), "exact", consent)


def read(folder: Path, session: str = "s1") -> tuple[list[bytes | str], RecordedSession]:
    recorded = RecordedSession(tuple(folder.glob(f"{session}.*")), KEY)
    return list(recorded.messages()), recorded


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_recording_holds_what_was_said_and_only_its_key_reads_it(
    tmp_path: Path, about: About
) -> None:
    book = Book()
    said = [b"\1\2" * 500, f'{{"type": "marker", "id": "{CANARY}"}}', b"", CANARY.encode() * 9_999]
    async with recordings(tmp_path, audit=book) as kept:
        begun = await kept.begin(about)
        assert begun is not None
        for number, data in enumerate(said):
            begun.recorder.note(number, data)
        kept.end("s1", begun.recorder, "client")
    messages, recorded = read(tmp_path)
    assert messages == said
    assert (recorded.end, recorded.missing) == ("client", None)
    assert recorded.about == about
    assert json.loads(recorded.about.start)["speakers"] == ["Ann"]
    assert CANARY not in recorded.about.start, "neither key nor ticket"
    consent = sha256(f"I agree {CANARY}".encode()).hexdigest()
    assert recorded.about.consent == consent, "of what was agreed to, the hash only"
    path = tmp_path / "s1.0.sealed"
    assert names(tmp_path) == [path.name]
    assert oct(path.stat().st_mode)[-3:] == "600"
    for secret in (CANARY, begun.token, "Ann", about.bundle):
        assert secret.encode() not in path.read_bytes()
    assert book.told == [("recording.began", consent), ("recording.ended", "client")]


async def test_what_a_dead_server_wrote_is_whole_up_to_the_last_chunk(
    tmp_path: Path, about: About
) -> None:
    async with recordings(tmp_path) as kept:
        begun = await kept.begin(about)
        assert begun is not None
        for number in range(10):
            begun.recorder.note(number, bytes([number]) * 20_000)
        kept.close()  # nothing more is written, and there is no end
        messages, recorded = read(tmp_path)
        assert messages == [bytes([number]) * 20_000 for number in range(8)]
        assert recorded.end is None
        path = tmp_path / "s1.0.sealed"
        os.truncate(path, path.stat().st_size - 1)
        assert read(tmp_path)[0] == messages[:4], "half a chunk is none"
        begun.recorder.stop("over")
        begun.recorder._file.close()


async def test_a_session_of_several_connections(tmp_path: Path, about: About) -> None:
    async with recordings(tmp_path) as kept:
        begun = await kept.begin(about)
        assert begun is not None
        for number, data in enumerate([b"a", b"b", "late", b"d"]):
            begun.recorder.note(number, data)
        kept.end("s1", begun.recorder, "lost")
        again = await kept.go_on(about)
        assert again is not None
        for number, data in ((1, b"b"), (2, ""), (3, b"d"), (4, b"e")):
            again.note(number, data)
        kept.end("s1", again, "client")
    messages, recorded = read(tmp_path)
    assert messages == [b"a", b"b", "", b"d", b"e"], "what was said again counts"
    assert recorded.end == "client"
    only = RecordedSession([tmp_path / "s1.1.sealed"], KEY)
    assert list(only.messages()) == []
    assert only.missing == range(1), "the first part is needed too"


async def test_a_gap_ends_what_can_be_replayed(tmp_path: Path, about: About) -> None:
    async with recordings(tmp_path) as kept:
        begun = await kept.begin(about)
        assert begun is not None
        for number in (0, 1, 5):
            begun.recorder.note(number, b"x")
        kept.end("s1", begun.recorder, "client")
    messages, recorded = read(tmp_path)
    assert messages == [b"x", b"x"]
    assert recorded.missing == range(2, 5)


async def test_whoever_began_a_session_may_have_its_recording_deleted(
    tmp_path: Path, about: About
) -> None:
    book = Book()
    async with recordings(tmp_path, audit=book) as kept:
        begun = await kept.begin(about)
        assert begun is not None
        begun.recorder.note(0, b"x")
        other = await kept.begin(about_of("s2", about))
        assert other is not None
        kept.end("s2", other.recorder, "client")
        for session, token in (
            ("s1", "wrong"),
            ("s1", ""),
            ("s1", sha256(begun.token.encode()).hexdigest()),
            ("s1", other.token),
            ("s*", begun.token),
            ("../s1", begun.token),
            ("s1\n", begun.token),
            ("", begun.token),
        ):
            assert not await kept.delete(session, token)
        assert names(tmp_path) == ["s1.0.sealed", "s2.0.sealed"]
        held = (tmp_path / "s1.0.sealed").open("rb")  # as a backup might
        assert await kept.delete("s1", begun.token)
        assert names(tmp_path) == ["s2.0.sealed"]
        assert begun.recorder.fault == "The recording was deleted."
        begun.recorder.note(1, b"y")
        kept.end("s1", begun.recorder, "client")
        assert not await kept.delete("s1", begun.token)
        assert await kept.go_on(about) is None, "and it is not begun again"
        with held, pytest.raises(Unsealable):
            Unsealer(held, KEY)  # its key was the first to go
    assert ("recording.deleted", "asked") in book.told
    assert names(tmp_path) == ["s2.0.sealed"]


async def test_a_recording_is_deleted_over_http_with_its_token(
    tmp_path: Path, toy: Path, about: About
) -> None:
    app = interface()
    app.state.serving = serving = Stage(toy).serving
    transport = httpx.ASGITransport(app=app)
    async with (
        recordings(tmp_path) as kept,
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        begun = await kept.begin(about)
        assert begun is not None
        right = {"Authorization": f"Bearer {begun.token}"}
        none = await http.delete("/v1/recordings/s1", headers=right)
        serving.observers = Observers(recordings=kept)
        refused = [
            none,
            await http.delete("/v1/recordings/s1"),
            await http.delete("/v1/recordings/s1", headers={"Authorization": "Bearer x"}),
            await http.delete("/v1/recordings/s1", headers={"Authorization": begun.token}),
            await http.delete("/v1/recordings/s9", headers=right),
            await http.delete("/v1/recordings/s%2A", headers=right),
        ]
        assert {answer.status_code for answer in refused} == {404}
        assert len({answer.text for answer in refused}) == 1, "who guesses learns nothing"
        assert names(tmp_path) == ["s1.0.sealed"]
        assert (await http.delete("/v1/recordings/s1", headers=right)).status_code == 204
        assert names(tmp_path) == []
        kept.end("s1", begun.recorder, "client")


def about_of(session: str, about: About) -> About:
    fields = {name: getattr(about, name) for name in About.__slots__}
    return About(**{**fields, "session": session})


async def test_old_recordings_are_deleted_by_themselves(tmp_path: Path, about: About) -> None:
    async with recordings(tmp_path) as kept:
        for name in ("old", "new"):
            begun = await kept.begin(about_of(name, about))
            assert begun is not None
            kept.end(name, begun.recorder, "client")
    (tmp_path / "notes.txt").write_text("somebody's")
    for path in (tmp_path / "old.0.sealed", tmp_path / "notes.txt"):
        os.utime(path, (1, 1))
    book = Book()
    async with recordings(tmp_path, audit=book):
        pass
    assert names(tmp_path) == ["new.0.sealed", "notes.txt"]
    assert [(entry.session, entry.reason) for entry in book.entries] == [("old", "age")]


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from prometheus_client import CollectorRegistry
from emotrace_service.auditing import NoAudit
from emotrace_service.logs import logger
from emotrace_service.recorder import About
from emotrace_service.session_recording import SessionRecordings
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
registry = CollectorRegistry()
key = X25519PrivateKey.generate().public_key()
kept = SessionRecordings(Path(sys.argv[1]), key, 1, NoAudit(), registry, logger())
async def main():
    begun = await kept.begin(About("s1", "{}", "b", "1", "exact", ""))
    for number in range(100):
        begun.recorder.note(number, bytes(10_000))
    kept.end("s1", begun.recorder, "client")
    kept.close()
    print(begun.recorder.fault)
    print(registry.get_sample_value("emotrace_recordings_total", {"result": "failed"}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    print(await SessionRecordings(
        Path(sys.argv[1]), key, 1, NoAudit(), CollectorRegistry(), logger()
    ).begin(About("s2", "{}", "b", "1", "exact", "")))
asyncio.run(main())
"""


def test_a_full_disk_ends_the_recording_and_not_the_session(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    fault, failed, log, second = done.stdout.splitlines()
    assert fault == "The recording could not be written on: File too large."
    assert failed == "1.0"
    assert second == "None", "it does not begin, and the log says so"
    assert "recording cannot begin" in log
    assert names(tmp_path) == ["s1.0.sealed"]


# What the operator must name.


def pem_pair(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    private, public = folder / "key.pem", folder / "public.pem"
    how = NoEncryption() if password is None else BestAvailableEncryption(password)
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    spki = PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, spki))
    return private, public


def test_recording_takes_a_folder_and_a_public_key(tmp_path: Path) -> None:
    private, public = pem_pair(tmp_path)

    def load(folder: Path | None, key: Path | None) -> SessionRecordings | None:
        settings = Settings(recordings=folder, recordings_key=key)
        return load_recordings(settings, NoAudit(), CollectorRegistry(), logger())

    assert load(None, None) is None
    for folder, key, why in (
        (tmp_path, None, "Name both"),
        (None, public, "Name both"),
        (tmp_path / "no", public, "no folder"),
        (public, public, "no folder"),
        (tmp_path, tmp_path / "no.pem", "No such file"),
        (tmp_path, private, "no public X25519 key"),
    ):
        with pytest.raises(StartRefused, match=why):
            load(folder, key)
    kept = load(tmp_path, public)
    assert kept is not None
    kept.close()


# A replay.


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
        record=Record(consent=f"I agree {CANARY}"),
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
