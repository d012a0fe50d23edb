"""Files: the same numbers as a stream of the same samples, progress of long ones, and typed errors
for bad ones."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import soxr
from doubles import Stage
from live import (
    DEMO,
    LiveServer,
    close_to,
    comparable,
    demo_pcm,
    live_server,
    pieces,
    post_file,
    settled,
    stream,
    talk,
)
from structlog.testing import capture_logs

from emotrace_protocol.messages import SessionEnd, SessionStart, Transcription, UtteranceText
from emotrace_service.analysis import analyze, open_analysis
from emotrace_service.progress import tell, wants_progress


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


def without_length(flac: bytes) -> bytes:
    """As a FLAC file is that was written to a pipe: it says 0 samples, which means unknown."""
    at = 4 + 4 + 10  # the marker, the block's header, sizes of blocks and frames
    fields = int.from_bytes(flac[at : at + 8], "big") & ~((1 << 36) - 1)
    return flac[:at] + fields.to_bytes(8, "big") + flac[at + 8 :]


def followed(answer: httpx.Response) -> list[tuple[str, Any]]:
    """Server-sent events: the name and the data of each."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = []
    for block in answer.text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        told.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return told


def post_for_progress(server: LiveServer, data: bytes, **start: object) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/audio/analyze",
        files={"file": data},
        data={"start": json.dumps(start)},
        headers={"Accept": "text/event-stream"},
        timeout=60,
    )


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


def test_a_file_of_noise_has_a_note(server: LiveServer) -> None:
    noise = np.random.default_rng(7).normal(0, 0.2, 10 * 16_000).clip(-1, 1)
    report = post_file(server, sound(noise)).json()
    assert "No speech" in report["note"]
    assert not any(one["label"] for one in report["utterances"])


def test_silence_for_minutes_is_no_error_in_a_file(toy: Path) -> None:
    with live_server(toy, idle_no_speech_ms=1_000) as strict:
        assert post_file(strict, sound(np.zeros(64_000))).status_code == 200


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"not a sound file", 415, "audio_container_invalid"),
        (b"RIFF\x00\x00\x00\x00WAVE", 415, "audio_container_invalid"),
        (without_length(sound(np.zeros(48_000), kind="FLAC")), 415, "audio_container_invalid"),
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
    ("head", "kind"),
    [
        (b"\x00\x00\x00\x20ftypisom", "MP4"),
        (b"\x00\x00\x00\x1cftypM4A ", "M4A"),
        (b"\x00\x00\x00\x14ftypqt  ", "QuickTime"),
        (b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
        (b"RIFF\x00\x10\x00\x00AVI LIST", "AVI"),
        (b"\xff\xf1\x50\x80", "AAC"),
    ],
)
def test_a_video_is_refused_with_what_to_do(server: LiveServer, head: bytes, kind: str) -> None:
    answer = post_file(server, head + bytes(4_000))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (415, "audio_container_invalid")
    assert kind in error["message"]
    assert "emotrace stream" in error["message"]
    assert "ffmpeg" in error["message"]


def test_limits_name_their_settings(server: LiveServer) -> None:
    long = post_file(server, sound(np.zeros(61 * 16_000), kind="FLAC")).json()["error"]
    assert "EMOTRACE_MAX_FILE_MINUTES" in long["message"]
    large = post_file(server, bytes(4_000_001)).json()["error"]
    assert "EMOTRACE_MAX_UPLOAD_BYTES" in large["message"]


def test_progress_ends_in_what_the_plain_answer_is(server: LiveServer) -> None:
    data = DEMO.read_bytes()
    plain = post_file(server, data, {"speakers": ["Ada", "Bob"]}).json()
    told = followed(post_for_progress(server, data, speakers=["Ada", "Bob"]))
    name, result = told[-1]
    assert name == "result"
    for report in (plain, result):
        for event in report["events"]:
            event.pop("timings", None)
            event.pop("session", None)
    assert close_to(plain, result)
    events = [data for name, data in told[:-1] if name != "progress"]
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert [name for name, _ in told if name not in ("progress", "result")] == [
        event["type"] for event in result["events"]
    ]


