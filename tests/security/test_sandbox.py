"""Uploaded files are decoded in a process that can do nothing else, and whose end hurts nobody."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
import structlog
from eventually import eventually
from live import DEMO, LiveServer, live_server, post_file

from emotrace_protocol.errors import ProtocolError
from emotrace_service.decoding import Decoders
from emotrace_service.recordings import Recording
from emotrace_service.settings import Settings

FILTERED = sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")
CONFINED = """
import os, socket, subprocess, sys
from emotrace_service.sandbox import confine
filtered = confine(256 * 2**20, 5)
assert filtered
os.write(1, b"confined ")
{deed}
os.write(1, b"done")
os._exit(0)
"""
DEEDS = {
    "read a file": "open('/etc/passwd')",
    "write a file": "os.open('/tmp/x', os.O_CREAT | os.O_WRONLY)",
    "list a folder": "os.listdir('/')",
    "open a socket": "socket.socket()",
    "start a process": "os.fork()",
    "run a program": "os.execv('/bin/true', ['true'])",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "look at a process": "os.sched_getaffinity(1)",
    "lift a limit": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
}

FAILS = {"read a file", "write a file", "list a folder"}


def confined(deed: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", CONFINED.format(deed=deed)], capture_output=True, timeout=60
    )


@pytest.fixture
def decoders() -> Decoders:
    made = Decoders(Settings(), structlog.stdlib.get_logger("test"), deadline_s=30.0)
    made.prepare()
    return made


def sound(kind: str, subtype: str, rate: int, seconds: float = 2.3) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.7, 0.7, (int(rate * seconds), 2))
    soundfile.write(file, noise, rate, subtype, format=kind)
    return file.getvalue()


async def whole(decoders: Decoders, data: bytes, seconds: float = 60.0) -> tuple[object, ...]:
    decoding = await decoders.open(data, seconds)
    try:
        blocks = [block async for block in decoding.blocks()]
    finally:
        decoding.close()
    return decoding.audio, decoding.total_ms, blocks


@pytest.mark.skipif(not FILTERED, reason="system calls are filtered on Linux alone")
@pytest.mark.parametrize("deed", DEEDS)
def test_who_is_confined_cannot(deed: str) -> None:
    done = confined(DEEDS[deed])
    assert done.stdout == b"confined "
    # A file that cannot be opened is an error; whatever else is tried is the end.
    assert deed in FAILS or done.returncode == -signal.SIGSYS
    assert done.returncode != 0


@pytest.mark.skipif(not FILTERED, reason="system calls are filtered on Linux alone")
def test_who_is_confined_can_compute_within_limits() -> None:
    assert confined("x = bytes(100 * 2**20)").stdout == b"confined done"
    assert confined("x = bytes(300 * 2**20)").stdout == b"confined "
    assert confined("while True: pass").returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("kind", "subtype", "rate"),
    [
        ("WAV", "PCM_16", 16_000),
        ("WAV", "FLOAT", 48_000),
        ("WAV", "ULAW", 8_000),
        ("FLAC", "PCM_24", 22_050),
        ("OGG", "VORBIS", 44_100),
        ("OGG", "OPUS", 24_000),
    ],
)
async def test_a_file_gives_what_it_gives_without_a_sandbox(
    decoders: Decoders, kind: str, subtype: str, rate: int
) -> None:
    data = sound(kind, subtype, rate)
    recording = Recording(data, 60.0)
    expected = (recording.audio, recording.total_ms, list(recording.blocks()))
    assert await whole(decoders, data) == expected
    decoders.close()


async def test_what_is_no_file_is_refused_in_the_same_words(decoders: Decoders) -> None:
    long = sound("FLAC", "PCM_16", 16_000)
    for data, seconds in ((b"none", 60.0), (DEMO.read_bytes()[:9_000], 60.0), (long, 1.0)):
        with pytest.raises(ProtocolError) as here:
            list(Recording(data, seconds).blocks())
        with pytest.raises(ProtocolError) as there:
            await whole(decoders, data, seconds)
        assert there.value.fields() == here.value.fields()
    decoders.close()


FORBIDDEN = """
import asyncio, ctypes, struct, sys
import structlog
from emotrace_service import sandbox
from emotrace_service.decoding import Decoders
from emotrace_service.settings import Settings

