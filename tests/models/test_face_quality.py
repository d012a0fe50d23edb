"""How far a picture of a face is trusted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from emotrace_models.encoders.face_quality import FaceSight, quality, sharpness
from emotrace_models.encoders.face_tower import SIDE, equalised, grey_face
from emotrace_models.encoders.faces import FaceBox
from emotrace_models.picture_decoding import Pixels


def textured(seed: int = 1) -> Pixels:
    """Something with detail of every size, [SIDE, SIDE]."""
    rng = np.random.default_rng(seed)
    levels = sum(
        np.kron(rng.normal(0, 20, (SIDE // k, SIDE // k)), np.ones((k, k))) for k in (1, 2, 4, 12)
    )
    return np.clip(levels + 128, 0, 255).astype(np.uint8)


def blurred(grey: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))


def box(side: float = 100.0, ahead: float = 1.0) -> FaceBox:
    return FaceBox(0, 0, side, side, 0.9, ahead)


def test_a_good_face_counts_in_full() -> None:
    judged = quality(box(), textured())
    assert (judged.weight, judged.reason) == (1.0, "used")


@pytest.mark.parametrize(
    ("face", "grey", "reason"),
    [
        (box(side=16), textured(), "small"),
        (box(ahead=0.1), textured(), "turned"),
        (box(), blurred(textured(), 5), "blurred"),
        (box(), np.full((SIDE, SIDE), 7, np.uint8), "badly_lit"),
        (box(), (textured() // 32), "badly_lit"),
    ],
)
def test_a_bad_face_does_not_count_and_the_reason_is_told(
    face: FaceBox, grey: Pixels, reason: str
) -> None:
    judged = quality(face, grey)
    assert (judged.weight, judged.reason) == (0.0, reason)
    assert getattr(FaceSight().having(judged.reason), reason) == 1


@given(st.floats(15, 80), st.floats(0, 1), st.floats(0.001, 0.5))
def test_the_weight_is_a_share_and_moves_with_the_picture_without_a_jump(
    side: float, ahead: float, more: float
) -> None:
    one = quality(box(side, ahead), textured())
    other = quality(box(side + more, ahead), textured())
    assert 0.0 <= one.weight <= other.weight <= 1.0
    assert other.weight - one.weight <= 0.05 * more
    assert (one.weight > 0) == (one.reason == "used")


def test_blur_lowers_sharpness_and_contrast_and_brightness_do_not() -> None:
    grey = textured()
    found = [sharpness(blurred(grey, radius)) for radius in (0, 0.7, 1.5, 3)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 4 * found[2]
    assert sharpness(grey // 2 + 60) == pytest.approx(found[0], rel=0.1)


def test_what_was_seen_adds_up() -> None:
    sight = FaceSight()
    for reason in ("used", "no_face", "used", "unreadable"):
        sight = sight.having(reason)
    assert sight == FaceSight(looked_at=4, used=2, no_face=1, unreadable=1)


def test_equalised_levels_are_those_of_any_light() -> None:
    grey = textured()
    even = equalised(grey)
    assert even.dtype == np.uint8
    assert (even.min(), even.max()) == (0, 255)
    assert even.astype(float).mean() == pytest.approx(128, abs=4)
    np.testing.assert_allclose(even, equalised((grey // 2) + 60), atol=6)
    assert not equalised(np.full((SIDE, SIDE), 9, np.uint8)).any()


def test_a_face_is_brought_to_the_towers_size() -> None:
    assert grey_face(np.zeros((7, 7, 3), np.uint8)).shape == (SIDE, SIDE)
    assert grey_face(np.full((300, 300, 3), 40, np.uint8)).mean() == 40
