"""Rows 46 to 71 of docs/faults.md: sound that is broken, of another format, or no speech at all."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from cluster import Replica, replica
from faults.raw import BINARY, TEXT, frame, session, wire
from live import DEMO

from emotrace_models.types import FloatArray
from emotrace_protocol.messages import AudioFormat, Endpointing, Marker, SessionEnd, SessionStart

RATE = 16_000
NAN, INFINITY, TINY = float("nan"), float("inf"), 1e-40
FLOATS = AudioFormat(encoding="f32le")


@pytest.fixture(scope="module")
def impatient(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A server that waits for nothing long."""
    with replica(
        toy,
        tmp_path_factory.mktemp("impatient"),
        EMOTRACE_AUDIO_QUEUE_MS="1000",
        EMOTRACE_IDLE_NO_AUDIO_MS="1000",
        EMOTRACE_IDLE_NO_SPEECH_MS="2000",
        EMOTRACE_HEARTBEAT_MS="100",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def voice() -> FloatArray:
    """Eight seconds of one speaker of the demo, with pauses."""
    samples, rate = soundfile.read(DEMO, dtype="float32", always_2d=True, stop=RATE * 8)
    assert rate == RATE
    return np.ascontiguousarray(samples[:, 0])


def s16(samples: FloatArray) -> bytes:
    return (np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes()


async def heard(
    server: Replica, data: bytes, audio: AudioFormat | None = None, **start: Any
) -> list[dict[str, Any]]:
    """What a whole session with this sound is told."""
    async with wire(server) as client:
        await client.say(SessionStart(audio=audio or AudioFormat(), interim=False, **start))
        for at in range(0, len(data), 64_000):
            await client.send(frame(BINARY, data[at : at + 64_000]))
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    return client.heard


def of(events: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def posteriors(events: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    return [event["posterior"] for event in of(events, "emotion.final")]


def doubts(events: Sequence[dict[str, Any]]) -> list[set[str]]:
    """Of each estimate."""
    finals = of(events, "emotion.final")
    assert all(np.isfinite(list(final["posterior"].values())).all() for final in finals)
    return [set(final["doubts"]) for final in finals]


async def test_row_046_odd_bytes(server: Replica, voice: FloatArray) -> None:
    data = s16(voice)
    whole = await heard(server, data)
    async with wire(server) as client:
        await client.say(SessionStart(interim=False))
        for at in range(0, len(data), 7_777):
            await client.send(frame(BINARY, data[at : at + 7_777]))
        await client.send(frame(BINARY, b"\x01"))
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert [one["code"] for one in of(client.heard, "warning")] == ["audio_misaligned"]
    assert len(posteriors(whole)) >= 1
    assert posteriors(client.heard) == posteriors(whole)


async def test_row_047_samples_that_are_no_numbers(server: Replica) -> None:
    bad = [struct.pack("<160f", *[value] * 160) for value in (NAN, INFINITY, -INFINITY)]
    async with wire(server) as client:
        await client.say(SessionStart(audio=FLOATS))
        await client.send(*[frame(BINARY, one) for one in (*bad, bytes(6_400), *bad)])
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert client.errors() == ["audio_nonfinite"] * 6
    assert client.heard[-1]["totals"]["audio_ms"] == 100

    async with wire(server) as client:
        await client.say(SessionStart(audio=FLOATS))
        await client.send(*[frame(BINARY, bad[0])] * 20)
        assert await client.rest() == 4415
    assert client.errors() == ["audio_nonfinite"] * 19 + ["audio_format_suspect"]


async def test_row_048_denormal_samples_are_nothing(server: Replica, voice: FloatArray) -> None:
    tiny = np.where(voice == 0, np.float32(TINY), voice).astype("<f4")
    plain = await heard(server, voice.astype("<f4").tobytes(), FLOATS)
    assert len(posteriors(plain)) >= 1
    assert posteriors(await heard(server, tiny.tobytes(), FLOATS)) == posteriors(plain)


async def test_row_049_samples_far_beyond_full_scale(server: Replica, voice: FloatArray) -> None:
    loud = (voice * 1e6).astype("<f4")
    found = doubts(await heard(server, loud.tobytes(), FLOATS))
    assert found
    assert all("clipping" in one for one in found)


async def test_row_050_square_waves_and_an_offset(server: Replica, voice: FloatArray) -> None:
    square = s16(np.sign(voice).astype(np.float32))
    found = doubts(await heard(server, square))
    assert found
    assert all("clipping" in one for one in found)
    shifted = await heard(server, s16(voice * 0.1 + 0.9))
    assert all("offset" in one for one in doubts(shifted))
    assert len(doubts(shifted)) >= 1, "the voice is heard through it"


@pytest.mark.parametrize(
    "audio",
    [
        {"sample_rate": 0},
        {"sample_rate": 4_000_000_000},
        {"sample_rate": 11_025},
        {"sample_rate": -16_000},
        {"channels": 0},
        {"channels": 65_535},
        {"encoding": "s24le"},
        {"encoding": "s16be"},
        {"encoding": "opus"},
    ],
    ids=str,
)
async def test_row_052_a_format_that_is_none(server: Replica, audio: dict[str, Any]) -> None:
    async with wire(server) as client:
        await client.send(
            frame(TEXT, json.dumps({"type": "session.start", "audio": audio}).encode())
        )
        assert await client.rest() == 4415
    assert client.errors() == ["audio_format_unsupported"]


@pytest.mark.parametrize("lie", ["big-endian", "u8"])
async def test_row_053_other_samples_than_declared(
    server: Replica, voice: FloatArray, lie: str
) -> None:
    if lie == "u8":
        data = ((voice + 1) * 127.5).astype("u1").tobytes()
    else:
        data = np.frombuffer(s16(voice), "<i2").astype(">i2").tobytes()
    events = await heard(server, data)
    assert not of(events, "emotion.final"), "it sounds like noise, and is taken for noise"


def wav(samples: FloatArray, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


async def test_row_054_a_header_in_front_of_samples(server: Replica, voice: FloatArray) -> None:
    data = wav(voice)
    plain = await heard(server, data[44:])
    assert len(posteriors(plain)) >= 1
    assert posteriors(await heard(server, data)) == posteriors(plain)


@pytest.mark.parametrize(
    "head",
    [b"OggS\0\2", b"\x1a\x45\xdf\xa3\x9f", b"ID3\x04\0", b"fLaC\0\0", b"\0\0\0\x20ftypM4A "],
    ids=["Ogg", "WebM", "MP3", "FLAC", "MP4"],
)
async def test_row_055_an_encoded_file_as_samples(server: Replica, head: bytes) -> None:
    async with session(server) as client:
        await client.send(frame(BINARY, head + bytes(4_000)))
        assert await client.rest() == 4415
    assert client.errors() == ["audio_format_suspect"]


def _four_gib(data: bytes) -> bytes:
    return data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]


@pytest.mark.parametrize(
    "kind", ["webm", "mp4", "png", "polyglot", "header-only", "cut", "no-rate", "empty"]
)
async def test_row_058_files_that_are_none(server: Replica, voice: FloatArray, kind: str) -> None:
    whole = wav(voice)
    data = {
        "webm": b"\x1a\x45\xdf\xa3" + bytes(1_000),
        "mp4": b"\0\0\0\x20ftypisom" + bytes(1_000),
        "png": b"\x89PNG\r\n\x1a\n" + bytes(1_000),
        "polyglot": b"\x89PNG\r\n\x1a\n" + whole,
        "header-only": whole[:20],
        "cut": whole[:30],
        "no-rate": whole[:24] + bytes(4) + whole[28:],
        "empty": b"",
    }[kind]
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{server.url}/v1/audio/analyze", files={"file": data})
    assert answer.status_code in (415, 422), answer.text
    assert answer.json()["error"]["code"] in ("audio_container_invalid", "config_invalid")


async def test_row_058_a_length_of_four_gibibytes(server: Replica, voice: FloatArray) -> None:
    async with httpx.AsyncClient(timeout=60) as http:
        url = f"{server.url}/v1/audio/analyze"
        lying = await http.post(url, files={"file": _four_gib(wav(voice))})
        honest = await http.post(url, files={"file": wav(voice)})
    # What is there is read, or the file is refused; nothing of that size is allocated.
    if lying.status_code == 200:
        assert posteriors(lying.json()["events"]) == posteriors(honest.json()["events"])
    else:
        assert lying.json()["error"]["code"] == "audio_container_invalid"


async def test_row_060_a_burst_of_five_seconds(server: Replica, voice: FloatArray) -> None:
    async with wire(server) as client:
        await client.say(SessionStart())
        await client.send(*[frame(BINARY, s16(voice[: 5 * RATE]))] * 2)
        await client.say(SessionEnd())
        assert await client.rest() == 1000
    assert not client.errors()
    assert client.heard[-1]["totals"]["audio_ms"] == 10_000


async def test_row_061_more_than_may_wait(impatient: Replica) -> None:
    second = bytes(2 * RATE)
    async with wire(impatient) as client:
        await client.say(SessionStart())
        await client.send(frame(BINARY, second), frame(BINARY, second * 8))
        assert await client.rest() == 4429
    (error,) = of(client.heard, "error")
    assert error["code"] == "rate_limited"
    assert error["retry_after_ms"] is not None
    assert client.heard[-1]["totals"]["audio_ms"] == 1_000, "what was taken in is understood"


async def test_row_062_time_is_counted_in_samples(server: Replica) -> None:
    async with wire(server) as client:
        await client.say(SessionStart())
        await client.send(frame(BINARY, bytes(RATE)))
        await client.say(Marker(id="before"))
        await client.until("marker.reached")
        # However long this took, the next half second follows the first.
        await client.send(frame(BINARY, bytes(RATE)))
        await client.say(Marker(id="after"))
        assert (await client.until("marker.reached"))["audio_ms"] == 992
        assert not client.errors()


async def test_row_063_silence_for_ever(impatient: Replica) -> None:
    async with wire(impatient) as client:
        await client.say(SessionStart())
        for _ in range(25):
            await client.send(frame(BINARY, bytes(RATE // 5)))
            await client.say(Marker(id="kept pace"))
            if (await client.next() or {}).get("type") == "error":
                break
        assert await client.rest() == 4408
    assert client.errors() == ["idle_no_speech"]
    kinds = {event["type"] for event in client.heard}
    assert kinds <= {"session.started", "heartbeat", "marker.reached", "error", "session.ended"}


async def test_row_064_nothing_at_all(impatient: Replica) -> None:
    async with session(impatient) as client:
        assert await client.rest() == 4408
    assert client.errors() == ["idle_no_audio"]
    assert of(client.heard, "heartbeat"), "signs of life until then"


async def test_row_065_an_utterance_without_end(server: Replica, voice: FloatArray) -> None:
    endless = Endpointing(silence_ms=5_000, max_utterance_ms=2_000)
    events = await heard(server, s16(np.tile(voice, 2)), endpointing=endless)
    ended = of(events, "speech.ended")
    assert len(ended) >= 6
    assert all(one["end_ms"] - one["start_ms"] <= 2_500 for one in ended)
    assert len(of(events, "emotion.final")) + len(of(events, "speech.rejected")) == len(ended)


@pytest.mark.parametrize("share", [0.2, 0.5])
async def test_row_066_clicks(server: Replica, voice: FloatArray, share: float) -> None:
    """Of the voice, twenty a second: the detector wavers as fast as it can."""
    on = np.arange(len(voice)) % (RATE // 20) < share * (RATE // 20)
    keen = Endpointing(threshold=0.1, silence_ms=100, min_speech_ms=250)
    events = await heard(server, s16(voice * on), endpointing=keen)
    ended = of(events, "speech.ended")
    assert 1 <= len(ended) <= 4 * len(voice) / RATE
    assert len(of(events, "emotion.final")) + len(of(events, "speech.rejected")) == len(ended)