def test_progress_grows_to_the_whole_and_comes_between_the_events(server: LiveServer) -> None:
    told = followed(post_for_progress(server, DEMO.read_bytes()))
    steps = [data for name, data in told if name == "progress"]
    assert len(steps) > 10
    for before, after in itertools.pairwise(steps):
        assert before["audio_ms"] <= after["audio_ms"] <= after["total_ms"]
        assert before["utterances"] <= after["utterances"]
    assert steps[-1]["audio_ms"] == pytest.approx(steps[-1]["total_ms"], abs=1)
    assert steps[-1]["utterances"] == len(told[-1][1]["utterances"])
    names = [name for name, _ in told]
    assert "progress" in names[: names.index("emotion.final")]
    assert "emotion.final" in names[: len(names) - names[::-1].index("progress")]


def test_what_is_known_before_the_work_is_refused_by_its_status(server: LiveServer) -> None:
    for data, start in ((b"no sound", {}), (sound(np.zeros(1_000)), {"bundle": "x"})):
        refused = post_for_progress(server, data, **start)
        assert refused.status_code in (415, 422)
        assert refused.json()["error"]["message"]


async def test_a_file_that_breaks_off_ends_in_an_error_event(server: LiveServer) -> None:
    whole = DEMO.read_bytes()
    told = followed(post_for_progress(server, whole[: len(whole) // 2]))
    assert "emotion.final" in [name for name, _ in told]
    name, error = told[-1]
    assert (name, error["code"], error["fatal"]) == ("error", "audio_container_invalid", True)
    assert "breaks off" in error["message"]
    assert await settled(server)


async def test_who_leaves_during_the_work_leaves_nothing_behind(server: LiveServer) -> None:
    form = {"file": DEMO.read_bytes()}
    url, headers = f"{server.url}/v1/audio/analyze", {"Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient() as http,
        http.stream("POST", url, files=form, headers=headers) as answer,
    ):
        await anext(answer.aiter_lines())
        assert server.metric("emotrace_sessions") == 1
    assert await settled(server)


async def test_work_stops_when_nobody_listens(toy: Path) -> None:
    stage = Stage(toy)

    async def here() -> bool:
        return False

    analysis = await open_analysis(stage.serving, sound(np.zeros(60 * 16_000)), "{}", "[]")
    told = tell(stage.serving, analysis, here)
    while "progress" not in await anext(told):
        pass
    await told.aclose()
    analysis.close()
    stage.serving.decoders.close()
    assert 0 < analysis.audio_ms < 5_000
    assert analysis.said[-1].type == "session.started"


async def test_work_stops_when_the_request_is_gone(toy: Path) -> None:
    stage = Stage(toy)
    asked = itertools.count()

    async def gone() -> bool:
        return next(asked) == 3

    report = await analyze(stage.serving, sound(np.zeros(60 * 16_000)), "{}", "[]", gone)
    stage.serving.decoders.close()
    assert report["audio_ms"] == 3_000


async def test_a_fault_during_the_work_is_told_without_its_text(toy: Path) -> None:
    stage = Stage(toy)
    stage.backend.broken = ValueError("something private")

    async def here() -> bool:
        return False

    analysis = await open_analysis(stage.serving, sound(np.zeros(32_000)), "{}", "[]")
    with capture_logs() as logs:
        told = [line async for line in tell(stage.serving, analysis, here)]
    analysis.close()
    stage.serving.decoders.close()
    assert told[-1].startswith("event: error")
    assert '"internal"' in told[-1]
    assert "private" not in "".join(told) + str(logs)
    assert logs[-1]["error"] == "ValueError"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("application/json;q=0.5, text/event-stream; q=1", True),
    ],
)
def test_who_wants_progress(accept: str | None, wanted: bool) -> None:
    assert wants_progress(accept) is wanted


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
        ({"start": '{"record": {"consent": "yes"}}'}, 422, "config_invalid", "record"),
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
