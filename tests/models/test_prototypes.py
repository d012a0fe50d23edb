"""The shared frame: what vectors of towers that were fitted apart have in common."""

from __future__ import annotations

import pytest
import torch

from emotrace_models.encoders.prototypes import class_prototypes, in_frame

FRAME = class_prototypes(128)


def test_a_vector_in_the_frame_says_one_emotion_against_the_others() -> None:
    vectors = torch.randn(50, 128, generator=torch.Generator().manual_seed(0))
    found = in_frame(vectors)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(50))
    torch.testing.assert_close((found @ FRAME.T).mean(dim=1), torch.zeros(50), atol=1e-6, rtol=0)
    assert torch.equal((found @ FRAME.T).argmax(1), (vectors @ FRAME.T).argmax(1))
    torch.testing.assert_close(in_frame(found), found)


def test_where_a_tower_lies_along_what_a_softmax_cannot_see_does_not_matter() -> None:
    vectors = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    outside = vectors - vectors @ FRAME.T @ FRAME
    for other in (vectors + 3 * FRAME.sum(0), vectors - 2 * FRAME.sum(0), vectors + 5 * outside):
        torch.testing.assert_close(in_frame(other), in_frame(vectors))


def test_nothing_stays_nothing_and_the_width_must_fit() -> None:
    assert not in_frame(torch.zeros(2, 16)).any()
    with pytest.raises(ValueError, match="multiple of 8"):
        in_frame(torch.zeros(2, 12))
