"""What one turn computed of a slot serves the next ones (models.md section 2.10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import toy_bundle

from emotrace_models.bundle import Bundle
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.fusion.gated_xlstm import SlotEncoders
from emotrace_models.predictor import Predictor
from emotrace_models.types import FloatArray, Transcript, Utterance, frozen_mapping

SPEAKERS = "ABBACAABBB"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(toy_bundle(tmp_path_factory.mktemp("toy")))


def predictor_of(bundle: Bundle, **settings: Any) -> Predictor:
    assert isinstance(bundle.fusion, GatedxLSTM)
    torch.manual_seed(2)
    fusion = GatedxLSTM(replace(bundle.fusion.config, **settings)).eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Predictor(replace(bundle, fusion=fusion))


def utterances() -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [
        Utterance(
            0,  # nothing may rest on the number
            speaker,
            0,
            8_000,
            None if turn == 4 else rng.normal(0, 0.1, 8_000).astype(np.float32),
            Transcript(f"words {turn}", "client") if turn % 3 or turn == 4 else None,
        )
        for turn, speaker in enumerate(SPEAKERS)
    ]


def logits(predictor: Predictor, *, cached: bool) -> tuple[list[FloatArray], list[int]]:
    """Of each turn, and how many slot features each turn leaves."""
    state, found, kept = predictor.start(), [], []
    for item in utterances():
        ((state, outcome),) = predictor.predict([(state, item)])
        found.append(outcome.prediction.logits)
        kept.append(len(state.read))
        if not cached:
            state = replace(state, read=frozen_mapping({}))
    return found, kept


@pytest.mark.parametrize("missing", ["mask", "zeros"])
@pytest.mark.parametrize("share", ["none", "role_modality", "modality"])
def test_12_2_cached_equals_uncached(bundle: Bundle, share: str, missing: str) -> None:
    predictor = predictor_of(bundle, share=share, missing=missing)
    cached, kept = logits(predictor, cached=True)
    uncached, _ = logits(predictor, cached=False)
    for one, other in zip(cached, uncached, strict=True):
        np.testing.assert_array_equal(one, other)  # bit for bit
    assert max(kept) <= 12
    assert max(kept[6:]) <= max(kept[:6])  # it does not grow with the dialogue


@pytest.mark.parametrize(("share", "most"), [("modality", 2), ("role_modality", 4), ("none", 12)])
def test_a_turn_reads_no_utterance_twice(
    bundle: Bundle, share: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(bundle, share=share, missing="mask")
    read: list[int] = []
    plain = SlotEncoders.forward

    def counted(self: SlotEncoders, x: Any, last: Any, wanted: torch.Tensor) -> torch.Tensor:
        read.append(int(wanted.sum()))
        return plain(self, x, last, wanted)

    monkeypatch.setattr(SlotEncoders, "forward", counted)
    logits(predictor, cached=True)
    assert len(read) == len(SPEAKERS)
    assert max(read[2:]) <= most
    if share == "modality":
        assert read[3] == 1  # A, without words; what the context needs is known


@pytest.mark.parametrize("share", ["none", "role_modality", "modality"])
def test_prepared_equals_unprepared(bundle: Bundle, share: str) -> None:
    predictor = predictor_of(bundle, share=share)
    plain, _ = logits(predictor, cached=True)
    assert predictor.prepares == (share != "modality")
    state = predictor.start()
    for one, utterance in zip(plain, utterances(), strict=True):
        (state,) = predictor.prepare([(state, utterance.speaker)])
        ((state, outcome),) = predictor.predict([(state, utterance)])
        np.testing.assert_array_equal(outcome.prediction.logits, one)


@pytest.mark.parametrize(("share", "most"), [("modality", 2), ("role_modality", 2), ("none", 2)])
def test_a_prepared_turn_reads_only_the_new_utterance(
    bundle: Bundle, share: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(bundle, share=share, missing="mask")
    read: list[int] = []
    plain = SlotEncoders.forward

    def counted(self: SlotEncoders, x: Any, last: Any, wanted: torch.Tensor) -> torch.Tensor:
        read.append(int(wanted.sum()))
        return plain(self, x, last, wanted)

    monkeypatch.setattr(SlotEncoders, "forward", counted)
    state = predictor.start()
    for utterance in utterances():
        (state,) = predictor.prepare([(state, utterance.speaker)])
        read.clear()
        ((state, _),) = predictor.predict([(state, utterance)])
        assert len(read) == 1
        assert read[0] <= most


def test_what_was_sensed_is_not_computed_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = predictor_of(bundle, share="modality")
    plain, _ = logits(predictor, cached=True)
    state, encoded = predictor.start(), []
    for encoder in bundle.encoders:
        whole = type(encoder).encode

        def counted(self: Any, items: Any, whole: Any = whole) -> Any:
            encoded.extend((self.stream, utterance.index) for _, utterance in items)
            return whole(self, items)

        monkeypatch.setattr(type(encoder), "encode", counted)
    for index, (one, heard) in enumerate(zip(plain, utterances(), strict=True)):
        utterance = replace(heard, index=index)
        (sensed,) = predictor.sense([(state, replace(utterance, transcript=None))])
        assert "lexical" not in sensed
        if index % 2:  # words that are known early may be read meanwhile
            (words,) = predictor.read([(state, replace(utterance, samples=None))])
            assert set(words) == {"lexical"}
            sensed = {**sensed, **words}
        ((state, outcome),) = predictor.predict([(state, utterance)], [sensed])
        np.testing.assert_array_equal(outcome.prediction.logits, one)
    assert len(set(encoded)) == len(encoded)


def test_what_was_sensed_of_another_state_is_computed_again(bundle: Bundle) -> None:
    predictor = predictor_of(bundle, share="modality")
    first, second = utterances()[0], replace(utterances()[1], speaker=utterances()[0].speaker)
    (stale,) = predictor.sense([(predictor.start(), second)])
    ((state, _),) = predictor.predict([(predictor.start(), first)])
    ((_, wrong),) = predictor.predict([(state, second)], [stale])
    ((_, right),) = predictor.predict([(state, second)])
    np.testing.assert_array_equal(wrong.prediction.logits, right.prediction.logits)


def test_dialogues_of_a_batch_keep_their_own(bundle: Bundle) -> None:
    predictor = predictor_of(bundle, share="modality")
    alone, _ = logits(predictor, cached=True)
    first, second = predictor.start(), predictor.start()
    items = utterances()
    ((second, _),) = predictor.predict([(second, items[0])])
    for turn in range(len(items) - 1):
        both = predictor.predict([(first, items[turn]), (second, items[turn + 1])])
        (first, one), (second, other) = both
        np.testing.assert_allclose(one.prediction.logits, alone[turn], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(other.prediction.logits, alone[turn + 1], rtol=1e-5, atol=1e-5)
