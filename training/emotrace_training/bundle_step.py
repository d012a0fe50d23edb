"""`bundle`: encoders, fusion model and calibration of one seed -> a bundle with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from safetensors.torch import load_file

from emotrace_models.bundle import Bundle
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_training.calibrate import CALIBRATION
from emotrace_training.card import write_card
from emotrace_training.card_data import MADE_OF, MadeOf
from emotrace_training.fusion import LABELS, load_fusion
from emotrace_training.lexical import load_tower

LIMIT = 30_000_000  # bytes: the bundle ships inside the package


class BundleTooLarge(ValueError):
    """A bundle that cannot ship with the package."""


def build(
    acoustic: Path, lexical: Path, fusion: Path, name: str, version: str, made_of: MadeOf
) -> Bundle:
    """The bundle of what the steps left in their folders; `fusion` is the folder of one seed."""
    config = CompactAcousticConfig(**json.loads((acoustic / "config.json").read_text()))
    encoder = CompactAcoustic(config)
    encoder.load_state_dict(load_file(acoustic / "encoder.safetensors"))
    tower = load_tower(lexical)
    model = load_fusion(fusion)
    settings: Mapping[str, Any] = json.loads((fusion / CALIBRATION).read_text())
    bundle = Bundle(
        name=name,
        version=version,
        licence=made_of.licence,
        languages=made_of.languages,
        labels=LABELS,
        encoders=(encoder.eval(), tower),
        fusion=model,
        calibration=Calibration(settings["temperatures"], settings["abstain_below"]),
        decoder=DecoderConfig(**settings["decoder"]),
        card="",
        licence_text=made_of.licence_text,
        assets={TOKENIZER: (lexical / TOKENIZER).read_bytes()},
    )
    return replace(bundle, card=write_card(bundle, made_of))


def command(
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    lexical: Annotated[Path, typer.Option(help="from `lexical`")] = Path("runs/lexical"),
    fusion: Annotated[Path, typer.Option(help="from `fuse`")] = Path("runs/fusion"),
    seed: Annotated[int, typer.Option(help="which of the fusion models")] = 0,
    out: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("runs/bundles/default"),
    name: Annotated[str, typer.Option(help="the bundle's name")] = "default",
    version: Annotated[str, typer.Option()] = "1",
    made_of: Annotated[
        str, typer.Option(help=f"whose data and licence the card states: {', '.join(MADE_OF)}")
    ] = "default",
) -> None:
    """Write a bundle that emotrace-serve loads. `report --update-card` puts figures in its card."""
    if made_of not in MADE_OF:
        raise typer.BadParameter(f"no {made_of!r}; there are {', '.join(MADE_OF)}")
    bundle = build(acoustic, lexical, fusion / f"seed-{seed}", name, version, MADE_OF[made_of])
    bundle.save(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    if size > LIMIT:
        raise BundleTooLarge(f"{out} has {size} bytes, more than {LIMIT}")
    Bundle.load(out)  # what was written can be read
    typer.echo(f"{out}: {size / 1e6:.1f} MB")
