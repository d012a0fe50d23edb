"""Each of the five papers' models, served live by name from one server over one protocol."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from live import LiveServer, demo_pcm, live_server, pieces, talk
from papers import PAPERS, paper_bundle
from PIL import Image as Picture

from emotrace_protocol.events import EmotionFinal
from emotrace_protocol.messages import (
    Image,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)


@pytest.fixture(scope="module")
def server(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("papers")
    bundles = tuple(str(paper_bundle(folder / name, name)) for name in PAPERS)
    with live_server(toy, also=bundles, text_wait_ms=10_000) as running:
        yield running


def jpeg(shade: int) -> str:
    pixels = np.linspace(0, shade, 48 * 48 * 3).astype(np.uint8).reshape(48, 48, 3)
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "JPEG")
    return base64.b64encode(file.getvalue()).decode()


def test_the_server_lists_what_a_session_may_ask_for(server: LiveServer) -> None:
    listed = httpx.get(f"{server.url}/v1/models").json()
    assert listed["default"] == "toy"
    models = {one["name"]: one for one in listed["models"]}
    assert {name.replace("_", "-") for name in PAPERS} | {"toy"} == set(models)
    assert models["gban"]["requires"] == ["acoustic", "lexical"]
    assert models["tucker"]["modalities"] == ["acoustic", "facial"]
    assert models["dual-stream"]["model"] == "dual_stream"


@pytest.mark.parametrize("name", PAPERS)
async def test_a_dialogue_through_each_model(server: LiveServer, name: str) -> None:
    """Every utterance is estimated from all that its model can use, and its reasons sum up."""
    modalities = {
        "gated_xlstm": {"acoustic", "lexical"},
        "dual_stream": {"acoustic"},
        "gban": {"acoustic", "lexical"},
        "mlcct": {"acoustic", "lexical"},
        "tucker": {"acoustic", "facial"},
    }[name]
    audio, pcm = demo_pcm(12.0)
    words = "lexical" in modalities
    async with talk(server) as client:
        await client.say(
            SessionStart(
                bundle=name.replace("_", "-"),
                audio=audio,
                speakers=("Ann", "Ben"),
                transcription=Transcription.CLIENT if words else Transcription.OFF,
                interim=False,
            )
        )
        started = await client.until("session.started")
        assert started.bundle.name == name.replace("_", "-")
        assert {one.modality for one in started.modalities if one.live} == modalities
        for number, piece in enumerate(pieces(pcm, 32_000)):
            await client.say(piece)
            if "facial" in modalities:
                for speaker in ("Ann", "Ben"):
                    await client.say(Image(speaker=speaker, jpeg=jpeg(40 + 20 * number)))
        await client.say(SessionEnd())
        while (event := await client.hear()).type != "session.ended":
            if event.type == "speech.ended" and words:
                said = UtteranceText(text="well I am glad to hear that", utterance=event.utterance)
                await client.say(said)
        assert await client.closed() == 1000
    assert not client.of("error")
    finals: list[EmotionFinal] = client.of("emotion.final")
    assert len(finals) >= 3
    assert {final.speaker for final in finals} == {"Ann", "Ben"}
    for final in finals:
        assert set(final.modalities) == modalities
        assert sum(final.posterior.values()) == pytest.approx(1, abs=1e-6)
        why = final.explanation
        assert why.method == ("additive" if name in ("gated_xlstm", "dual_stream") else "shapley")
        for label, logit in why.logits.items():
            total = why.bias[label] + sum(one.logits[label] for one in why.contributions)
            assert total == pytest.approx(logit, abs=1e-4)
        assert {one.modality for one in why.contributions if one.utterance is not None} == (
            modalities
        )
        assert all(
            max(map(abs, one.logits.values())) > 0
            for one in why.contributions
            if one.utterance == final.utterance
        )
    assert client.heard[-1].totals.finals == len(finals)


async def test_the_tucker_model_goes_on_without_faces(server: LiveServer) -> None:
    audio, pcm = demo_pcm(6.0)
    async with talk(server) as client:
        await client.say(SessionStart(bundle="tucker", audio=audio, interim=False), *pieces(pcm))
        await client.say(SessionEnd())
        assert await client.closed() == 1000
    finals = client.of("emotion.final")
    assert finals
    assert {(final.modalities, final.missing) for final in finals} == {(("acoustic",), ("facial",))}


async def test_gban_without_words_is_refused_at_the_door(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(SessionStart(bundle="gban"))
        assert await client.closed() == 4422
    (refused,) = client.of("error")
    assert refused.code == "modality_unavailable"
    assert "'gban' needs the lexical modality" in refused.message
