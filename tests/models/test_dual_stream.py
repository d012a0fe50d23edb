"""Dual stream: the published identities of CAF and DPCNN, every fusion, every encoder A."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from emotrace_models import registry
from emotrace_models.fusion.base import Sequences
from emotrace_models.fusion.dual_stream import DualStream
from emotrace_models.fusion.dual_stream_config import DualStreamConfig, EncoderA, Fusion
from emotrace_models.layers.caf import (
    CAF,
    Aligned,
    Concatenation,
    FiLM,
    Headed,
    LinearFusion,
    SplitFiLM,
    Sum,
)
from emotrace_models.layers.dpcnn import DPCNN
from emotrace_models.layers.text_rcnn import ReleasedBiLSTM, TextRCNN

FUSIONS = get_args(Fusion)
BATCH, FRAMES, CLASSES = 5, 9, 3
SMALL = DualStream.small_config(CLASSES)


def model(fusion: str = "caf", **settings: object) -> DualStream:
    torch.manual_seed(5)
    return DualStream(replace(SMALL, fusion=fusion, **settings)).eval()  # type: ignore[arg-type]


def sequences(values: Tensor, lengths: Tensor) -> Sequences:
    return Sequences(values[:, None], lengths[:, None])


def inputs(rubbish: float = 0.0, frames: int = FRAMES) -> dict[str, Sequences]:
    """All there; short frames; no frames; no image; neither."""
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(BATCH, SMALL.image, SMALL.image, generator=generator)
    steps = torch.randn(BATCH, FRAMES, SMALL.acoustic, generator=generator)
    steps = nn.functional.pad(steps, (0, 0, 0, frames - FRAMES))
    image_lengths = torch.tensor([16, 16, 16, 0, 0])
    lengths = torch.tensor([FRAMES, 4, 0, 7, 0])
    for values, counts in ((image, image_lengths), (steps, lengths)):
        for row, count in zip(values, counts, strict=True):
            row[count:] = rubbish
    return {
        "spectrogram": sequences(image, image_lengths),
        "acoustic": sequences(steps, lengths),
    }


@pytest.mark.parametrize("d3", [None, 5])
@torch.inference_mode()
def test_12_4_caf_is_k1_plus_k2_plus_v(d3: int | None) -> None:
    caf = CAF(7, 4, d3 or CLASSES).double()
    x, y = torch.randn(BATCH, 7).double(), torch.randn(BATCH, 4).double()
    expected = caf.k1(x) + caf.k2(y) + caf.v(torch.cat([x, y], dim=1))
    torch.testing.assert_close(caf(x, y), expected, rtol=1e-12, atol=1e-12)
    first, _ = caf.branches(x, torch.zeros_like(y))
    _, second = caf.branches(torch.zeros_like(x), y)
    torch.testing.assert_close(first + second, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("aligned", [None, 8])
@pytest.mark.parametrize("kind", ["caf", "headed", "sum", "con"])
@torch.inference_mode()
def test_12_4_fuse_gives_one_linear_layer_that_equals_the_module(
    kind: str, aligned: int | None
) -> None:
    d1, d2 = (6, 6) if kind == "sum" and aligned is None else (7, 4)
    fusions: dict[str, LinearFusion] = {
        "caf": CAF(d1, d2, 3),
        "headed": Headed(CAF(d1, d2, 5), nn.Linear(5, 3)),
        "sum": Sum(Aligned(d1, d2, aligned), 3),
        "con": Concatenation(Aligned(d1, d2, aligned), 3),
    }
    fusion = fusions[kind].double()
    x, y = torch.randn(BATCH, d1).double(), torch.randn(BATCH, d2).double()
    layer = fusion.fuse()
    assert type(layer) is nn.Linear
    assert layer.weight.shape == (3, d1 + d2)
    together = torch.cat([x, y], dim=1)
    torch.testing.assert_close(layer(together), fusion(x, y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"d3": 4}])
@torch.inference_mode()
def test_12_4_stream_contributions_sum_to_the_logits(settings: dict[str, object]) -> None:
    output = model("caf", **settings)(inputs())
    parts = output.explain["stream_contributions"]
    assert parts.shape == (BATCH, 2, CLASSES)
    torch.testing.assert_close(parts.sum(1), output.logits, rtol=0, atol=1e-6)
    assert parts.abs().amin() > 0  # the biases are halved between both


def test_12_5_dpcnn_heights_for_224() -> None:
    assert DPCNN(224, 224, 2, True, True).heights == (222, 110, 54, 26, 12, 5, 2)


@torch.inference_mode()
def test_dpcnn_is_the_published_two_dimensional_network() -> None:
    """The release's own sequence of 2-D layers, with the same weights."""
    torch.manual_seed(1)
    network = DPCNN(23, 17, 6, share_weights=True, first_shortcut=True)
    (shared,) = network.convolutions
    region = nn.Conv2d(1, 6, (3, 17))
    region.load_state_dict(
        {
            "weight": network.region.weight.transpose(1, 2)[:, None],
            "bias": network.region.bias,
        }
    )
    deep = nn.Conv2d(6, 6, (3, 1))
    deep.load_state_dict({"weight": shared.weight[..., None], "bias": shared.bias})
    pad, pool = nn.ZeroPad2d((0, 0, 1, 1)), nn.MaxPool2d((3, 1), stride=2)

    def pair(x: Tensor) -> Tensor:
        out: Tensor = deep(pad(deep(pad(x).relu())).relu())
        return out + x

    image = torch.randn(2, 23, 17)
    x = pair(region(image[:, None]))
    seen = [x.shape[2]]
    while x.shape[2] > 2:
        x = pair(pool(x))
        seen.append(x.shape[2])
    if x.shape[2] == 2:
        x = nn.functional.max_pool2d(x, (2, 1))
    steps, vector = network(image)
    assert tuple(seen) == network.heights
    assert steps.shape == (2, sum(seen), 6)
    torch.testing.assert_close(vector, x.flatten(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [3, 4, 5, 7, 16, 64, 223])
def test_dpcnn_reads_images_of_any_height(steps: int) -> None:
    network = DPCNN(steps, 5, 4, share_weights=False, first_shortcut=False)
    assert network.heights[-1] in (1, 2)
    assert len(network.convolutions) == 2 * len(network.heights)
    assert network(torch.randn(2, steps, 5))[1].shape == (2, 4)


def test_an_image_smaller_than_the_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="2 steps is smaller than the kernel of 3"):
        replace(SMALL, image=2)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_at_224_are_those_of_the_formulas() -> None:
    with torch.device("meta"):
        dpcnn = DPCNN(224, 224, 250, True, True)
        assert parameters(dpcnn) == 3 * 224 * 250 + 250 + 3 * 250 * 250 + 250
        lstm = 2 * 4 * 384 * (768 + 384 + 2)
        embedding = 224 * 768 + 768
        text = TextRCNN(224, 768, 384)
        assert (text.width, parameters(text)) == (1536, embedding + lstm)
        released = ReleasedBiLSTM(224, 768, 384, 0.5)
        assert (released.width, parameters(released)) == (768, embedding + lstm)
        assert parameters(released.head(12)) == 768 * 384 + 384 + 384 * 12 + 12
        # The released dual stream at its 12 + 12 features, without its HuBERT.
        whole = DualStream(DualStreamConfig(7, b_features="logits12"))
        head = 768 * 256 + 256 + 256 * 12 + 12
        caf = 2 * (12 * 7 + 7) + 24 * 7 + 7
        assert parameters(whole) == parameters(dpcnn) + 250 * 12 + 12 + head + caf


