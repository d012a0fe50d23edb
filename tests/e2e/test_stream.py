"""Live dialogues against a real server: what is promised of the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import (
    LiveServer,
    close_to,
    comparable,
    demo_pcm,
    live_server,
    pieces,
    settled,
    silence,
    stream,
    talk,
)

from emotrace_protocol import ClientConversation
from emotrace_protocol.events import EmotionFinal, EmotionRevised
from emotrace_protocol.messages import (
    Marker,
    SessionEnd,
    SessionStart,
    Transcription,
    UtteranceText,
)


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[LiveServer]:
    with live_server(toy) as running:
        yield running


def quiet(**fields: object) -> SessionStart:
    """A session without interim estimates, which come when there is time for them."""
    return SessionStart(**{"interim": False, **fields})


async def test_both_speakers_of_a_dialogue_get_finals_with_reasons_that_add_up(
    server: LiveServer,
) -> None:
    audio, pcm = demo_pcm()
    start = quiet(audio=audio, speakers=("Ada", "Bob"))
    started, heard, ended = await stream(server, start, pieces(pcm))
    finals = [event for event in heard if isinstance(event, EmotionFinal)]
    assert {final.speaker for final in finals} == {"Ada", "Bob"}
    assert len(finals) == ended.totals.finals == ended.totals.utterances >= 6
    assert ended.totals.audio_bytes == len(pcm)
    for final in finals:
        assert set(final.posterior) == set(started.labels)
        assert sum(final.posterior.values()) == pytest.approx(1, abs=1e-6)
        assert sum(final.decoder.posterior.values()) == pytest.approx(1, abs=1e-6)
        assert final.label == max(final.posterior, key=final.posterior.__getitem__)
        for label in started.labels:
            parts = sum(one.logits[label] for one in final.explanation.contributions)
            total = parts + final.explanation.bias[label]
            assert total == pytest.approx(final.explanation.logits[label], abs=1e-5)
        assert final.timings.lag_ms > 0


async def test_every_event_is_in_order_and_the_totals_are_exact(server: LiveServer) -> None:
    audio, pcm = demo_pcm()
    start = quiet(audio=audio)
    _, heard, _ = await stream(server, start, pieces(pcm))
    conversation = ClientConversation()
    conversation.send(start)
    for event in heard:
        conversation.receive(event)  # raises where numbers have gaps or totals differ


async def test_revisions_follow_the_final_that_caused_them_and_name_an_earlier_utterance(
    server: LiveServer,
) -> None:
    audio, pcm = demo_pcm()
    _, heard, ended = await stream(server, quiet(audio=audio), pieces(pcm))
    labels: dict[int, str] = {}
    newest = -1
    for event in heard:
        if isinstance(event, EmotionFinal):
            newest = event.utterance
            labels[newest] = event.decoder.label
        elif isinstance(event, EmotionRevised):
            assert event.cause == newest
            assert labels[event.utterance] == event.previous != event.label
            labels[event.utterance] = event.label
    assert ended.totals.revisions > 0, "the demo dialogue should make the decoder change its mind"


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=12))
def test_no_cut_of_the_bytes_changes_any_event(server: LiveServer, sizes: list[int]) -> None:
    audio, pcm = demo_pcm(9.0)
    chunks, at, turn = [], 0, 0
    while at < len(pcm):
        size = max(sizes[turn % len(sizes)], 400)  # thousands of messages would test the clock
        chunks.append(pcm[at : at + size])
        at, turn = at + size, turn + 1
    start = quiet(audio=audio)
    whole = asyncio.run(stream(server, start, pieces(pcm)))[1]
    cut = asyncio.run(stream(server, start, chunks))[1]
    without_counts = [comparable(whole), comparable(cut)]
    for events in without_counts:
        events[-1]["totals"].pop("messages")
    assert without_counts[0] == without_counts[1]


async def test_a_session_gives_the_same_alone_and_among_others(server: LiveServer) -> None:
    audio, pcm = demo_pcm(12.0)
    start = quiet(audio=audio)
    alone = comparable((await stream(server, start, pieces(pcm)))[1])
    together = await asyncio.gather(*(stream(server, start, pieces(pcm)) for _ in range(5)))
    for _, heard, _ in together:
        assert close_to(comparable(heard), alone)


async def test_two_sessions_know_nothing_of_each_other(server: LiveServer) -> None:
    audio, pcm = demo_pcm(9.0)
    mono, other = demo_pcm(9.0, channel=1)
    first, second = await asyncio.gather(
        stream(server, quiet(audio=audio), pieces(pcm)),
        stream(server, quiet(audio=mono, speakers=("solo",)), pieces(other)),
    )
    alone = await stream(server, quiet(audio=mono, speakers=("solo",)), pieces(other))
    assert close_to(comparable(second[1]), comparable(alone[1]))
    assert first[0].session != second[0].session


async def test_a_client_that_vanishes_leaves_nothing_behind(server: LiveServer) -> None:
    audio, pcm = demo_pcm(9.0)
    assert await settled(server)
    vanished = server.metric("emotrace_session_ends_total", reason="vanished")
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio))
        await client.until("session.started")
        assert server.metric("emotrace_sessions") == 1
        await client.say(*pieces(pcm))
        await client.until("speech.started")
        client.socket.transport.abort()
    assert await settled(server)
    assert server.metric("emotrace_session_ends_total", reason="vanished") == vanished + 1


async def test_interim_estimates_come_while_somebody_speaks(server: LiveServer) -> None:
    audio, pcm = demo_pcm(2.2)
    async with talk(server) as client:
        await client.say(SessionStart(audio=audio))
        await client.until("session.started")
        await client.say(*pieces(pcm), Marker(id="so far"))
        await client.until("marker.reached")
        (interim,) = client.of("emotion.interim")
        assert not client.of("emotion.final")
        assert interim.speaker == "A"
        assert sum(interim.posterior.values()) == pytest.approx(1, abs=1e-6)
        await client.say(SessionEnd())
        await client.closed()
    assert client.of("emotion.final")[0].utterance == interim.utterance


async def test_a_marker_comes_back_after_all_that_was_sent_before_it(server: LiveServer) -> None:
    audio, pcm = demo_pcm(9.0)
    async with talk(server) as client:
        await client.say(quiet(audio=audio), pcm[:160_000], Marker(id="one"), pcm[160_000:])
        await client.say(Marker(id="two"), SessionEnd())
        await client.closed()
    kinds = [getattr(event, "id", event.type) for event in client.heard]
    assert kinds.index("one") < kinds.index("two") == len(kinds) - kinds[::-1].index("two") - 1
    heard_ms = {marker.id: marker.audio_ms for marker in client.of("marker.reached")}
    assert heard_ms["one"] == pytest.approx(160_000 / 4 / 16, abs=32)
    assert "emotion.final" in kinds[: kinds.index("two")]


async def test_the_clients_words_are_waited_for_and_used(server: LiveServer) -> None:
    audio, pcm = demo_pcm(4.0, channel=0)
    start = quiet(audio=audio, transcription=Transcription.CLIENT)
    async with talk(server) as client:
        await client.say(start)
        await client.until("session.started")
        await client.say(*pieces(pcm), silence(1.0))
        ended = await client.until("speech.ended")
        await client.say(UtteranceText(text="i am so happy", utterance=ended.utterance))
        transcript = await client.until("transcript.final")
        final = await client.until("emotion.final")
        await client.say(SessionEnd())
        assert await client.closed() == 1000
    assert (transcript.text, transcript.source) == ("i am so happy", "client")
    assert final.modalities == ("acoustic", "lexical")
    assert final.missing == ()


async def test_a_turn_without_audio_is_judged_by_its_words(server: LiveServer) -> None:
    async with talk(server) as client:
        await client.say(quiet())
        await client.until("session.started")
        await client.say(
            silence(1.0), UtteranceText(text="this is a sad day", speaker="bot"), SessionEnd()
        )
        assert await client.closed() == 1000
    final, ended = client.heard[-2:]
    assert isinstance(final, EmotionFinal)
    assert (final.speaker, final.modalities) == ("bot", ("lexical",))
    assert final.start_ms == final.end_ms == 992
    assert ended.totals.utterances == ended.totals.finals == 1
