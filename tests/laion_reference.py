"""LAION's CLAP, written a second time: what a `.pt` of laion-clap holds, and what it computes.

The names and shapes are those of 630k-audioset-best.pt. `audio_vector` is a plain reading of HTSAT
(Chen et al., ICASSP 2022) over LAION's own state dict: with the same random weights, laion-clap
1.1.7 has these very keys and gives these vectors to 9e-8, its front end included
(test_clap_checkpoint.py repeats that where the package is installed). The text branch of laion-clap
*is* transformers' RobertaModel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import RobertaConfig, RobertaModel

WINDOW, FOLDS, BANDS = 8, 4, 64


@dataclass(frozen=True)
class Sizes:
    patch: int = 8
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 2, 4)
    text: int = 32
    layers: int = 2
    text_heads: int = 4
    inner: int = 64
    vocabulary: int = 260
    positions: int = 100
    joint: int = 24
    classes: int = 5


REAL = Sizes(
    patch=96,
    depths=(2, 2, 6, 2),
    heads=(4, 8, 16, 32),
    text=768,
    layers=12,
    text_heads=12,
    inner=3_072,
    vocabulary=50_265,
    positions=514,
    joint=512,
    classes=527,
)


def roberta(sizes: Sizes) -> RobertaModel:
    config = RobertaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.text,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.text_heads,
        intermediate_size=sizes.inner,
        max_position_embeddings=sizes.positions,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )
    return RobertaModel(config).train(False)


def random_state(sizes: Sizes, seed: int = 0, device: str = "cpu") -> dict[str, Tensor]:
    """A state dict as laion-clap saves it, every number random, also those that are never trained
    away from 0 or 1: a norm that is forgotten or mixed up must show."""
    generator = torch.Generator(device).manual_seed(seed) if device == "cpu" else None

    def normal(*shape: int, scale: float = 0.3, offset: float = 0.0) -> Tensor:
        return offset + scale * torch.randn(shape, generator=generator, device=device)

    state: dict[str, Tensor] = {"logit_scale_a": normal(), "logit_scale_t": normal()}

    def linear(name: str, out: int, into: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = normal(out, into, scale=1.0 / math.sqrt(into))
        if bias:
            state[f"{name}.bias"] = normal(out)

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"] = normal(width, offset=1.0)
        state[f"{name}.bias"] = normal(width)

    audio = "audio_branch"
    state[f"{audio}.spectrogram_extractor.stft.conv_real.weight"] = normal(513, 1, 1024)
    state[f"{audio}.spectrogram_extractor.stft.conv_imag.weight"] = normal(513, 1, 1024)
    state[f"{audio}.logmel_extractor.melW"] = mel_bank()
    norm(f"{audio}.bn0", BANDS)
    state[f"{audio}.bn0.running_mean"] = normal(BANDS, scale=5.0, offset=-40.0)
    state[f"{audio}.bn0.running_var"] = normal(BANDS, offset=0.0).abs() * 300 + 50
    state[f"{audio}.bn0.num_batches_tracked"] = torch.tensor(7, device=device)
    state[f"{audio}.patch_embed.proj.weight"] = normal(sizes.patch, 1, 4, 4)
    state[f"{audio}.patch_embed.proj.bias"] = normal(sizes.patch)
    norm(f"{audio}.patch_embed.norm", sizes.patch)
    for stage, (depth, heads) in enumerate(zip(sizes.depths, sizes.heads, strict=True)):
        width, side = sizes.patch * 2**stage, 64 // 2**stage
        for place in range(depth):
            block = f"{audio}.layers.{stage}.blocks.{place}"
            if place % 2 and side > WINDOW:
                state[f"{block}.attn_mask"] = normal((side // WINDOW) ** 2, 64, 64)
            norm(f"{block}.norm1", width)
            state[f"{block}.attn.relative_position_bias_table"] = normal(225, heads)
            state[f"{block}.attn.relative_position_index"] = positions_in_window().to(device)
            linear(f"{block}.attn.qkv", 3 * width, width)
            linear(f"{block}.attn.proj", width, width)
            norm(f"{block}.norm2", width)
            linear(f"{block}.mlp.fc1", 4 * width, width)
            linear(f"{block}.mlp.fc2", width, 4 * width)
        if stage < 3:
            linear(f"{audio}.layers.{stage}.downsample.reduction", 2 * width, 4 * width, bias=False)
            norm(f"{audio}.layers.{stage}.downsample.norm", 4 * width)
    last = sizes.patch * 8
    norm(f"{audio}.norm", last)
    state[f"{audio}.tscam_conv.weight"] = normal(sizes.classes, last, 2, 3)
    state[f"{audio}.tscam_conv.bias"] = normal(sizes.classes)
    linear(f"{audio}.head", sizes.classes, sizes.classes)
    with torch.device("meta"):
        words = roberta(sizes).state_dict()
    for key, value in words.items():
        scale = 1.0 / math.sqrt(value.shape[-1]) if key.endswith("dense.weight") else 0.3
        state[f"text_branch.{key}"] = normal(*value.shape, scale=scale)
    places = torch.arange(sizes.positions, device=device)[None]
    state["text_branch.embeddings.position_ids"] = places
    for branch, width in (("text", sizes.text), ("audio", last)):
        for place, (out, into) in {0: (sizes.joint, width), 2: (sizes.joint, sizes.joint)}.items():
            linear(f"{branch}_projection.{place}", out, into)
        for place in (0, 3):
            linear(f"{branch}_transform.sequential.{place}", sizes.joint, sizes.joint)
    return state


def mel_bank() -> Tensor:
    """librosa.filters.mel(sr=48000, n_fft=1024, n_mels=64, fmin=50, fmax=14000) [bin, band]."""

    def to_mel(hertz: float) -> float:
        linear = hertz * 3 / 200
        return linear if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)

    def to_hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) / 27 * math.log(6.4))

    low, high = to_mel(50), to_mel(14_000)
    edges = [to_hertz(low + (high - low) * i / (BANDS + 1)) for i in range(BANDS + 2)]
    bank = torch.zeros(513, BANDS, dtype=torch.float64)
    for band, (left, middle, right) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for place in range(513):
            hertz = place * 48_000 / 1024
            height = min((hertz - left) / (middle - left), (right - hertz) / (right - middle))
            bank[place, band] = max(0.0, height) * 2 / (right - left)
    return bank.float()


def log_mel(wave: Tensor) -> Tensor:
    """wave [sample] at 48 kHz -> [frame, band] in dB, as LAION's front end gives it."""
    window = torch.hann_window(1024, periodic=True)
    spectrum = torch.stft(wave, 1024, 480, 1024, window, pad_mode="reflect", return_complex=True)
    power = spectrum.abs().square().T @ mel_bank()
    return 10 * power.clamp_min(1e-10).log10()


