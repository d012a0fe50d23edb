"""Training reads what serving reads: a tuned encoder's features are those it gives live."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from emotrace_models import registry
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.types import Frame, Transcript, Utterance
from emotrace_training.learner import encoded
from emotrace_training.tables import fronts_of
from emotrace_training.windows import EMPTY

TUNABLE = [
    name
    for name in registry.names("encoder")
    if issubclass(registry.lookup("encoder", name), NetworkEncoder)
]


def said() -> list[Utterance]:
    """Three utterances of different lengths, each with sound, words and pictures."""
    rng = np.random.default_rng(2)
    image = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(image, "PNG")
    return [
        Utterance(
            n, "a", 0, samples, rng.normal(0, 0.1, samples).astype(np.float32),
            Transcript(text, "client"), tuple(Frame(k, image.getvalue()) for k in range(n + 1)),
        )
        for n, (samples, text) in enumerate(
            [(20_000, "no, I am well"), (31_000, "this is a day"), (20_000, "yes")]
        )
    ]  # fmt: skip


@pytest.mark.parametrize("name", TUNABLE)
def test_a_tuned_encoder_gives_in_training_what_it_gives_live(name: str) -> None:
    torch.manual_seed(0)
    kind = registry.lookup("encoder", name)
    encoder: NetworkEncoder = kind(*kind.small()).eval()
    items = said()
    fronts = fronts_of([*(encoder.front(item) for item in items), None])
    # Contexts of two: the second entry repeats an utterance, is empty, hidden, or has nothing.
    turns = np.array([[0, 1], [1, EMPTY], [2, 0], [1, 3]])
    keep = np.array([[True, True], [True, True], [True, False], [True, True]])
    batch = fronts.batch(turns, keep)
    assert len(batch.values) == 3, "each utterance is encoded once"
    with torch.inference_mode():
        stream = encoded(encoder, batch)
    live = [values for values, _ in encoder.encode([(None, item) for item in items])]
    for row, entry in ((0, 0), (0, 1), (1, 0), (2, 0), (3, 0)):
        expected = np.atleast_2d(live[turns[row, entry]])
        length = int(stream.lengths[row, entry])
        assert length == len(expected)
        np.testing.assert_allclose(
            stream.values[row, entry, :length].numpy(), expected, rtol=1e-4, atol=1e-5
        )
    assert stream.lengths[[1, 2, 3], 1].tolist() == [0, 0, 0]
    assert not stream.values[[1, 2, 3], 1].any()


def test_a_batch_of_which_nothing_is_seen() -> None:
    kind = registry.lookup("encoder", "words")
    encoder: NetworkEncoder = kind(*kind.small())
    fronts = fronts_of([np.array([2, 3]), None])
    stream = encoded(encoder, fronts.batch(np.array([[1, EMPTY]]), np.ones((1, 2), dtype=bool)))
    assert stream.values.shape == (1, 2, 1, encoder.width)
    assert stream.lengths.tolist() == [[0, 0]]
