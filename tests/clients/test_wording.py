"""Events in words: true, short, and harmless to a terminal."""

from __future__ import annotations

from typing import get_args

import pytest
from scripted_server import final, slot

from emotrace_clients import wording
from emotrace_protocol.errors import DoubtCode
from emotrace_protocol.estimates import Affect, DecoderResult, Explanation
from emotrace_protocol.events import (
    EmotionFinal,
    SpeechRejected,
    Totals,
)


def explained(*slots: object, utterance: int = 3) -> EmotionFinal:
    return final(
        utterance,
        "Ann",
        explanation=Explanation(
            contributions=slots,  # type: ignore[arg-type]
            bias={"anger": 0.0, "happiness": 0.0},
            logits={"anger": 1.0, "happiness": -1.0},
        ),
    )


def test_the_strongest_slot_is_the_reason() -> None:
    event = explained(
        slot(3, "Ann", 0.2),
        slot(2, "Ben", 0.8, role="interlocutor"),
        slot(None, None, 9.9, offset=2),
    )
    assert wording.why(event) == "Ben's voice one utterance earlier spoke for anger (+0.8)"


@pytest.mark.parametrize(
    ("utterance", "modality", "said"),
    [
        (3, "acoustic", "Ann's voice spoke"),
        (1, "lexical", "Ann's words 2 utterances earlier spoke"),
        (0, "facial", "Ann's face 3 utterances earlier spoke"),
    ],
)
def test_where_and_what_is_said(utterance: int, modality: str, said: str) -> None:
    assert wording.why(explained(slot(utterance, "Ann", 1.0, modality=modality))).startswith(said)


def test_where_nothing_spoke_for_it_that_is_said() -> None:
    assert wording.why(explained(slot(3, "Ann", -0.5))).startswith("nothing heard spoke for anger")
    assert wording.why(explained()).startswith("nothing heard")


def test_a_share_that_all_labels_get_is_no_reason() -> None:
    contribution = slot(3, "Ann", 0.5).model_copy(update={"logits": {"anger": 5.5, "joy": 4.5}})
    assert wording.weight(contribution, "anger") == pytest.approx(0.5)


@pytest.mark.parametrize(("ms", "told"), [(0, "0:00.0"), (65_449, "1:05.4"), (600_000, "10:00.0")])
def test_positions_in_the_audio(ms: int, told: str) -> None:
    assert wording.clock(ms) == told


@pytest.mark.parametrize(
    ("share", "told"), [(0.0, "░░░░"), (0.5, "██░░"), (1.0, "████"), (1.7, "████")]
)
def test_bars(share: float, told: str) -> None:
    assert wording.bar(share, 4) == told


@pytest.mark.parametrize("hostile", ["\x1b[2Jgone", "a\nb", "\u202egnp.exe", "\x07", "\x9b31m"])
def test_nothing_from_outside_steers_the_terminal(hostile: str) -> None:
    shown = wording.printable(hostile)
    assert len(shown) == len(hostile)
    assert shown.isprintable()


def test_abstaining_and_missing_senses_are_said() -> None:
    event = final(abstained=True)
    assert wording.emotion(event) == "unsure (anger?)"
    assert wording.basis(event) == "without words"
    assert wording.basis(final(missing=())) == ""


def test_doubts_are_said_and_those_of_a_newer_server_too() -> None:
    known = final(doubts=("low_confidence", "noise", "narrow_band"))
    assert wording.doubts(known) == "doubtful: noisy, telephone sound"
    assert wording.doubts(final(doubts=("wind_\x1b[2J",))).endswith(
        "wind \N{REPLACEMENT CHARACTER}[2J"
    )
    assert wording.doubts(final(doubts=("low_confidence",))) == ""
    assert wording.doubts(final()) == ""


def test_every_doubt_has_words() -> None:
    assert set(wording.DOUBTS) | {DoubtCode.LOW_CONFIDENCE} == set(DoubtCode)


def test_every_reason_of_a_rejection_has_words() -> None:
    reasons = get_args(SpeechRejected.model_fields["reason"].annotation)
    assert set(wording.NO_SPEECH) == set(reasons)
    event = SpeechRejected(
        sequence=1, utterance=0, speaker="A\n", start_ms=500, end_ms=1_500, reason="music"
    )
    assert wording.rejected(event) == (
        "0:00.5-0:01.5  A\N{REPLACEMENT CHARACTER}  no estimate: music or tones, not speech"
    )


def test_affect_is_two_numbers_or_nothing() -> None:
    told = wording.affect(final(affect=Affect(valence=-0.44, arousal=0.0)))
    assert told == "valence -0.4 arousal +0.0"
    assert wording.affect(final()) == ""


def test_the_decoders_label_is_said() -> None:
    decoder = DecoderResult(
        label="happiness",
        posterior={"anger": 0.4, "happiness": 0.6},
        emission=1.0,
        shift=0.1,
        assignment=0.1,
        runner_up=None,
        gap=None,
    )
    assert wording.dialogue(final(decoder=decoder)) == "in dialogue: happiness"
    assert wording.dialogue(final()) == "", "it is the label that is told already"


def test_totals_in_sentences() -> None:
    totals = Totals(
        audio_ms=2_500,
        audio_bytes=80_000,
        messages=3,
        utterances=5,
        finals=2,
        revisions=1,
        rejected=2,
        failed=1,
        events=9,
    )
    told = " ".join(wording.closing(totals, "going_away"))
    assert "2.5 s of sound, 5 utterances, 2 estimates, 1 revision;" in told
    assert "What was no speech has no estimate: 2 utterances." in told
    assert "An error left 1 utterance without estimate" in told
    assert "going away" in told
    assert "No speech was found" not in told
    noise = totals.model_copy(update={"utterances": 2, "finals": 0, "failed": 0})
    assert "No speech was found in the sound." in wording.closing(noise, "client")
    silence = noise.model_copy(update={"utterances": 0, "rejected": 0})
    assert "No speech was found in the sound." in wording.closing(silence, "client")
