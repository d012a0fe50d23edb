"""A bundle whose large networks compute on a CUDA device gives what it gives on the processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from papers import PAPERS, paper_bundle

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Predictor
from emotrace_models.types import Frame, Transcript, Utterance


def utterances() -> list[Utterance]:
    rng = np.random.default_rng(0)
    return [
        Utterance(
            number,
            "AB"[number % 2],
            0,
            24_000,
            rng.normal(0, 0.1, 24_000).astype(np.float32),
            Transcript("how are you today", "client"),
            (Frame(0, rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)),),
        )
        for number in range(4)
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(PAPERS))
def test_a_device_changes_no_estimate(name: str, tmp_path: Path) -> None:
    assert torch.cuda.is_available()
    path = paper_bundle(tmp_path / name, name)
    here, there = Predictor(Bundle.load(path)), Predictor(Bundle.load(path), "cuda")
    one, other = here.start(), there.start()
    for utterance in utterances():
        (one,) = here.prepare([(one, utterance.speaker)])
        (other,) = there.prepare([(other, utterance.speaker)])
        ((one, expected),) = here.predict([(one, utterance)])
        ((other, found),) = there.predict([(other, utterance)])
        np.testing.assert_allclose(
            found.prediction.posterior, expected.prediction.posterior, atol=1e-3
        )
        np.testing.assert_allclose(
            found.prediction.explanation.contributions,
            expected.prediction.explanation.contributions,
            atol=1e-2,
        )
