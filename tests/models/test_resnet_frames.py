"""Pictures of an utterance to features: choice of frames, bad pictures, stillness, absence."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from emotrace_models.encoders.pictures import centre_square, scaled, spread
from emotrace_models.encoders.resnet_frames import ResNetFrames, ResNetFramesConfig
from emotrace_models.types import SAMPLE_RATE, Frame, Utterance

SECOND = SAMPLE_RATE


def picture(seed: int, height: int = 20, width: int = 30) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def utterance(*frames: Frame, end: int = SECOND) -> Utterance:
    return Utterance(0, "a", 0, end, None, frames=tuple(frames))


def small() -> ResNetFrames:
    torch.manual_seed(1)
    return ResNetFrames(*ResNetFrames.small()).eval()


def at(*seconds: float) -> list[Frame]:
    return [Frame(round(s * SECOND), picture(0)) for s in seconds]


def test_90_frames_of_three_seconds_at_30_a_second_are_taken_once_each() -> None:
    frames = at(*(i / 30 for i in range(90)))
    assert spread(frames, 0, 3 * SECOND, 3 * SECOND, 90) == list(range(90))


def test_180_frames_at_60_a_second_are_every_other_one() -> None:
    frames = at(*(i / 60 for i in range(180)))
    chosen = spread(frames, 0, 3 * SECOND, 3 * SECOND, 90)
    assert chosen == list(range(0, 180, 2))


def test_a_short_clip_repeats_its_last_frame() -> None:
    chosen = spread(at(*(i / 30 for i in range(45))), 0, SECOND * 3 // 2, 3 * SECOND, 90)
    assert chosen == [*range(45), *[44] * 45]


def test_a_long_clip_gives_its_middle() -> None:
    frames = at(*(i / 30 for i in range(300)))
    assert spread(frames, 0, 10 * SECOND, 3 * SECOND, 90) == list(range(105, 195))


@given(
    st.lists(st.integers(0, 10 * SECOND), min_size=1, max_size=20),
    st.integers(0, 5 * SECOND),
    st.integers(0, 5 * SECOND),
    st.integers(1, 90),
)
def test_chosen_frames_exist_and_keep_their_order(
    times: list[int], start: int, length: int, count: int
) -> None:
    frames = [Frame(t, picture(0)) for t in sorted(times)]
    chosen = spread(frames, start, start + length, 3 * SECOND, count)
    assert len(chosen) == count
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < len(frames)


def test_the_middle_square_is_scaled_to_the_size() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = (250, 100, 50)
    square = centre_square(pixels)
    assert square.shape == (10, 10, 3)
    assert (scaled(square, 4, grey=False) == (250, 100, 50)).all()
    assert scaled(square, 4, grey=True).shape == (4, 4, 1)
    assert abs(int(scaled(square, 4, grey=True)[0, 0, 0]) - 139) <= 1  # 0.299 R 0.587 G 0.114 B


def test_features_are_one_vector_a_frame_whether_or_not_the_picture_moves() -> None:
    encoder = small()
    times = [0.0, 0.8, 1.6, 1.7]
    frames = [Frame(round(t * SECOND), picture(i)) for i, t in enumerate(times)]
    front = encoder.front(utterance(*frames, end=3 * SECOND))
    assert front is not None
    fronts, lengths = torch.from_numpy(front)[None], torch.tensor([len(front)])
    with torch.inference_mode():
        features, steps = encoder(fronts, lengths)
        each = torch.cat([encoder(fronts[:, i : i + 1], torch.tensor([1]))[0] for i in range(5)], 1)
    assert steps.tolist() == [5]
    torch.testing.assert_close(features, each, rtol=0, atol=1e-6)
    # Moments 0.15, 0.75, 1.35, 1.95, 2.55 s: pictures 0, 0, 1, 3, 3.
    assert torch.equal(features[0, 0], features[0, 1])
    assert torch.equal(features[0, 3], features[0, 4])
    assert not torch.equal(features[0, 1], features[0, 2])


def test_nothing_beyond_an_items_frames_is_read_or_given() -> None:
    encoder = small()
    fronts = torch.randint(0, 256, (2, 5, 12, 12, 1), dtype=torch.uint8)
    with torch.inference_mode():
        together, _ = encoder(fronts, torch.tensor([5, 2]))
        alone, _ = encoder(fronts[1:, :2], torch.tensor([2]))
    assert not together[1, 2:].any()
    torch.testing.assert_close(together[1, :2], alone[0], rtol=0, atol=1e-6)


def test_encoding_alone_is_encoding_in_a_batch_and_absence_is_none() -> None:
    encoder = small()
    moving = utterance(*(Frame(i * 4000, picture(i)) for i in range(4)))
    still = utterance(Frame(0, encoded(picture(9))))
    broken = utterance(Frame(0, b"broken"))
    items = [(None, u) for u in (moving, utterance(), still, broken)]
    found = [features for features, _ in encoder.encode(items)]
    assert found[1] is None
    assert found[3] is None
    for i in (0, 2):
        alone = encoder.encode(items[i : i + 1])[0][0]
        assert alone is not None
        assert alone.shape == (5, encoder.width)
        np.testing.assert_allclose(found[i], alone, rtol=0, atol=1e-6)


def test_an_unreadable_frame_is_left_out_and_the_rest_counts() -> None:
    encoder = small()
    good = [Frame(0, picture(1)), Frame(8000, picture(2))]
    bad = Frame(4000, encoded(picture(3))[:50])
    with_bad = encoder.front(utterance(good[0], bad, good[1]))
    without = encoder.front(utterance(*good))
    assert with_bad is not None
    np.testing.assert_array_equal(with_bad, without)


def test_pixels_are_normalised_as_imagenets() -> None:
    config = ResNetFramesConfig(frames=1, size=4, widths=(4,), blocks=(1,), stem="small")
    encoder = ResNetFrames(config).eval()
    seen: list[torch.Tensor] = []
    encoder.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder.encode([(None, utterance(Frame(0, np.full((4, 4, 3), 255, np.uint8))))])
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0][0, :, 0, 0], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "frames must be at least 1"),
        ({"colours": 2}, "colours must be 1 or 3"),
        ({"seconds": 0.0}, "seconds must be above 0"),
        ({"stem": "big"}, "stem must be one of imagenet, small"),
        ({"blocks": (2, 2)}, "one number for each stage"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetFramesConfig(**settings)
