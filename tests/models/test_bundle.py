"""Bundles: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hostile_bundles import sealed

from emotrace_models.bundle import (
    Bundle,
    BundleCorrupted,
    BundleError,
    BundleMissing,
    bundle_path,
    shipped_bundles,
)
from emotrace_models.bundle_config import CONFIG, SEAL, read_config, seal


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    sealed(path, config)


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
    for name in ("model.safetensors", "config.json", "config.json.sha256"):
        assert (tmp_path / name).read_bytes() == (toy / name).read_bytes()


def test_a_missing_bundle_is_named() -> None:
    with pytest.raises(BundleMissing, match="no bundle 'nowhere'"):
        bundle_path("nowhere")
    with pytest.raises(BundleMissing, match=r"config\.json is missing"):
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
        ({"fusion": {"name": "gated_xlstm", "config": {}}}, "modalities: Field required"),
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
    with pytest.raises(BundleCorrupted, match="no links"):
        Bundle.load(copy)


def test_an_older_config_without_optional_keys_is_read(copy: Path) -> None:
    config = json.loads((copy / CONFIG).read_text())
    first = Bundle.load(copy)
    for key in ("source", "views", "requires"):
        del config[key]
    sealed(copy, config)
    assert Bundle.load(copy).source == first.source


def test_a_config_changed_by_hand_is_taken_once_it_is_sealed(copy: Path) -> None:
    config = json.loads((copy / CONFIG).read_text())
    (copy / CONFIG).write_text(json.dumps({**config, "version": "7"}))
    with pytest.raises(BundleCorrupted, match=f"emotrace-serve models seal {copy}"):
        Bundle.load(copy)
    digest = seal(copy)
    assert (copy / SEAL).read_text() == f"{digest}  {CONFIG}\n"
    assert Bundle.load(copy).version == "7"


def test_what_cannot_be_served_is_not_sealed(copy: Path) -> None:
    before = (copy / SEAL).read_bytes()
    (copy / CONFIG).write_text('{"format": 1, "auto_map": {}}')
    with pytest.raises(BundleCorrupted):
        seal(copy)
    assert (copy / SEAL).read_bytes() == before


def test_the_report_that_training_leaves_is_not_read(copy: Path) -> None:
    (copy / "report").mkdir()
    (copy / "report" / "report.html").touch()
    assert set(Bundle.load(copy).assets) == {"tokenizer.json"}


def test_the_folder_itself_may_be_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(copy)
    assert Bundle.load(tmp_path / "current").name == Bundle.load(copy).name


def test_every_shipped_bundle_is_sealed_and_says_its_licence() -> None:
    assert {name: read_config(path).licence for name, path in shipped_bundles().items()} == {
        "default": "CC-BY-NC-SA-4.0",
        "free": "Apache-2.0",
    }


@pytest.mark.parametrize("name", ["../default", "default/../free", ".", ""])
def test_a_path_is_no_name_of_a_shipped_bundle(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleMissing):
        bundle_path(name)


def test_to_check_a_bundle_loads_no_compiler() -> None:
    """70 MB, in the server and in each of its compute processes."""
    code = (
        "import sys\n"
        "from emotrace_models.bundle import Bundle, shipped_bundles\n"
        "for path in shipped_bundles().values():\n"
        "    Bundle.load(path)\n"
        "print({'sympy', 'torch._dynamo'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
