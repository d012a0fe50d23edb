"""Models on a real Ray cluster: two nodes on this machine, real bundles, no stand-ins.

Results are those of the local engine; what dies, is poisoned or is too much hurts nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import toy_bundle
from live import close_to, comparable, demo_pcm, live_server, pieces, stream
from ray_machines import Machines, held, running, two_machines
from whispers import write_whisper

from emotrace_models.bundle import Bundle
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.predictor import DialogueState
from emotrace_models.types import Transcript, Utterance
from emotrace_models.weights import WeightFile, WeightSet
from emotrace_protocol.messages import SessionStart
from emotrace_service.engine import LocalBackend
from emotrace_service.errors import (
    EngineClosed,
    EngineError,
    EngineOverloaded,
    StartRefused,
    UtteranceIncomplete,
)
from emotrace_service.inference import InferenceBackend, Predicted
from emotrace_service.loading import (
    load_backend,
    load_predictors,
    load_shelf,
    local_backend,
    origins,
)
from emotrace_service.metrics import Metrics
from emotrace_service.settings import Settings

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'emotrace[ray]'"),
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),  # Ray's own
]

SPEAKERS = "ABBABA"
SHARE = 0.6  # of a node's one core, for a replica: two do not fit on one node
MANY = 64  # calls: as many as two replicas hold
SECRET = "what somebody said"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two, the second of which reads each slot in its own way and so prepares."""
    folder = tmp_path_factory.mktemp("bundles")
    toy = toy_bundle(folder / "toy")
    bundle = Bundle.load(toy)
    assert isinstance(bundle.fusion, GatedxLSTM)
    torch.manual_seed(2)
    fusion = GatedxLSTM(replace(bundle.fusion.config, share="none")).eval()
    replace(bundle, name="slots", fusion=fusion).save(folder / "slots")
    return toy, folder / "slots"


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with two_machines() as found:
        yield found


def settings_of(bundles: Sequence[Path], machines: Machines, **options: Any) -> Settings:
    return Settings(
        **{
            "bundle": str(bundles[0]),
            "also": tuple(map(str, bundles[1:])),
            "whisper": "none",
            "threads": 1,
            "backend": "ray",
            "ray_address": machines.address,
            "ray_cpus_a_replica": SHARE,
            **options,
        }
    )


@pytest.fixture(scope="module")
def remote(bundles: tuple[Path, Path], machines: Machines) -> Iterator[InferenceBackend]:
    """A replica on each node."""
    settings = settings_of(
        bundles, machines, ray_replicas_min=2, max_batch=4, batch_wait_ms=50, threads=1
    )
    backend = load_backend(settings, load_shelf(settings), Metrics())
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="module")
def local(bundles: tuple[Path, Path]) -> Iterator[LocalBackend]:
    settings = Settings(
        bundle=str(bundles[0]), also=(str(bundles[1]),), threads=1, workers="threads"
    )
    backend = local_backend(settings, load_shelf(settings).held, None, Metrics())
    yield backend
    asyncio.run(backend.close())


@pytest.fixture(scope="module")
def narrow(bundles: tuple[Path, Path], machines: Machines) -> Iterator[InferenceBackend]:
    """One replica that takes one call at a time, and lets one more wait."""
    settings = settings_of(
        bundles,
        machines,
        ray_application="narrow",
        ray_cpus_a_replica=0.2,
        ray_ongoing=1,
        ray_queue=1,
        max_batch=1,
        compute_timeout_ms=3_000,
    )
    backend = load_backend(settings, load_shelf(settings), Metrics())
    yield backend
    asyncio.run(backend.close())


def utterance(turn: int, seconds: float = 1.0) -> Utterance:
    """A hum that rises and falls, which is speech enough for the gate."""
    rng = np.random.default_rng(turn)
    sound = rng.normal(0, 0.1, int(seconds * 16_000)).astype(np.float32)
    words = Transcript(f"words {turn}", "client") if turn % 3 else None
    return Utterance(turn, SPEAKERS[turn % len(SPEAKERS)], 0, len(sound), sound, words)


def dialogue(backend: Any, bundle: str) -> DialogueState:
    """One that begins, for the bundle of this name."""
    keys = (key for key in backend._predictors if key.partition("@")[0] == bundle)
    state: DialogueState = backend.start(next(keys))
    return state


async def conversation(backend: InferenceBackend, bundle: str) -> list[Predicted]:
    """A dialogue as a session has it: each turn is appraised, sensed, prepared, predicted."""
    state = dialogue(backend, bundle)
    found = []
    for turn, speaker in enumerate(SPEAKERS):
        state = await backend.prepare(state, speaker)
        appraisal = await backend.appraise(utterance(turn))
        said = appraisal.utterance
        heard = await backend.sense(state, replace(said, transcript=None))
        found.append(await backend.predict(state, said, heard.sensed))
        state = found[-1].state
    return found


