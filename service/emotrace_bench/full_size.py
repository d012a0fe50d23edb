"""GatedxLSTM with its CLAP towers as the paper has them, random weights: a bundle in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.clap_audio import ClapAudio, ClapAudioConfig
from emotrace_models.encoders.clap_text import ClapText, ClapTextConfig
from emotrace_models.encoders.subwords import TOKENIZER, byte_tokenizer
from emotrace_models.fusion import FusionModel, GatedxLSTM, GatedxLSTMConfig
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Modality

LABELS = SCHEMES["common4"]
BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)
STIR = 0.03  # added to every weight of the stacks: zeros, which many begin as, would hide errors


@dataclass(frozen=True, slots=True)
class Sizes:
    name: str
    audio: ClapAudioConfig
    text: ClapTextConfig
    fusion: GatedxLSTMConfig


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The three parts by their own types."""

    audio: ClapAudio
    text: ClapText
    fusion: GatedxLSTM

    @property
    def parameters(self) -> int:
        parts = (self.audio, self.text, self.fusion)
        return sum(weight.numel() for part in parts for weight in part.parameters())

    def to(self, device: str) -> Model:
        """The same model, its weights moved there."""
        for part in (self.audio, self.text, self.fusion):
            part.to(device)
        return self

    def in_bf16(self) -> Model:
        """With weights of its own in bfloat16, for an accelerator; features stay float32. (The
        profile fast has an 8-bit graph for the text tower, which runs on processors.)"""
        text = self.text.copied()
        text.tower.bfloat16()
        return Model(self.audio.in_bf16(), text, self.fusion.in_bf16())


def full() -> Sizes:
    return Sizes(
        "full", ClapAudioConfig(), ClapTextConfig(), GatedxLSTMConfig(BOTH, len(LABELS.names))
    )


def tiny() -> Sizes:
    """To see that everything runs."""
    audio, text = ClapAudio.small()[0], ClapText.small()[0]
    fusion = GatedxLSTM.small_config(len(LABELS.names))
    return Sizes("tiny", audio, text, replace(fusion, embedding=audio.projection, share="none"))


def build(sizes: Sizes, seed: int) -> Model:
    """Same sizes and seed, same weights; in evaluation mode."""
    torch.manual_seed(seed)
    fusion = GatedxLSTM(sizes.fusion)
    with torch.no_grad():
        for weight in fusion.encoders.parameters():
            weight.add_(torch.randn_like(weight), alpha=STIR)
    return Model(
        ClapAudio(sizes.audio).eval(),
        ClapText(sizes.text, {TOKENIZER: byte_tokenizer().to_str().encode()}).eval(),
        fusion.eval(),
    )


def bundled(model: Model) -> Bundle:
    return bundle_of("full-size", (model.audio, model.text), model.fusion)


def bundle_of(name: str, encoders: tuple[Encoder, ...], fusion: FusionModel) -> Bundle:
    """Of random weights, for the labels LABELS."""
    return Bundle(
        name=name,
        version="0",
        licence="CC0-1.0",
        languages=("en",),
        labels=LABELS,
        encoders=encoders,
        fusion=fusion,
        calibration=Calibration(),
        decoder=DecoderConfig(p0=0.4),
        card="Random weights, to be timed.\n",
        licence_text="CC0-1.0\n",
        assets={name: data for one in encoders for name, data in one.asset_files.items()},
    )
