"""A toy bundle: the real classes at tiny size with random weights, for tests of everything else."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import (
    CompactAcoustic,
    CompactAcousticConfig,
    CompactLexical,
    CompactLexicalConfig,
)
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Modality


def toy_tokenizer() -> bytes:
    """A byte-level tokenizer trained on one sentence."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["i am so happy to see you, this is a sad day"], trainer)
    return bytes(tokenizer.to_str(), "utf-8")


def toy_bundle(
    path: Path,
    modalities: tuple[Modality, ...] = (Modality.ACOUSTIC, Modality.LEXICAL),
    seed: int = 0,
    name: str = "toy",
) -> Path:
    """Write a toy bundle to folder `path` and return it. Same seed, same bundle."""
    torch.manual_seed(seed)
    assets = {"tokenizer.json": toy_tokenizer()}
    width = 16
    encoders = {
        Modality.ACOUSTIC: CompactAcoustic(
            CompactAcousticConfig(
                width=width, members=2, channels=(4, 6, 8, 8), contour=4, pooled=8
            )
        ),
        Modality.LEXICAL: CompactLexical(
            CompactLexicalConfig(vocabulary=512, width=width, heads=2, tokens=16), assets
        ),
    }
    labels = SCHEMES["common4"]
    fusion = GatedxLSTM(
        GatedxLSTMConfig(
            modalities=modalities,
            classes=len(labels.names),
            embedding=width,
            steps=4,
            width=16,
            blocks=1,
            heads=2,
            share="modality",
            missing="mask",
        )
    )
    torch.nn.init.normal_(fusion.classifier.weight)
    bundle = Bundle(
        name=name,
        version="0",
        licence="CC0-1.0",
        languages=("en",),
        labels=labels,
        encoders=tuple(encoders[modality].eval() for modality in modalities),
        fusion=fusion.eval(),
        calibration=Calibration({"acoustic": 1.5, "acoustic+lexical": 1.2}, abstain_below=0.4),
        decoder=DecoderConfig(p0=0.4),
        card="# toy\n\nRandom weights, for tests.\n",
        licence_text="CC0-1.0\n",
        assets=assets if Modality.LEXICAL in modalities else {},
    )
    bundle.save(path)
    return path
