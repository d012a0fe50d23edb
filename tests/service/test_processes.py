"""Compute processes: the same numbers as in the server's own process, and their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eventually import eventually
from live import comparable, demo_pcm, live_server, pieces, stream

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import DialogueState, Predictor
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector
from emotrace_protocol.messages import SessionStart
from emotrace_service.batching import BatchPolicy
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import EngineError, UtteranceIncomplete
from emotrace_service.loading import origins
from emotrace_service.metrics import Metrics
from emotrace_service.processes import ProcessModels
from emotrace_service.settings import Settings


@asynccontextmanager
async def engine(toy: Path, *, apart: bool, **options: Any) -> AsyncIterator[LocalBackend]:
    settings = Settings(bundle=str(toy))
    bundle = Bundle.load(toy)
    opened: list[ProcessModels] = []

    def models() -> ProcessModels:
        opened.append(ProcessModels(origins([bundle]), settings))
        return opened[-1]

    backend = LocalBackend(
        {bundle.key: Predictor(bundle)},
        VoiceDetector(),
        None,
        threads=1,
        policy=BatchPolicy(4, 0.0),
        capacity=64,
        metrics=Metrics(),
        models=models if apart else None,
        **options,
    )
    backend.opened = opened  # type: ignore[attr-defined]
    try:
        yield backend
    finally:
        await backend.close()
    assert not any(one._process.is_alive() for one in opened)


def begun(backend: LocalBackend) -> DialogueState:
    """A dialogue of its only bundle."""
    (key,) = backend._predictors
    return backend.start(key)


def utterances() -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [
        Utterance(
            number,
            "ABA"[number % 3],
            0,
            length,
            rng.normal(0, 0.1, length).astype(np.float32),
            Transcript("so it goes", "client") if number % 2 else None,
        )
        for number, length in enumerate((16_000, 24_000, 9_000, 16_000))
    ]


async def dialogue(backend: LocalBackend) -> list[Any]:
    """As a session does it: prepare, appraise, sense, predict."""
    state: DialogueState = begun(backend)
    found = []
    for utterance in utterances():
        state = await backend.prepare(state, utterance.speaker)
        appraisal = await backend.appraise(utterance)
        heard = await backend.sense(state, replace(utterance, transcript=None))
        predicted = await backend.predict(state, utterance, heard.sensed)
        state = predicted.state
        found.append((appraisal, heard, predicted.outcome))
    return found


async def test_a_process_computes_what_the_server_would(toy: Path) -> None:
    async with engine(toy, apart=False) as here:
        expected = await dialogue(here)
    async with engine(toy, apart=True) as there:
        found = await dialogue(there)
        assert there.used_s() > 0.0
    for (quality, _, outcome), (other_quality, _, other) in zip(expected, found, strict=True):
        assert quality.quality == other_quality.quality
        one, two = outcome.prediction, other.prediction
        assert np.array_equal(one.logits, two.logits)
        assert np.array_equal(one.posterior, two.posterior)
        assert np.array_equal(one.explanation.contributions, two.explanation.contributions)
        assert [slot.features and slot.features.index for slot in one.explanation.slots] == [
            slot.features and slot.features.index for slot in two.explanation.slots
        ]
        assert outcome.decision.label == other.decision.label
        assert outcome.revisions == other.revisions


async def test_what_was_sensed_is_still_known_after_the_way_there_and_back(toy: Path) -> None:
    """Else every utterance would be encoded twice."""
    async with engine(toy, apart=True) as backend:
        state = begun(backend)
        for utterance in utterances():
            heard = await backend.sense(state, utterance)
            read = await backend.read(state, utterance)
            assert {*heard.sensed, *read.sensed} == {"acoustic", "lexical"}
            for stream_name, felt in {**heard.sensed, **read.sensed}.items():
                assert felt.before is state.speakers.get((stream_name, utterance.speaker))
            state = (await backend.predict(state, utterance, heard.sensed)).state


async def test_an_error_there_is_told_without_what_was_said(toy: Path) -> None:
    needy = toy.parent / "needy"
    replace(Bundle.load(toy), requires=(Modality.LEXICAL,)).save(needy)
    async with engine(needy, apart=True) as backend:
        with pytest.raises(UtteranceIncomplete, match="nothing lexical"):
            await backend.predict(begun(backend), utterances()[0])
        broken = replace(utterances()[1], samples=np.zeros((3, 3), np.float32))
        with pytest.raises(EngineError, match="the model failed with") as caught:
            await backend.predict(begun(backend), broken)
        assert "so it goes" not in str(caught.value)
        await backend.predict(begun(backend), utterances()[1])  # and it goes on


async def test_a_process_that_dies_takes_its_batch_and_another_goes_on(toy: Path) -> None:
    async with engine(toy, apart=True) as backend:
        state, utterance = begun(backend), utterances()[0]
        before = await backend.predict(state, utterance)
        (models,) = backend.opened  # type: ignore[attr-defined]
        os.kill(models._process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="a compute process ended"):
            await backend.predict(state, utterance)
        after = await backend.predict(state, utterance)
    assert np.array_equal(before.outcome.prediction.logits, after.outcome.prediction.logits)


async def test_a_process_that_hangs_is_ended(toy: Path) -> None:
    async with engine(toy, apart=True, hang_s=1.0) as backend:
        state, utterance = begun(backend), utterances()[0]
        await backend.predict(state, utterance)
        (models,) = backend.opened  # type: ignore[attr-defined]
        os.kill(models._process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(backend.predict(state, utterance))
        await asyncio.sleep(0.2)
        backend.watch(time.monotonic() + 2.0)
        with pytest.raises(EngineError, match="hung"):
            await waiting
        await backend.predict(state, utterance)  # by the process that came instead
        assert len(backend.opened) == 2  # type: ignore[attr-defined]
        assert not models._process.is_alive()


@pytest.mark.parametrize("hangs", [False, True])
async def test_new_models_come_while_the_old_ones_compute(toy: Path, hangs: bool) -> None:
    """The batch that runs is finished by the old process, or given up with it; either way it is
    gone afterwards, and what it used is not forgotten."""
    async with engine(toy, apart=True, hang_s=1.0) as backend:
        state, utterance = begun(backend), utterances()[0]
        await backend.predict(state, utterance)
        (old,) = backend.opened  # type: ignore[attr-defined]
        os.kill(old._process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(backend.predict(state, utterance))
        await asyncio.sleep(0.2)
        used_s = backend.used_s()
        await asyncio.wait_for(backend.renew(backend._predictors, backend._crew._models), 30)
        assert backend.used_s() >= used_s > 0.0
        assert not waiting.done()
        if hangs:
            backend.watch(time.monotonic() + 2.0)
            with pytest.raises(EngineError, match="hung"):
                await waiting
        else:
            os.kill(old._process.pid, signal.SIGCONT)
            assert (await waiting).outcome.turn == 0
        await eventually(lambda: not old._process.is_alive())
        assert backend.used_s() >= used_s
        await backend.predict(state, utterance)


@pytest.fixture(scope="module")
def heard(toy: Path) -> dict[str, Any]:
    audio, pcm = demo_pcm(12.0)
    start = SessionStart(interim=False, audio=audio)
    found = {}
    for workers in ("threads", "processes"):
        with live_server(toy, workers=workers) as server:
            _, events, _ = asyncio.run(stream(server, start, pieces(pcm)))
            found[workers] = comparable(events)
    return found


def test_a_live_stream_is_the_same_with_either(heard: dict[str, Any]) -> None:
    assert len(heard["threads"]) > 5
    assert heard["threads"] == heard["processes"]
