"""The real `openai` package against a real server: it gets through a session, with our labels."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from live import DEMO, LiveServer, live_server, pieces, stream
from realtime import g711, silence

from emotrace_protocol import Event
from emotrace_protocol.events import EmotionFinal, EmotionRevised
from emotrace_protocol.messages import AudioEncoding, AudioFormat, SessionStart

openai = pytest.importorskip(
    "openai", reason="needs the openai package: pip install 'emotrace[compatibility]'"
)

ROOT = Path(__file__).parents[2]
SPEAKER = 1  # of the demo dialogue's channels
FORMATS: dict[str, tuple[dict[str, Any], AudioFormat]] = {
    "pcm": ({"type": "audio/pcm", "rate": 24_000}, AudioFormat(sample_rate=24_000)),
    "pcmu": (
        {"type": "audio/pcmu"},
        AudioFormat(encoding=AudioEncoding.MULAW, sample_rate=8_000),
    ),
    "pcma": (
        {"type": "audio/pcma"},
        AudioFormat(encoding=AudioEncoding.ALAW, sample_rate=8_000),
    ),
}


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


def package(server: LiveServer, key: str = "none", **options: Any) -> Any:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{server.url}/v1", max_retries=0, **options)


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[Any]:
    async with package(server) as made:
        yield made


def demo(kind: str) -> bytes:
    """One speaker of the demo dialogue, and enough silence to end the last words."""
    samples, rate = soundfile.read(DEMO, dtype="float32", always_2d=True)
    wanted = FORMATS[kind][1].sample_rate
    mono = soxr.resample(samples[:, SPEAKER], rate, wanted)
    pcm = (mono.clip(-1, 1) * 32_767).astype("<i2").tobytes() + silence(1.0, wanted)
    return pcm if kind == "pcm" else g711(pcm, kind)


def configured(kind: str) -> dict[str, Any]:
    inputs = {
        "format": FORMATS[kind][0],
        "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
        },
    }
    return {"type": "transcription", "audio": {"input": inputs}}


async def until_quiet(connection: Any, utterances: int) -> list[Any]:
    """All events until so many utterances are completed, and the buffer is cleared after them."""
    heard: list[Any] = []
    completed = 0
    async with asyncio.timeout(60):
        while completed < utterances:
            heard.append(await connection.recv())
            completed += heard[-1].type.endswith("transcription.completed")
        await connection.input_audio_buffer.clear()
        while heard[-1].type != "input_audio_buffer.cleared":
            heard.append(await connection.recv())
    return heard


async def append(connection: Any, audio: bytes, size: int = 4_800) -> None:
    for at in range(0, len(audio), size):
        piece = base64.b64encode(audio[at : at + size]).decode()
        await connection.input_audio_buffer.append(audio=piece)


async def natively(
    server: LiveServer, kind: str
) -> tuple[list[EmotionFinal], list[EmotionRevised]]:
    start = SessionStart(audio=FORMATS[kind][1], language="en", interim=False)
    heard: Sequence[Event]
    _, heard, _ = await stream(server, start, pieces(demo(kind)))
    finals = [event for event in heard if isinstance(event, EmotionFinal)]
    return finals, [event for event in heard if isinstance(event, EmotionRevised)]


@pytest.mark.parametrize("kind", ["pcm", "pcmu", "pcma"])
async def test_the_demo_dialogue_has_the_labels_of_the_native_protocol(
    server: LiveServer, client: Any, kind: str
) -> None:
    finals, revised = await natively(server, kind)
    assert len(finals) >= 4
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=configured(kind))
        await append(connection, demo(kind))
        heard = await until_quiet(connection, len(finals))
    assert [event.type for event in heard[:2]] == ["session.created", "session.updated"]
    completed = [event for event in heard if event.type.endswith("transcription.completed")]
    assert [event.emotion for event in completed] == [final.decoder.label for final in finals]
    for event, final in zip(completed, finals, strict=True):
        assert event.emotions == pytest.approx(final.posterior, abs=1e-5)
        assert event.speaker == final.speaker
        assert event.transcript == ""
        assert event.missing == ["lexical"]
        assert event.explanation["logits"] == pytest.approx(final.explanation.logits, abs=1e-4)
    corrections = [event for event in heard if event.type == "emotrace.emotion.revised"]
    assert [(event.utterance, event.label) for event in corrections] == [
        (event.utterance, event.label) for event in revised
    ]


async def test_every_event_has_the_shape_that_the_package_knows(
    server: LiveServer, client: Any
) -> None:
    from openai.types import realtime as types

    shapes = {
        "session.created": types.SessionCreatedEvent,
        "session.updated": types.SessionUpdatedEvent,
        "input_audio_buffer.speech_started": types.InputAudioBufferSpeechStartedEvent,
        "input_audio_buffer.speech_stopped": types.InputAudioBufferSpeechStoppedEvent,
        "input_audio_buffer.committed": types.InputAudioBufferCommittedEvent,
        "input_audio_buffer.cleared": types.InputAudioBufferClearedEvent,
        "conversation.item.added": types.ConversationItemAdded,
        "conversation.item.done": types.ConversationItemDone,
        "conversation.item.input_audio_transcription.completed": (
            types.ConversationItemInputAudioTranscriptionCompletedEvent
        ),
        "error": types.RealtimeErrorEvent,
    }
    async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
        await connection.session.update(session=configured("pcm"))
        await connection.response.create()
        await append(connection, demo("pcm"))
        heard = await until_quiet(connection, 3)
    seen = set()
    for event in heard:
        shape = shapes.get(event.type)
        if shape is None:
            assert event.type.startswith("emotrace."), event.type
            continue
        seen.add(event.type)
        assert isinstance(event, shape)
        shape.model_validate(event.to_dict(), strict=True)  # raises where a field is amiss
    assert seen == set(shapes)


async def test_a_secret_made_by_the_package_opens_a_session_for_the_package(
    server: LiveServer, client: Any
) -> None:
    made = await client.realtime.client_secrets.create(
        session=configured("pcmu"), expires_after={"anchor": "created_at", "seconds": 60}
    )
    assert made.session.type == "transcription"
    assert made.session.audio.input.format.type == "audio/pcmu"
    async with package(server, made.value) as page:
        async with page.realtime.connect() as connection:
            created = await connection.recv()
            assert created.session.id == made.session.id
            await append(connection, demo("pcmu"))
            await until_quiet(connection, 3)
        with pytest.raises(Exception, match="401"):
            await page.realtime.connect().enter()


async def test_a_refused_configuration_raises_what_the_package_raises(client: Any) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=r"session\.type"):
        await client.realtime.client_secrets.create(session={"type": "realtime"})


async def test_the_beta_form_works_too(server: LiveServer) -> None:
    finals, _ = await natively(server, "pcm")
    # Left to itself the package's beta takes TLS, whatever the base URL says.
    sockets = server.url.replace("http", "ws") + "/v1"
    async with (
        package(server, websocket_base_url=sockets) as client,
        client.beta.realtime.connect(model="gpt-4o-transcribe") as connection,
    ):
        await connection.transcription_session.update(
            session={
                "input_audio_format": "pcm16",
                "input_audio_transcription": {"model": "whisper-1", "language": "en"},
                "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
            }
        )
        await append(connection, demo("pcm"))
        heard = await until_quiet(connection, len(finals))
    types = [event.type for event in heard]
    assert "transcription_session.updated" in types
    assert "conversation.item.created" in types
    completed = [event for event in heard if event.type.endswith("transcription.completed")]
    assert [event.emotion for event in completed] == [final.decoder.label for final in finals]


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")
def test_the_synchronous_package_too(server: LiveServer) -> None:
    with (
        openai.OpenAI(api_key="none", base_url=f"{server.url}/v1") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        assert connection.recv().type == "session.created"
        connection.session.update(session=configured("pcm"))
        while connection.recv().type != "session.updated":
            pass


def test_the_example_of_the_page_runs(server: LiveServer, tmp_path: Path) -> None:
    page = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    samples, rate = soundfile.read(DEMO, dtype="float32", always_2d=True)
    mono = soxr.resample(samples[:, SPEAKER], rate, 24_000)
    padded = np.concatenate([mono, np.zeros(24_000, np.float32)])
    soundfile.write(tmp_path / "speech.wav", padded, 24_000, subtype="PCM_16")
    here = code.replace("http://127.0.0.1:8080", server.url)
    here = here.replace("speech.wav", str(tmp_path / "speech.wav")).replace("0.1)", "0)")
    printed: list[str] = []
    names = {
        "__name__": "__main__",
        "print": lambda *words: printed.append(" ".join(map(str, words))),
    }
    exec(compile(here, "compatibility.md", "exec"), names)
    labels = set(server.serving.bundle.labels.names)
    assert len(printed) >= 4
    assert {line.split()[0] for line in printed} <= labels
