"""Bundles: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from emotrace_models.bundle import (
    Bundle,
    BundleCorrupted,
    BundleError,
    BundleMissing,
    bundle_path,
)


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    (path / "config.json").write_text(json.dumps(config))


def test_a_bundle_comes_back_as_it_was(toy: Path, tmp_path: Path) -> None:
    first = Bundle.load(toy)
    first.save(tmp_path)
    second = Bundle.load(tmp_path)
    assert second.labels == first.labels
    assert second.decoder == first.decoder
    assert second.calibration == first.calibration
    assert second.card == first.card
    for one, other in zip(first.encoders, second.encoders, strict=True):
        assert one.config == other.config
        for key, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[key])
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes()


def test_a_missing_bundle_is_named() -> None:
    with pytest.raises(BundleMissing, match="no bundle 'nowhere'"):
        bundle_path("nowhere")
    with pytest.raises(BundleMissing, match=r"config\.json is not there"):
        Bundle.load(Path("nowhere"))


@pytest.mark.parametrize("name", ["model.safetensors", "card.md", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleMissing, match=name):
        Bundle.load(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "card.md", "LICENSE.txt", "tokenizer.json"])
@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_one_flipped_bit_is_found(copy: Path, name: str, place: float) -> None:
    data = bytearray((copy / name).read_bytes())
    data[int(place * len(data))] ^= 4
    (copy / name).write_bytes(data)
    with pytest.raises(BundleCorrupted, match=name):
        Bundle.load(copy)


def test_a_shortened_file_is_found(copy: Path) -> None:
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(BundleCorrupted, match="bytes, not"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": "evil.py"}, "auto_map"),
        ({"format": 99}, "format 99"),
        ({"name": "../up"}, "name"),
        ({"fusion": {"name": "unheard", "config": {}}}, "no fusion is called 'unheard'"),
        ({"fusion": {"name": "gated_xlstm", "config": {"colour": 1}}}, "no setting colour"),
        ({"encoders": []}, "the encoders give nothing, but the fusion model takes acoustic"),
        ({"decoder": {"p0": 7}}, "config.json"),
        ({"decoder": {"p0": 0.4, "colour": 1}}, "config.json"),
    ],
)
def test_a_wrong_config_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copy)


def test_weights_of_another_architecture_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["fusion"]["config"]["width"] = 32
    edit(copy, **config)
    with pytest.raises(BundleCorrupted, match="does not fit"):
        Bundle.load(copy)


def test_files_outside_the_folder_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["files"]["../card.md"] = config["files"].pop("card.md")
    edit(copy, **config)
    with pytest.raises(BundleCorrupted, match="own folder"):
        Bundle.load(copy)


def test_links_are_refused(copy: Path, toy: Path) -> None:
    (copy / "card.md").unlink()
    (copy / "card.md").symlink_to(toy / "card.md")
    with pytest.raises(BundleCorrupted, match="not links"):
        Bundle.load(copy)
