"""Tucker projection and its read-outs: the cheap form against the literal one (models.md 12.8)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from largest_tensor import LargestTensor
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.layers.interpolate import interpolate_steps
from emotrace_models.layers.tucker import (
    CoreFBP,
    FlatCore,
    MarginalFBP,
    TuckerProjection,
    pooled_unit,
    signed_root,
)

BATCH, STEPS, WIDTHS, RANKS = 2, 7, (10, 9), (4, 6, 5)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


def projection(orthogonal: bool = False) -> TuckerProjection:
    return TuckerProjection(STEPS, WIDTHS, RANKS, orthogonal).double()


def sequences() -> tuple[Tensor, Tensor]:
    a, v = (torch.randn(BATCH, STEPS, width, dtype=torch.double) for width in WIDTHS)
    return a.requires_grad_(), v.requires_grad_()


def outer_product(a: Tensor, v: Tensor) -> Tensor:
    """X [batch, step, width, width], what the layer must never build."""
    return a.unsqueeze(-1) * v.unsqueeze(-2)


def literal_core(a: Tensor, v: Tensor, layer: TuckerProjection) -> Tensor:
    """The paper's algorithm A2: one mode product after the other on the whole X."""
    x = outer_product(a, v)
    x = torch.tensordot(x, layer.time, dims=([1], [0]))  # [batch, i, j, k]
    x = torch.tensordot(x, layer.audio, dims=([1], [0]))  # [batch, j, k, c]
    return torch.tensordot(x, layer.video, dims=([1], [0]))  # [batch, k, c, d]


def literal_fbp(core: Tensor, fbp: CoreFBP) -> Tensor:
    p = torch.einsum("kj,cj,dj,bkcd->bj", fbp.time, fbp.audio, fbp.video, core)
    return p.view(len(core), -1, fbp.factors).sum(-1)


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


def test_12_8_cheap_core_is_the_literal_mode_products() -> None:
    layer, (a, v) = projection(), sequences()
    cheap, literal = layer.core(*layer(a, v)), literal_core(a, v, layer)
    assert cheap.shape == (BATCH, *RANKS)
    assert relative(cheap, literal) <= 1e-10


def test_12_8_readout_without_the_core_is_the_readout_from_it() -> None:
    layer, (a, v) = projection(), sequences()
    fbp = CoreFBP(RANKS, outputs=8, factors=5).double()
    assert relative(fbp(layer, *layer(a, v)), literal_fbp(literal_core(a, v, layer), fbp)) <= 1e-10


def test_12_8_core_energy_formula() -> None:
    layer, (a, v) = projection(), sequences()
    expected = literal_core(a, v, layer).flatten(2).norm(dim=-1)
    assert relative(layer.energy(*layer(a, v)), expected) <= 1e-10


def test_12_8_gradients_agree() -> None:
    layer, (a, v) = projection(), sequences()
    fbp = CoreFBP(RANKS, outputs=8, factors=5).double()
    leaves = [a, v, *layer.parameters(), *fbp.parameters()]
    cheap = torch.autograd.grad(pooled_unit(fbp(layer, *layer(a, v)))[:, 0].sum(), leaves)
    z = literal_fbp(literal_core(a, v, layer), fbp)
    literal = torch.autograd.grad(pooled_unit(z)[:, 0].sum(), leaves)
    for found, expected in zip(cheap, literal, strict=True):
        assert relative(found, expected) <= 1e-10


def largest(width: int, run: Callable[[TuckerProjection, Tensor, Tensor], Tensor]) -> int:
    """Elements of the largest tensor, forward and backward, at the paper's steps and ranks."""
    layer = TuckerProjection(60, (width, width), (30, 128, 128), orthogonal=False)
    a, v = (torch.randn(1, 60, width, requires_grad=True) for _ in range(2))
    with LargestTensor() as mode:
        run(layer, a, v).sum().backward()
    return mode.largest


