"""`fast`: gives a bundle what the profile `fast` needs, and measures what that profile does to it.

    emotrace-train fast runs/bundles/mine --manifest runs/manifest.jsonl

Text towers become 8-bit graphs beside the weights, and drift.json says how often both profiles
agree on test dialogues, and how far their posteriors lie apart.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from emotrace_models.bundle import Bundle, bundle_path
from emotrace_models.drift import LEAST, Drift
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.compact_face import CompactFace
from emotrace_models.profiles import fast
from emotrace_models.types import Modality
from emotrace_training.compose import composed_file, read_composed
from emotrace_training.corpora.fer2013 import read_fer2013
from emotrace_training.drifting import drift
from emotrace_training.evaluated_dialogues import KnownFaces, utterance
from emotrace_training.face import pictures, vectors_of
from emotrace_training.fast_form import recorded_drift, with_drift, with_graphs
from emotrace_training.manifests import Record, dialogues_of, read_manifest
from emotrace_training.telling import TrainingError, named_errors


def command(
    bundle: Annotated[str, typer.Argument(help="a bundle's folder, or the name of a shipped one")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="default: the bundle's own folder")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="measure on the dialogues of its split `test`")
    ] = None,
    composed: Annotated[
        Path, typer.Option(help="without --manifest: measure on the test dialogues of `compose`")
    ] = Path("runs/composed"),
    draw: Annotated[int, typer.Option(help="which of the composed test sets")] = 0,
    faces: Annotated[
        Path, typer.Option(help="FER2013, whose faces composed dialogues show")
    ] = Path("../shared/data/fer2013"),
    least: Annotated[
        float, typer.Option(min=0, max=1, help="share of equal labels that is asked")
    ] = LEAST,
) -> None:
    """Make the fast form of a bundle, with its drift report: emotrace-serve --profile fast."""
    torch.set_num_threads(1)  # as the service computes
    with named_errors():
        folder = bundle_path(bundle)
        ready = with_graphs(Bundle.load(folder), typer.echo)
        if manifest is None:
            found = composed_drift(ready, composed, draw, faces)
        else:
            found = recorded_drift(ready, dialogues_in(manifest), f"{manifest.name}, split test")
        with_drift(ready, found, least).save(out or folder)
    typer.echo(told(found))


def dialogues_in(manifest: Path) -> list[list[Record]]:
    """The test dialogues of a manifest. Raises ManifestError, TrainingError."""
    records = [record for record in read_manifest(manifest) if record.split == "test"]
    if not records:
        raise TrainingError(f"{manifest}: no record has the split test; name another manifest")
    return list(dialogues_of(records).values())


def composed_drift(bundle: Bundle, composed: Path, draw: int, faces: Path) -> Drift:
    """Over composed test dialogues. Faces in them are cut out already: each form of the bundle
    reads them with its own network, without a detector."""
    dialogues = read_composed(composed_file(composed, "test", draw))
    data = f"composed test dialogues, draw {draw}"
    turns = [dialogue.turns for dialogue in dialogues]
    if Modality.FACIAL not in bundle.fusion.modalities:
        return drift(bundle, fast(bundle), turns, utterance, data)
    shown = {turn.face for dialogue in turns for turn in dialogue}
    side = [face for face in read_fer2013(faces).sides["test"] if face.id in shown]
    pixels, _ = pictures(side)

    def reads(form: Bundle) -> Bundle:
        return replace(form, encoders=tuple(known(encoder) for encoder in form.encoders))

    def known(encoder: Encoder) -> Encoder:
        if not isinstance(encoder, CompactFace):
            return encoder
        vectors = vectors_of(encoder.tower, pixels)
        return KnownFaces({face.id: row for face, row in zip(side, vectors, strict=True)})

    return drift(bundle, fast(bundle), turns, utterance, data, reads)


def told(found: Drift) -> str:
    lines = [f"{found.data}: {', '.join(f'{k} {v}' for k, v in found.numerics.items())}"]
    for scheme, one in found.sets.items():
        lines.append(
            f"  {scheme}: {one.agreement:.2%} of {one.utterances:,} labels agree, with the decoder "
            f"{one.decoder_agreement:.2%}; posteriors differ by {one.largest:.4f} at most, "
            f"{one.mean:.5f} on average"
        )
    return "\n".join(lines)
