"""The engine: who gets which result, and who is hurt by whom."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.transcription import Transcriber
from emotrace_models.types import Modality, Transcript, Utterance
from emotrace_models.voice_activity import VoiceDetector
from emotrace_service.batching import BatchPolicy
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import EngineClosed, EngineError, UtteranceIncomplete
from emotrace_service.metrics import Metrics

SECRET = "what somebody said"
BUNDLE = "toy"


class StubDialogue:
    def __init__(self, bundle: str) -> None:
        self.bundle = bundle


DIALOGUE: Any = StubDialogue(BUNDLE)


class StubPredictor:
    """Stands in for Predictor: gives back what it was given, and notes each batch.

    An utterance with a negative index is poison. `gate` holds the first batch until it is set.
    Whatever holds utterance `endless` hangs until `released`.
    """

    prepares = False

    def __init__(self, endless: int | None = None) -> None:
        self.endless = endless
        self.released = threading.Event()
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def encode(self, items: Sequence[tuple[Any, Utterance]], sensed: Any) -> list[Any]:
        assert len(sensed) == len(items)
        self.batches.append([utterance.index for _, utterance in items])
        self.entered.set()
        assert self.gate.wait(10)
        if self.endless in [utterance.index for _, utterance in items]:
            assert self.released.wait(10)
        if any(utterance.index < 0 for _, utterance in items):
            raise ValueError(SECRET)
        return list(items)

    def fuse(self, encoded: list[Any]) -> list[Any]:
        return encoded

    def decode(self, fused: list[Any]) -> list[Any]:
        return [(f"after {utterance.index}", utterance.index) for _, utterance in fused]


class StubTranscriber:
    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def supports(self, language: str | None) -> bool:
        return language in (None, "en")

    def transcribe(self, items: Sequence[tuple[Utterance, str | None]]) -> list[Transcript | None]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        with self.lock:
            self.running -= 1
        return [Transcript(f"words {one.index}", "server", language) for one, language in items]


def utterance(index: int) -> Utterance:
    return Utterance(index, "A", 0, 16_000, np.zeros(16_000, np.float32))


@asynccontextmanager
async def engine(
    predictor: Any,
    *,
    threads: int = 1,
    policy: BatchPolicy | None = None,
    transcriber: Any = None,
    hang_s: float = 60.0,
) -> AsyncIterator[LocalBackend]:
    predictors = predictor if isinstance(predictor, dict) else {BUNDLE: predictor}
    backend = LocalBackend(
        {name: cast(Predictor, one) for name, one in predictors.items()},
        VoiceDetector(),
        cast(Transcriber | None, transcriber),
        threads=threads,
        policy=policy or BatchPolicy(max_items=4, max_wait=0.0),
        capacity=64,
        metrics=Metrics(),
        hang_s=hang_s,
    )
    try:
        yield backend
    finally:
        await backend.close()


async def held(predictor: StubPredictor, backend: LocalBackend) -> asyncio.Task[Any]:
    """Occupies the only thread, so that what follows waits together."""
    predictor.gate.clear()
    task = asyncio.create_task(backend.predict(DIALOGUE, utterance(0)))
    await asyncio.to_thread(predictor.entered.wait, 10)
    return task


async def test_items_that_wait_together_run_together_and_each_gets_its_own() -> None:
    predictor = StubPredictor()
    async with engine(predictor) as backend:
        first = await held(predictor, backend)
        waiting = [asyncio.create_task(backend.predict(DIALOGUE, utterance(n))) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        predictor.gate.set()
        results = await asyncio.gather(first, *waiting)
    assert predictor.batches == [[0], [1, 2, 3]]
    assert [cast(Any, result.outcome) for result in results] == [0, 1, 2, 3]
    assert [cast(Any, result.state) for result in results] == [f"after {n}" for n in range(4)]


async def test_one_poison_item_hurts_only_itself() -> None:
    predictor = StubPredictor()
    async with engine(predictor) as backend:
        first = await held(predictor, backend)
        waiting = [asyncio.create_task(backend.predict(DIALOGUE, utterance(n))) for n in (1, -2, 3)]
        await asyncio.sleep(0)
        predictor.gate.set()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
    failed = results.pop(2)
    assert isinstance(failed, EngineError)
    assert SECRET not in str(failed)
    assert isinstance(failed.__cause__, ValueError)
    assert [cast(Any, result).outcome for result in results] == [0, 1, 3]
    assert predictor.batches == [[0], [1, -2, 3], [1], [-2], [3]]


async def test_an_item_that_hangs_hurts_only_itself_and_its_thread_is_replaced() -> None:
    predictor = StubPredictor(endless=2)
    async with engine(predictor, hang_s=1.0) as backend:
        first = await held(predictor, backend)
        waiting = [asyncio.create_task(backend.predict(DIALOGUE, utterance(n))) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        predictor.gate.set()
        await first
        await until(lambda: len(predictor.batches) == 2)
        backend.watch(time.monotonic())
        assert not any(one.done() for one in waiting)  # it has not run for long
        backend.watch(time.monotonic() + 2.0)
        await until(lambda: predictor.batches[-1] == [2])  # each alone, and this one hangs again
        backend.watch(time.monotonic() + 2.0)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        after = await backend.predict(DIALOGUE, utterance(4))
        predictor.released.set()
    assert [getattr(one, "outcome", str(one)) for one in results] == [1, "the model hung", 3]
    assert cast(Any, after).outcome == 4


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(0.001)


async def test_new_models_do_not_wait_for_a_batch_that_hangs() -> None:
    old, new = StubPredictor(endless=0), StubPredictor()
    async with engine(old, hang_s=1.0) as backend:
        hanging = asyncio.create_task(backend.predict(DIALOGUE, utterance(0)))
        await asyncio.to_thread(old.entered.wait, 10)
        await asyncio.wait_for(backend.renew({BUNDLE: cast(Predictor, new)}), 5)
        backend.watch(time.monotonic() + 2.0)
        with pytest.raises(EngineError, match="hung"):
            await hanging
        assert cast(Any, await backend.predict(DIALOGUE, utterance(1))).outcome == 1
        old.released.set()
    assert (old.batches, new.batches) == ([[0]], [[1]])


async def test_a_batch_that_hangs_does_not_hold_up_the_end() -> None:
    predictor = StubPredictor(endless=0)
    async with engine(predictor, hang_s=0.2) as backend:
        hanging = asyncio.create_task(backend.predict(DIALOGUE, utterance(0)))
        await asyncio.to_thread(predictor.entered.wait, 10)
        await asyncio.wait_for(backend.close(), 5)
        with pytest.raises(EngineError, match="hung"):
            await hanging
        predictor.released.set()


async def test_detection_of_many_sessions_runs_together_and_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    sessions = [
        [rng.normal(0, 0.1, (channels, 512)).astype(np.float32) for _ in range(blocks)]
        for channels, blocks in ((1, 1), (2, 3), (1, 2), (4, 1))
    ]
    async with engine(StubPredictor()) as backend:

        def states(blocks: list[Any]) -> Any:
            return [backend.start_voice() for _ in blocks[0]]

        together = await asyncio.gather(*(backend.detect(one, states(one)) for one in sessions))
        for blocks, found in zip(sessions, together, strict=True):
            alone = await backend.detect(blocks, states(blocks))
            assert len(found.probabilities) == len(blocks)
            assert np.array_equal(found.probabilities, alone.probabilities)
            for one, other in zip(found.states, alone.states, strict=True):
                assert np.array_equal(one.values, other.values)


async def test_a_sensed_utterance_is_predicted_as_one_that_was_not(toy: Path) -> None:
    predictor = Predictor(replace(Bundle.load(toy), digest=""))
    sound = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    spoken = Utterance(0, "A", 0, 16_000, sound, Transcript("hello there", "client"))
    async with engine(predictor) as backend:
        start = backend.start(BUNDLE)
        appraisal = await backend.appraise(spoken)
        heard = await backend.sense(start, replace(spoken, transcript=None))
        whole = await backend.predict(start, spoken)
        split = await backend.predict(start, spoken, heard.sensed)
        assert await backend.prepare(start, "A") is start  # each slot is read as any other
    assert appraisal.rejection is not None  # noise
    assert np.array_equal(whole.outcome.prediction.logits, split.outcome.prediction.logits)


async def test_a_caller_that_is_gone_costs_nothing() -> None:
    predictor = StubPredictor()
    async with engine(predictor) as backend:
        first = await held(predictor, backend)
        gone = asyncio.create_task(backend.predict(DIALOGUE, utterance(1)))
        stays = asyncio.create_task(backend.predict(DIALOGUE, utterance(2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})
        predictor.gate.set()
        await asyncio.gather(first, stays)
    assert predictor.batches == [[0], [2]]


async def test_finals_go_before_interims_and_a_late_interim_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = StubPredictor()
    async with engine(predictor, policy=BatchPolicy(max_items=1, max_wait=0.0)) as backend:
        first = await held(predictor, backend)
        interim = asyncio.create_task(backend.predict(DIALOGUE, utterance(1), interim=True))
        await asyncio.sleep(0)
        final = asyncio.create_task(backend.predict(DIALOGUE, utterance(2)))
        monkeypatch.setattr("emotrace_service.engine.INTERIM_WITHIN_S", -1.0)
        late = asyncio.create_task(backend.predict(DIALOGUE, utterance(3), interim=True))
        await asyncio.sleep(0)
        predictor.gate.set()
        await asyncio.gather(first, final, interim)
        with pytest.raises(EngineError, match="too late"):
            await late
    assert predictor.batches == [[0], [2], [1]]


async def test_a_closed_engine_refuses_what_waits_and_what_comes() -> None:
    predictor = StubPredictor()
    async with engine(predictor) as backend:
        first = await held(predictor, backend)
        waiting = asyncio.create_task(backend.predict(DIALOGUE, utterance(1)))
        await asyncio.sleep(0)
        closing = asyncio.create_task(backend.close())
        for _ in range(3):  # a task of its own closes each crew
            await asyncio.sleep(0)
        predictor.gate.set()
        await closing
        await first
        with pytest.raises(EngineClosed):
            await waiting
        with pytest.raises(EngineClosed):
            await backend.predict(DIALOGUE, utterance(2))
    assert not [one for one in threading.enumerate() if one.name.startswith("compute-")]


async def test_transcriptions_run_one_at_a_time_and_leave_a_thread_to_the_others() -> None:
    transcriber = StubTranscriber()
    async with engine(StubPredictor(), threads=3, transcriber=transcriber) as backend:
        words = await asyncio.gather(*(backend.transcribe(utterance(n), "en") for n in range(8)))
        assert backend.transcribes("en")
        assert not backend.transcribes("tlh")
        with pytest.raises(EngineError, match="'tlh'"):
            await backend.transcribe(utterance(9), "tlh")
    assert [one.text for one in words if one] == [f"words {n}" for n in range(8)]
    assert transcriber.most == 1


async def test_detection_by_runs_of_blocks_equals_detection_block_by_block() -> None:
    blocks = [
        np.random.default_rng(n).normal(0, 0.1, (2, 512)).astype(np.float32) for n in range(6)
    ]
    async with engine(StubPredictor(), threads=2) as backend:
        start = (backend.start_voice(), backend.start_voice())
        whole = await backend.detect(blocks, start)
        states, rows = start, []
        for block in blocks:
            one = await backend.detect([block], states)
            states = (one.states[0], one.states[1])
            rows.append(one.probabilities[0])
    assert np.array_equal(np.array(whole.probabilities), np.array(rows))


async def test_dialogues_of_two_bundles_go_through_their_own_models() -> None:
    predictors = {name: StubPredictor() for name in ("one", "two")}
    policy = BatchPolicy(max_items=2, max_wait=5.0)
    async with engine(predictors, policy=policy) as backend:
        dialogues: list[Any] = [StubDialogue(name) for name in ("one", "two", "one", "two")]
        found = await asyncio.gather(
            *(backend.predict(one, utterance(n)) for n, one in enumerate(dialogues))
        )
    assert [one.outcome for one in found] == [0, 1, 2, 3]
    assert [predictor.batches for predictor in predictors.values()] == [[[0, 2]], [[1, 3]]]


async def test_an_utterance_without_what_the_bundle_needs_says_so(toy: Path) -> None:
    needy = replace(Bundle.load(toy), digest="", requires=(Modality.LEXICAL,))
    async with engine(Predictor(needy)) as backend:
        with pytest.raises(UtteranceIncomplete, match="nothing lexical, which the bundle 'toy'"):
            await backend.predict(backend.start(BUNDLE), utterance(0))


async def test_a_batch_of_real_models_gives_what_each_item_gives_alone(toy: Path) -> None:
    predictor = Predictor(replace(Bundle.load(toy), digest=""))
    rng = np.random.default_rng(0)
    items = [
        Utterance(n, "A", 0, length, rng.normal(0, 0.1, length).astype(np.float32))
        for n, length in enumerate((8_000, 48_000, 16_000))
    ]
    async with engine(predictor, policy=BatchPolicy(max_items=3, max_wait=5.0)) as backend:
        together = await asyncio.gather(
            *(backend.predict(backend.start(BUNDLE), item) for item in items)
        )
    async with engine(predictor) as backend:
        alone = [await backend.predict(backend.start(BUNDLE), item) for item in items]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(
            one.outcome.prediction.posterior, other.outcome.prediction.posterior, atol=1e-5
        )
        assert min(one.times.queue, one.times.encoding, one.times.fusion, one.times.decoding) >= 0
