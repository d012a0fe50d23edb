"""What is fuzzed: everything that reads what a client, a store or a disk gave."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import soundfile
from fakes import toy_bundle
from fuzzing import Target
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load

from emotrace_models import registry
from emotrace_models.bundle_config import (
    CONFIG,
    WEIGHTS,
    BundleCorrupted,
    model_config,
    parse_config,
)
from emotrace_models.picture_decoding import PictureUnreadable, decode_picture
from emotrace_models.safetensors_header import HeaderInvalid, read_header
from emotrace_protocol.codec import decode_event, decode_message, encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import Failed
from emotrace_protocol.messages import (
    SAMPLE_RATES,
    AudioEncoding,
    AudioFormat,
    SessionResume,
    SessionStart,
)
from emotrace_protocol.order import ServerConversation
from emotrace_service import values
from emotrace_service.audio import AudioRejected, Framer
from emotrace_service.client_secrets import ClientSecrets, SecretRefused
from emotrace_service.identity import Caller, Keys, bearer, digest_of, in_query
from emotrace_service.memory_store import MemoryStore
from emotrace_service.origins import is_allowed
from emotrace_service.pictures import PictureInvalid, decoded_jpeg
from emotrace_service.realtime_messages import Append, event_id_of, read_message
from emotrace_service.recordings import Recording
from emotrace_service.session_store import Snapshot
from emotrace_service.settings import Settings
from emotrace_service.tickets import NotedHere, Tickets
from emotrace_service.understood import NOTHING_YET

ROOT = Path(__file__).parents[2]
SMALL_PIXELS = 65_536  # of pictures that are decoded too
MESSAGES = [
    '{"type":"session.start"}',
    '{"type":"session.start","protocol_version":1,"audio":{"encoding":"mulaw","sample_rate":8000,'
    '"channels":2},"speakers":["Ann","Ben"],"language":"de-AT","transcription":"client",'
    '"endpointing":{"threshold":0.4,"silence_ms":700,"min_speech_ms":250,"max_utterance_ms":9000},'
    '"interim":false,"bundle":"toy","labels":["anger","joy"],"purpose":"a game","token":"emk_x",'
    '"resume":true}',
    '{"type":"session.resume","session":"0123456789abcdef","token":"t","sequence":7}',
    '{"type":"utterance.text","text":"Hello, \\u00e4\\ud83d\\ude00","utterance":0}',
    '{"type":"utterance.text","text":"I am a bot.","speaker":"Bot","language":"en"}',
    '{"type":"utterance.end"}',
    '{"type":"image","speaker":"Ann","jpeg":"/9j/4AAQSkZJRgABAQ=="}',
    '{"type":"marker","id":"end"}',
    '{"type":"ack","sequence":3}',
    '{"type":"session.end"}',
]
REALTIME = [
    '{"type":"input_audio_buffer.append","audio":"AAAA","event_id":"e1"}',
    '{"type":"input_audio_buffer.commit"}',
    '{"type":"input_audio_buffer.clear","event_id":"e2"}',
    '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"format":'
    '{"type":"audio/pcm","rate":24000},"transcription":{"model":"whisper-1","language":"en"},'
    '"turn_detection":{"type":"server_vad","threshold":0.5,"silence_duration_ms":500}}}}}',
    '{"type":"transcription_session.update","session":{"input_audio_format":"pcm16"}}',
    '{"type":"emotrace.session.end"}',
]
EVENTS_SENT = 8
ENCODINGS = tuple(AudioEncoding)


def control(data: bytes) -> str:
    """A text message: the first of a connection, or one of a session. An answer can be sent."""
    conversation = ServerConversation()
    try:
        message, unknown = decode_message(data.decode("utf-8", "surrogateescape"))
        if not isinstance(message, SessionStart | SessionResume):
            conversation.receive(SessionStart())
            conversation.sent = EVENTS_SENT
        conversation.receive(message)
    except ProtocolError as error:
        encode(conversation.refuse(error, 0.0))
        raise
    assert decode_message(encode(message))[0] == message
    return f"{message.type} {len(unknown)}"


def event(data: bytes) -> str:
    """What a client reads."""
    return decode_event(data.decode("utf-8", "replace")).type


def realtime(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    event_id_of(text)
    message = read_message(text)
    if isinstance(message, Append):
        message.samples()
    return message.type


def framing(data: bytes) -> str:
    """Two bytes choose the format and how the rest is cut into messages."""
    form, cut = (*data[:2], 0, 0)[:2]
    audio = AudioFormat(
        encoding=ENCODINGS[form & 3],
        sample_rate=SAMPLE_RATES[(form >> 2) % len(SAMPLE_RATES)],
        channels=1 + (form >> 5),
    )
    framer, stream, step = Framer(audio), data[2:], 1 + cut * 7
    blocks = []
    for at in range(0, min(len(stream), 12 * step), step):
        blocks += framer.push(stream[at : at + step])
        framer = Framer(audio, framer.state)
    blocks += framer.finish().blocks
    for block in blocks:
        assert block.samples.shape == (audio.channels, 512)
        assert np.abs(block.samples).max() <= 1.0001  # and so no NaN
    return f"{len(blocks)} blocks"


def recording(data: bytes) -> str:
    """As an uploaded file is read: its header, and its sound."""
    file = Recording(data, 60.0)
    size = sum(map(len, file.blocks()))
    return f"{file.audio.channels} at {file.audio.sample_rate}: {min(size, 9)}"


def picture(data: bytes) -> str:
    """As a webcam's picture is read: the header by the server, small ones whole."""
    decoded_jpeg(base64.b64encode(data).decode())
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            small = image.width * image.height <= SMALL_PIXELS
    except Exception:  # Pillow raises whatever broken bytes lead it to
        small = True
    if small:
        pixels = decode_picture(data)
        assert pixels.shape[2] == 3
    return f"small {small}"


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it gives, if it waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


