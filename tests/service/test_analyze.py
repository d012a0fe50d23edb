"""Files: the same numbers as a stream of the same samples, and typed errors for bad ones."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from live import (
    DEMO,
    LiveServer,
    close_to,
    comparable,
    demo_pcm,
    live_server,
    pieces,
    post_file,
    stream,
    talk,
)

from emotrace_protocol.messages import SessionEnd, SessionStart, Transcription, UtteranceText


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy, max_upload_bytes=4_000_000, max_file_minutes=1) as running:
        yield running


def sound(samples: Any, rate: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def excerpt(seconds: float) -> tuple[Any, int]:
    samples, rate = soundfile.read(DEMO, dtype="int16", always_2d=True)
    return samples[: int(seconds * rate)], rate


def test_a_file_gives_exactly_what_a_stream_gives(server: LiveServer) -> None:
    audio, pcm = demo_pcm()
    start = SessionStart(interim=False, audio=audio, speakers=("Ada", "Bob"))
    _, heard, _ = asyncio.run(stream(server, start, pieces(pcm, 5_120)))
    answer = post_file(server, DEMO.read_bytes(), {"speakers": ["Ada", "Bob"]})
    assert answer.status_code == 200
    report = answer.json()
    live, filed = comparable(heard), report["events"]
    for event in filed:
        event.pop("timings", None)
        event.pop("session", None)
    for events in (live, filed):  # what differs by nature: how the audio came
        events[0].pop("audio")
        for name in ("messages", "audio_bytes"):
            events[-1]["totals"].pop(name)
    assert close_to(live, filed)
    assert report["audio_ms"] == filed[-1]["totals"]["audio_ms"]
    assert {one["speaker"] for one in report["utterances"]} == {"Ada", "Bob"}


def test_the_report_has_each_utterances_last_label(server: LiveServer) -> None:
    report = post_file(server, DEMO.read_bytes()).json()
    labels = {one["utterance"]: one["label"] for one in report["utterances"]}
    for event in report["events"]:
        if event["type"] == "emotion.revised":
            last = event
    assert labels[last["utterance"]] == last["label"]
    assert report["notice"]
    assert report["note"] is None


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000, 22_050])
def test_any_usual_rate_and_container(server: LiveServer, rate: int) -> None:
    samples, original = excerpt(6.0)
    resampled = soxr.resample(samples.astype(np.float32) / 32_768, original, rate)
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS")):
        answer = post_file(server, sound(resampled, rate, kind, subtype))
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["utterances"]) >= 2
        assert answer.json()["audio_ms"] == pytest.approx(6_000, abs=40)


def test_words_of_a_file_are_those_of_its_utterances(server: LiveServer) -> None:
    samples, rate = excerpt(6.0)
    texts = json.dumps([{"utterance": 0, "text": "i am so happy"}])
    answer = post_file(server, sound(samples, rate), {"transcription": "client"}, texts=texts)
    first, second = answer.json()["utterances"][:2]
    assert (first["text"], second["text"]) == ("i am so happy", None)

    async def live() -> list[Any]:
        audio, pcm = demo_pcm(6.0)
        async with talk(server) as client:
            await client.say(
                SessionStart(interim=False, audio=audio, transcription=Transcription.CLIENT)
            )
            await client.say(*pieces(pcm))
            await client.until("speech.ended")
            await client.say(UtteranceText(text="i am so happy", utterance=0))
            await client.until("emotion.final")
            await client.say(SessionEnd())
            await client.closed()
        return client.of("emotion.final")

    assert close_to(asyncio.run(live())[0].posterior, first["posterior"])


def test_a_file_without_speech_has_a_note(server: LiveServer) -> None:
    answer = post_file(server, sound(np.zeros(32_000)))
    assert answer.status_code == 200
    assert answer.json()["utterances"] == []
    assert "No speech" in answer.json()["note"]


def test_silence_for_minutes_is_no_error_in_a_file(toy: Path) -> None:
    with live_server(toy, idle_no_speech_ms=1_000) as strict:
        assert post_file(strict, sound(np.zeros(64_000))).status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"not a sound file", 415, "audio_container_invalid"),
        (b"RIFF\x00\x00\x00\x00WAVE", 415, "audio_container_invalid"),
        (DEMO.read_bytes()[:20_000], 415, "audio_container_invalid"),
        (b"\xff\xfb\x90\x00" + bytes(4_000), 415, "audio_container_invalid"),
        (sound(np.zeros((1_000, 9))), 415, "audio_format_unsupported"),
        (sound(np.zeros(1_000), 1_000), 415, "audio_format_unsupported"),
        (sound(np.zeros(1_000), kind="AIFF"), 415, "audio_container_invalid"),
        (sound(np.zeros(61 * 16_000), kind="FLAC"), 413, "message_too_large"),
        (bytes(4_000_001), 413, "message_too_large"),
        (b"", 422, "config_invalid"),
    ],
)
def test_bad_files(server: LiveServer, data: bytes, status: int, code: str) -> None:
    answer = post_file(server, data)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"]
    assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"start": "{"}, 422, "config_invalid", "start"),
        ({"start": "[]"}, 422, "config_invalid", "start"),
        ({"start": '{"speaker": "A"}'}, 422, "config_invalid", "start"),
        ({"start": '{"speakers": ["A", "B"]}'}, 422, "config_invalid", "speakers"),
        ({"start": '{"labels": ["joy"]}'}, 422, "labels_mismatch", "labels"),
        ({"start": '{"purpose": "insurance"}'}, 403, "purpose_prohibited", "purpose"),
        ({"start": '{"bundle": "x"}'}, 422, "bundle_unknown", "bundle"),
        ({"texts": '{"0": "x"}'}, 422, "config_invalid", "texts"),
        ({"words": "x"}, 422, "config_invalid", None),
        ({"file": "x"}, 422, "config_invalid", "file"),
    ],
)
def test_bad_fields(
    server: LiveServer, fields: dict[str, str], status: int, code: str, param: str | None
) -> None:
    answer = httpx.post(
        f"{server.url}/v1/audio/analyze", files={"file": sound(np.zeros(1_000))}, data=fields
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)


def test_a_request_that_is_no_form(server: LiveServer) -> None:
    url = f"{server.url}/v1/audio/analyze"
    answer = httpx.post(url, content=sound(np.zeros(1_000)), headers={"content-type": "audio/wav"})
    assert answer.status_code == 422
    assert "curl -F" in answer.json()["error"]["message"]
    broken = httpx.post(url, content=b"x", headers={"content-type": "multipart/form-data"})
    assert (broken.status_code, broken.json()["error"]["code"]) == (422, "config_invalid")


def test_samples_that_are_no_numbers_are_left_out_of_a_file(server: LiveServer) -> None:
    samples = np.zeros(48_000, np.float32)
    samples[20_000] = np.nan
    report = post_file(server, sound(samples, subtype="FLOAT")).json()
    codes = [event["code"] for event in report["events"] if event["type"] == "error"]
    assert codes == ["audio_nonfinite"]
    assert report["audio_ms"] == 2_000
