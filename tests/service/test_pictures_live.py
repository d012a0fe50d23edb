"""Pictures in a running server: decoded in confinement, wherever it computes, to the same end."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eventually import eventually
from fakes import toy_bundle
from live import LiveServer, close_to, comparable, demo_pcm, live_server, pieces, talk
from PIL import Image as Picture

from emotrace_models.picture_decoding import Seeing, decode_picture
from emotrace_models.types import Modality
from emotrace_protocol.events import EmotionFinal, Event
from emotrace_protocol.messages import Image, SessionEnd, SessionStart
from emotrace_service.pictures import decoded_jpeg

WORKERS = ("threads", "processes")
FACES = {Modality.ACOUSTIC.value, Modality.FACIAL.value}
PROGRAM = b"emotrace_service.picture_process"

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "seeing"
    return toy_bundle(folder, (Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL))


def jpeg(shade: int) -> bytes:
    pixels = np.linspace(0, shade, 48 * 48 * 3).astype(np.uint8).reshape(48, 48, 3)
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


FRAMES = [jpeg(40 + 20 * number) for number in range(10)]
CUT = [frame[:-40] for frame in FRAMES]  # with a header that the server takes


async def seen(server: LiveServer, frames: Sequence[bytes], seconds: float = 8.0) -> list[Event]:
    """What is heard of a dialogue of two, of whom pictures come all the time."""
    audio, pcm = demo_pcm(seconds)
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio, speakers=("Ann", "Ben"), interim=False))
        for piece, frame in zip(pieces(pcm, 64_000), frames * 9, strict=False):
            await client.say(piece)
            text = base64.b64encode(frame).decode()
            await client.say(*(Image(speaker=one, jpeg=text) for one in ("Ann", "Ben")))
        await client.say(SessionEnd())
        assert await client.closed() == 1000
    assert not client.of("error")
    return client.heard


def finals(heard: Sequence[Event]) -> list[EmotionFinal]:
    found = [event for event in heard if isinstance(event, EmotionFinal)]
    assert found
    return found


def children(parent: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{parent}/task").iterdir():
        with suppress(OSError):  # threads end meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def decoders(parent: int | None = None) -> dict[int, int]:
    """Processes that decode pictures for this one, at whatever remove; and whose they are."""
    found: dict[int, int] = {}
    with suppress(OSError):  # processes end meanwhile
        for pid in children(parent or os.getpid()):
            found |= decoders(pid)
            if PROGRAM in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[pid] = parent or os.getpid()
    return found


def ended(pid: int) -> bool:
    """Whether nothing is left of it but what its parent may still ask."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


@pytest.fixture(scope="module")
def heard(seeing: Path) -> dict[str, Any]:
    """By where it was computed, and decoded."""
    found = {}
    for workers in WORKERS:
        with live_server(seeing, workers=workers) as server:
            found[workers] = asyncio.run(seen(server, FRAMES))
    with live_server(seeing, workers="threads") as server:
        for encoder in server.serving.bundle.encoders:
            if isinstance(encoder, Seeing):
                encoder.decode = decode_picture
        found["unconfined"] = asyncio.run(seen(server, FRAMES))
    return found


def test_estimates_are_those_of_pictures_decoded_by_the_model_itself(heard: dict[str, Any]) -> None:
    assert any(set(final.modalities) == FACES for final in finals(heard["unconfined"]))
    for workers in WORKERS:
        assert comparable(heard[workers]) == comparable(heard["unconfined"])


@needs_proc
@pytest.mark.parametrize("workers", WORKERS)
async def test_hostile_pictures_are_left_out_and_nobody_else_notices(
    seeing: Path, workers: str, heard: dict[str, Any]
) -> None:
    for frame in CUT:
        decoded_jpeg(base64.b64encode(frame).decode())
    with live_server(seeing, workers=workers, threads=2) as server:
        assert decoders() == {}  # none before the first picture
        before_s = server.serving.backend.used_s()
        both = await asyncio.gather(seen(server, FRAMES), seen(server, CUT))
        expected = comparable(heard["unconfined"])
        assert close_to(comparable(both[0]), expected)  # another batch is another rounding
        for final in finals(both[1]):
            assert Modality.FACIAL.value not in final.modalities
            assert "face_unusable" in [doubt.value for doubt in final.doubts]
        assert server.serving.backend.used_s() > before_s
        running = decoders()
        assert 1 <= len(running) <= 2
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: all(map(ended, running)))
        assert comparable(await seen(server, FRAMES)) == expected
        running |= decoders()
    await eventually(lambda: all(map(ended, running)))


@needs_proc
async def test_a_compute_process_that_is_killed_leaves_no_decoder(seeing: Path) -> None:
    with live_server(seeing, workers="processes", threads=1) as server:
        await seen(server, FRAMES, 4.0)
        ((pid, parent),) = decoders().items()
        assert parent != os.getpid()
        os.kill(parent, signal.SIGKILL)
        await eventually(lambda: ended(pid))
