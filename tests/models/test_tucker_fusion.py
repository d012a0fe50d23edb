"""TuckerFusion: absent streams, padding, alignment, what it explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from largest_tensor import LargestTensor

from emotrace_models.fusion.base import Inputs, Sequences
from emotrace_models.fusion.tucker import TuckerFusion, TuckerFusionConfig
from emotrace_models.types import Modality

CLASSES = 4
SMALL = TuckerFusion.small_config(CLASSES)
ACOUSTIC, FACIAL = Modality.ACOUSTIC, Modality.FACIAL


def built(**changes: Any) -> TuckerFusion:
    torch.manual_seed(3)
    return TuckerFusion(replace(SMALL, **changes)).eval()


def contexts(audio: list[bool], faces: list[int], extra: int = 0) -> Inputs:
    """A batch: which items have sound, how many frames each has; `extra` steps of padding."""
    generator = torch.Generator().manual_seed(11)
    count, frames = len(audio), SMALL.mel_frames
    mel = torch.zeros(count, 1, frames + extra, SMALL.bands)
    face = torch.zeros(count, 1, max(1, *faces) + extra, SMALL.faces)
    for row, (heard, seen) in enumerate(zip(audio, faces, strict=True)):
        sound = torch.randn(frames, SMALL.bands, generator=generator)
        pictures = torch.randn(16, SMALL.faces, generator=generator)
        if heard:
            mel[row, 0, :frames] = sound
        face[row, 0, :seen] = pictures[:seen]
    return {
        "acoustic": Sequences(mel, torch.tensor([[frames if a else 0] for a in audio])),
        "facial": Sequences(face, torch.tensor([[n] for n in faces])),
    }


AUDIO, FACES = [True, True, False, False, True], [9, 0, 4, 0, 1]


@pytest.mark.parametrize("align", ["before", "after"])
def test_each_item_is_the_same_alone_and_padded_with_anything(align: str) -> None:
    model = built(align=align)
    whole = contexts(AUDIO, FACES, extra=3)
    for stream in whole.values():
        stream.values[~stream.mask()] = torch.nan
    together = model(whole).logits
    assert together.isfinite().all()
    for row in range(len(AUDIO)):
        alone = {
            name: Sequences(s.values[row : row + 1], s.lengths[row : row + 1])
            for name, s in contexts(AUDIO, FACES).items()
        }
        torch.testing.assert_close(model(alone).logits[0], together[row], atol=1e-5, rtol=0)


def test_both_streams_matter_where_they_are() -> None:
    model = built()
    with_both, silent, unseen = (
        model(contexts(audio, faces)).logits
        for audio, faces in (([True], [9]), ([False], [9]), ([True], [0]))
    )
    assert (with_both - silent).abs().max() > 1e-3
    assert (with_both - unseen).abs().max() > 1e-3


@pytest.mark.parametrize("modalities", [(ACOUSTIC, FACIAL), (ACOUSTIC,), (FACIAL,)])
@pytest.mark.parametrize("readout", ["core_fbp", "marginal_fbp", "flatten"])
@pytest.mark.parametrize(("align", "residual"), [("before", True), ("after", False)])
def test_every_parameter_learns_from_a_batch_with_and_without_each_stream(
    modalities: tuple[Modality, ...], readout: str, align: str, residual: bool
) -> None:
    model = built(modalities=modalities, readout=readout, align=align, residual=residual).train()
    assert model.modalities == modalities
    inputs = {n: s for n, s in contexts(AUDIO, FACES).items() if n in model.streams}
    torch.nn.functional.cross_entropy(
        model(inputs).logits, torch.tensor([0, 1, 2, 3, 0])
    ).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_what_is_explained() -> None:
    model = built()
    explain = model(contexts(AUDIO, FACES)).explain
    batch, steps, heads = len(AUDIO), SMALL.steps, SMALL.heads
    assert explain["attn_a2v"].shape == explain["attn_v2a"].shape == (batch, heads, steps, steps)
    for weights in (explain["attn_a2v"], explain["attn_v2a"]):
        torch.testing.assert_close(weights.sum(-1), torch.ones(batch, heads, steps))
    assert explain["time_saliency"].shape == (batch, steps)
    torch.testing.assert_close(explain["time_saliency"].sum(-1), torch.ones(batch))
    assert explain["core_energy"].shape == (batch, SMALL.ranks[0])
    assert (explain["core_energy"] > 0).all()


def test_aligned_after_attention_only_real_frames_are_asked() -> None:
    weights = built(align="after")(contexts([True, True], [9, 4])).explain["attn_a2v"]
    assert weights.shape[-1] == 9
    torch.testing.assert_close(weights[1, ..., :4].sum(-1), torch.ones(SMALL.heads, SMALL.steps))


def test_saliency_is_of_the_steps_that_make_the_logits() -> None:
    """A step whose row of the time factor is zero adds nothing to any output."""
    model = built()
    with torch.no_grad():
        model.tucker.time[2] = 0.0
    saliency = model(contexts(AUDIO, FACES)).explain["time_saliency"]
    assert not saliency[:, 2].any()
    assert (saliency.sum(-1) > 0.99).all()


def test_batch_norm_in_training_counts_only_items_with_sound() -> None:
    """Silence is absent, not black pictures: it must not move the running statistics."""
    sound, mixed = (built().train() for _ in range(2))
    sound(contexts([True, True], [3, 3]))
    mixed(contexts([True, True, False, False], [3, 3, 3, 0]))
    for (name, one), other in zip(sound.named_buffers(), mixed.buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_a_spectrogram_of_another_length_is_refused() -> None:
    inputs = dict(contexts([True], [3]))
    inputs["acoustic"] = Sequences(torch.zeros(1, 1, 15, SMALL.bands), torch.tensor([[15]]))
    with pytest.raises(ValueError, match=r"16 frames \(mel_frames\), not \[15\]"):
        built()(inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ("lexical",)}, "modalities must be of acoustic, facial"),
        ({"heads": 5}, "heads 5 does not divide width 12"),
        ({"faces": 5}, "faces must be even"),
        ({"ranks": (3, 5)}, "ranks must be three numbers"),
        ({"ranks": (3, 5, 13)}, "video rank must be from 1 to 12"),
        ({"align": "never"}, "align must be one of before, after"),
        ({"readout": "sum"}, "readout must be one of core_fbp"),
        ({"dropout": 1.0}, "dropout must be from 0 to under 1"),
        ({"channels": ()}, "channels must be positive numbers"),
    ],
)
def test_a_bad_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**changes)


def test_12_8_the_whole_model_at_the_papers_size_never_holds_the_outer_product() -> None:
    model = TuckerFusion(TuckerFusionConfig(classes=8))
    sequence = {"acoustic": (256, 128), "facial": (90, 512)}
    inputs = {
        name: Sequences(torch.randn(2, 1, *shape), torch.full((2, 1), shape[0]))
        for name, shape in sequence.items()
    }
    with LargestTensor() as mode:
        model(inputs).logits.sum().backward()
    assert mode.largest == 2 * 32 * 128 * 256  # the first feature map of the audio CNN
    assert mode.largest < 2 * 60 * 256 * 256


def test_training_in_bfloat16_keeps_finite_gradients() -> None:
    model = built().train()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(contexts(AUDIO, FACES)).logits
    logits.float().logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_the_papers_sizes() -> None:
    """Appendix A: 60 x 128 audio, ranks 30 x 128 x 128, 512 pooled; the video net is outside."""
    with torch.device("meta"):
        model = TuckerFusion(TuckerFusionConfig(classes=8))
        mel = torch.zeros(1, 256, 128)
        assert model.mel is not None
        assert model.mel.cnn(mel).shape == (1, 60, 128)
    counts = {
        name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()
    }
    assert counts["tucker"] == 60 * 30 + 2 * 256 * 128
    assert counts["readout"] == (30 + 128 + 128) * 512 * 5
    assert counts["face"] == 6 * (512 * 256 + 256 * 256 + 2 * 256) + 512 * 256 + 256
    assert counts["classifier"] == 512 * 8 + 8