@cache
def door() -> tuple[MemoryStore, Tickets, Keys, ClientSecrets, Settings]:
    keys = Keys([(digest_of("emk_x"), Caller("anna", 3))])
    store = MemoryStore(120_000, 10)
    lease = at_once(store.open("0123456789abcdef"))
    at_once(
        lease.commit(Snapshot(SessionStart(), 0, {}, 0, frozenset(), 0, 0.0, NOTHING_YET), [], -1)
    )
    tickets = Tickets(keys, NotedHere(time.monotonic), time.time)
    return store, tickets, keys, ClientSecrets(), Settings(origins=("https://good.example",))


def entrance(data: bytes) -> str:
    """Names, tokens, tickets, keys, secrets and origins, with a line each."""
    store, tickets, keys, secrets, settings = door()
    name, token, origin, host, header, query, *_ = [
        *data.decode("utf-8", "replace").split("\n"),
        *[""] * 6,
    ]
    assert keys.find(token) is None or token == "emk_x"
    bearer(header)
    in_query([query])
    is_allowed(origin, host, settings)
    refusals: list[Callable[[], object]] = [
        lambda: at_once(store.resume(name, token, len(host))),
        lambda: at_once(tickets.redeem(token)),
        lambda: secrets.redeem(token, 0.0),
    ]
    for refused in refusals:
        try:
            refused()
        except (ProtocolError, SecretRefused):
            continue
        raise AssertionError("somebody came in")
    return str(is_allowed(origin, host, settings))


def snapshot(data: bytes) -> str:
    """What a store gives back of a session."""
    return type(values.decode(data)).__name__


def config(data: bytes) -> str:
    """A bundle's config.json, and the models that it names."""
    read = parse_config(data, Path("bundle"))
    for entry in read.encoders:
        model_config("encoder", entry)
    model_config("fusion", read.fusion)
    return read.fusion.name


def tensors(data: bytes) -> str:
    """A bundle's weights: the header by our reader, then all by the library."""
    return f"{len(read_header(data))} {len(load(data))}"


def wav(tag: int, channels: int, rate: int, bits: int, frames: int = 32) -> bytes:
    align = channels * bits // 8
    body = bytes(range(60)) * (frames * align // 60 + 1)  # as floats too, numbers
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * align, align, bits)
    data = body[: frames * align]
    size = struct.pack("<I", 36 + len(data))
    return (
        b"RIFF"
        + size
        + b"WAVEfmt \x10\0\0\0"
        + fields
        + b"data"
        + struct.pack("<I", len(data))
        + data
    )


def sounds() -> list[bytes]:
    made = [
        wav(1, 1, 16_000, 16),
        wav(3, 2, 48_000, 32),
        wav(7, 1, 8_000, 8),
        wav(1, 8, 44_100, 24),
    ]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (400, 2))
    for kind, subtype in (
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("WAVEX", "PCM_24"),
    ):
        file = io.BytesIO()
        soundfile.write(file, noise, 48_000 if subtype == "OPUS" else 22_050, subtype, format=kind)
        made.append(file.getvalue())
    return made


