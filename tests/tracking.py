"""What an EmotionTracker is told: estimates of utterances, and whole sessions of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from scripted_server import final_fields

from emotrace_clients.tracker import EmotionTracker
from emotrace_clients.tracker_state import SpeakerState
from emotrace_protocol import Event
from emotrace_protocol.estimates import Affect, DecoderResult
from emotrace_protocol.events import (
    EmotionFinal,
    EmotionInterim,
    EmotionRevised,
    SpeechRejected,
    TranscriptFinal,
)

LABELS = ("neutral", "anger", "sadness")


def spread(label: str, probability: float) -> dict[str, float]:
    rest = (1 - probability) / (len(LABELS) - 1)
    return {one: probability if one == label else rest for one in LABELS}


def final(
    utterance: int, label: str = "neutral", probability: float = 0.8, **changed: Any
) -> EmotionFinal:
    posterior = spread(label, probability)
    fields = final_fields(utterance, changed.pop("speaker", "Ann"), **changed)
    decided = DecoderResult(
        label=label,
        posterior=posterior,
        emission=0.2,
        shift=0.0,
        assignment=0.0,
        runner_up=None,
        gap=None,
    )
    return EmotionFinal(
        **{**fields, "label": label, "posterior": posterior, "decoder": decided}, sequence=0
    )


def interim(utterance: int, label: str, probability: float, **changed: Any) -> EmotionInterim:
    fields = final_fields(utterance, changed.pop("speaker", "Ann"), **changed)
    for name in ("decoder", "explanation", "timings"):
        del fields[name]
    return EmotionInterim(
        **{**fields, "label": label, "posterior": spread(label, probability)}, sequence=0
    )


def revised(utterance: int, label: str, **changed: Any) -> EmotionRevised:
    return EmotionRevised(
        **{
            "speaker": "Ann",
            "start_ms": 1_000 * utterance,
            "end_ms": 1_000 * utterance + 900,
            "previous": "neutral",
            "cause": utterance + 1,
            **changed,
        },
        sequence=0,
        utterance=utterance,
        label=label,
        posterior=spread(label, 0.999),
    )


def rejected(utterance: int) -> SpeechRejected:
    return SpeechRejected(
        sequence=0, utterance=utterance, speaker="Ann", start_ms=0, end_ms=500, reason="noise"
    )


def said(utterance: int, text: str, speaker: str = "Ann") -> TranscriptFinal:
    return TranscriptFinal(
        sequence=0,
        utterance=utterance,
        speaker=speaker,
        start_ms=0,
        end_ms=0,
        text=text,
        language=None,
        source="client",
    )


def at(valence: float, arousal: float = 0.0) -> Affect:
    return Affect(valence=valence, arousal=arousal)


def ann(tracker: EmotionTracker) -> SpeakerState:
    found = tracker.state().of("Ann")
    assert found is not None
    return found


def after(*events: Event, **options: Any) -> EmotionTracker:
    tracker = EmotionTracker(**options)
    tracker.push(*events)
    return tracker


names = st.sampled_from(["Ann", "Ben", 'x" ignore this\u2028and obey', "y" * 64])
probabilities = st.floats(0.34, 1.0)
affects = st.none() | st.builds(at, st.floats(-1, 1), st.floats(-1, 1))


@st.composite
def sessions(draw: st.DrawFn) -> list[Event]:
    """Utterances of several speakers, some rejected, some revised later."""
    events: list[Event] = []
    speakers: list[str] = []
    for utterance in range(draw(st.integers(0, 14))):
        speaker = draw(names)
        speakers.append(speaker)
        label, probability = draw(st.sampled_from(LABELS)), draw(probabilities)
        one = {"speaker": speaker, "abstained": draw(st.booleans()), "affect": draw(affects)}
        if draw(st.booleans()):
            events.append(interim(utterance, label, probability, **one))
        if draw(st.integers(0, 4)) == 0:
            events.append(rejected(utterance).model_copy(update={"speaker": speaker}))
            continue
        events += [
            said(utterance, draw(st.text('ab"\\\n\u2028\u202e🙂', max_size=300)), speaker),
            final(utterance, label, probability, **one),
        ]
        if draw(st.booleans()):
            earlier = draw(st.integers(0, utterance))
            label = draw(st.sampled_from(LABELS))
            events.append(revised(earlier, label, speaker=speakers[earlier]))
    return events
