"""Bundles that are not what was exported: none of their tensors is ever used."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest
from hostile_bundles import HOSTILE, MARK

from emotrace_models.bundle import Bundle, BundleError
from emotrace_models.bundle_config import SEAL

FLIPS = 1_000


@pytest.fixture
def folder(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "bundle"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_with_what_is_wrong(folder: Path, name: str) -> None:
    change, said = HOSTILE[name]
    change(folder)
    with pytest.raises(BundleError) as refused:
        Bundle.load(folder)
    message = str(refused.value)
    assert re.search(said, message), message
    assert str(folder) in message
    assert not (folder.parent / MARK).exists(), "code of the bundle was run"
    assert not (folder.parent / "escaped").exists()


def test_the_corpus_is_of_some_size() -> None:
    assert len(HOSTILE) >= 30


def test_any_flipped_bit_of_any_file_is_refused(folder: Path) -> None:
    files = sorted(folder.iterdir())
    chance = random.Random(12)
    for number in range(FLIPS):
        file = files[number % len(files)]
        _check_flip(folder, file, chance.randrange(8 * file.stat().st_size))


def test_every_flipped_bit_of_the_seal_is_refused(folder: Path) -> None:
    for bit in range(8 * (folder / SEAL).stat().st_size):
        _check_flip(folder, folder / SEAL, bit)


def _check_flip(folder: Path, file: Path, bit: int) -> None:
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    file.write_bytes(flipped)
    with pytest.raises(BundleError, match=re.escape(file.name)):
        Bundle.load(folder)
    file.write_bytes(whole)