def streams() -> list[bytes]:
    """With the plain header of a WAV file that says the format stated, and without."""
    plain = np.linspace(-1, 1, 300, dtype="<f4").tobytes()
    made = [wav(1, 1, 16_000, 16), wav(3, 2, 48_000, 32), wav(7, 1, 8_000, 8)]
    named = [bytes([form, 9]) + data for form, data in zip((4, 57, 2), made, strict=True)]
    return named + [bytes([form, 3]) + plain for form in (0, 37, 75, 114)]


def pictures() -> list[bytes]:
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    made = []
    for mode, options in (
        ("RGB", {}),
        ("L", {"quality": 10}),
        ("CMYK", {}),
        ("RGB", {"progressive": True, "comment": b"hello"}),
        (
            "RGB",
            {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"},
        ),
    ):
        file = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(file, "JPEG", **options)
        made.append(file.getvalue())
    return made


def bundle() -> Path:
    return toy_bundle(Path(mkdtemp(prefix="emotrace-fuzz-")) / "toy")


def started() -> list[bytes]:
    error = ProtocolError(ErrorCode.CAPACITY, "Full.", retry_after_ms=1_000)
    failed = Failed(sequence=0, **error.fields())
    return [encode(failed).encode(), b'{"type":"heartbeat","sequence":4,"audio_ms":1}']


def snapshots() -> list[bytes]:
    plain = Snapshot(SessionStart(), 3, {"heartbeat": 2}, 5, frozenset({7}), 1, 2.5, NOTHING_YET)
    framer = Framer(AudioFormat(sample_rate=8_000)).state
    return [values.encode(plain), values.encode((framer, {"a": (1, 2.0, None)}, [b"x"]))]


def safetensors() -> list[bytes]:
    weights = (bundle() / WEIGHTS).read_bytes()
    small = json.dumps({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    two = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]},
            "b.c": {"dtype": "BF16", "shape": [], "data_offsets": [3, 5]},
        }
    ).encode()
    made = [
        struct.pack("<Q", len(head)) + head + bytes(size) for head, size in ((small, 16), (two, 5))
    ]
    return [*made, weights[:8_192]]


def texts(lines: list[str]) -> list[bytes]:
    return [line.encode() for line in lines]


ENTRANCES = [
    b"0123456789abcdef\nemt_WyJhbm5hIiwgMS4wLCAieCJd.c2ln\nhttps://good.example\ngood.example\n"
    b"Bearer x\ntoken",
    b"../x\nek_00\nhttp://[::1]:80\n[::1]:80\nbasic eA==\nAPI_key",
]
OF_VALUES = (values.ValueInvalid,)
TARGETS = [
    Target("control messages", texts(MESSAGES), control, (ProtocolError,), (), 6),
    Target("realtime messages", texts(REALTIME), realtime, (ProtocolError,), (), 3),
    Target("events", started(), event, (ProtocolError,), (), 1),
    Target(
        "audio framing",
        streams(),
        framing,
        (AudioRejected,),
        (b"RIFF", b"WAVEfmt ", b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", b"OggS\0", b"ID3\x04"),
        1.5,
    ),
    Target(
        "sound files",
        sounds(),
        recording,
        (ProtocolError,),
        (
            b"RIFF",
            b"RF64",
            b"WAVE",
            b"fmt ",
            b"data",
            b"LIST",
            b"fLaC",
            b"OggS",
            b"OpusHead",
            b"ds64",
        ),
        1,
    ),
    Target(
        "pictures",
        pictures(),
        picture,
        (PictureInvalid, PictureUnreadable),
        (
            b"\xff\xc0",
            b"\xff\xc2",
            b"\xff\xda",
            b"\xff\xe1",
            b"\xff\xdb",
            b"\xff\xd9",
            b"Exif\0\0",
            b"Adobe",
        ),
        0.5,
    ),
    Target("entrance", ENTRANCES, entrance, (), (b"\n", b"emt_", b"ek_", b"emk_", b"Bearer "), 3),
    Target("snapshots", snapshots(), snapshot, OF_VALUES, (b"emotrace_", b"\x93", b"\xc4\xff"), 1),
    Target(
        "bundle config",
        [(bundle() / CONFIG).read_bytes()],
        config,
        (BundleCorrupted, registry.UnknownName, registry.BadConfig),
        (b'"config":', b'"auto_map":', b'"files":', b'"encoders":'),
        1,
    ),
    Target(
        "safetensors",
        safetensors(),
        tensors,
        (HeaderInvalid, SafetensorError),
        (b'"dtype":', b'"F64"', b'"shape":[', b'"data_offsets":[', b'"__metadata__":'),
        2,
    ),
]
