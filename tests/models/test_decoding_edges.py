"""The decoder's edges: one turn, unknown speakers, long dialogues, and what it refuses."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from emotrace_models.decoding import (
    Beam,
    DecoderConfig,
    EmotionDecoder,
    Transition,
    decode_dialogue,
    estimate_p0,
    log_softmax,
    revisions,
)


def advanced(decoder: EmotionDecoder, speakers: list[str | None], seed: int = 1) -> Beam:
    noise = np.random.default_rng(seed)
    beam = decoder.start()
    for speaker in speakers:
        beam = decoder.advance(beam, speaker, log_softmax(noise.normal(size=decoder.classes)))
    return beam


@pytest.mark.parametrize("commit", [False, True])
@pytest.mark.parametrize("lag", [0, 2])
def test_12_3_a_dialogue_of_one_turn_is_decided_by_its_emission(lag: int, commit: bool) -> None:
    scores = np.log([[0.2, 0.5, 0.3]])
    config = DecoderConfig(p0=0.4, lag=lag, commit=commit)
    decoded = decode_dialogue(["A"], scores, config)
    assert decoded.labels == decoded.emitted == (1,)
    assert decode_dialogue(["A"], scores, DecoderConfig(p0=0.4, lag=None), passes=2).labels == (1,)
    decoder = EmotionDecoder(3, config)
    decision = decoder.decide(decoder.advance(decoder.start(), "A", scores[0]))
    if commit and lag == 0:  # the label is final, so nothing else is left in the beam
        assert (decision.posterior.tolist(), decision.runner_up) == ([0.0, 1.0, 0.0], None)
        return
    assert decision.posterior == pytest.approx(np.exp(scores[0]))
    assert decision.runner_up == 2
    assert decision.gap == pytest.approx(np.log(0.5 / 0.3))


def test_no_turn_yet() -> None:
    decoder = EmotionDecoder(3, DecoderConfig(p0=0.4))
    beam = decoder.start()
    assert decoder.labels(beam) == ()
    assert decoder.settle(beam) is None
    assert decoder.flush(beam) == ()
    with pytest.raises(LookupError, match="turn -1 is not kept"):
        decoder.decide(beam)


def test_12_3_an_unknown_speaker_is_somebody_new_each_time() -> None:
    names = [f"nobody-{i}" for i in range(12)]
    scores = np.random.default_rng(0).normal(size=(12, 4))
    config = DecoderConfig(p0=0.2, lag=None)
    anonymous = decode_dialogue([None] * 12, scores, config)
    assert anonymous == decode_dialogue(names, scores, config)
    # A speaker's first turn is decided by the emission alone.
    assert anonymous.labels == tuple(scores.argmax(axis=1))


def test_12_3_unknown_speakers_leave_nothing_behind() -> None:
    beam = advanced(EmotionDecoder(4, DecoderConfig(p0=0.3)), ["A", None, "B_2", None, "A"])
    assert beam.speakers == ("A", "B_2")
    assert all(len(h.last) == 2 for h in beam.hypotheses)


def test_a_beam_does_not_grow_with_the_dialogue() -> None:
    decoder = EmotionDecoder(4, DecoderConfig(p0=0.4, horizon=16))
    speakers: list[str | None] = ["A", "B", None] * 40

    def size(turns: int) -> int:
        text = json.dumps(advanced(decoder, (speakers * 30)[:turns]).state())
        return len(re.sub(r"-?\d+\.\d+|\b\d+\b", "#", text))  # a number is one value, however long

    assert size(3000) == size(300)


def test_old_turns_are_frozen() -> None:
    decoder = EmotionDecoder(4, DecoderConfig(p0=0.4, horizon=8))
    beam = advanced(decoder, ["A", "B"] * 10)
    assert (beam.first_turn, len(decoder.labels(beam))) == (12, 8)
    with pytest.raises(LookupError, match="turn 11 is not kept; turns 12 to 19 are"):
        beam.posterior(11)
    assert revisions(advanced(decoder, ["A"]), beam) == ()
    with pytest.raises(ValueError, match="does not follow"):
        revisions(beam, decoder.start())


@pytest.mark.parametrize(("settings", "message"), [
    ({"p0": 0.0}, "p0 is a probability"),
    ({"p0": 1.0}, "p0 is a probability"),
    ({"p0": float("nan")}, "p0 is a probability"),
    ({"alpha": 0.0}, "alpha is a positive number"),
    ({"alpha": float("inf")}, "alpha is a positive number"),
    ({"beam": 0}, "beam is an integer of at least 1"),
    ({"beam": 2.5}, "beam is an integer of at least 1"),
    ({"horizon": 0}, "horizon is an integer of at least 1"),
    ({"lag": -1}, "lag -1 is not between 0 and the horizon"),
    ({"lag": 128}, "lag 128 is not between 0 and the horizon"),
    ({"commit": True, "lag": None}, "commit needs a lag"),
])  # fmt: skip
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DecoderConfig(**{"p0": 0.4, **settings})


@pytest.mark.parametrize("classes", [0, 257])
def test_number_of_classes(classes: int) -> None:
    with pytest.raises(ValueError, match="1 to 256 classes"):
        EmotionDecoder(classes, DecoderConfig(p0=0.4))


@pytest.mark.parametrize("scores", [
    [0.0, 0.0], [[0.0, 0.0, 0.0]], [0.0, float("nan"), 0.0], [0.0, float("-inf"), 0.0],
])  # fmt: skip
def test_scores_that_are_refused(scores: list[Any]) -> None:
    decoder = EmotionDecoder(3, DecoderConfig(p0=0.4))
    with pytest.raises(ValueError, match=r"scores of shape|must be finite"):
        decoder.advance(decoder.start(), "A", scores)
    with pytest.raises(ValueError, match="beam of 2 classes"):
        decoder.advance(EmotionDecoder(2, DecoderConfig(p0=0.4)).start(), "A", np.zeros(3))


def test_offline_arguments_that_do_not_fit() -> None:
    scores = np.zeros((3, 4))
    with pytest.raises(ValueError, match="2 speakers do not fit"):
        decode_dialogue(["A", "B"], scores, DecoderConfig(p0=0.4))
    with pytest.raises(ValueError, match="0 speakers do not fit"):
        decode_dialogue([], np.zeros((0, 4)), DecoderConfig(p0=0.4))
    with pytest.raises(ValueError, match="passes is at least 1"):
        decode_dialogue("ABA", scores, DecoderConfig(p0=0.4), passes=0)
    with pytest.raises(ValueError, match="a second pass has no lag"):
        decode_dialogue("ABA", scores, DecoderConfig(p0=0.4, lag=2), passes=2)
    with pytest.raises(ValueError, match="temperature"):
        DecoderConfig(p0=0.4, temperature=0.0)


def test_a_flatter_classifier_leaves_more_to_the_prior() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    scores = log_softmax(logits)
    flat, sharp = DecoderConfig(p0=0.1), DecoderConfig(p0=0.1, temperature=0.25)
    assert decode_dialogue("AAA", scores, flat).labels == (0, 0, 0)
    assert decode_dialogue("AAA", scores, sharp).labels == (0, 1, 0)
    np.testing.assert_array_equal(
        decode_dialogue("AAA", scores, sharp).cost, decode_dialogue("AAA", scores * 4, flat).cost
    )


BEAM_STATE = advanced(EmotionDecoder(2, DecoderConfig(p0=0.4, beam=2)), ["A", "B"]).state()
FIRST, SECOND = BEAM_STATE["hypotheses"]


@pytest.mark.parametrize("change", [
    {"turns": "two"},
    {"turns": 1},
    {"speakers": ["A"]},
    {"speakers": ["A", "A"]},
    {"hypotheses": []},
    {"hypotheses": [SECOND, FIRST]},
    {"hypotheses": [FIRST[:4]]},
    {"hypotheses": [[float("nan"), *FIRST[1:]]]},
    {"hypotheses": [[FIRST[0], [1, -1], *FIRST[2:]]]},
    {"hypotheses": [[*FIRST[:3], "0002", FIRST[4]]]},
    {"hypotheses": [[*FIRST[:3], "zz", FIRST[4]]]},
])  # fmt: skip
def test_a_state_that_is_not_one(change: dict[str, Any]) -> None:
    assert Beam.from_state(BEAM_STATE).state() == BEAM_STATE
    with pytest.raises(ValueError, match="not the state of a beam"):
        Beam.from_state({**BEAM_STATE, **change})


def test_costs_and_their_split_agree() -> None:
    transition = Transition(0.3, 0.7)
    for counts in ((0, 0, 0), (2, 0, 1), (1, 4, 2)):
        for last in (None, *(k for k, n in enumerate(counts) if n)):
            costs = transition.costs(counts, last)
            splits = [sum(transition.split(counts, last, k)) for k in range(3)]
            assert costs == pytest.approx(splits)


def test_shift_probability_counts_pairs_of_the_same_speaker() -> None:
    # A: n n h (2 pairs, 1 change); B: s s s (2 pairs); the stranger counts nowhere.
    dialogue = [("A", "n"), ("B", "s"), (None, "x"), ("A", "n"), ("B", "s"), (None, "y"),
                ("A", "h"), ("B", "s")]  # fmt: skip
    assert estimate_p0([dialogue]) == (1 + 1) / 4
    assert estimate_p0([dialogue, dialogue]) == (2 + 1) / 8  # speakers do not cross dialogues
    with pytest.raises(ValueError, match="0 pairs of turns"):
        estimate_p0([[("A", 1), ("B", 2)]])
    with pytest.raises(ValueError, match="choose p0 by hand"):
        estimate_p0([[("A", 1), ("A", 2), ("A", 1)]])