def audio_vector(state: dict[str, Tensor], sizes: Sizes, mel: Tensor) -> Tensor:
    """mel [frame, band] in dB -> the unit vector [joint]."""
    part = {k.removeprefix("audio_branch."): v for k, v in state.items()}
    mean, spread = part["bn0.running_mean"], part["bn0.running_var"]
    mel = (mel - mean) / (spread + 1e-5).sqrt() * part["bn0.weight"] + part["bn0.bias"]
    long = F.interpolate(mel[None, None], (1024, BANDS), mode="bicubic", align_corners=True)[0, 0]
    # Four strips of 256 frames, one above the other: rows are frequency within a strip.
    picture = torch.cat([strip.T for strip in long.split(256)])  # [256, 256]
    x = F.conv2d(
        picture[None, None], part["patch_embed.proj.weight"], part["patch_embed.proj.bias"], 4
    )[0].permute(1, 2, 0)  # [row, column, width]
    x = layer_norm(part, "patch_embed.norm", x)
    for stage, (depth, heads) in enumerate(zip(sizes.depths, sizes.heads, strict=True)):
        for place in range(depth):
            block = {
                k.removeprefix(f"layers.{stage}.blocks.{place}."): v
                for k, v in part.items()
                if k.startswith(f"layers.{stage}.blocks.{place}.")
            }
            shift = WINDOW // 2 if place % 2 and len(x) > WINDOW else 0
            x = x + attention(block, layer_norm(block, "norm1", x), heads, shift)
            hidden = F.gelu(linear(block, "mlp.fc1", layer_norm(block, "norm2", x)))
            x = x + linear(block, "mlp.fc2", hidden)
        if stage < 3:
            corners = [x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]]
            x = layer_norm(part, f"layers.{stage}.downsample.norm", torch.cat(corners, -1))
            x = x @ part[f"layers.{stage}.downsample.reduction.weight"].T
    pooled = layer_norm(part, "norm", x).mean((0, 1))
    return projected(state, "audio", pooled)


