"""A toy bundle: the real classes at tiny size with random weights, for tests of everything else."""

from __future__ import annotations

from pathlib import Path

import torch

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import CompactAcoustic, CompactLexical
from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.fusion import GatedxLSTM, GatedxLSTMConfig
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Modality


def toy_bundle(
    path: Path,
    modalities: tuple[Modality, ...] = (Modality.ACOUSTIC, Modality.LEXICAL),
    seed: int = 1,
    name: str = "toy",
    scheme: str = "common4",
    views: tuple[str, ...] = (),
) -> Path:
    """Write a toy bundle to folder `path` and return it. Same seed, same bundle.

    views: smaller label sets that it can be asked for, by scheme.
    """
    torch.manual_seed(seed)
    kinds = [CompactAcoustic, CompactLexical, *[CompactFace] * (Modality.FACIAL in modalities)]
    encoders = {kind.modality: kind(*kind.small()).eval() for kind in kinds}
    width = encoders[Modality.ACOUSTIC].width
    labels = SCHEMES[scheme]
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
    torch.nn.init.normal_(fusion.classifier.weight, std=2.0)  # sharp: the demo has revisions
    bundle = Bundle(
        name=name,
        version="0",
        licence="CC0-1.0",
        languages=("en",),
        labels=labels,
        encoders=tuple(encoders[modality] for modality in modalities),
        fusion=fusion.eval(),
        calibration=Calibration({"acoustic": 1.5, "acoustic+lexical": 1.2}, abstain_below=0.4),
        decoder=DecoderConfig(p0=0.4),
        card="# toy\n\nRandom weights, for tests.\n",
        licence_text="CC0-1.0\n",
        assets={
            name: data
            for modality in modalities
            for name, data in encoders[modality].asset_files.items()
        },
        views={
            view: View(
                Calibration({"acoustic": 2.0, "acoustic+lexical": 1.8}, abstain_below=1.0),
                DecoderConfig(p0=0.3),
            )
            for view in views
        },
    )
    bundle.save(path)
    return path
