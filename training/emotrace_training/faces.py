"""`emotrace-train faces`: a small ResNet for faces of 48 pixels, from scratch, on FER2013.

    emotrace-train faces ../shared/data/fer2013 --out runs/faces

`runs/faces/model.safetensors` is what a recipe's `weights` names for the encoder `resnet_frames`.
Faces that stand for the training part of other corpora (composed_faces.py) are not shown to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from emotrace_models.encoders.pictures import centre_square, decode_picture, scaled
from emotrace_models.encoders.resnet_frames import ResNetFrames, ResNetFramesConfig
from emotrace_models.types import FloatArray
from emotrace_training.corpora.fer2013 import SIDES, Face, Faces, Side, read_fer2013
from emotrace_training.metrics import accuracy, confusion, f1_macro, uar
from emotrace_training.telling import named_errors

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
WEIGHTS, REPORT = "model.safetensors", "report.json"


@dataclass(frozen=True, slots=True)
class FacesRecipe:
    """shift: pixels that a picture is moved at most, either way; half of them are mirrored."""

    size: int = 48
    widths: tuple[int, ...] = (8, 16, 32, 64)
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    epochs: int = 6
    batch: int = 64
    rate: float = 5e-3
    decay: float = 1e-2
    smoothing: float = 0.05
    dropout: float = 0.2
    shift: int = 4
    seed: int = 0

    def encoder(self) -> ResNetFramesConfig:
        return ResNetFramesConfig(
            frames=1,
            size=self.size,
            colours=1,
            widths=self.widths,
            blocks=self.blocks,
            stem="small",
        )


DEFAULTS = FacesRecipe()


class FaceClassifier(nn.Module):
    """The encoder's network, and a linear map that is thrown away after training."""

    def __init__(self, recipe: FacesRecipe) -> None:
        super().__init__()
        self.encoder = ResNetFrames(recipe.encoder())
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(self.encoder.width, len(CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        """[face, size, size, 1] uint8 -> logits [face, class]."""
        pictures = pixels.permute(0, 3, 1, 2).float()
        x = self.encoder.network((pictures - self.encoder.mean) / self.encoder.deviation)
        logits: Tensor = self.head(self.dropout(x))
        return logits


def fit_faces(faces: Faces, recipe: FacesRecipe, folder: Path) -> dict[str, Any]:
    """Train on the `network` side, keep the epoch with the best uar on `valid`, measure it once on
    `test`; writes weights and report, and gives the report."""
    torch.manual_seed(recipe.seed)
    model = FaceClassifier(recipe)
    data: dict[Side, tuple[Tensor, NDArray[np.int64]]] = {
        side: pictures(faces.sides[side], recipe.size) for side in SIDES if side != "train"
    }
    pixels, labels = data["network"]
    steps = recipe.epochs * -(-len(labels) // recipe.batch)
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    with tqdm(total=steps, unit="step", disable=None) as bar:
        for _ in range(recipe.epochs):
            model.train()
            order = torch.randperm(len(labels), generator=generator)
            for start in range(0, len(order), recipe.batch):
                rows = order[start : start + recipe.batch]
                seen = varied(pixels[rows], recipe.shift, generator)
                wanted = torch.from_numpy(labels)[rows]
                loss = F.cross_entropy(model(seen), wanted, label_smoothing=recipe.smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
                bar.update()
            history.append(figures(model, *data["valid"]))
            bar.set_postfix(uar=f"{history[-1]['uar']:.3f}")
            if history[-1]["uar"] == max(epoch["uar"] for epoch in history):
                best = {name: t.detach().clone() for name, t in model.state_dict().items()}
    model.load_state_dict(best)
    report = {
        "recipe": asdict(recipe),
        "faces": {side: len(rows) for side, rows in faces.sides.items()},
        "left out": dict(faces.dropped),
        "valid": history,
        "test": figures(model, *data["test"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.encoder.network.state_dict(), folder / WEIGHTS)
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    return report


def pictures(faces: Sequence[Face], size: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Pixels [face, size, size, 1] uint8 and class indices [face]."""
    pixels = [scaled(centre_square(decode_picture(face.image)), size, grey=True) for face in faces]
    labels = np.array([CLASSES.index(face.emotion) for face in faces], dtype=np.int64)
    return torch.from_numpy(np.stack(pixels)), labels


def varied(pixels: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to `shift` pixels (its edge repeated), half of them mirrored."""
    count, size = pixels.shape[:2]
    moves = torch.randint(-shift, shift + 1, (2, count, 1), generator=generator)
    rows, columns = (torch.arange(size) + moves).clamp(0, size - 1)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return pixels[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


@torch.inference_mode()
def figures(model: nn.Module, pixels: Tensor, labels: NDArray[np.int64]) -> dict[str, float]:
    model.eval()
    found: list[FloatArray] = [model(part).numpy() for part in torch.split(pixels, 256)]
    matrix = confusion(labels, np.concatenate(found).argmax(axis=1), len(CLASSES))
    return {"accuracy": accuracy(matrix), "uar": uar(matrix), "f1_macro": f1_macro(matrix)}


def command(
    folder: Annotated[Path, typer.Argument(help="the folder of FER2013")],
    out: Annotated[Path, typer.Option(help="where weights and report go")] = Path("runs/faces"),
    epochs: Annotated[int, typer.Option(min=1)] = DEFAULTS.epochs,
    seed: Annotated[int, typer.Option(help="of weights and order")] = DEFAULTS.seed,
) -> None:
    """Train the small network that reads faces, on FER2013."""
    with named_errors():
        report = fit_faces(read_fer2013(folder), FacesRecipe(epochs=epochs, seed=seed), out)
    test = ", ".join(f"{name} {value:.4f}" for name, value in report["test"].items())
    typer.echo(f"{out / WEIGHTS}: test {test}")
