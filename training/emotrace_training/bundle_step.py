"""`bundle`: encoders, fusion model and calibration of one seed -> a bundle with its card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from safetensors.torch import load_file

from emotrace_models.bundle import Bundle, View
from emotrace_models.calibration import Calibration
from emotrace_models.decoding import DecoderConfig
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.compact_face import CompactFace, CompactFaceConfig
from emotrace_models.encoders.subwords import TOKENIZER
from emotrace_models.labels import SCHEMES
from emotrace_models.types import Modality
from emotrace_training.calibrate import CALIBRATION
from emotrace_training.card import write_card
from emotrace_training.card_data import MADE_OF, MadeOf
from emotrace_training.fusion import load_fusion
from emotrace_training.fusion_windows import of_seed
from emotrace_training.lexical import load_tower as load_lexical

LIMIT = 40_000_000  # bytes: the bundle ships inside the package


class BundleTooLarge(ValueError):
    """A bundle that cannot ship with the package."""


def build(
    acoustic: Path,
    lexical: Path,
    face: Path,
    fusion: Path,
    name: str,
    version: str,
    made_of: MadeOf,
) -> Bundle:
    """The bundle of what the steps of one seed left in their folders, with the encoders that its
    fusion model reads; `face` is not looked at by a model without faces."""
    fitted = load_fusion(fusion)
    encoders: list[Encoder] = [
        _encoder(CompactAcoustic, CompactAcousticConfig, acoustic),
        load_lexical(lexical),
    ]
    if Modality.FACIAL in fitted.model.modalities:
        encoders.append(_encoder(CompactFace, CompactFaceConfig, face))
    sets: Mapping[str, Any] = json.loads((fusion / CALIBRATION).read_text())["sets"]
    own, *smaller = ((scheme, _view(settings)) for scheme, settings in sets.items())
    bundle = Bundle(
        name=name,
        version=version,
        licence=made_of.licence,
        languages=made_of.languages,
        labels=SCHEMES[own[0]],
        encoders=tuple(encoders),
        fusion=fitted.model,
        calibration=own[1].calibration,
        decoder=own[1].decoder,
        card="",
        licence_text=made_of.licence_text,
        assets={TOKENIZER: (lexical / TOKENIZER).read_bytes()},
        views=dict(smaller),
    )
    return replace(bundle, card=write_card(bundle, made_of))


def _encoder(
    encoder: Callable[[Any], Encoder], config: Callable[..., Any], folder: Path
) -> Encoder:
    """The encoder that a step left in its folder."""
    found = encoder(config(**json.loads((folder / "config.json").read_text())))
    found.load_state_dict(load_file(folder / "encoder.safetensors"))
    return found.eval()


def _view(settings: Mapping[str, Any]) -> View:
    biases = {key: tuple(bias) for key, bias in settings["biases"].items()}
    calibration = Calibration(settings["temperatures"], settings["abstain_below"], biases)
    return View(calibration, DecoderConfig(**settings["decoder"]))


def command(
    acoustic: Annotated[Path, typer.Option(help="from `acoustic`")] = Path("runs/acoustic"),
    lexical: Annotated[Path, typer.Option(help="from `lexical`")] = Path("runs/lexical"),
    face: Annotated[Path, typer.Option(help="from `face`")] = Path("runs/face"),
    fusion: Annotated[Path, typer.Option(help="from `fuse`")] = Path("runs/fusion"),
    seed: Annotated[int, typer.Option(help="which of the fusion models")] = 0,
    out: Annotated[Path, typer.Option(help="the bundle's folder")] = Path("runs/bundles/default"),
    name: Annotated[str, typer.Option(help="the bundle's name")] = "default",
    version: Annotated[str, typer.Option()] = "2",
    made_of: Annotated[
        str, typer.Option(help=f"whose data and licence the card states: {', '.join(MADE_OF)}")
    ] = "default",
) -> None:
    """Write a bundle that emotrace-serve loads. `report --update-card` puts figures in its card.

    The towers of seed N are those in ACOUSTIC-N, LEXICAL-N and FACE-N where they are there.
    """
    if made_of not in MADE_OF:
        raise typer.BadParameter(f"no {made_of!r}; there are {', '.join(MADE_OF)}")
    bundle = build(
        of_seed(acoustic, seed),
        of_seed(lexical, seed),
        of_seed(face, seed),
        fusion / f"seed-{seed}",
        name,
        version,
        MADE_OF[made_of],
    )
    bundle.save(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    if size > LIMIT:
        raise BundleTooLarge(f"{out} has {size} bytes, more than {LIMIT}")
    Bundle.load(out)  # what was written can be read
    typer.echo(f"{out}: {size / 1e6:.1f} MB")
