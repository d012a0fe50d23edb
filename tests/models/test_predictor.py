"""The single door: values in, values out, the same alone and in a batch."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import DialogueState, NothingToHear, Outcome, Predictor
from emotrace_models.types import Modality, Transcript, Utterance


@pytest.fixture(scope="module")
def predictor(toy: Path) -> Predictor:
    return Predictor(Bundle.load(toy))


def utterance(
    index: int, speaker: str, seconds: float | None, text: str | None = None
) -> Utterance:
    rng = np.random.default_rng(index)
    samples = None
    if seconds is not None:
        samples = rng.normal(0, 0.1, int(16_000 * seconds)).astype(np.float32)
    return Utterance(
        index=index,
        speaker=speaker,
        start_sample=index * 48_000,
        end_sample=index * 48_000 + (0 if samples is None else len(samples)),
        samples=samples,
        transcript=None if text is None else Transcript(text, "client"),
    )


DIALOGUE = (
    utterance(0, "A", 1.3, "hello there"),
    utterance(1, "B", 0.4),
    utterance(2, "B", None, "and again without a voice"),
    utterance(3, "A", 2.1, "so happy"),
    utterance(4, "C", 0.7, "who are you"),
)


def play(predictor: Predictor) -> list[tuple[DialogueState, Outcome]]:
    state, results = predictor.start(), []
    for item in DIALOGUE:
        state, outcome = predictor.predict([(state, item)])[0]
        results.append((state, outcome))
    return results


def test_a_posterior_is_a_distribution_and_the_explanation_sums_to_the_logits(
    predictor: Predictor,
) -> None:
    for _, outcome in play(predictor):
        prediction = outcome.prediction
        assert prediction.posterior.sum() == pytest.approx(1, abs=1e-12)
        assert prediction.confidence == prediction.posterior.max()
        reasons = prediction.explanation
        total = reasons.contributions.sum(axis=0) + reasons.bias
        np.testing.assert_allclose(total, prediction.logits, atol=1e-5)


def test_what_was_used_and_what_was_missing_is_said(predictor: Predictor) -> None:
    used = [outcome.prediction.used for _, outcome in play(predictor)]
    both = (Modality.ACOUSTIC, Modality.LEXICAL)
    assert used == [both, (Modality.ACOUSTIC,), (Modality.LEXICAL,), both, both]


def test_slots_name_the_utterances_of_the_context(predictor: Predictor) -> None:
    _, outcome = play(predictor)[3]
    slots = [
        (s.offset, str(s.role), str(s.modality), s.features and s.features.index)
        for s in outcome.prediction.explanation.slots
    ]
    assert slots == [
        (0, "self", "acoustic", 3),
        (0, "self", "lexical", 3),
        (0, "interlocutor", "acoustic", 2),
        (0, "interlocutor", "lexical", 2),
        (1, "self", "acoustic", 2),
        (1, "self", "lexical", 2),
        (1, "interlocutor", "acoustic", 0),
        (1, "interlocutor", "lexical", 0),
        (2, "self", "acoustic", 1),
        (2, "self", "lexical", 1),
        (2, "interlocutor", "acoustic", 0),
        (2, "interlocutor", "lexical", 0),
    ]


def test_an_empty_slot_contributes_nothing(predictor: Predictor) -> None:
    _, outcome = play(predictor)[1]
    reasons = outcome.prediction.explanation
    for slot, row in zip(reasons.slots, reasons.contributions, strict=True):
        assert (slot.values is None) == bool(np.all(row == 0))


def test_a_dropped_state_leaves_no_trace(predictor: Predictor) -> None:
    state, first = predictor.start(), DIALOGUE[0]
    predictor.predict([(state, DIALOGUE[3])])  # an interim estimate: nobody keeps its state
    again = predictor.predict([(state, first)])[0][1].prediction.logits
    np.testing.assert_array_equal(again, play(predictor)[0][1].prediction.logits)


def test_alone_equals_in_a_batch(predictor: Predictor) -> None:
    alone = play(predictor)
    states = [predictor.start(), *(state for state, _ in alone[:-1])]
    together = predictor.predict(list(zip(states, DIALOGUE, strict=True)))
    for (_, one), (_, many) in zip(alone, together, strict=True):
        np.testing.assert_allclose(
            one.prediction.logits, many.prediction.logits, rtol=1e-5, atol=1e-5
        )
        assert one.decision.label == many.decision.label


def test_speakers_keep_their_own_state(predictor: Predictor) -> None:
    state = play(predictor)[-1][0]
    assert set(state.speakers) == {(Modality.ACOUSTIC, who) for who in "ABC"}


def test_nothing_to_hear_is_said(predictor: Predictor) -> None:
    with pytest.raises(NothingToHear, match="utterance 7"):
        predictor.predict([(predictor.start(), utterance(7, "A", None, "  "))])


def test_threads_do_not_disturb_each_other(predictor: Predictor) -> None:
    expected = [o.prediction.posterior for _, o in play(predictor)]
    results: list[list[np.ndarray]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append([o.prediction.posterior for _, o in play(predictor)])
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_allclose(result, expected, atol=1e-6)
