"""Muon's updates: nearly semi-orthogonal, of AdamW's size, downhill."""

from __future__ import annotations

import pytest
import torch

from emotrace_training.muon import SIZE, Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (16, 16)])
def test_all_directions_count_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 1e-3))
    assert singular.min() > 0.6
    assert singular.max() < 1.25


def test_the_same_directions_as_the_gradient() -> None:
    torch.manual_seed(0)
    u, s, v = torch.linalg.svd(torch.randn(6, 20), full_matrices=False)
    found = orthogonal((u * s) @ v)
    off = u.T @ found @ v.T
    assert (off - off.diag().diag()).abs().max() < 1e-4
    assert off.diag().min() > 0.6


def test_a_step_has_the_size_of_adamws() -> None:
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    optimizer = Muon([kernel], lr=0.1)
    kernel.grad = torch.randn_like(kernel) * 1e-4
    optimizer.step()
    moved = kernel.detach().square().mean().sqrt().item()
    assert moved == pytest.approx(0.1 * SIZE, rel=0.2)


def test_it_finds_a_matrix_and_goes_on_from_its_state() -> None:
    torch.manual_seed(0)
    target, inputs = torch.randn(6, 10), torch.randn(200, 10)

    def fit(broken: bool) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.zeros(6, 10))
        optimizer = Muon([weight], lr=0.05, weight_decay=1e-4)
        for step in range(300):
            optimizer.zero_grad()
            ((inputs @ (weight - target).T) ** 2).mean().backward()
            optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
            optimizer.step()
            if broken and step == 100:
                again = Muon([weight], lr=1.0)
                again.load_state_dict(optimizer.state_dict())
                optimizer = again
        return weight.detach()

    found = fit(broken=False)
    assert (found - target).abs().max() < 0.1
    torch.testing.assert_close(fit(broken=True), found)


def test_a_parameter_without_gradient_stays() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert bool((weight == 1).all())
