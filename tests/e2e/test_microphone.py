"""`emotrace listen` at a virtual microphone hears what `emotrace stream` reads from the file.

PulseAudio plays the demo into a sink without a loudspeaker; the sink's monitor is the microphone,
through ALSA and PortAudio as with a real one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live import LiveServer, live_server

from emotrace_clients.demo import shipped
from emotrace_clients.microphone import NO_DEVICE, NO_DRIVER, NO_PACKAGE
from emotrace_models.bundle import bundle_path
from emotrace_protocol import Event, decode_event
from emotrace_protocol.events import EmotionFinal, SessionEnded

NEEDED = "needs PulseAudio, PortAudio and ALSA's PulseAudio plug-in (make system-deps)"
SLACK_MS = 250  # a frame of 32 ms each way, and the buffers of three programs
CLEAR_LEAD = 0.3
SINK = ("module-null-sink", "sink_name=room", "rate=16000", "channels=2", "format=s16le")
ALSA = "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(bundle_path("default"), audio_queue_ms=10_000) as running:
        yield running


@pytest.fixture(scope="module")
def room() -> Iterator[dict[str, str]]:
    """The environment of programs that shall hear and play in the virtual room."""
    if shutil.which("pulseaudio") is None or shutil.which("paplay") is None:
        pytest.skip(NEEDED)
    folder = Path(tempfile.mkdtemp(prefix="room"))  # a socket's path must be short
    (folder / "asound.conf").write_text(ALSA)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_SERVER": f"unix:{folder / 'native'}",
        "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
    }
    quietly = {"env": environment, "capture_output": True, "timeout": 60}
    subprocess.run(  # returns when the daemon is ready
        [
            *("pulseaudio", "-n", "--daemonize=yes", "--exit-idle-time=-1", "--disable-shm=yes"),
            *("-L", f"module-native-protocol-unix socket={folder / 'native'} auth-anonymous=1"),
            *("-L", " ".join(SINK)),
        ],
        check=True,
        **quietly,  # type: ignore[call-overload]
    )
    try:
        yield environment
    finally:
        subprocess.run(["pactl", "exit"], check=True, **quietly)  # type: ignore[call-overload]
        shutil.rmtree(folder, ignore_errors=True)


def emotrace(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emotrace_clients", *arguments]


@pytest.fixture(scope="module")
def microphone(room: dict[str, str]) -> dict[str, str]:
    """The room, once it is certain that its microphone can be opened."""
    listed = subprocess.run(
        emotrace("listen", "--list-devices"), env=room, capture_output=True, text=True, timeout=60
    )
    if any(reason in listed.stderr for reason in (NO_DEVICE, NO_DRIVER, NO_PACKAGE)):
        pytest.skip(NEEDED)
    assert "default" in listed.stdout, listed.stderr
    return room


def test_the_microphone_gives_the_utterances_of_the_file(
    microphone: dict[str, str], server: LiveServer
) -> None:
    shape = ("--json", "--url", server.stream_url, "--speakers", "Ann,Ben")
    listening = subprocess.Popen(
        emotrace("listen", *shape),
        env=microphone,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout is not None
    heard: list[Event] = [decode_event(listening.stdout.readline())]
    assert heard[0].type == "session.started"
    with ThreadPoolExecutor(1) as reader:  # a full pipe would hold the client up
        rest = reader.submit(listening.communicate, timeout=120)
        subprocess.run(
            ["paplay", "--device=room", str(shipped.AUDIO)], env=microphone, check=True, timeout=60
        )
        listening.send_signal(signal.SIGINT)
        lines, faults = rest.result()
    assert (listening.returncode, faults) == (0, "")
    heard += [decode_event(line) for line in lines.splitlines()]
    read = subprocess.run(
        emotrace("stream", str(shipped.AUDIO), "--fast", *shape),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    compare(finals_of(heard), finals_of([decode_event(line) for line in read.stdout.splitlines()]))
    ended = heard[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.reason == "client"
    assert ended.totals.failed == 0


def test_a_microphone_that_is_unplugged_ends_the_session_and_loses_nothing(
    microphone: dict[str, str], server: LiveServer
) -> None:
    listening = subprocess.Popen(
        emotrace("listen", "--json", "--url", server.stream_url),
        env=microphone,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listening.stdout is not None
    heard: list[Event] = [decode_event(listening.stdout.readline())]
    playing = subprocess.Popen(
        ["paplay", "--device=room", str(shipped.AUDIO)], env=microphone, stderr=subprocess.DEVNULL
    )
    while heard[-1].type != "emotion.final":
        heard.append(decode_event(listening.stdout.readline()))
    unplug = ["pactl", "unload-module", SINK[0]]
    subprocess.run(unplug, env=microphone, check=True, timeout=60)
    lines, faults = listening.communicate(timeout=60)
    playing.wait(60)
    plug_in = ["pactl", "load-module", *SINK]
    subprocess.run(plug_in, env=microphone, check=True, timeout=60, stdout=subprocess.DEVNULL)
    heard += [decode_event(line) for line in lines.splitlines()]
    assert (listening.returncode, faults) == (
        *(1,),
        "Error: The microphone stopped giving sound. Is it still plugged in?\n",
    )
    ended = heard[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.totals.finals == len(finals_of(heard)) >= 1


def finals_of(events: list[Event]) -> list[EmotionFinal]:
    return [event for event in events if isinstance(event, EmotionFinal)]


def compare(heard: list[EmotionFinal], read: list[EmotionFinal]) -> None:
    """Same speakers, times and labels; the session began a moment before the sound did.

    Utterances begin and end some frames apart, so a label that was nearly a tie may differ.
    """
    assert [final.speaker for final in heard] == [final.speaker for final in read]
    assert len(read) == 10
    began = sorted(h.start_ms - r.start_ms for h, r in zip(heard, read, strict=True))[5]
    clear = 0
    for h, r in zip(heard, read, strict=True):
        assert abs(h.start_ms - began - r.start_ms) <= SLACK_MS
        assert abs(h.end_ms - began - r.end_ms) <= SLACK_MS
        first, second = sorted(r.posterior.values())[:-3:-1]
        if first - second > CLEAR_LEAD:
            clear += 1
            assert h.label == r.label
    assert clear >= 4, "too few utterances are clear enough to compare"
