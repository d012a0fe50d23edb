"""A session's recording: where it may be, what it holds, and who deletes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from doubles import Stage
from prometheus_client import CollectorRegistry
from recording_keys import KEY, pem_pair

from emotrace_models.bundle import Bundle
from emotrace_protocol.messages import SessionStart
from emotrace_service.app import interface
from emotrace_service.auditing import Entry, NoAudit
from emotrace_service.errors import StartRefused
from emotrace_service.logs import logger
from emotrace_service.recorder import About, consent_digest
from emotrace_service.recording_choice import load_recordings
from emotrace_service.replaying import RecordedSession
from emotrace_service.sealing import Unsealable, Unsealer
from emotrace_service.session_recording import SessionRecordings
from emotrace_service.settings import Settings
from emotrace_service.witness import Observers

CANARY = "zanzibar-7c1f"


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