@torch.inference_mode()
def test_textrcnn_takes_the_largest_of_all_steps() -> None:
    network = TextRCNN(6, 5, 4)
    image = torch.randn(2, 7, 6)
    embedded = network.embedding(image)
    expected = torch.cat([embedded, network.lstm(embedded)[0]], -1).relu().amax(1)
    steps, vector = network(image)
    assert steps.shape == (2, 7, 13)
    torch.testing.assert_close(vector, expected)


@torch.inference_mode()
def test_the_released_bilstm_keeps_the_final_states() -> None:
    network = ReleasedBiLSTM(6, 5, 4, 0.5)
    image = torch.randn(2, 7, 6)
    steps, vector = network(image)
    # Forwards it ends at the last step, backwards at the first.
    torch.testing.assert_close(vector, torch.cat([steps[:, -1, :4], steps[:, 0, 4:]], -1))


@torch.inference_mode()
def test_film_is_the_released_cross_film() -> None:
    film = FiLM(Aligned(4, 4, None), 3)
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    scale_x, shift_x = film.of_x(x).split(4, -1)
    scale_y, shift_y = film.of_y(y).split(4, -1)
    both = torch.cat([scale_y * x + shift_y, scale_x * y + shift_x], -1)
    torch.testing.assert_close(film(x, y), film.out(both))
    assert parameters(FiLM(Aligned(12, 12, None), 7)) == 2 * (12 * 24 + 24) + 24 * 7 + 7


@torch.inference_mode()
def test_film_split_is_equations_5_to_7() -> None:
    film = SplitFiLM(Aligned(5, 3, 4), 3)
    x, y = torch.randn(2, 5), torch.randn(2, 3)
    (v_x, w_x), (v_y, w_y) = film.aligned.first(x).split(2, -1), film.aligned.second(y).split(2, -1)
    both = torch.cat([v_x * w_y + w_x, v_y * w_x + w_y], -1)
    torch.testing.assert_close(film(x, y), film.out(both))
    assert film.out.in_features == 4


@torch.inference_mode()
def test_the_image_is_read_by_mel_rows_or_by_frames() -> None:
    by_rows, by_frames = model(axis="freq"), model(axis="time")
    by_frames.load_state_dict(by_rows.state_dict())
    given = inputs()
    turned = dict(given)
    image = given["spectrogram"]
    turned["spectrogram"] = Sequences(image.values.transpose(2, 3), image.lengths)
    torch.testing.assert_close(by_rows(given).logits[:3], by_frames(turned).logits[:3])
    assert not torch.allclose(by_rows(given).logits[0], by_frames(given).logits[0])


