"""The lock file and the check of what lies on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotrace_models.licences import licence
from emotrace_models.transcription import REQUIRED_FILES, VOCABULARY_FILES
from emotrace_models.weights import (
    LockInvalid,
    WeightFile,
    WeightsCorrupted,
    WeightSet,
    WeightsMissing,
    WeightsUnknown,
    find_weights,
    is_present,
    load_lock,
    of_kind,
    sha256_of,
    verify,
)

DETECTORS = Path("../shared/data/weights")
CONTENT = {"config.json": b"{}", "model.bin": bytes(range(256)) * 4}
WEIGHTS = WeightSet(
    name="toy",
    description="a toy",
    licence="MIT",
    source="https://example.org/toy",
    revision="1",
    files=tuple(
        WeightFile(name, f"https://example.org/{name}", len(data), hashlib.sha256(data).hexdigest())
        for name, data in CONTENT.items()
    ),
    kind="transcriber",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    for name, data in CONTENT.items():
        (tmp_path / "toy" / name).write_bytes(data)
    return tmp_path


def test_the_lock_names_whisper_in_three_sizes() -> None:
    lock = of_kind(load_lock(), "transcriber")
    assert list(lock) == ["whisper-tiny", "whisper-base", "whisper-small"]
    for name, weights in lock.items():
        assert weights.name == name
        assert weights.licence == "MIT"
        names = [file.name for file in weights.files]
        assert set(REQUIRED_FILES) <= set(names)
        assert set(VOCABULARY_FILES) & set(names)
        for file in weights.files:  # a fixed revision, so that the bytes cannot change
            assert file.url == f"{weights.source}/resolve/{weights.revision}/{file.name}"
            assert file.url.startswith("https://")
            assert len(weights.revision) == 40
    sizes = [weights.size for weights in lock.values()]
    assert sizes == sorted(sizes)


def test_the_lock_names_two_face_detectors() -> None:
    lock = of_kind(load_lock(), "face detector")
    assert {name: one.licence for name, one in lock.items()} == {
        "yunet": "Apache-2.0",
        "ultraface": "MIT",
    }
    for weights in lock.values():
        (file,) = weights.files
        raw = weights.source.replace("https://github.com", "https://raw.githubusercontent.com")
        assert file.url.startswith(f"{raw}/{weights.revision}/")
        assert len(weights.revision) == 40


def test_every_file_of_the_lock_is_of_an_allowed_licence_and_a_checked_source() -> None:
    for weights in load_lock().values():
        assert licence(weights.licence) is not None
        assert weights.description
        for file in weights.files:
            assert file.url.startswith("https://")
            assert weights.revision in file.url


@pytest.mark.skipif(not DETECTORS.is_dir(), reason="the detectors' files are not there")
def test_the_detectors_that_the_lock_names_are_those_that_were_tested() -> None:
    hashes = {sha256_of(file) for file in DETECTORS.glob("*.onnx")}
    for weights in of_kind(load_lock(), "face detector").values():
        assert {file.sha256 for file in weights.files} <= hashes


def test_intact_weights_are_found(root: Path) -> None:
    assert is_present(WEIGHTS, root)
    assert verify(WEIGHTS, root) == root / "toy"


@pytest.mark.parametrize("name", CONTENT)
def test_a_missing_file_is_named_with_the_cure(root: Path, name: str) -> None:
    (root / "toy" / name).unlink()
    assert not is_present(WEIGHTS, root)
    with pytest.raises(WeightsMissing, match=rf"toy/{name}.*emotrace-serve models pull toy"):
        verify(WEIGHTS, root)


def test_a_file_of_another_size_is_refused(root: Path) -> None:
    (root / "toy" / "model.bin").write_bytes(CONTENT["model.bin"][:-1])
    assert not is_present(WEIGHTS, root)
    with pytest.raises(WeightsCorrupted, match="1023 bytes, not 1024"):
        verify(WEIGHTS, root)


@settings(max_examples=50)
@given(bit=st.integers(0, 8 * len(CONTENT["model.bin"]) - 1))
def test_any_flipped_bit_is_refused(tmp_path_factory: pytest.TempPathFactory, bit: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    (folder / "toy").mkdir()
    for name, data in CONTENT.items():
        (folder / "toy" / name).write_bytes(data)
    flipped = bytearray(CONTENT["model.bin"])
    flipped[bit // 8] ^= 1 << bit % 8
    (folder / "toy" / "model.bin").write_bytes(flipped)
    with pytest.raises(WeightsCorrupted, match="SHA-256 differs"):
        verify(WEIGHTS, folder)


def test_a_link_out_of_the_folder_is_refused(root: Path) -> None:
    outside = root / "outside"
    (root / "toy" / "model.bin").rename(outside)
    (root / "toy" / "model.bin").symlink_to(outside)
    with pytest.raises(WeightsCorrupted, match="is a link"):
        verify(WEIGHTS, root)


def test_a_link_inside_the_folder_is_refused_too(root: Path) -> None:
    (root / "toy" / "model.bin").unlink()
    (root / "toy" / "model.bin").symlink_to("config.json")
    with pytest.raises(WeightsCorrupted, match="is a link"):
        verify(WEIGHTS, root)


def test_a_folder_that_is_a_link_is_refused_and_a_root_that_is_one_is_not(root: Path) -> None:
    (root / "link").symlink_to(root)
    assert verify(WEIGHTS, root / "link") == root.resolve() / "toy"
    (root / "toy").rename(root / "elsewhere")
    (root / "toy").symlink_to(root / "elsewhere")
    with pytest.raises(WeightsCorrupted, match="toy is a link"):
        verify(WEIGHTS, root)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_plain_file_is_refused_at_once(
    root: Path, make: Callable[[Path], object]
) -> None:
    (root / "toy" / "model.bin").unlink()
    make(root / "toy" / "model.bin")
    assert not is_present(WEIGHTS, root)
    with pytest.raises(WeightsCorrupted, match=r"model\.bin is no plain file"):
        verify(WEIGHTS, root)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.bin.part", ".cache"])
def test_a_file_more_is_refused_since_a_library_might_read_it(root: Path, name: str) -> None:
    (root / "toy" / name).write_text("{}")
    with pytest.raises(WeightsCorrupted, match=rf"{name} is no file of toy.*Take it away"):
        verify(WEIGHTS, root)


def test_unknown_weights_are_answered_with_the_names_there_are() -> None:
    with pytest.raises(WeightsUnknown, match=r"'whisper-huge'; there are ultraface, whisper-base"):
        find_weights("whisper-huge", load_lock())


def _document() -> dict[str, Any]:
    file = {"name": "a.bin", "url": "https://example.org/a.bin", "size": 1, "sha256": "0" * 64}
    about = dict.fromkeys(("description", "licence", "source", "revision"), "x")
    about["kind"] = "transcriber"
    return {"version": 1, "weights": {"toy": {**about, "files": [file]}}}


def _write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_a_lock_of_ones_own_can_be_read(tmp_path: Path) -> None:
    assert load_lock(_write(tmp_path / "lock.json", _document()))["toy"].size == 1


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../a.bin"},
        {"name": "/etc/passwd"},
        {"name": ""},
        {"sha256": None},
        {"sha256": "0" * 63},
        {"sha256": "G" * 64},
        {"size": 0},
        {"size": -1},
        {"extra": 1},
    ],
)
def test_a_lock_with_an_improper_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    document = _document()
    document["weights"]["toy"]["files"][0].update(change)
    with pytest.raises(LockInvalid, match=r"lock\.json cannot be read"):
        load_lock(_write(tmp_path / "lock.json", document))


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"version": 2, "weights": {}},
        {"version": 1, "weights": {"../toy": _document()["weights"]["toy"]}},
        {"version": 1, "weights": {"toy": {**_document()["weights"]["toy"], "files": []}}},
        {"version": 1, "weights": {"toy": {}}},
        {"version": 1, "weights": {"toy": {**_document()["weights"]["toy"], "kind": "toy"}}},
    ],
)
def test_a_lock_of_another_form_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(LockInvalid):
        load_lock(_write(tmp_path / "lock.json", document))


def test_a_lock_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    text = json.dumps(_document()).replace('"size": 1', '"size": 1, "size": 2')
    (tmp_path / "lock.json").write_text(text)
    with pytest.raises(LockInvalid, match="stands there twice"):
        load_lock(tmp_path / "lock.json")


def test_a_lock_that_is_not_there_or_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockInvalid):
        load_lock(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(LockInvalid):
        load_lock(tmp_path / "broken.json")
