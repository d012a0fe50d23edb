"""The acoustic tower: norms folded into convolutions give what the norms gave."""

from __future__ import annotations

import copy

import pytest
import torch

from emotrace_models.encoders.acoustic_tower import AcousticTower, TowerConfig

SMALL = TowerConfig(width=16, channels=(4, 6, 8, 8), contour=4, pooled=12)


@pytest.fixture
def tower() -> AcousticTower:
    """Random weights and norms that change what they get, as after training."""
    torch.manual_seed(0)
    model = AcousticTower(SMALL)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3.0)
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    return model.eval()


def inputs(*lengths: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    longest = max(lengths)
    bands, contours = (
        torch.randn(len(lengths), 2, 64, longest),
        torch.randn(len(lengths), 4, longest),
    )
    for item, length in enumerate(lengths):
        bands[item, ..., length:] = 0
        contours[item, ..., length:] = 0
    return bands, contours, torch.tensor(lengths)


@pytest.mark.parametrize("lengths", [(97,), (64, 64), (18, 97, 40)])
def test_folded_norms_change_nothing(tower: AcousticTower, lengths: tuple[int, ...]) -> None:
    with torch.enable_grad():  # the norms themselves
        plain = tower(*inputs(*lengths)).detach()
    with torch.inference_mode():
        folded = tower(*inputs(*lengths))
    assert tower.stages[0]._folded, "nothing was folded"
    torch.testing.assert_close(folded, plain, atol=1e-5, rtol=0)


def test_new_weights_are_heard(tower: AcousticTower) -> None:
    torch.manual_seed(2)
    other = AcousticTower(SMALL).eval()
    with torch.inference_mode():
        before, wanted = tower(*inputs(50)), other(*inputs(50))
    tower.load_state_dict(other.state_dict())
    with torch.inference_mode():
        found = tower(*inputs(50))
    assert (before - wanted).abs().max() > 0.01
    torch.testing.assert_close(found, wanted)


def test_a_copy_in_double_precision_is_its_own(tower: AcousticTower) -> None:
    with torch.inference_mode():
        single = tower(*inputs(50))
    double = copy.deepcopy(tower).double()
    bands, contours, lengths = inputs(50)
    with torch.inference_mode():
        found = double(bands.double(), contours.double(), lengths)
    torch.testing.assert_close(found.float(), single, atol=1e-5, rtol=0)


def test_what_training_changed_is_heard(tower: AcousticTower) -> None:
    with torch.inference_mode():
        before = tower(*inputs(50))
    tower.train()
    tower(*inputs(50, 60)).sum().backward()  # moves the running statistics
    tower.eval()
    with torch.inference_mode():
        after = tower(*inputs(50))
    with torch.enable_grad():
        torch.testing.assert_close(after, tower(*inputs(50)).detach(), atol=1e-5, rtol=0)
    assert (after - before).abs().max() > 1e-4


def test_full_and_padded_batches_agree(tower: AcousticTower) -> None:
    """Without padding no mask is applied; with it the same item comes out."""
    bands, contours, lengths = inputs(41)
    with torch.inference_mode():
        alone = tower(bands, contours, lengths)
        wide = torch.nn.functional.pad(bands, (0, 23))
        side = torch.nn.functional.pad(contours, (0, 23))
        torch.testing.assert_close(tower(wide, side, lengths), alone, atol=1e-5, rtol=0)


def test_gradients_reach_every_weight_outside_training(tower: AcousticTower) -> None:
    tower(*inputs(50))[0, 0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())
