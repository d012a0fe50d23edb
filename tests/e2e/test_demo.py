"""`emotrace demo` and `emotrace stream` against a real server, as processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import soundfile
from live import LiveServer

from emotrace_clients import connect, sync
from emotrace_clients.demo import shipped
from emotrace_clients.turns import read_turns
from emotrace_protocol import Event, decode_event
from emotrace_protocol.events import EmotionFinal, SessionEnded, SessionStarted, TranscriptFinal


def emotrace(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "emotrace_clients", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def events_of(done: subprocess.CompletedProcess[str]) -> list[Event]:
    assert done.returncode == 0, done.stderr
    return [decode_event(line) for line in done.stdout.splitlines()]


def finals_of(events: Sequence[Event]) -> list[EmotionFinal]:
    return [event for event in events if isinstance(event, EmotionFinal)]


def test_the_demo_prints_finals_for_both_speakers(server: LiveServer) -> None:
    done = emotrace("demo", "--fast", "--url", server.stream_url)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "why:" in line]
    assert len(lines) == len(read_turns(shipped.TURNS))
    for speaker in shipped.speakers():
        assert any(f"  {speaker}  " in line for line in lines)
    assert "nothing was lost" in done.stdout.splitlines()[-1]
    assert done.stderr == ""


def test_each_utterance_of_the_demo_gets_its_own_words(server: LiveServer) -> None:
    events = events_of(emotrace("demo", "--fast", "--json", "--url", server.stream_url))
    words = [(e.speaker, e.text) for e in events if isinstance(e, TranscriptFinal)]
    assert words == [(turn.speaker, turn.text) for turn in read_turns(shipped.TURNS)]
    for final, turn in zip(finals_of(events), read_turns(shipped.TURNS), strict=True):
        assert set(final.modalities) == {"acoustic", "lexical"}
        assert abs(final.start_ms - turn.start_ms) < 500
        assert abs(final.end_ms - turn.end_ms) < 500


def test_one_file_a_speaker_is_the_same_dialogue(server: LiveServer, tmp_path: Path) -> None:
    samples, rate = soundfile.read(shipped.AUDIO, dtype="int16")
    parts = []
    for channel, name in enumerate(shipped.speakers()):
        parts.append(tmp_path / f"{name}.wav")
        soundfile.write(parts[-1], samples[:, channel], rate)
    shape = ["--fast", "--json", "--url", server.stream_url, "--speakers", "Ann,Ben"]
    whole = finals_of(events_of(emotrace("stream", shipped.AUDIO, *shape)))
    split = finals_of(events_of(emotrace("stream", *parts, *shape)))
    assert len(whole) == 10
    assert [(f.speaker, f.start_ms, f.end_ms, f.label) for f in whole] == [
        (f.speaker, f.start_ms, f.end_ms, f.label) for f in split
    ]


def test_an_interrupt_ends_the_session_with_totals(server: LiveServer) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "emotrace_clients", "demo", "--json", "--url", server.stream_url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    events: list[Event] = []
    while not finals_of(events):
        events.append(decode_event(process.stdout.readline()))
    process.send_signal(signal.SIGINT)
    rest, faults = process.communicate(timeout=60)
    events += [decode_event(line) for line in rest.splitlines()]
    assert process.returncode == 0, faults
    ended = events[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.reason == "client"
    assert 2_000 < ended.totals.audio_ms < 29_000
    assert ended.totals.finals == len(finals_of(events)) == ended.totals.utterances


def test_a_recording_sent_in_one_call_does_not_outrun_the_server(server: LiveServer) -> None:
    """As in the README: all audio, then the end, then the events."""
    audio, rate = soundfile.read(shipped.AUDIO, dtype="int16")
    with sync.connect(server.stream_url, audio=rate, speakers=("Anna", "Ben")) as session:
        session.send_audio(audio)
        session.end()
        finals = [event for event in session if event.type == "emotion.final"]
    assert {final.speaker for final in finals} == {"Anna", "Ben"}
    assert len(finals) == 10


async def test_a_turn_without_sound_is_estimated_from_its_words(server: LiveServer) -> None:
    async with connect(server.stream_url, transcription="client") as session:
        await session.send_text("I am so happy to see you!", speaker="Bot")
        await session.marker("said")
        await session.end()
        events = [event async for event in session]
    assert isinstance(events[0], SessionStarted)
    (final,) = finals_of(events)
    assert final.speaker == "Bot"
    assert final.modalities == ("lexical",)