def assert_same(found: Sequence[Predicted], expected: Sequence[Predicted]) -> None:
    for one, other in zip(found, expected, strict=True):
        mine, theirs = one.outcome, other.outcome
        assert mine.turn == theirs.turn
        assert mine.decision.label == theirs.decision.label
        np.testing.assert_allclose(mine.decision.posterior, theirs.decision.posterior, atol=1e-6)
        np.testing.assert_allclose(
            mine.prediction.posterior, theirs.prediction.posterior, rtol=0, atol=1e-6
        )
        assert mine.prediction.used == theirs.prediction.used
        np.testing.assert_allclose(
            mine.prediction.explanation.contributions,
            theirs.prediction.explanation.contributions,
            rtol=1e-5,  # who else is in a batch changes the last bits, here as on the local engine
            atol=1e-5,
        )
        assert [
            (slot.offset, slot.role, slot.stream, slot.features and slot.features.index)
            for slot in mine.prediction.explanation.slots
        ] == [
            (slot.offset, slot.role, slot.stream, slot.features and slot.features.index)
            for slot in theirs.prediction.explanation.slots
        ]
        assert mine.revisions == theirs.revisions
        assert min(one.times.queue, one.times.encoding, one.times.fusion, one.times.decoding) >= 0


async def begun(backend: InferenceBackend) -> list[asyncio.Task[Predicted]]:
    """As many calls as the replicas hold, of which the first has been answered."""
    start = dialogue(backend, "toy")
    tasks = [asyncio.create_task(backend.predict(start, utterance(n))) for n in range(MANY)]
    _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert len(left) > MANY / 2
    return tasks


async def sent(backend: InferenceBackend, count: int) -> list[asyncio.Task[Predicted]]:
    """So many calls, and time for them to arrive."""
    start = dialogue(backend, "toy")
    tasks = [asyncio.create_task(backend.predict(start, utterance(n))) for n in range(count)]
    await asyncio.sleep(0.5)
    return tasks


async def expected(local: LocalBackend, count: int) -> list[Predicted]:
    """What `sent` is to give."""
    start = dialogue(local, "toy")
    return [await local.predict(start, utterance(n)) for n in range(count)]


async def test_dialogues_go_as_they_go_on_the_local_engine(
    remote: InferenceBackend, local: LocalBackend
) -> None:
    keys = ("toy", "slots", "toy", "slots")  # at once: batches hold items of both
    together = await asyncio.gather(*(conversation(remote, key) for key in keys))
    for key, found in zip(keys, together, strict=True):
        assert_same(found, await conversation(local, key))
    assert remote.pressure(time.monotonic()) == 0.0


async def test_prepared_and_sensed_values_belong_to_the_callers_own_dialogue(
    remote: InferenceBackend,
) -> None:
    first = await remote.predict(dialogue(remote, "slots"), utterance(0))
    prepared = await remote.prepare(first.state, "A")
    assert prepared.window is first.state.window
    assert prepared.beam is first.state.beam
    assert len(prepared.read) > len(first.state.read)
    heard = await remote.sense(prepared, utterance(3))
    assert all(
        felt.before is prepared.speakers[stream, "A"] for stream, felt in heard.sensed.items()
    )
    appraised = utterance(3)
    assert (await remote.appraise(appraised)).utterance is appraised


async def test_one_poison_item_hurts_only_itself(
    remote: InferenceBackend, local: LocalBackend
) -> None:
    start = dialogue(remote, "toy")
    poison = replace(
        utterance(1),
        samples=np.zeros((2, 2, 2), np.float32),
        transcript=Transcript(SECRET, "client"),
    )
    items = [utterance(0), poison, utterance(2), utterance(3)]
    found = await asyncio.gather(
        *(remote.predict(start, item) for item in items), return_exceptions=True
    )
    failed = found.pop(1)
    assert isinstance(failed, EngineError)
    assert not isinstance(failed, EngineOverloaded)
    assert str(failed).startswith("the model failed with ")
    assert SECRET not in str(failed)
    assert_same(
        [one for one in found if isinstance(one, Predicted)],
        [await local.predict(start, item) for item in items if item is not poison],
    )
    with pytest.raises(UtteranceIncomplete, match="none of acoustic, lexical"):
        await remote.predict(start, replace(utterance(0), samples=None))


