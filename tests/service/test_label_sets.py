"""One bundle under the label sets that it can be asked for, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from fakes import toy_bundle
from live import (
    DEMO,
    LiveServer,
    comparable,
    demo_pcm,
    live_server,
    pieces,
    post_file,
    stream,
    talk,
)

from emotrace_models.affect import read_affect
from emotrace_models.labels import SCHEMES
from emotrace_protocol.events import EmotionFinal, EmotionInterim, Event
from emotrace_protocol.messages import SessionStart

SEVEN, FOUR = SCHEMES["ekman7"].names, SCHEMES["common4"].names
SETS = {"ekman7": SEVEN, "common4": FOUR}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("bundles") / "seven"
    with live_server(toy_bundle(folder, scheme="ekman7", views=("common4",))) as running:
        yield running


def heard(server: LiveServer, labels: tuple[str, ...] | str | None) -> list[Event]:
    audio, pcm = demo_pcm(15.0)
    start = SessionStart(interim=False, audio=audio, labels=labels)
    return asyncio.run(stream(server, start, pieces(pcm)))[1]


def finals(events: list[Event]) -> list[EmotionFinal]:
    return [event for event in events if isinstance(event, EmotionFinal)]


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        (None, SEVEN),
        ("ekman7", SEVEN),
        (tuple(reversed(SEVEN)), SEVEN),
        ("common4", FOUR),
        (("sadness", "neutral", "happiness", "anger"), FOUR),
    ],
)
async def test_a_session_starts_with_the_label_set_it_asks_for(
    server: LiveServer, labels: tuple[str, ...] | str | None, got: tuple[str, ...]
) -> None:
    started, _, _ = await stream(server, SessionStart(labels=labels), ())
    assert started.labels == got
    assert started.label_sets == SETS
    assert started.decoder.shift_probability == (0.3 if got == FOUR else 0.4)


@pytest.mark.parametrize("labels", [("anger", "neutral"), (), "anger", "iemocap6", ""])
async def test_another_label_set_is_refused_and_all_are_named(
    server: LiveServer, labels: tuple[str, ...] | str
) -> None:
    async with talk(server) as client:
        await client.say(SessionStart(labels=labels))
        assert await client.closed() == 4422
    (failed,) = client.of("error")
    assert (failed.code, failed.param) == ("labels_mismatch", "labels")
    for scheme, names in SETS.items():
        assert f"{scheme} ({', '.join(names)})" in failed.message


def test_a_view_has_the_same_reasons_for_fewer_labels(server: LiveServer) -> None:
    whole, part = finals(heard(server, None)), finals(heard(server, FOUR))
    assert len(whole) == len(part) >= 3
    for seven, four in zip(whole, part, strict=True):
        assert tuple(four.posterior) == tuple(four.decoder.posterior) == FOUR
        assert tuple(seven.posterior) == SEVEN
        assert {four.label, four.decoder.label, four.decoder.runner_up} <= set(FOUR)
        for name in FOUR:
            logit = four.explanation.logits[name]
            assert logit == pytest.approx(seven.explanation.logits[name], abs=1e-4)
            why = four.explanation
            parts = [slot.logits[name] for slot in why.contributions]
            assert all(tuple(slot.logits) == FOUR for slot in why.contributions)
            assert sum(parts) + why.bias[name] == pytest.approx(logit, abs=1e-4)
        sharpened = np.exp(np.array(list(four.explanation.logits.values())) / 2.0)
        assert list(four.posterior.values()) == pytest.approx(sharpened / sharpened.sum())
        assert four.abstained, "a view has a threshold of its own"
    assert not all(one.abstained for one in whole)


@pytest.mark.parametrize("labels", [None, "common4"])
def test_every_estimate_has_its_affect_and_says_that_it_is_derived(
    server: LiveServer, labels: str | None
) -> None:
    estimates = finals(heard(server, labels))
    assert estimates
    for estimate in estimates:
        expected = read_affect(estimate.posterior)
        assert estimate.affect is not None
        assert expected is not None
        assert estimate.affect.derived_from == "labels"
        assert estimate.affect.valence == pytest.approx(expected.valence, abs=1e-12)
        assert estimate.affect.arousal == pytest.approx(expected.arousal, abs=1e-12)


async def test_an_estimate_in_mid_utterance_is_of_the_view_too(server: LiveServer) -> None:
    audio, pcm = demo_pcm(4.0)
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio, labels="common4"))
        await client.until("session.started")
        hearing = asyncio.create_task(client.until("emotion.interim"))
        for piece in pieces(pcm, 12_800):  # 0.2 s, at half the pace of time: nothing is behind
            await client.say(piece)
            await asyncio.wait({hearing}, timeout=0.4)
            if hearing.done():
                break
        estimate = await hearing
    assert isinstance(estimate, EmotionInterim)
    assert tuple(estimate.posterior) == FOUR
    expected = read_affect(estimate.posterior)
    assert estimate.affect is not None
    assert expected is not None
    assert estimate.affect.valence == pytest.approx(expected.valence, abs=1e-12)


async def test_sessions_of_both_label_sets_run_at_once_and_alone_alike(server: LiveServer) -> None:
    audio, pcm = demo_pcm(9.0)

    async def session(labels: str) -> list[EmotionFinal]:
        start = SessionStart(interim=False, audio=audio, labels=labels)
        return finals((await stream(server, start, pieces(pcm)))[1])

    alone = [await session(labels) for labels in SETS]
    together = await asyncio.gather(*map(session, SETS))
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other) >= 2
        for a, b in zip(one, other, strict=True):
            assert list(a.posterior.values()) == pytest.approx(list(b.posterior.values()), abs=1e-5)


@pytest.mark.parametrize("labels", ["common4", list(FOUR)])
def test_a_file_is_analysed_under_the_label_set_asked_for(
    server: LiveServer, labels: list[str] | str
) -> None:
    report = post_file(server, DEMO.read_bytes(), {"labels": labels}).json()
    assert report["labels"] == list(FOUR)
    assert {scheme: tuple(names) for scheme, names in report["label_sets"].items()} == SETS
    for one in report["utterances"]:
        assert set(one["posterior"]) == set(FOUR)
        assert one["label"] in FOUR
        assert one["rejected"] is None
        assert one["affect"]["derived_from"] == "labels"


def test_a_file_gives_what_a_stream_gives_under_a_view(server: LiveServer) -> None:
    audio, pcm = demo_pcm()
    start = SessionStart(interim=False, audio=audio, labels="common4")
    live = comparable(asyncio.run(stream(server, start, pieces(pcm)))[1])
    filed = post_file(server, DEMO.read_bytes(), {"labels": "common4"}).json()["events"]

    def shares(events: list[dict[str, Any]]) -> list[float]:
        found = [event["posterior"] for event in events if event["type"] == "emotion.final"]
        return [share for one in found for share in one.values()]

    assert shares(live) == pytest.approx(shares(filed), abs=1e-5)


def test_a_file_under_another_label_set_is_refused(server: LiveServer) -> None:
    answer = post_file(server, DEMO.read_bytes(), {"labels": "iemocap6"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "labels_mismatch")
    assert "common4 (anger, happiness, neutral, sadness)" in error["message"]


def test_the_models_are_listed_with_their_label_sets(server: LiveServer) -> None:
    (model,) = httpx.get(f"{server.url}/v1/models").json()["models"]
    assert tuple(model["labels"]) == SEVEN
    assert {scheme: tuple(names) for scheme, names in model["label_sets"].items()} == SETS