prctl_number = {"x86_64": 157, "aarch64": 167}[sandbox.platform.machine()]
lines = [(0x20, 0, 0, 0), (0x15, 0, 3, prctl_number)]  # its first argument is at 16
lines += [(0x20, 0, 0, 16), (0x15, 0, 1, sandbox.SET_SECCOMP), (0x06, 0, 0, sandbox.NOT_PERMITTED)]
lines += [(0x06, 0, 0, sandbox.ALLOW)]
code = b"".join(struct.pack("HBBI", *line) for line in lines)
prctl = ctypes.CDLL(None).prctl
assert prctl(sandbox.NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
program = ctypes.byref(sandbox._Program(len(lines), code))
assert prctl(sandbox.SET_SECCOMP, sandbox.FILTER_MODE, program, 0, 0) == 0

async def decode():
    decoding = await decoders.open(sys.stdin.buffer.read(), 60.0)
    assert len([block async for block in decoding.blocks()]) == 3
    decoding.close()

decoders = Decoders(Settings(), structlog.get_logger())
decoders.prepare()
print("started")
asyncio.run(decode())
decoders.close()
"""


@pytest.mark.skipif(not FILTERED, reason="system calls are filtered on Linux alone")
def test_a_server_says_at_its_start_once_that_nothing_filters_system_calls() -> None:
    """Where prctl(PR_SET_SECCOMP) fails, as in a container that forbids it."""
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDEN],
        input=sound("FLAC", "PCM_16", 16_000),
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    warning, started, *rest = done.stdout.decode().splitlines()
    assert "files and pictures are decoded without a filter of system calls" in warning
    assert started == "started"
    assert rest == []


def test_where_they_are_filtered_it_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    decoders = Decoders(Settings(), structlog.get_logger())
    decoders.prepare()
    decoders.close()
    assert ("without a filter" in capsys.readouterr().out) is not FILTERED


@pytest.mark.parametrize("program", ["/bin/false", "/nothing/is/here"])
def test_a_server_starts_where_no_file_can_be_decoded_and_says_so(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    decoders = Decoders(Settings(), structlog.get_logger())
    decoders.prepare()
    decoders.close()
    assert "no file can be decoded" in capsys.readouterr().out


async def test_a_process_that_dies_costs_its_file_alone(decoders: Decoders) -> None:
    data = sound("WAV", "FLOAT", 48_000, 60.0)
    first, second = await decoders.open(data, 90.0), await decoders.open(data, 90.0)
    os.kill(first._process.pid, signal.SIGKILL)
    with pytest.raises(ProtocolError, match="audio_container_invalid"):
        async for _ in first.blocks():
            pass
    assert len([block async for block in second.blocks()]) >= 60
    first.close()
    second.close()
    decoders.close()


async def test_a_waiting_process_that_died_is_replaced(decoders: Decoders) -> None:
    spare = decoders._spare
    assert spare is not None
    os.kill(spare.pid, signal.SIGKILL)
    await eventually(lambda: spare.ended)
    assert (await whole(decoders, sound("FLAC", "PCM_16", 16_000)))[1] == 2_300
    decoders.close()


async def test_a_process_that_hangs_is_ended_at_the_deadline() -> None:
    decoders = Decoders(Settings(), structlog.stdlib.get_logger("test"), deadline_s=0.5)
    decoders.prepare()
    hung = decoders._spare
    assert hung is not None
    os.kill(hung.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(ProtocolError, match="takes too long to decode"):
        await decoders.open(sound("FLAC", "PCM_16", 16_000), 60.0)
    assert time.monotonic() - begun < 20
    assert hung.ended
    decoders.close()


def children() -> set[int]:
    """Decoders that this process has."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # threads and processes end meanwhile
            for pid in map(int, (task / "children").read_text().split()):
                if b"decoder_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(pid)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
async def test_a_server_keeps_one_process_waiting_and_no_other(toy: Path) -> None:
    with live_server(toy, workers="threads") as server:
        assert len(children()) == 1
        answers = await asyncio.gather(
            *(asyncio.to_thread(post, server, data) for data in (DEMO.read_bytes(), b"none") * 2)
        )
        assert answers == [200, 415, 200, 415]
        await eventually(lambda: len(children()) == 1)
    assert children() == set()


def post(server: LiveServer, data: bytes) -> int:
    return post_file(server, data).status_code
