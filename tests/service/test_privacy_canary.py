"""Nothing is kept: what was said to a real server is looked for wherever it could have got to.

Canaries are a phrase that espeak-ng speaks, a text, a picture, a name and a token. The server is a
process with its default settings, in folders of its own; where strace is there, every file that it
or its compute processes open for writing is known.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from eventually import eventually
from PIL import Image as Picture
from redis_server import redis_server
from traced_server import Server, may_trace, served
from websockets.asyncio.client import connect

from emotrace_protocol import Message, decode_event, encode
from emotrace_protocol.events import Event, ResumeInfo, SessionStarted
from emotrace_protocol.messages import Ack, Image, Marker, SessionEnd, SessionStart, UtteranceText
from emotrace_service.identity import entry, new_key

PHRASE = "Nineteen copper kettles were stolen from the zanzibar parrot last Thursday night!"
RATE = 16_000
WINDOW_BYTES = 64  # of audio: longer than chance
# What a server may make in the folder for temporary files, without any content of a session:
# Python's own trial of that folder, the fork server's socket, and a folder that torch leaves empty.
HARMLESS = re.compile(r"[a-z0-9_]{8}|pymp-\w+(/listener-\w+)?|torchinductor_\w+")


@dataclass
class Canaries:
    """What is said, and what to look for afterwards."""

    word: str = field(default_factory=lambda: f"zanzibar-{secrets.token_hex(6)}")
    key: str = field(default_factory=new_key)
    tokens: list[str] = field(default_factory=list)

    @cached_property
    def samples(self) -> np.ndarray[Any, Any]:
        """[sample] int16 at 16 kHz: the phrase, and silence that ends it."""
        program = shutil.which("espeak-ng")
        if program is None:
            pytest.skip("espeak-ng is not installed (make system-deps)")
        pitch = str(30 + secrets.randbelow(50))  # so that the samples are ours alone
        spoken = subprocess.run(
            [program, "--stdout", "-p", pitch, PHRASE], capture_output=True, check=True
        )
        sound, rate = soundfile.read(io.BytesIO(spoken.stdout), dtype="float32")
        sound = soxr.resample(sound, rate, RATE)
        whole = np.concatenate([sound, np.zeros(2 * RATE, np.float32)])
        return (np.clip(whole, -1, 1) * 32_767).astype("<i2")

    @cached_property
    def jpeg(self) -> bytes:
        picture = io.BytesIO()
        noise = np.random.default_rng().integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Picture.fromarray(noise).save(picture, "JPEG", comment=self.word.encode())
        return picture.getvalue()

    @property
    def needles(self) -> list[bytes]:
        """The word and tokens as they are and as base64 or hex might hide them, the picture, and
        loud places of the sound as integers and as floats."""
        found = [PHRASE.encode(), base64.b64encode(self.jpeg)[200:264], self.jpeg[200:264]]
        for secret in (self.word, self.key, *self.tokens):
            raw = secret.encode()
            found += [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]]
        length = WINDOW_BYTES // 2
        loudness = np.abs(self.samples[: len(self.samples) // length * length].astype(int))
        loudest = np.argsort(loudness.reshape(-1, length).mean(axis=1))[-200:]
        for place in loudest * length:
            piece = self.samples[place : place + length]
            found += [piece.tobytes(), (piece / np.float32(32_768)).astype("<f4").tobytes()]
        return found

    def check_absent(self, where: str, content: bytes) -> None:
        for needle in self.needles:
            assert needle not in content, f"{where} holds {needle[:40]!r}"


async def say_everything(server: Server, canaries: Canaries) -> None:
    """A whole session, one that breaks, bad messages, and files over HTTP."""
    address = server.url.replace("http", "ws") + "/v1/stream"
    start = SessionStart(
        speakers=(canaries.word,),
        purpose=f"for {canaries.word}"[:64],
        resume=True,
        token=canaries.key,
    )
    pcm = canaries.samples.tobytes()
    async with connect(address, compression=None) as socket:

        async def say(*messages: Message | bytes | str) -> None:
            for message in messages:
                await socket.send(encode(message) if isinstance(message, Message) else message)

        async def until(kind: str) -> Event:
            while (event := decode_event(str(await socket.recv()))).type != kind:
                pass
            return event

        await say(start)
        started = await until("session.started")
        assert isinstance(started, SessionStarted)
        assert isinstance(started.resume, ResumeInfo)
        canaries.tokens.append(started.resume.token)
        jpeg = base64.b64encode(canaries.jpeg).decode()
        await say(*(pcm[at : at + 3_200] for at in range(0, len(pcm), 3_200)))
        await say(
            Image(speaker=canaries.word, jpeg=jpeg),
            Image(speaker=canaries.word, jpeg=jpeg[:40]),  # no picture
            UtteranceText(text=f"I said {canaries.word}.", speaker="Bot"),
            UtteranceText(text=canaries.word, utterance=9),  # no such utterance
            Marker(id=canaries.word),
            f'{{"type": "{canaries.word}"}}',
            f'{{"{canaries.word}": 1',
            f'{{"type": "marker", "id": "x", "{canaries.word}": "{canaries.word}"}}',
            Ack(sequence=0),
        )
        for _ in range(2):
            await until("marker.reached")
        await say(SessionEnd())
        await until("session.ended")
    broken = await connect(address, compression=None)
    await broken.send(encode(start))
    event = decode_event(str(await broken.recv()))
    assert isinstance(event, SessionStarted)
    assert event.resume is not None
    canaries.tokens.append(event.resume.token)
    for at in range(0, len(pcm), 3_200):
        await broken.send(pcm[at : at + 3_200])
    while decode_event(str(await broken.recv())).type != "emotion.final":
        pass
    broken.transport.abort()


def keys_of(folder: Path, canaries: Canaries) -> str:
    """The file that lets the key in, which holds its digest only."""
    path = folder / "keys.toml"
    path.write_text(entry("canary", canaries.key, 5))
    canaries.check_absent(str(path), path.read_bytes())
    return str(path)


def post_files(server: Server, canaries: Canaries) -> None:
    wav = io.BytesIO()
    soundfile.write(wav, np.tile(canaries.samples, 6), RATE, format="WAV")
    assert len(wav.getvalue()) > 1024 * 1024, "what web frameworks put on disk"
    form = {"start": json.dumps({"speakers": [canaries.word]})}
    bearer = {"Authorization": f"Bearer {canaries.key}"}
    with httpx.Client(base_url=server.url, timeout=120, headers=bearer) as http:
        canaries.tokens.append(http.post("/v1/tickets").json()["ticket"])
        done = http.post("/v1/audio/analyze", files={"file": wav.getvalue()}, data=form)
        assert done.status_code == 200, done.text
        assert canaries.word in done.text
        http.post("/v1/audio/analyze", files={"file": canaries.jpeg}, data=form)
        http.get(f"/v1/{canaries.word}?token={canaries.word}")
        http.post("/v1/tickets", headers={"Authorization": f"Bearer {canaries.word}"})
        for path in ("/metrics", "/readyz", "/healthz", "/v1/models"):
            canaries.check_absent(path, http.get(path).content)


def check_processes(server: Server, canaries: Canaries) -> None:
    """What the system shows of a process to others, and what a crash of it would leave."""
    pids = server.pids
    assert len(pids) > 1, "the compute processes too"
    for pid in pids:
        check_descriptors(server, pid)
        for name in ("environ", "cmdline"):
            canaries.check_absent(f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes())
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = re.search(r"Max core file size +(\d+|unlimited) +(\d+|unlimited)", limits)
        assert core is not None
        assert set(core.groups()) <= {"0", "1"}, "a core dump would hold what is in memory"
        shared = re.findall(r"/dev/shm/\S+", Path(f"/proc/{pid}/maps").read_text())
        assert not shared


def check_descriptors(server: Server, pid: int) -> None:
    """No file is open for writing but the log."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            target = os.readlink(link)
            flags = re.search(
                r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
            )
            assert flags is not None
            writes = int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY
            regular = target.startswith("/") and not target.startswith("/dev/")
            assert not (writes and regular) or target == str(server.root / "log"), target


