"""The small face network: it learns what can be learned, keeps its best epoch, and reloads."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from emotrace_models.encoders.resnet_frames import ResNetFrames
from emotrace_models.types import Frame, Utterance
from emotrace_training.corpora.fer2013 import SIDES, Face, Faces
from emotrace_training.faces import FacesRecipe, fit_faces, varied

EMOTIONS = ("anger", "happiness")
TINY = FacesRecipe(
    size=16, widths=(4, 8), blocks=(1, 1), epochs=6, batch=16, rate=1e-2, dropout=0.0, shift=2
)


def face(number: int) -> Face:
    """Anger has rows, happiness has columns, under noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(100, 156, (16, 16), dtype=np.uint8)
    kind = number % 2
    (pixels if kind == 0 else pixels.T)[::2] -= 60
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Face(f"f{number}", EMOTIONS[kind], file.getvalue())


def faces() -> Faces:
    sizes = {"network": 160, "train": 2, "valid": 20, "test": 20}
    start = np.cumsum([0, *sizes.values()])
    return Faces(
        {s: [face(i) for i in range(start[k], start[k + 1])] for k, s in enumerate(SIDES)}, {}
    )


def test_it_learns_keeps_the_best_epoch_and_its_weights_are_an_encoders(tmp_path: Path) -> None:
    report = fit_faces(faces(), TINY, tmp_path)
    assert report["test"]["uar"] >= 0.9
    assert json.loads((tmp_path / "report.json").read_text())["test"] == report["test"]
    encoder = ResNetFrames.from_pretrained(tmp_path / "model.safetensors", frames=3, size=16)
    assert (encoder.config.colours, encoder.config.widths) == (1, (4, 8))
    utterances = [
        Utterance(0, "a", 0, 16_000, None, frames=(Frame(0, face(i).image),)) for i in range(2)
    ]
    one, other = (features for features, _ in encoder.encode([(None, u) for u in utterances]))
    assert one is not None
    assert one.shape == (3, 8)
    assert not np.allclose(one, other)


def test_the_same_seed_gives_the_same_network(tmp_path: Path) -> None:
    recipe = FacesRecipe(size=16, widths=(4,), blocks=(1,), epochs=1, batch=32)
    for name in "ab":
        fit_faces(faces(), recipe, tmp_path / name)
    assert len({(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"}) == 1


def test_varied_pictures_are_moved_and_mirrored_copies() -> None:
    pixels = torch.arange(64, dtype=torch.uint8).view(1, 8, 8, 1).expand(50, -1, -1, -1)
    still = varied(pixels, 0, torch.Generator().manual_seed(1))
    for one in still:
        assert torch.equal(one, pixels[0]) or torch.equal(one, pixels[0].flip(1))
    assert not all(torch.equal(one, pixels[0]) for one in still)
    moved = varied(pixels, 3, torch.Generator().manual_seed(1))
    assert moved.shape == pixels.shape
    assert len({tuple(one.flatten().tolist()) for one in moved}) > 20
