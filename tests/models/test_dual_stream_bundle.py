"""A bundle of the dual stream: two encoders that hear the same modality, one prediction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders.hubert import Hubert
from emotrace_models.encoders.mel_image import MelImage
from emotrace_models.fusion.dual_stream import DualStream
from emotrace_models.labels import SCHEMES
from emotrace_models.predictor import NothingToHear, Predictor
from emotrace_models.types import Modality, Transcript, Utterance


def bundle(fusion: str) -> Bundle:
    torch.manual_seed(2)
    image, hubert = MelImage(*MelImage.small()), Hubert(*Hubert.small())
    labels = SCHEMES["common4"]
    config = replace(
        DualStream.small_config(len(labels.names)),
        fusion=fusion,
        image=image.width,
        acoustic=hubert.width,
    )
    return Bundle(
        name="dual",
        version="0",
        licence="CC0-1.0",
        languages=("en",),
        labels=labels,
        encoders=(image.eval(), hubert.eval()),
        fusion=DualStream(config).eval(),
        calibration=Calibration({"acoustic": 1.0}, abstain_below=0.1),
        decoder=DecoderConfig(p0=0.4),
        card="# dual\n",
        licence_text="CC0-1.0\n",
        assets={},
        requires=(Modality.ACOUSTIC,),
    )


def utterance(index: int, samples: int) -> Utterance:
    noise = 0.1 * np.random.default_rng(samples).standard_normal(samples)
    return Utterance(index, "a", 0, samples, noise.astype(np.float32))


@pytest.mark.parametrize("fusion", ["caf", "film", "caf_attn"])
def test_a_saved_bundle_predicts_the_same_and_says_why(tmp_path: Path, fusion: str) -> None:
    original = bundle(fusion)
    original.save(tmp_path / "dual")
    predictor, again = Predictor(original), Predictor(Bundle.load(tmp_path / "dual"))
    state = predictor.start()
    for index, samples in enumerate((8_000, 300, 20_001)):
        said = utterance(index, samples)
        ((other, expected),) = predictor.predict([(state, said)])
        ((_, found),) = again.predict([(state, said)])
        state = other
        prediction = found.prediction
        np.testing.assert_array_equal(prediction.logits, expected.prediction.logits)
        assert prediction.used == (Modality.ACOUSTIC,)
        reasons = prediction.explanation
        assert [slot.stream for slot in reasons.slots] == ["spectrogram", "acoustic"]
        assert reasons.method == ("additive" if fusion == "caf" else "shapley")
        total = reasons.contributions.sum(0) + reasons.bias
        np.testing.assert_allclose(total, prediction.logits, rtol=0, atol=1e-5)
        assert np.abs(reasons.contributions).min() > 0


def test_a_turn_without_sound_is_refused() -> None:
    predictor = Predictor(bundle("caf"))
    written = Utterance(0, "a", 0, 0, None, Transcript("hello", "client"))
    with pytest.raises(NothingToHear):
        predictor.predict([(predictor.start(), written)])