@torch.inference_mode()
def test_stream_b_is_the_mean_of_its_real_frames() -> None:
    pooled = model("con", b_features="pool768", d2=None)
    given = inputs()
    averaged = dict(given)
    values, lengths = given["acoustic"].current()
    mean = values.sum(1, keepdim=True) / lengths.clamp_min(1)[:, None, None]
    averaged["acoustic"] = sequences(mean, lengths.clamp_max(1))
    torch.testing.assert_close(pooled(given).logits, pooled(averaged).logits)


@pytest.mark.parametrize("encoder", get_args(EncoderA))
@pytest.mark.parametrize("fusion", FUSIONS)
@torch.inference_mode()
def test_alone_unpadded_and_beside_rubbish_are_the_same(fusion: str, encoder: str) -> None:
    network = model(fusion, encoder_a=encoder)
    together = network(inputs()).logits
    assert together.shape == (BATCH, CLASSES)
    assert together.isfinite().all()
    assert torch.equal(network(inputs(rubbish=torch.nan)).logits, together)
    for i in range(BATCH):
        alone = {
            name: Sequences(
                s.values[i : i + 1, :, : max(1, int(s.lengths[i, 0]))], s.lengths[i : i + 1]
            )
            for name, s in inputs(frames=FRAMES + 6).items()
        }
        expected = together[i : i + 1]
        torch.testing.assert_close(network(alone).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.inference_mode()
def test_additive_fusions_explain_themselves(fusion: str) -> None:
    network = model(fusion)
    output = network(inputs())
    assert network.additive == (fusion in ("caf", "sum", "con", "single_a", "single_b"))
    if not network.additive:
        assert "contributions" not in output.explain
        return
    contributions = output.explain["contributions"]
    assert contributions.shape == (BATCH, len(network.streams), CLASSES)
    total = contributions.sum(1) + output.explain["bias"]
    torch.testing.assert_close(total, output.logits, rtol=0, atol=1e-6)
    for slot, stream in enumerate(network.streams):
        there = inputs()[stream].lengths[:, 0] > 0
        assert torch.equal(contributions[:, slot].abs().amax(1) > 1e-6, there)


@torch.inference_mode()
def test_attention_rows_are_distributions_over_what_is_there() -> None:
    network = model("caf_attn", aligned=8, heads=2)
    explain = network(inputs()).explain
    to_frames, to_steps = explain["attention_a"], explain["attention_b"]
    steps = sum(network.encoder_a.heights)  # type: ignore[arg-type]
    assert to_frames.shape == (BATCH, steps, FRAMES)
    assert to_steps.shape == (BATCH, FRAMES, steps)
    torch.testing.assert_close(to_frames[:2].sum(-1), torch.ones(2, steps))
    assert to_frames[1, :, 4:].count_nonzero() == 0
    assert to_frames[2:].count_nonzero() == 0  # no frames, or no image
    torch.testing.assert_close(to_steps[1].sum(-1), torch.tensor([1.0] * 4 + [0.0] * 5))
    assert to_steps[2:].count_nonzero() == 0


@pytest.mark.parametrize("encoder", get_args(EncoderA))
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_gradient_reaches_every_parameter(fusion: str, encoder: str) -> None:
    network = model(fusion, encoder_a=encoder, share_weights=False).train()
    nn.functional.cross_entropy(network(inputs()).logits, torch.arange(BATCH) % 3).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("fusion", ["caf", "sum", "con"])
@torch.inference_mode()
def test_the_fused_layer_replaces_the_whole_model_behind_the_vectors(fusion: str) -> None:
    network = model(fusion)
    given = inputs()
    x = network.head_a(network.encoder_a(given["spectrogram"].current()[0])[1])
    values, lengths = given["acoustic"].current()
    y = network.head_b(values.sum(1) / lengths.clamp_min(1)[:, None])
    logits = network.fuse()(torch.cat([x, y], dim=1))[:2]
    torch.testing.assert_close(logits, network(given).logits[:2], rtol=1e-5, atol=1e-5)


def test_what_is_not_linear_does_not_fuse() -> None:
    with pytest.raises(ValueError, match="film is not linear"):
        model("film").fuse()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "mean"}, "fusion must be one of sum, con"),
        ({"axis": "mel"}, "axis must be one of freq, time"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"filters": 0}, "filters must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"fusion": "sum", "d3": 4}, "d3 is a setting of caf"),
        ({"fusion": "caf", "aligned": 4}, "aligned is not a setting of caf"),
        ({"b_features": "pool768", "d2": 5}, "pool768 gives the frames' own width 12"),
        ({"fusion": "film", "d1": 4, "d2": 6}, "film needs aligned"),
        ({"fusion": "film_split", "d1": 5, "d2": 5}, "width of 5 is odd"),
        ({"fusion": "caf_attn", "d2": 6, "heads": 4}, "heads 4 do not divide"),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, object], message: str) -> None:
    plain = {"classes": 3, "image": 16, "acoustic": 12, **settings}
    with pytest.raises(registry.BadConfig, match=message):
        registry.configured("fusion", "dual_stream", plain)
