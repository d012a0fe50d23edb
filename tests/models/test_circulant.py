"""Circular correlation against the explicit matrix, and what the three interactions are."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from emotrace_models.layers.circulant import (
    Circulant,
    CirculantInteraction,
    Form,
    circular_correlation,
)

FORMS: tuple[Form, ...] = ("fft", "gather")


def circ(p: Tensor) -> Tensor:
    """The matrix whose row i is p shifted right by i places, written out."""
    d = len(p)
    matrix = torch.empty(d, d, dtype=p.dtype)
    for i, j in itertools.product(range(d), repeat=2):
        matrix[i, j] = p[(j - i) % d]
    return matrix


def pair(d: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(d)
    return torch.randn(batch, d, dtype=torch.float64), torch.randn(batch, d, dtype=torch.float64)


def interaction(circulant: Circulant, d: int, form: Form = "fft") -> CirculantInteraction:
    return CirculantInteraction(d, circulant, form).double()


@pytest.mark.parametrize("d", [1, 2, 7, 16, 255])
def test_12_7_fft_equals_gather_equals_the_explicit_matrix(d: int) -> None:
    p, q = pair(d)
    expected = torch.stack([circ(row) @ other for row, other in zip(p, q, strict=True)])
    for form in FORMS:
        torch.testing.assert_close(
            circular_correlation(p, q, form), expected, rtol=1e-12, atol=1e-12
        )


@pytest.mark.parametrize("form", FORMS)
def test_12_7_literal_is_the_mean_of_one_times_the_other(form: Form) -> None:
    """Equations 7 and 8 as printed, row by row, are a scalar times the other vector."""
    p, q = pair(8)
    a, s = interaction("literal", 8, form)(p, q, p, q)
    for row in range(len(p)):
        printed_a = torch.stack([shifted * q[row] for shifted in circ(p[row])]).mean(0)
        printed_s = torch.stack([shifted * p[row] for shifted in circ(q[row])]).mean(0)
        torch.testing.assert_close(a[row], printed_a)
        torch.testing.assert_close(s[row], printed_s)
        torch.testing.assert_close(a[row], p[row].mean() * q[row])


@pytest.mark.parametrize("form", FORMS)
def test_12_7_exchanging_the_vectors_reverses_the_index(form: Form) -> None:
    p, q = pair(9)
    there, back = circular_correlation(p, q, form), circular_correlation(q, p, form)
    torch.testing.assert_close(back, there[:, (-torch.arange(9)) % 9])
    a, s = interaction("corr", 9, form)(p, q, p, q)
    torch.testing.assert_close(s, a[:, (-torch.arange(9)) % 9])
    torch.testing.assert_close(a, there / 3)  # sqrt(9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("circulant", ["corr_res", "corr", "literal"])
def test_12_7_gradients_agree(circulant: Circulant, form: Form) -> None:
    p, q = (x.requires_grad_() for x in pair(6, batch=2))
    layer = interaction(circulant, 6, form)
    assert torch.autograd.gradcheck(lambda x, y: layer(x, y, x, y), (p, q))
    found = torch.autograd.grad(circular_correlation(p, q, form).square().sum(), (p, q))
    matrix = torch.stack([circ(row) @ other for row, other in zip(p, q, strict=True)])
    for one, other in zip(found, torch.autograd.grad(matrix.square().sum(), (p, q)), strict=True):
        torch.testing.assert_close(one, other)


def test_corr_res_keeps_each_streams_own_content() -> None:
    p, q = pair(8)
    layer = interaction("corr_res", 8)
    a, s = layer(p, q, p, q)
    scale = 8**-0.5
    for found, own, other in ((a, p, q), (s, q, p)):
        x = own + scale * torch.stack([circ(u) @ v for u, v in zip(own, other, strict=True)])
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(found, x)
    assert {name for name, _ in layer.named_parameters()} == {
        "norm_p.weight", "norm_p.bias", "norm_q.weight", "norm_q.bias",
    }  # fmt: skip
    assert not list(interaction("corr", 8).parameters())


@pytest.mark.parametrize("form", FORMS)
def test_sequences_meet_the_others_mean_step_by_step(form: Form) -> None:
    torch.manual_seed(0)
    p, q = torch.randn(2, 5, 6), torch.randn(2, 3, 6)
    whole_p, whole_q = p.mean(1, keepdim=True), q.mean(1, keepdim=True)
    a, s = CirculantInteraction(6, "corr", form)(p, q, whole_p, whole_q)
    assert (a.shape, s.shape) == (p.shape, q.shape)
    torch.testing.assert_close(a[1, 4], circ(p[1, 4]) @ whole_q[1, 0] / 6**0.5)
    torch.testing.assert_close(s[0, 2], circ(q[0, 2]) @ whole_p[0, 0] / 6**0.5)


def test_half_precision_goes_through_single_precision() -> None:
    """An FFT in bfloat16 does not exist; autocast must not ask for one."""
    p, q = (x.float() for x in pair(12))
    expected = circular_correlation(p, q)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(circular_correlation(p, q), expected)
        found = circular_correlation(p.bfloat16(), q.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found, circular_correlation(p.bfloat16().float(), q.bfloat16().float())
    )


def test_correlation_keeps_unit_variance() -> None:
    torch.manual_seed(0)
    p, q = torch.randn(4_000, 64), torch.randn(4_000, 64)
    a, _ = CirculantInteraction(64, "corr", "fft")(p, q, p, q)
    assert float(a.var()) == pytest.approx(1.0, abs=0.05)
