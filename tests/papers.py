"""A bundle of each of the five papers' models: their real encoders and fusion, small and random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from emotrace_models import registry
from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import Encoder
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Modality

BOTH = (Modality.ACOUSTIC, Modality.LEXICAL)

# Fusion model: its encoders, the settings of its small form that name the encoders' widths, and
# what it cannot do without.
PAPERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[Modality, ...]]] = {
    "gated_xlstm": (("clap_audio", "clap_text"), ("embedding", "embedding"), ()),
    "dual_stream": (("mel_image", "hubert"), ("image", "acoustic"), (Modality.ACOUSTIC,)),
    "gban": (("mel_frames", "words"), ("acoustic", "lexical"), BOTH),
    "mlcct": (("tera", "roberta"), ("acoustic", "lexical"), BOTH),
    "tucker": (("mel_segment", "resnet_frames"), ("bands", "faces"), ()),
}


def paper_bundle(path: Path, name: str) -> Path:
    """Write it to folder `path`, named after its model. Same model, same bundle."""
    torch.manual_seed(3)
    encoder_names, width_settings, requires = PAPERS[name]
    encoders: list[Encoder] = []
    for encoder_name in encoder_names:
        kind = registry.lookup("encoder", encoder_name)
        encoders.append(kind(*kind.small()).eval())
    labels = SCHEMES["common4"]
    kind = registry.lookup("fusion", name)
    widths: dict[str, Any] = {
        setting: encoder.width for setting, encoder in zip(width_settings, encoders, strict=True)
    }
    fusion = kind(replace(kind.small_config(len(labels.names)), **widths)).eval()
    with torch.no_grad():  # some outputs begin at zero
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    bundle = Bundle(
        name=name.replace("_", "-"),
        version="0",
        licence="CC0-1.0",
        languages=("en",),
        labels=labels,
        encoders=tuple(encoders),
        fusion=fusion,
        calibration=Calibration(),
        decoder=DecoderConfig(p0=0.4),
        card=f"# {name}\n\nRandom weights, for tests.\n",
        licence_text="CC0-1.0\n",
        assets={name: data for one in encoders for name, data in one.asset_files.items()},
        requires=requires,
    )
    bundle.save(path)
    return path