def text_vector(state: dict[str, Tensor], sizes: Sizes, ids: Tensor, mask: Tensor) -> Tensor:
    """ids, mask [token], padded to 77 -> the unit vector [joint]."""
    tower = roberta(sizes)
    own = {k.removeprefix("text_branch."): v for k, v in state.items() if "text_branch." in k}
    own.pop("embeddings.position_ids")
    tower.load_state_dict(own)
    pooled = tower(input_ids=ids[None], attention_mask=mask[None]).pooler_output
    return projected(state, "text", pooled[0])


def projected(state: dict[str, Tensor], branch: str, x: Tensor) -> Tensor:
    first = linear(state, f"{branch}_projection.0", x).relu()
    return F.normalize(linear(state, f"{branch}_projection.2", first), dim=-1)


def linear(part: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ part[f"{name}.weight"].T + part[f"{name}.bias"]


def layer_norm(part: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], part[f"{name}.weight"], part[f"{name}.bias"], 1e-5)


def attention(block: dict[str, Tensor], x: Tensor, heads: int, shift: int) -> Tensor:
    """Within windows of 8 x 8 of x [row, column, width], moved by `shift` around the edges."""
    side, width = len(x), x.shape[-1]
    x = torch.roll(x, (-shift, -shift), (0, 1))
    q, k, v = linear(block, "attn.qkv", x).chunk(3, -1)
    bias = block["attn.relative_position_bias_table"][positions_in_window().flatten()]
    bias = bias.view(64, 64, heads).permute(2, 0, 1)
    # What came around an edge lies in another region, which is not attended to.
    edge = torch.arange(side)
    region = (edge >= side - WINDOW).long() + (edge >= side - shift).long() if shift else edge * 0
    regions = region[:, None] * 3 + region[None, :]
    out = torch.empty_like(x)
    for top in range(0, side, WINDOW):
        for left in range(0, side, WINDOW):
            cut = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            own = [t[cut].reshape(64, heads, -1).transpose(0, 1) for t in (q, k, v)]
            scores = own[0] @ own[1].transpose(1, 2) / math.sqrt(width // heads) + bias
            apart = regions[cut].flatten()
            scores = scores - 100.0 * (apart[:, None] != apart[None, :])
            mixed = scores.softmax(-1) @ own[2]
            out[cut] = mixed.transpose(0, 1).reshape(WINDOW, WINDOW, width)
    return torch.roll(linear(block, "attn.proj", out), (shift, shift), (0, 1))


def positions_in_window() -> Tensor:
    """[64, 64]: which row of the bias table belongs to a pair of places in a window."""
    places = [(row, column) for row in range(WINDOW) for column in range(WINDOW)]
    return torch.tensor(
        [[(a - c + 7) * 15 + (b - d + 7) for c, d in places] for a, b in places], dtype=torch.int64
    )
