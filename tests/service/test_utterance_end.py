"""utterance.end: the client says where an utterance ends."""

from __future__ import annotations

from doubles import QUIET, Stage, silence, speech

from emotrace_protocol.messages import Marker, SessionEnd, UtteranceEnd

WHOLE_FRAMES_S = 0.992  # a cut is made after whole frames of 32 ms


async def test_an_utterance_ends_there_as_it_would_at_the_end_of_the_session(stage: Stage) -> None:
    said = speech(WHOLE_FRAMES_S)
    ended = await stage.play(QUIET, said, SessionEnd())
    cut = await stage.play(QUIET, said, UtteranceEnd(), SessionEnd())
    (one,), (other,) = ended.of("emotion.final"), cut.of("emotion.final")
    assert one.posterior == other.posterior
    assert (one.start_ms, one.end_ms) == (other.start_ms, other.end_ms)
    assert cut.heard[-1].totals.messages == 4


async def test_who_goes_on_speaking_begins_another_that_shares_no_sound(stage: Stage) -> None:
    socket = await stage.play(
        QUIET, speech(1.0), UtteranceEnd(), speech(1.0), silence(0.8), SessionEnd()
    )
    first, second = socket.of("emotion.final")
    assert (first.utterance, second.utterance) == (0, 1)
    assert first.end_ms <= second.start_ms
    reasons = [event.reason for event in socket.of("speech.ended")]
    assert reasons == ["end_of_audio", "silence"]


async def test_sound_after_a_cut_may_begin_within_what_was_heard(stage: Stage) -> None:
    parts = (speech(1.0), silence(0.3), UtteranceEnd(), speech(1.0), silence(0.8))
    socket = await stage.play(QUIET, *parts, SessionEnd())
    first, second = socket.of("emotion.final")
    assert first.end_ms <= second.start_ms < 1_300


async def test_where_nobody_speaks_it_does_nothing(stage: Stage) -> None:
    socket = await stage.play(QUIET, UtteranceEnd(), silence(1.0), UtteranceEnd(), SessionEnd())
    assert socket.types == ["session.started", "session.ended"]


async def test_its_estimate_comes_before_what_follows(stage: Stage) -> None:
    socket = await stage.play(QUIET, speech(1.0), UtteranceEnd(), Marker(id="x"), SessionEnd())
    assert socket.types.index("emotion.final") < socket.types.index("marker.reached")