def test_canaries_are_found_where_they_are(tmp_path: Path) -> None:
    """The search itself."""
    canaries = Canaries(tokens=["a-token-of-a-session"])
    floats = (canaries.samples / np.float32(32_768)).astype("<f4")
    for content in (
        canaries.samples.tobytes(),
        b"\0" * 4 + floats.tobytes(),
        f"x{canaries.word}".encode(),
        b"a-token-of-a-session",
        canaries.jpeg,
    ):
        with pytest.raises(AssertionError, match="holds"):
            canaries.check_absent("here", content)
    canaries.check_absent("here", os.urandom(1_000_000))


@pytest.mark.timeout(600)
def test_nothing_that_was_said_is_kept_anywhere(tmp_path: Path) -> None:
    canaries = Canaries()
    traced = may_trace()
    keys = keys_of(tmp_path, canaries)
    with served(tmp_path, traced=traced, EMOTRACE_KEYS=keys) as server:
        asyncio.run(say_everything(server, canaries))
        post_files(server, canaries)
        check_processes(server, canaries)
        check_files(server, canaries)
    check_files(server, canaries)
    assert b"session over" in server.log, "the log was looked at"
    canaries.check_absent("the log", server.log)
    if not traced:
        return  # then the files that were open while it ran are known, and those that are left
    assert server.called() == [], "nor does it tell anybody"
    for line in server.written():
        path = re.search(r'"([^"]*)"', line)
        assert path is not None, line
        inside = path[1].removeprefix(f"{server.root}/tmp/")
        assert path[1] == "/dev/null" or HARMLESS.fullmatch(inside), f"it was written: {line}"


def check_files(server: Server, canaries: Canaries) -> None:
    for path in server.files():
        canaries.check_absent(str(path), str(path).encode())
        if path.is_file():
            canaries.check_absent(str(path), path.read_bytes())


@pytest.mark.timeout(600)
async def test_in_redis_nothing_outlives_the_window(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    (tmp_path / "server").mkdir()
    canaries = Canaries()
    with redis_server(folder) as redis, redis.client as client:
        client.config_set("slowlog-log-slower-than", -1)  # it would keep parts of commands
        settings = {
            "EMOTRACE_SESSION_STORE": redis.url,
            "EMOTRACE_RESUME_WINDOW_MS": "3000",
            "EMOTRACE_WORKERS": "threads",
            "EMOTRACE_KEYS": keys_of(tmp_path, canaries),
        }
        with served(tmp_path / "server", **settings) as server:
            await say_everything(server, canaries)
            keys: Sequence[bytes] = client.keys("*")
            assert keys, "a broken session is kept for its client"
            for key in keys:
                left = client.pttl(key)
                assert left == -2 or 0 < left <= 3_000, f"{key!r} is kept for {left} ms"
            await eventually(lambda: all(b"{servers}" in key for key in client.keys("*")))
            canaries.check_absent("the log", server.log)
            check_files(server, canaries)
        await eventually(lambda: client.dbsize() == 0)  # who has room says so for 3 s
        told = str([client.slowlog_get(128), client.info("everything")])
        canaries.check_absent("what Redis tells", told.encode())
    assert list(folder.iterdir()) == [], "nothing of it is on disk"
