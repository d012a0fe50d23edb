"""TFN, LMF and MFB against their equations, and invariant 12.9 of models.md."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from streams import random_inputs, without
from torch import Tensor, nn

from emotrace_models.fusion import Inputs, Sequences
from emotrace_models.fusion.factorized_bilinear import FactorizedBilinear, FactorizedBilinearConfig
from emotrace_models.fusion.low_rank_fusion import LowRankFusion, LowRankFusionConfig
from emotrace_models.fusion.tensor_fusion import TensorFusion, TensorFusionConfig, outer_product
from emotrace_models.fusion.vectors import VectorFusion

TWO = {"acoustic": 6, "lexical": 5}
THREE = {"acoustic": 4, "facial": 3, "lexical": 2}
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "tfn": (TensorFusion, TensorFusionConfig, {}),
    "lmf": (LowRankFusion, LowRankFusionConfig, {"rank": 3, "outputs": 5}),
    "mfb": (FactorizedBilinear, FactorizedBilinearConfig, {"outputs": 5, "factors": 3}),
}


def build(name: str, streams: dict[str, int], **settings: Any) -> VectorFusion:
    torch.manual_seed(3)
    kind, config, own = KINDS[name]
    model = kind(config(3, streams, **{"hidden": 8, **own, **settings}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def vectors(inputs: Inputs) -> dict[str, Tensor]:
    """The mean of each item's real steps, read slowly."""
    return {
        name: torch.stack(
            [one.values[i, 0, : int(one.lengths[i, 0])].mean(0) for i in range(len(one.values))]
        )
        for name, one in inputs.items()
    }


@pytest.mark.parametrize("streams", [TWO, THREE])
def test_tfn_is_every_product_of_the_streams_and_one(streams: dict[str, int]) -> None:
    model = build("tfn", streams, width=0, head="linear")
    inputs = random_inputs(model, 4)
    own = [torch.cat([v, torch.ones(4, 1)], 1) for v in vectors(inputs).values()]
    names = list(model.streams)
    assert names == sorted(streams, key=["acoustic", "lexical", "facial"].index)
    linear = model.head[1]
    for item in range(4):
        terms = [
            torch.stack([v[item, i] for v, i in zip(own, place, strict=True)]).prod()
            for place in product(*(range(v.shape[1]) for v in own))
        ]
        expected = linear.weight @ torch.stack(terms) + linear.bias
        torch.testing.assert_close(model(inputs).logits[item], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("streams", [TWO, THREE])
def test_12_9_lmf_is_the_contraction_of_the_tfn_tensor_with_the_cp_weight(
    streams: dict[str, int],
) -> None:
    """The weight is built from its factors entry by entry, the tensor by TFN's own outer product
    of [1; h]."""
    model = build("lmf", streams, width=0).double()
    assert isinstance(model, LowRankFusion)
    generator = torch.Generator().manual_seed(0)
    hidden = [
        torch.randn(7, width, generator=generator, dtype=torch.float64)
        for width in model.config.widths.values()
    ]
    factors = [model.factors[name] for name in model.streams]
    sizes = [factor.shape[1] for factor in factors]
    weight = torch.zeros(*sizes, model.config.outputs, dtype=torch.float64)
    for place in product(*(range(size) for size in sizes)):
        for rank in range(model.config.rank):
            term = model.weights[0, rank].expand(model.config.outputs)
            for factor, i in zip(factors, place, strict=True):
                term = term * factor[rank, i]
            weight[place] += term
    tensor = outer_product([torch.cat([torch.ones(7, 1).double(), h], 1) for h in hidden])
    expected = tensor @ weight.flatten(0, -2) + model.bias
    torch.testing.assert_close(model.fuse(hidden), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("streams", [TWO, THREE])
def test_mfb_is_its_equation(streams: dict[str, int]) -> None:
    model = build("mfb", streams, width=0)
    assert isinstance(model, FactorizedBilinear)
    hidden = [torch.randn(4, width) for width in model.config.widths.values()]
    for item in range(4):
        z = torch.zeros(5)
        for output in range(5):
            for factor in range(3):
                row = 3 * output + factor
                term = torch.ones(())
                for project, h in zip(model.projections.values(), hidden, strict=True):
                    term = term * (project.weight[row] @ h[item] + project.bias[row])
                z[output] += term
        rooted = z.sign() * z.abs().sqrt()
        torch.testing.assert_close(model.fuse(hidden)[item], rooted / rooted.norm())


@pytest.mark.parametrize("name", KINDS)
def test_an_absent_stream_is_zero_after_its_reader(name: str) -> None:
    model = build(name, TWO, width=4)
    inputs = random_inputs(model, 3)
    keep = torch.tensor([True, False]).expand(3, 1, 2)
    seen = model.readers["acoustic"](vectors(inputs)["acoustic"])
    expected = model.head(model.fuse([seen, torch.zeros_like(seen)]))
    torch.testing.assert_close(model(without(inputs, keep)).logits, expected)


@pytest.mark.parametrize("name", KINDS)
def test_vectors_are_standardised_by_what_was_fitted(name: str) -> None:
    model = build(name, TWO)
    inputs = random_inputs(model, 3)
    mean, spread = torch.randn(6), torch.rand(6) + 0.5
    model.standardise["acoustic"].fit(mean, spread)
    scaled = (inputs["acoustic"].values - mean) / spread
    plain = build(name, TWO, standardise=False)
    plain.load_state_dict(model.state_dict(), strict=False)
    moved = {**inputs, "acoustic": Sequences(scaled, inputs["acoustic"].lengths)}
    torch.testing.assert_close(model(inputs).logits, plain(moved).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("head", ["linear", "two_layer"])
def test_every_parameter_gets_a_gradient_and_dropout_is_of_training(name: str, head: str) -> None:
    model = build(name, THREE, head=head)
    inputs = random_inputs(model, 8)
    torch.testing.assert_close(model(inputs).logits, model(inputs).logits)
    model.train()
    assert not torch.equal(model(inputs).logits, model(inputs).logits)
    nn.functional.cross_entropy(model(inputs).logits, torch.arange(8) % 3).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


def test_the_head_is_the_two_layer_one_of_gban() -> None:
    """Parameters of TFL as GBAN's table has it: 257^2 -> 128 -> C."""
    config = TensorFusionConfig(4, {"acoustic": 256, "lexical": 256}, width=0)
    with torch.device("meta"):
        model = TensorFusion(config)
    expected = 257**2 * 128 + 128 + 128 * 4 + 4
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("tfn", {"streams": {"acoustic": 4}}, "streams"),
        ("tfn", {"streams": {"acoustic": 4, "smell": 4}}, "streams"),
        ("tfn", {"streams": {"acoustic": 4, "lexical": 0}}, "streams"),
        ("tfn", {"width": -1}, "width"),
        ("tfn", {"dropout": 1.0}, "dropout"),
        ("tfn", {"head": "deep"}, "head"),
        ("lmf", {"rank": 0}, "rank"),
        ("mfb", {"factors": 0}, "factors"),
        ("mfb", {"pool_dropout": 1.0}, "pool_dropout"),
    ],
)
def test_a_bad_config_names_the_setting(name: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        KINDS[name][1](**{"classes": 3, "streams": TWO, **settings})
