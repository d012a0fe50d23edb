"""Packed values: nothing of them is lost, and who asked gets their own objects back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from emotrace_models.bundle import Bundle
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.predictor import DialogueState, Predictor
from emotrace_models.types import Transcript, Utterance
from emotrace_service.packing import pack, parts, unpack

SPEAKERS = "ABBAAB"


@pytest.fixture
def predictor(toy: Path) -> Predictor:
    """Of a bundle whose slots have readers of their own, so that it prepares."""
    bundle = Bundle.load(toy)
    assert isinstance(bundle.fusion, GatedxLSTM)
    torch.manual_seed(2)
    fusion = GatedxLSTM(replace(bundle.fusion.config, share="none")).eval()
    return Predictor(replace(bundle, fusion=fusion))


def utterance(turn: int) -> Utterance:
    sound = np.random.default_rng(turn).normal(0, 0.1, 16_000).astype(np.float32)
    words = Transcript(f"words {turn}", "client")
    return Utterance(turn, SPEAKERS[turn], 0, len(sound), sound, words)


def elsewhere(request: tuple[Any, ...], compute: Any) -> tuple[Any, bytes]:
    """As a replica does it: from bytes to bytes. The answer, and its bytes."""
    theirs = unpack(pack(request))
    data = pack(compute(*theirs), parts(theirs))
    return unpack(data, parts(request)), data


def test_a_dialogue_that_travels_equals_one_that_stays(predictor: Predictor) -> None:
    assert predictor.prepares
    here = there = predictor.start()
    for turn, speaker in enumerate(SPEAKERS):
        spoken = utterance(turn)
        there, _ = elsewhere((there, speaker), lambda *one: predictor.prepare([one])[0])
        sensed, _ = elsewhere((there, spoken), lambda *one: predictor.sense([one])[0])
        assert all(
            felt.before is there.speakers.get((stream, speaker)) for stream, felt in sensed.items()
        )
        (there, outcome), _ = elsewhere(
            (there, replace(spoken, samples=None), sensed),
            lambda state, said, felt: predictor.predict([(state, said)], [felt])[0],
        )
        ((here, expected),) = predictor.predict([(here, spoken)])
        assert np.array_equal(outcome.prediction.logits, expected.prediction.logits)
        assert np.array_equal(
            outcome.prediction.explanation.contributions,
            expected.prediction.explanation.contributions,
        )
        assert outcome.revisions == expected.revisions
        assert there.beam == here.beam
        assert len(there.read) >= len(here.read)


def test_what_came_with_the_request_is_not_sent_back(predictor: Predictor) -> None:
    ((state, _),) = predictor.predict([(predictor.start(), utterance(0))])
    prepared, data = elsewhere((state, "B"), lambda *one: predictor.prepare([one])[0])
    assert isinstance(prepared, DialogueState)
    assert prepared.window is state.window
    assert prepared.beam is state.beam
    assert set(state.read) <= set(prepared.read)
    assert len(prepared.read) > len(state.read)
    spoken = utterance(1)
    same, data = elsewhere((spoken,), lambda one: (one, one.samples * 1))
    assert same[0] is spoken
    assert np.array_equal(same[1], spoken.samples)
    assert same[1].flags.writeable
    assert len(data) < 1.1 * spoken.samples.nbytes


def test_both_sides_number_parts_alike(predictor: Predictor) -> None:
    state = predictor.start()
    for turn in range(len(SPEAKERS)):
        ((state, outcome),) = predictor.predict([(state, utterance(turn))])
    value = (state, outcome, utterance(0))
    own, theirs = parts(value), parts(unpack(pack(value)))
    assert [type(part) for part in own] == [type(part) for part in theirs]
    assert len({id(part) for part in own}) == len(own) > 50
    for one, other in zip(own, theirs, strict=True):
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, other)
