"""What every encoder must do. Encoders are found in the registry, none is named below."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from emotrace_models import registry
from emotrace_models.encoders import Encoder
from emotrace_models.picture_decoding import PictureUnreadable, Pixels, Seeing
from emotrace_models.types import FloatArray, Frame, Modality, Transcript, Utterance

NAMES = registry.names("encoder")
RATE = 16_000


def small(name: str) -> Encoder:
    torch.manual_seed(5)
    kind = registry.lookup("encoder", name)
    config, assets = kind.small()
    encoder: Encoder = kind(config, assets)
    return encoder.eval()


def picture(shade: int) -> bytes:
    pixels = np.linspace(0, shade, 64 * 48 * 3).astype(np.uint8).reshape(48, 64, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def utterances() -> list[Utterance]:
    """Several lengths; two of one length; each has sound, words and pictures."""
    rng = np.random.default_rng(1)
    said = ["I am so happy to see you!", "no", "this is a sad day, is it not?", "what", "well"]
    return [
        Utterance(
            n,
            "A",
            0,
            int(seconds * RATE),
            rng.normal(0, 0.1, int(seconds * RATE)).astype(np.float32),
            Transcript(text, "client"),
            tuple(Frame(k * RATE // 5, picture(100 + 30 * n + k)) for k in range(1 + 2 * n)),
        )
        for n, (seconds, text) in enumerate(zip((0.8, 2.0, 2.0, 3.7, 0.3), said, strict=True))
    ]


def encoded(encoder: Encoder, items: Sequence[Utterance]) -> list[FloatArray | None]:
    return [values for values, _ in encoder.encode([(encoder.start(), item) for item in items])]


@pytest.mark.parametrize("name", NAMES)
def test_features_are_finite_and_as_wide_as_promised(name: str) -> None:
    encoder = small(name)
    for values in encoded(encoder, utterances()):
        assert values is not None
        assert values.dtype == np.float32
        assert values.ndim in (1, 2)
        assert values.shape[-1] == encoder.width
        assert len(values) >= 1
        assert np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
def test_alone_equals_in_a_batch(name: str) -> None:
    encoder = small(name)
    items = utterances()
    together = encoded(encoder, items)
    for item, values in zip(items, together, strict=True):
        (alone,) = encoded(encoder, [item])
        assert alone is not None
        assert values is not None
        np.testing.assert_allclose(alone, values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_different_utterances_have_different_features(name: str) -> None:
    _, one, other, *_ = encoded(small(name), utterances())
    assert one is not None
    assert other is not None
    assert one.shape != other.shape or np.abs(one - other).max() > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_modality_has_no_features(name: str) -> None:
    encoder = small(name)
    lacking = [
        Utterance(0, "A", 0, 0, None, None),
        *(
            Utterance(
                1,
                "A",
                0,
                RATE,
                None if encoder.modality is Modality.ACOUSTIC else np.zeros(RATE, np.float32),
                None if encoder.modality is Modality.LEXICAL else Transcript(text, "client"),
                () if encoder.modality is Modality.FACIAL else (Frame(0, picture(200)),),
            )
            for text in ("words", "  ")
        ),
    ]
    assert encoded(encoder, lacking) == [None] * 3


@pytest.mark.parametrize("name", NAMES)
def test_who_sees_has_pictures_decoded_by_whom_it_is_told(name: str) -> None:
    """So that a server can have it done elsewhere."""
    encoder = small(name)
    if encoder.modality is not Modality.FACIAL:
        return
    assert isinstance(encoder, Seeing)
    given: list[bytes | Pixels] = []

    def refuse(image: bytes | Pixels) -> Pixels:
        given.append(image)
        raise PictureUnreadable

    encoder.decode = refuse
    (item,) = utterances()[:1]
    assert encoded(encoder, [item]) == [None]
    assert given == [frame.image for frame in item.frames]


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_give_the_same_encoder(name: str) -> None:
    encoder = small(name)
    stored = save({key: tensor.contiguous() for key, tensor in encoder.state_dict().items()})
    config = json.loads(json.dumps(asdict(encoder.config)))
    kind = registry.lookup("encoder", name)
    restored_config = registry.configured("encoder", name, config)
    assert restored_config == encoder.config
    restored = kind(restored_config, encoder.asset_files).eval()
    restored.load_state_dict(load(stored))
    items = utterances()[:2]
    for one, other in zip(encoded(restored, items), encoded(encoder, items), strict=True):
        assert one is not None
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_leaves_no_trace(name: str) -> None:
    encoder = small(name)
    items = utterances()[:2]
    first = encoded(encoder, items)
    encoded(encoder, utterances()[2:])
    for one, other in zip(encoded(encoder, items), first, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_it_names_its_assets(name: str) -> None:
    encoder = small(name)
    assert set(encoder.asset_files) == set(encoder.assets)
    if encoder.assets:
        kind = registry.lookup("encoder", name)
        with pytest.raises(ValueError, match=encoder.assets[0]):
            kind(encoder.config, {})