def test_12_8_memory_does_not_grow_with_256_squared() -> None:
    fbp = CoreFBP((30, 128, 128), outputs=512, factors=5)
    marginal = MarginalFBP((30, 128, 128), outputs=512, factors=5)

    def cheap(layer: TuckerProjection, a: Tensor, v: Tensor) -> Tensor:
        return fbp(layer, *layer(a, v)) + marginal(layer, *layer(a, v))

    def core(layer: TuckerProjection, a: Tensor, v: Tensor) -> Tensor:
        return layer.core(*layer(a, v))

    def literal(layer: TuckerProjection, a: Tensor, v: Tensor) -> Tensor:
        return literal_core(a, v, layer)

    assert largest(256, cheap) == largest(1024, cheap) == 128 * 512 * 5  # the read-out's weights
    assert largest(256, core) == largest(1024, core) == 30 * 128 * 128  # the core itself
    assert largest(256, literal) >= 60 * 256 * 256  # what the two above must not do


def test_marginal_fbp_is_fbp_of_the_cores_margins() -> None:
    layer, (a, v) = projection(), sequences()
    fbp = MarginalFBP(RANKS, outputs=8, factors=3).double()
    core = literal_core(a, v, layer)
    x, y = core.mean((1, 3)), core.mean((1, 2))
    expected = torch.stack(
        [
            sum((x @ fbp.audio[:, 3 * o + f]) * (y @ fbp.video[:, 3 * o + f]) for f in range(3))
            for o in range(8)
        ],
        dim=1,
    )
    assert relative(fbp(layer, *layer(a, v)), expected) <= 1e-10


def test_flat_core_is_a_linear_map_of_the_core_and_only_for_small_ranks() -> None:
    layer, (a, v) = projection(), sequences()
    flat = FlatCore(RANKS, outputs=8).double()
    expected = F.linear(literal_core(a, v, layer).flatten(1), flat.linear.weight, flat.linear.bias)
    assert relative(flat(layer, *layer(a, v)), expected) <= 1e-10
    with pytest.raises(ValueError, match=r"flatten.*251658240 weights"):
        FlatCore((30, 128, 128), outputs=512)


def skew(layer: TuckerProjection) -> float:
    """How far the factors' columns are from orthonormal."""
    factors = [getattr(layer, name).detach() for name in ("time", "audio", "video")]
    return max(float((f.mT @ f - torch.eye(f.shape[1])).abs().max()) for f in factors)


@pytest.mark.parametrize("orthogonal", [False, True])
def test_factors_start_orthonormal_and_stay_so_only_if_kept(orthogonal: bool) -> None:
    layer = projection(orthogonal)
    assert skew(layer) < 1e-6
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        layer.core(*layer(*sequences())).square().sum().backward()
        optimiser.step()
    assert (skew(layer) < 1e-6) == orthogonal


def test_a_rank_over_its_size_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="video rank must be from 1 to 9, not 10"):
        TuckerProjection(STEPS, WIDTHS, (4, 6, 10), orthogonal=False)


@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16])
def test_signed_root_has_a_finite_gradient_at_zero(precision: torch.dtype) -> None:
    z = torch.tensor([-4.0, 0.0, 9.0], dtype=precision, requires_grad=True)
    signed_root(z).sum().backward()
    torch.testing.assert_close(signed_root(z), torch.tensor([-2.0, 0.0, 3.0]))
    torch.testing.assert_close(z.grad, torch.tensor([0.25, 0.0, 1 / 6], dtype=precision))


def test_interpolation_in_half_precision_reads_the_right_steps() -> None:
    x = torch.arange(90.0).bfloat16().view(1, 90, 1)
    found = interpolate_steps(x, torch.tensor([90]), 90)
    torch.testing.assert_close(found, x.float())


@pytest.mark.parametrize("length", [1, 2, 59, 60, 61, 90])
def test_interpolation_has_half_pixel_centres_whatever_the_padding(length: int) -> None:
    x = torch.randn(2, 90, 3, dtype=torch.double)
    lengths = torch.tensor([length, 90])
    x[0, length:] = torch.nan
    found = interpolate_steps(x, lengths, 60)
    for row, count in zip(range(2), lengths.tolist(), strict=True):
        expected = F.interpolate(x[row : row + 1, :count].mT, size=60, mode="linear").mT[0]
        torch.testing.assert_close(found[row], expected)