async def test_a_whole_server_says_the_same(
    remote: InferenceBackend, machines: Machines, bundles: tuple[Path, Path]
) -> None:
    audio, pcm = demo_pcm(12)
    start = SessionStart(audio=audio, speakers=("Ann", "Ben"), interim=False)
    heard = []
    cluster = settings_of(bundles[:1], machines, ray_application="live", ray_cpus_a_replica=0.2)
    for options in ({}, cluster.model_dump(include=cluster.model_fields_set - {"bundle"})):
        with live_server(bundles[0], **options) as server:
            _, events, ended = await stream(server, start, pieces(pcm, 6_400))
        assert ended.totals.failed == 0
        heard.append(comparable([event for event in events if event.type != "warning"]))
    assert len([event for event in heard[0] if event["type"] == "emotion.final"]) >= 2
    assert close_to(heard[0], heard[1])


async def test_too_much_is_refused_and_the_rest_is_done(
    narrow: InferenceBackend, local: LocalBackend
) -> None:
    start = dialogue(narrow, "toy")
    await narrow.predict(start, utterance(0))
    with held("narrow"):
        (first,) = await sent(narrow, 1)
        (waiting,) = await sent(narrow, 1)
        with pytest.raises(EngineOverloaded, match="too much waits"):
            await narrow.predict(start, utterance(0))
        assert narrow.pressure(time.monotonic()) > 0.5
        waiting.cancel()
        await asyncio.wait({waiting})
        (instead,) = await sent(narrow, 1)  # whoever is gone leaves their place to others
        with pytest.raises(EngineOverloaded):
            await narrow.predict(start, utterance(0))
    found = [await first, await instead, await narrow.predict(start, utterance(0))]
    assert_same(found, [*await expected(local, 1)] * 3)
    assert narrow.pressure(time.monotonic()) == 0.0


async def test_what_hangs_is_given_up(narrow: InferenceBackend) -> None:
    start = dialogue(narrow, "toy")
    await narrow.predict(start, utterance(0))
    with held("narrow"):
        with pytest.raises(EngineError, match="it would come too late"):
            await narrow.predict(start, utterance(0), interim=True)
        with pytest.raises(EngineError, match="no replica answered in time"):
            await narrow.predict(start, utterance(0))
    assert isinstance(await narrow.predict(start, utterance(0)), Predicted)


async def test_words_come_from_the_cluster(
    machines: Machines, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    from emotrace_service.ray_cluster import load_ray_backend

    folder = write_whisper(tmp_path / "made").rename(tmp_path / "tiny")
    files = tuple(
        WeightFile(one.name, "", one.stat().st_size, sha256(one.read_bytes()).hexdigest())
        for one in sorted(folder.iterdir())
    )
    weights = WeightSet("tiny", "", "", "", "", files, "transcriber")
    settings = settings_of(
        bundles, machines, ray_application="words", ray_cpus_a_replica=0.1, weights=tmp_path
    )
    held = load_shelf(settings).held
    predictors = load_predictors(held, "cpu")
    voices = local_backend(settings, (), None, Metrics())
    backend = await asyncio.to_thread(
        load_ray_backend, settings, predictors, origins(held), weights, voices
    )
    try:
        assert backend.transcribes(None)
        assert backend.transcribes("en-GB")
        assert not backend.transcribes("tlh")
        with pytest.raises(EngineError, match="'tlh'"):
            await backend.transcribe(utterance(0), "tlh")
        words = await backend.transcribe(utterance(0, 2.0), "en")
        assert words is not None
        assert words.text
        assert words.source == "server"
    finally:
        await backend.close()
    with pytest.raises(EngineClosed):
        await backend.predict(dialogue(backend, "toy"), utterance(0))


async def test_a_node_with_another_bundle_is_refused(
    machines: Machines, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = settings_of(
        (tmp_path / "toy",), machines, ray_application="other", ray_cpus_a_replica=0.1
    )
    toy_bundle(tmp_path / "toy")
    held = load_shelf(settings).held
    predictors = load_predictors(held, "cpu")
    voices = local_backend(settings, (), None, Metrics())
    toy_bundle(tmp_path / "toy", seed=2)
    from emotrace_service.ray_cluster import load_ray_backend

    with pytest.raises(StartRefused, match="other bundles than the server"):
        await asyncio.to_thread(load_ray_backend, settings, predictors, origins(held), None, voices)
    await voices.close()


async def test_a_replica_that_dies_costs_nobody_their_result(
    remote: InferenceBackend, local: LocalBackend
) -> None:
    victim, other = running("emotrace")
    tasks = await begun(remote)
    victim.kill()
    assert_same(await asyncio.gather(*tasks), await expected(local, MANY))
    assert other.is_running()


async def test_a_node_that_dies_costs_nobody_their_result(
    remote: InferenceBackend, local: LocalBackend, machines: Machines
) -> None:
    talking = asyncio.create_task(conversation(remote, "slots"))
    tasks = await begun(remote)
    await asyncio.to_thread(machines.cluster.remove_node, machines.worker, allow_graceful=False)
    assert_same(await asyncio.gather(*tasks), await expected(local, MANY))
    assert_same(await talking, await conversation(local, "slots"))
