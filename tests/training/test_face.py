"""The network that reads faces: it learns what can be learned, resumes, and its files reload."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from emotrace_models.encoders.compact_face import CompactFace, CompactFaceConfig
from emotrace_models.encoders.face_tower import FaceTower
from emotrace_models.encoders.pictures import centre_square, scaled
from emotrace_models.encoders.resnet_frames import ResNetFrames
from emotrace_models.picture_decoding import decode_picture
from emotrace_models.types import Frame, Utterance
from emotrace_training import face_views
from emotrace_training.corpora.fer2013 import SIDES, Face, Faces
from emotrace_training.face import SMOKE, fit_face, pictures
from emotrace_training.face_fitting import FaceRecipe, fit_tower
from emotrace_training.face_views import covered, moved, relit, softened, varied
from emotrace_training.telling import TrainingError

EMOTIONS = ("anger", "happiness")
RECIPE = FaceRecipe(epochs=4, coarse=2, batch=16, rate=1e-2, average=0.9)


def face(number: int) -> Face:
    """Anger has thick rows, happiness has thick columns, under noise."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(100, 156, (48, 48), dtype=np.uint8)
    kind = number % 2
    stripes = pixels if kind == 0 else pixels.T
    for start in range(0, 48, 12):
        stripes[start : start + 6] -= 60
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Face(f"f{number}", EMOTIONS[kind], file.getvalue())


def faces() -> Faces:
    sizes = {"network": 120, "train": 6, "valid": 10, "test": 20}
    start = np.cumsum([0, *sizes.values()])
    return Faces(
        {s: [face(i) for i in range(start[k], start[k + 1])] for k, s in enumerate(SIDES)}, {}
    )


def test_it_learns_and_what_it_writes_is_an_encoder(tmp_path: Path) -> None:
    report = fit_face(faces(), SMOKE, RECIPE, 0, tmp_path)
    assert report["test"]["uar"] >= 0.9
    assert set(report["test"]["recall"]) == set(EMOTIONS)
    assert json.loads((tmp_path / "report.json").read_text())["test"] == report["test"]
    assert not (tmp_path / "checkpoint").exists()

    config = CompactFaceConfig(**json.loads((tmp_path / "config.json").read_text()))
    encoder = CompactFace(replace(config, detector="whole", gate=False)).eval()
    encoder.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    with np.load(tmp_path / "faces.npz") as table:
        columns = {name: table[name] for name in table.files}
    assert columns["side"].tolist() == ["train"] * 6 + ["valid"] * 10 + ["test"] * 20
    assert columns["vector"].shape == (36, 16)
    assert columns["vector"].dtype == np.float32
    everything = {one.id: one for side in SIDES for one in faces().sides[side]}
    for row in (0, 20, 35):
        image = everything[columns["id"][row]].image
        utterance = Utterance(0, "a", 0, 16_000, None, frames=(Frame(0, image),))
        ((vector, _),) = encoder.encode([(encoder.start(), utterance)])
        assert vector is not None
        np.testing.assert_allclose(vector, columns["vector"][row], rtol=1e-3, atol=1e-4)
        assert everything[columns["id"][row]].emotion == columns["emotion"][row]


def test_its_network_reads_frames_in_a_recipe(tmp_path: Path) -> None:
    fit_face(faces(), SMOKE, replace(RECIPE, epochs=1), 0, tmp_path)
    frames = ResNetFrames.from_pretrained(tmp_path / "network.safetensors", frames=3, size=48)
    assert (frames.config.colours, frames.config.widths) == (1, SMOKE.widths)
    utterance = Utterance(0, "a", 0, 16_000, None, frames=(Frame(0, face(0).image),))
    ((features, _),) = frames.encode([(None, utterance)])
    assert features is not None
    assert features.shape == (3, 8)
    encoder = CompactFace(SMOKE)
    encoder.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    grey = scaled(centre_square(decode_picture(face(0).image)), 48, grey=True)
    pixels = torch.tensor(grey).permute(2, 0, 1)[None]
    with torch.inference_mode():
        seen = encoder.tower.eval().network((pixels.float() - 127.5) / 63.75)[0].numpy()
    np.testing.assert_allclose(features[0], seen, atol=1e-4)


def never(epoch: int, loss: float, tower: FaceTower) -> None:
    assert math.isfinite(loss)


class Stopped(Exception):
    pass


def stopping_after(epochs: int) -> Callable[[int, float, FaceTower], None]:
    def report(epoch: int, loss: float, tower: FaceTower) -> None:
        if epoch + 1 == epochs:
            raise Stopped

    return report


def test_a_broken_run_goes_on_and_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    data = pictures(faces().sides["network"])
    recipe = replace(RECIPE, epochs=3, half=False)
    whole = fit_tower(*data, SMOKE.tower(), recipe, 3, tmp_path / "whole", never)
    broken = tmp_path / "broken"
    with pytest.raises(Stopped):
        fit_tower(*data, SMOKE.tower(), recipe, 3, broken, stopping_after(1))
    resumed = fit_tower(*data, SMOKE.tower(), recipe, 3, broken, never)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(TrainingError, match="broken is of another recipe"):
        fit_tower(*data, SMOKE.tower(), recipe, 4, broken, never)


def batch(count: int = 64, side: int = 48) -> torch.Tensor:
    across = torch.linspace(30, 220, side).expand(side, side)
    return across.expand(count, 1, side, side).clone()


def test_varied_faces_are_of_the_size_asked_for_and_all_different() -> None:
    for side in (48, 32):
        seen = varied(batch(), side, torch.Generator().manual_seed(1))
        assert seen.shape == (64, 1, side, side)
        assert seen.min() >= 0
        assert seen.max() <= 255
        assert len({tuple(one.flatten().tolist()) for one in seen}) == 64


def test_half_of_the_moved_faces_are_mirrored_and_none_is_upside_down() -> None:
    seen = moved(batch(400), 48, torch.Generator().manual_seed(1))
    rising = (seen[:, 0, :, 40] > seen[:, 0, :, 8]).all(dim=1)
    falling = (seen[:, 0, :, 40] < seen[:, 0, :, 8]).all(dim=1)
    assert (rising | falling).all()
    assert 0.4 < rising.float().mean() < 0.6
    column = torch.linspace(30, 220, 48)[:, None].expand(400, 1, 48, 48)
    upright = moved(column, 48, torch.Generator().manual_seed(1))
    assert (upright[:, 0, 40] > upright[:, 0, 8]).all()


def test_light_fewer_pixels_and_patches_change_what_they_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(1)
    assert relit(batch(), generator).std(dim=0).max() > 5
    checks = (torch.arange(48)[:, None] + torch.arange(48)) % 2 * 200.0
    soft = softened(checks.expand(200, 1, 48, 48), generator)
    blurred = soft.std(dim=(1, 2, 3)) < 60
    assert 0.05 < blurred.float().mean() < 0.3
    assert torch.equal(soft[~blurred], checks.expand(int((~blurred).sum()), 1, 48, 48))
    monkeypatch.setattr(face_views, "COVERED", 1.0)
    patched = covered(torch.zeros(200, 1, 48, 48), generator)
    shares = (patched == 127.5).float().mean(dim=(1, 2, 3))
    assert shares.max() <= (48 * 5 // 12) ** 2 / 48**2
    assert (shares > 0).float().mean() > 0.8
