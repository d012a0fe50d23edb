"""The shadow understands the same and changes nothing; metrics say how often it differs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from eventually import eventually
from fakes import toy_bundle
from live import LiveServer, close_to, comparable, demo_pcm, live_server, pieces, talk

from emotrace_models.predictor import DialogueState
from emotrace_models.types import Utterance
from emotrace_protocol.messages import Marker, SessionEnd, SessionStart, Transcription
from emotrace_service.errors import EngineError
from emotrace_service.inference import Predicted
from emotrace_service.metrics import SHADOW_RESULTS, Metrics
from emotrace_service.shadowing import MOST_WAITING, UNDER_WAY, Estimate, Shadow, distance

AUDIO, PCM = demo_pcm(12.0)
START = SessionStart(audio=AUDIO, transcription=Transcription.OFF, interim=False)
CHUNKS = pieces(PCM, 32_000)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("versions")
    return [toy_bundle(folder / f"v{seed}", seed=seed) for seed in (1, 2)]


@contextmanager
def serving(bundle: Path, **options: Any) -> Iterator[LiveServer]:
    with live_server(bundle, workers="threads", threads=2, **options) as running:
        yield running


async def finals(server: LiveServer) -> list[dict[str, Any]]:
    """Of a session that says no more than the server has time for."""
    async with talk(server) as client:
        await client.say(START)
        for number, chunk in enumerate(CHUNKS):
            await client.say(chunk, Marker(id=str(number)))
            await client.until("marker.reached")
        await client.say(SessionEnd())
        await client.until("session.ended")
    told = comparable(client.of("emotion.final"))
    assert len(told) >= 3
    return told


def results(server: LiveServer) -> dict[str, float]:
    return {
        one: server.metric("emotrace_shadow_utterances_total", result=one) for one in SHADOW_RESULTS
    }


async def test_a_shadow_of_the_same_bundle_says_the_same(versions: list[Path]) -> None:
    with serving(versions[0], shadow=str(versions[0])) as server:
        count = len(await finals(server))
        await eventually(lambda: results(server)["same"] == count)
        assert results(server)["other"] == 0
        # Heard as a whole or ahead of its end: the sums are the same but for rounding.
        assert server.metric("emotrace_shadow_distance_sum") < 1e-3
        assert server.metric("emotrace_compute_seconds_total", work="shadow") > 0


async def test_another_bundle_differs_and_no_client_hears_of_it(versions: list[Path]) -> None:
    with serving(versions[0]) as server:
        expected = await finals(server)
        assert not any(results(server).values())
    with serving(versions[0], shadow=str(versions[1])) as server:
        found = await finals(server)
        followed = lambda: results(server)["same"] + results(server)["other"]  # noqa: E731
        await eventually(lambda: followed() == len(found))
        assert server.metric("emotrace_shadow_distance_sum") > 0.01
    assert all(close_to(one, other) for one, other in zip(found, expected, strict=True))


async def test_a_share_of_no_session_is_followed(versions: list[Path]) -> None:
    with serving(versions[0], shadow=str(versions[1]), shadow_share=0.0) as server:
        await finals(server)
        assert not any(results(server).values())
        assert server.metric("emotrace_compute_seconds_total", work="shadow") == 0


class Stuck:
    """A backend whose shadow never answers, or fails."""

    def __init__(self, error: EngineError | None = None) -> None:
        self.error = error
        self.asked = 0

    def start(self, bundle: str) -> Any:
        return object()

    async def shadow(self, state: DialogueState, utterance: Utterance) -> Predicted:
        self.asked += 1
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError("never")


class Named:
    key = "toy"


def shadow_on(backend: Any, metrics: Metrics, *, busy: bool = False) -> Shadow:
    return Shadow(Named(), backend, metrics, lambda: busy)  # type: ignore[arg-type]


def counted(metrics: Metrics) -> dict[str, float]:
    name = "emotrace_shadow_utterances_total"
    found = {
        one: metrics.registry.get_sample_value(name, {"result": one}) for one in SHADOW_RESULTS
    }
    return {one: value for one, value in found.items() if value}


ESTIMATE = Estimate("joy", {"joy": 1.0})


async def test_a_shadow_that_is_too_slow_gives_the_session_up_once() -> None:
    backend, metrics = Stuck(), Metrics()
    shadow = shadow_on(backend, metrics)
    for index in range(3 * MOST_WAITING):
        shadow.follow(Utterance(index, "A", 0, 1, None), ESTIMATE)
        await asyncio.sleep(0)
    assert counted(metrics) == {"dropped": 1}
    assert backend.asked == 1
    for task in tuple(UNDER_WAY):
        task.cancel()


async def test_a_shadow_that_fails_gives_the_session_up() -> None:
    backend, metrics = Stuck(EngineError("the model failed")), Metrics()
    shadow = shadow_on(backend, metrics)
    for index in range(3):
        shadow.follow(Utterance(index, "A", 0, 1, None), ESTIMATE)
        await asyncio.sleep(0.01)
    assert counted(metrics) == {"failed": 1}
    assert backend.asked == 1


async def test_a_busy_server_has_no_time_for_it() -> None:
    backend, metrics = Stuck(), Metrics()
    shadow_on(backend, metrics, busy=True).follow(Utterance(0, "A", 0, 1, None), ESTIMATE)
    await asyncio.sleep(0)
    assert (backend.asked, counted(metrics)) == (0, {"dropped": 1})


def test_the_distance_of_probabilities() -> None:
    one = Estimate("joy", {"joy": 0.75, "anger": 0.25})
    assert distance(one, one) == 0
    assert distance(one, Estimate("anger", {"anger": 1.0, "joy": 0.0})) == pytest.approx(0.75)
