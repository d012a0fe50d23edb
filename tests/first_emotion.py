"""How long it takes a new user to see a first emotion, from a clean clone: commands and seconds.

    make first-emotion

Clones this repository, sets it up as the README says (`make serve`, pip's cache as it is), and then
does what each of four users does, until the first `emotion.final` is there. The microphone is a
virtual one, where PulseAudio is installed: three seconds of its time are silence before somebody
speaks, and two are the first utterance.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEMO = Path("clients/emotrace_clients/browser/demo/dialogue.flac")
READY = "Emotrace is ready"
FINAL = '"emotion.final"'
PROGRAM = """
import sys
import soundfile
from emotrace_clients.sync import connect

audio, rate = soundfile.read(sys.argv[2], dtype="int16")
with connect(sys.argv[1], audio=rate, speakers=("Anna", "Ben")) as session:
    session.send_audio(audio)
    session.end()
    for event in session:
        print(event.type, flush=True)
"""


def until(
    command: list[str], told: str, folder: Path, more: Mapping[str, str]
) -> tuple[float, subprocess.Popen[str]]:
    """Seconds until a program has told something, and the program, which goes on."""
    begun = time.monotonic()
    program = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **more}, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    for line in program.stdout:
        if told in line:
            return time.monotonic() - begun, program
    raise SystemExit(f"{' '.join(command)} ended before it told {told!r}")


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    rows: list[tuple[str, str, float]] = []
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "emotrace"
        begun = time.monotonic()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        _, server = until(["make", "serve", *sys.argv[1:]], READY, folder, {"EMOTRACE_PORT": port})
        rows.append(("everybody", "git clone; make serve", time.monotonic() - begun))
        url = f"ws://127.0.0.1:{port}/v1/stream"
        emotrace = str(folder / ".venv/bin/emotrace")
        python = str(folder / ".venv/bin/python")
        demo = str(folder / DEMO)
        tries: list[tuple[str, list[str], str]] = [
            ("operator", [emotrace, "demo", "--json", "--url", url], FINAL),
            (
                "researcher",
                [emotrace, "stream", demo, "--fast", "--json", "--url", url],
                FINAL,
            ),
            ("developer", [python, "-c", PROGRAM, url, demo], "emotion.final"),
        ]
        try:
            for who, command, told in tries:
                seconds, program = until(command, told, folder, {})
                program.kill()
                program.communicate()
                rows.append((who, " ".join(Path(command[0]).name.split() + command[1:2]), seconds))
            if shutil.which("pulseaudio"):
                rows.append(("microphone", "emotrace listen", spoken(emotrace, url, demo, folder)))
        finally:
            server.terminate()
            server.communicate()
    print(f"{'user':12} {'command':24} seconds to the first emotion")
    for who, command_line, seconds in rows:
        print(f"{who:12} {command_line:24} {seconds:.1f}")


def spoken(emotrace: str, url: str, demo: str, folder: Path) -> float:
    """Seconds from `emotrace listen` to the first final of what a virtual microphone hears."""
    room = Path(tempfile.mkdtemp(prefix="room"))
    (room / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n"
    )
    here = {
        "HOME": str(room),
        "XDG_RUNTIME_DIR": str(room),
        "PULSE_SERVER": f"unix:{room / 'native'}",
        "ALSA_CONFIG_PATH": str(room / "asound.conf"),
    }
    environment = {**os.environ, **here}
    subprocess.run(
        [
            *("pulseaudio", "-n", "--daemonize=yes", "--exit-idle-time=-1", "--disable-shm=yes"),
            *("-L", f"module-native-protocol-unix socket={room / 'native'} auth-anonymous=1"),
            *("-L", "module-null-sink sink_name=room rate=16000 channels=2 format=s16le"),
        ],
        check=True,
        env=environment,
        capture_output=True,
    )
    playing = subprocess.Popen(
        f"sleep 3; exec paplay --device=room {demo}", shell=True, env=environment
    )
    try:
        seconds, listening = until(
            [emotrace, "listen", "--json", "--url", url, "--speakers", "Ann,Ben"],
            FINAL,
            folder,
            here,
        )
        listening.kill()
        listening.communicate()
        return seconds
    finally:
        playing.kill()
        playing.wait()
        subprocess.run(["pactl", "exit"], env=environment, check=True, capture_output=True)
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
