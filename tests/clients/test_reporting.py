"""`emotrace report`: a recording through a server and into documents, and where that breaks off."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scripted_server import Script, Scripted, final_fields, scripted
from typer.testing import CliRunner

from emotrace_clients import __main__ as command
from emotrace_clients import playing
from emotrace_protocol import ErrorCode, ProtocolError
from emotrace_protocol.events import EmotionFinal, Failed, SpeechEnded

SPEECH = {"utterance": 0, "speaker": "Ann", "start_ms": 0, "end_ms": 900}


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The address of a scripted server in a thread of its own."""
    address: list[str] = []
    ready, done = threading.Event(), threading.Event()

    async def run() -> None:
        async with scripted(script) as at:
            address.append(at)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    assert ready.wait(10)
    try:
        yield address[0]
    finally:
        done.set()
        thread.join(10)


async def one_utterance(server: Scripted) -> None:
    await server.start()
    await server.say(SpeechEnded, **SPEECH, reason="silence")
    await server.say(EmotionFinal, **final_fields(speaker="Ann"))
    await server.serve_until_end()


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "call.wav"
    soundfile.write(path, np.zeros((16_000, 2), dtype=np.int16), 16_000)
    return path


def labels_in(rows: Path) -> list[str]:
    lines = rows.read_text(encoding="utf-8-sig").splitlines()
    return [row["label"] for row in csv.DictReader(lines)]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(command.app, ["report", *map(str, arguments)])


def test_a_recording_becomes_documents(sound: Path, tmp_path: Path) -> None:
    html, data, rows = (tmp_path / name for name in ("r.html", "r.json", "r.csv"))
    with serving(one_utterance) as url:
        result = run(
            *(sound, "--url", url, "--speakers", "Ann,Ben"),
            *("-o", html, "--json", data, "--csv", rows),
        )
    assert result.exit_code == 0, result.output
    assert "1 utterance, 1 estimate" in result.stdout
    for path in (html, data, rows):
        assert f"Wrote {path}." in result.stdout
    page = html.read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "call.wav" in page
    assert '"speaker":"Ann"' in page
    assert [one["label"] for one in json.loads(data.read_text())["utterances"]] == ["anger"]
    assert labels_in(rows) == ["anger"]


def test_the_events_of_a_session_become_the_same_without_a_server(
    sound: Path, tmp_path: Path
) -> None:
    events, again, rows = (tmp_path / name for name in ("s.jsonl", "again.csv", "s.csv"))
    with serving(one_utterance) as url:
        streamed = CliRunner().invoke(
            command.app, ["stream", str(sound), "--url", url, "--fast", "--json"]
        )
        assert streamed.exit_code == 0
        events.write_text(streamed.stdout)
        assert run(sound, "--url", url, "--csv", rows).exit_code == 0
    assert run("--events", events, "--csv", again).exit_code == 0
    assert again.read_text() == rows.read_text()


def test_the_report_is_called_as_its_source(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with serving(one_utterance) as url:
        assert run(sound, "--url", url).exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["call.html"]


def test_a_session_that_breaks_off_leaves_what_came(sound: Path, tmp_path: Path) -> None:
    async def breaks(server: Scripted) -> None:
        await server.start()
        await server.say(SpeechEnded, **SPEECH, reason="silence")
        await server.say(EmotionFinal, **final_fields(speaker="Ann"))
        server.socket.transport.abort()

    rows, page = tmp_path / "r.csv", tmp_path / "r.html"
    with serving(breaks) as url:
        result = run(sound, "--url", url, "--csv", rows, "-o", page)
    assert result.exit_code == 1
    assert "3 events came" in result.stderr
    assert labels_in(rows) == ["anger"]
    assert "call.wav (incomplete)" in page.read_text()


async def silent_for_too_long(server: Scripted) -> None:
    await server.start()
    error = ProtocolError(ErrorCode.IDLE_NO_SPEECH, "Nobody spoke for 900 s.")
    await server.say(Failed, **error.fields())
    await server.end()
    await server.socket.close(4408)


def test_silence_that_a_server_does_not_wait_for_is_said(sound: Path, tmp_path: Path) -> None:
    with serving(silent_for_too_long) as url:
        result = run(sound, "--url", url, "--csv", tmp_path / "r.csv")
    assert result.exit_code == 1
    assert "15 minutes without speech" in result.stderr
    assert "EMOTRACE_IDLE_NO_SPEECH_MS" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name files, or with --events"),
        (("{sound}", "--events", "e.jsonl"), "one of the two"),
        (("{sound}", "-o", "nowhere/r.html"), "there is no folder nowhere"),
        (("{sound}", "-o", "{sound}"), "not that of a source"),
        (("{sound}", "--csv", "x", "--json", "x"), "a name of its own"),
        (("none.wav",), "there is no such file"),
        (("--events", "none.jsonl"), "there is no such file"),
        (("{sound}", "--speakers", "A,B,C"), "3 speakers are named"),
        (("{sound}", "--url", "ws://127.0.0.1:9/v1/stream"), "connection refused"),
    ],
)
def test_a_fault_is_one_sentence_before_any_work(
    sound: Path, arguments: tuple[str, ...], told: str
) -> None:
    before = sound.read_bytes()
    result = run(*(argument.format(sound=sound) for argument in arguments))
    assert result.exit_code == 1
    assert told in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    assert sound.read_bytes() == before


def noted(path: Path, url: str, *arguments: str) -> str:
    result = CliRunner().invoke(command.app, ["stream", str(path), "--url", url, *arguments])
    assert result.exit_code == 0, result.output
    return str(result.stdout)


async def polite(server: Scripted) -> None:
    await server.start()
    await server.serve_until_end()


def test_what_a_recording_holds_is_said_where_it_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(1).normal(0, 3_000, 11 * 16_000).astype(np.int16)
    path = tmp_path / "same.wav"
    soundfile.write(path, np.stack([noise, noise], axis=1), 16_000)
    with serving(polite) as url:
        told = noted(path, url, "--fast")
        assert "All channels carry the same sound" in told
        assert "No speech was found in the sound." in told
        assert "same sound" not in noted(path, url, "--fast", "--mono")


def test_a_long_recording_at_the_pace_of_time_says_so(
    sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "LONG_S", 0.5)
    with serving(polite) as url:
        assert "as long as the sound does" in noted(sound, url)
        assert "as long as the sound does" not in noted(sound, url, "--fast")
