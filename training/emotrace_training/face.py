"""`emotrace-train face`: the network that reads faces, on FER2013, and vectors of other faces.

    emotrace-train face ../shared/data/fer2013 --out runs/face

`encoder.safetensors` and `config.json` are those of the encoder `compact_face`. `faces.npz` holds
vectors of the sides that the network was not taught (corpora/fer2013.py), which later steps are
fitted to. `network.safetensors` is the network alone, which a recipe's `weights` names for the
encoder `resnet_frames`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from emotrace_models.encoders.compact_face import CompactFace, CompactFaceConfig
from emotrace_models.encoders.face_tower import FaceTower, equalised, grey_face
from emotrace_models.encoders.pictures import centre_square
from emotrace_models.encoders.prototypes import (
    EMOTIONS,
    class_prototypes,
    in_frame,
    prototype_index,
)
from emotrace_models.picture_decoding import decode_picture
from emotrace_models.types import FloatArray
from emotrace_training.corpora.fer2013 import Face, Faces, Side, read_fer2013
from emotrace_training.face_fitting import FaceRecipe, fit_tower
from emotrace_training.metrics import accuracy, confusion, f1_macro, recalls, uar
from emotrace_training.telling import named_errors

UNTAUGHT: tuple[Side, ...] = ("train", "valid", "test")
ENCODER, NETWORK, CONFIG = "encoder.safetensors", "network.safetensors", "config.json"
VECTORS, REPORT, CHECKPOINT = "faces.npz", "report.json", "checkpoint"

SMOKE = CompactFaceConfig(width=16, widths=(4, 8), blocks=(1, 1))
SMOKE_RECIPE = FaceRecipe(epochs=2, coarse=1, batch=16)


def command(
    folder: Annotated[Path, typer.Argument(help="the folder of FER2013")],
    out: Annotated[Path, typer.Option(help="working folder")] = Path("runs/face"),
    seed: Annotated[int, typer.Option(help="of weights, order and views")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the recipe's")] = None,
    start: Annotated[
        Path | None, typer.Option(help="folder of a run to go on from: a warm restart at full size")
    ] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    smoke: Annotated[bool, typer.Option(help="a tiny network for two epochs")] = False,
) -> None:
    """Train the network that reads faces and write its encoder, with held-out vectors."""
    torch.set_num_threads(threads)
    recipe = SMOKE_RECIPE if smoke else FaceRecipe()
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    if start is not None:
        recipe = replace(recipe, coarse=0)
    with named_errors():
        faces = read_fer2013(folder)
        config = SMOKE if smoke else CompactFaceConfig()
        report = fit_face(faces, config, recipe, seed, out, start)
    test = ", ".join(f"{name} {report['test'][name]:.4f}" for name in ("accuracy", "uar"))
    typer.echo(f"{out / ENCODER}: test {test}")


def fit_face(
    faces: Faces,
    config: CompactFaceConfig,
    recipe: FaceRecipe,
    seed: int,
    out: Path,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train on the `network` side, then measure every other side once; writes all files into
    `out` and gives the report."""
    began = time.monotonic()
    valid, classes = pictures(faces.sides["valid"])
    history: list[dict[str, Any]] = []

    def told(epoch: int, loss: float, tower: FaceTower) -> None:
        history.append({"loss": loss, **figures(vectors_of(tower, valid), classes)})
        spent = time.monotonic() - began
        found = f"accuracy {history[-1]['accuracy']:.4f} uar {history[-1]['uar']:.4f}"
        typer.echo(f"epoch {epoch + 1} loss {loss:.3f} valid {found} ({spent:.0f} s)")

    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / CHECKPOINT
    taught = pictures(faces.sides["network"])
    encoder = CompactFace(config)
    if start is not None:
        encoder.load_state_dict(load_file(start / ENCODER))
    before = None if start is None else encoder.tower.state_dict()
    tower = fit_tower(*taught, config.tower(), recipe, seed, checkpoint, told, before)
    encoder.tower.load_state_dict(tower.state_dict())
    for name, module in ((ENCODER, encoder), (NETWORK, tower.network)):
        save_file({key: t.contiguous() for key, t in module.state_dict().items()}, out / name)
    (out / CONFIG).write_text(json.dumps(asdict(config), indent=2) + "\n")
    report = {
        "recipe": asdict(recipe),
        "seed": seed,
        "start": None if start is None else start.as_posix(),
        "faces": {side: len(rows) for side, rows in faces.sides.items()},
        "left out": dict(faces.dropped),
        "epochs": history,
        **write_vectors(out / VECTORS, faces, tower),
    }
    (out / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    checkpoint.unlink()
    return report


def write_vectors(path: Path, faces: Faces, tower: FaceTower) -> dict[str, dict[str, Any]]:
    """Columns id, emotion, side, vector [row, width] of the sides that the network was not taught;
    gives each side's figures."""
    found: dict[str, dict[str, Any]] = {}
    rows: list[tuple[Face, Side]] = []
    vectors = []
    for side in UNTAUGHT:
        pixels, classes = pictures(faces.sides[side])
        vectors.append(vectors_of(tower, pixels))
        rows += [(face, side) for face in faces.sides[side]]
        found[side] = figures(vectors[-1], classes)
    np.savez(
        path,
        id=np.array([face.id for face, _ in rows]),
        emotion=np.array([face.emotion for face, _ in rows]),
        side=np.array([side for _, side in rows]),
        vector=np.concatenate(vectors),
    )
    return found


def pictures(faces: Sequence[Face]) -> tuple[Tensor, Tensor]:
    """Pixels [face, 1, SIDE, SIDE] uint8, and [face] indices of EMOTIONS."""
    pixels = [equalised(grey_face(centre_square(decode_picture(f.image)))) for f in faces]
    classes = [prototype_index(face.emotion) for face in faces]
    return torch.from_numpy(np.stack(pixels))[:, None], torch.tensor(classes)


@torch.inference_mode()
def vectors_of(tower: FaceTower, pixels: Tensor) -> FloatArray:
    """[face, width], as the encoder gives them."""
    parts = [in_frame(tower.seen(part.float())) for part in torch.split(pixels, 256)]
    found: FloatArray = torch.cat(parts).numpy()
    return found


def figures(vectors: FloatArray, classes: Tensor) -> dict[str, Any]:
    """Of the nearest prototype among the emotions that are there."""
    present = sorted(set(classes.tolist()))
    scores = vectors @ class_prototypes(vectors.shape[1]).numpy().T
    guessed = np.array(present)[scores[:, present].argmax(axis=1)]
    matrix = confusion(classes.numpy(), guessed, len(EMOTIONS))
    return {
        "accuracy": accuracy(matrix),
        "uar": uar(matrix),
        "f1_macro": f1_macro(matrix),
        "recall": {EMOTIONS[k]: float(recalls(matrix)[k]) for k in present},
    }
