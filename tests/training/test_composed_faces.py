"""FER2013 and faces put to records: none twice, none on two sides, the same on every machine."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emotrace_models.picture_decoding import decode_picture
from emotrace_models.types import SAMPLE_RATE
from emotrace_training.composed_faces import ComposedFaces
from emotrace_training.corpora.fer2013 import SIDES, TABLE, read_fer2013
from emotrace_training.frame_sources import frame_source
from emotrace_training.manifests import ManifestError, Record

CLASSES = ("angry", "happy", "neutral")
REAL = Path("../shared/data/fer2013")


def scan(seed: int) -> bytes:
    """A face of 48 x 48 whose JPEG header is that of all others; a constant one for -1."""
    pixels = np.full((48, 48), 80, np.uint8)
    if seed >= 0:
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def table(folder: Path, rows: list[tuple[int, int, int]], **changes: Any) -> Path:
    """rows: part, class, seed of the picture."""
    images = [scan(seed) for _, _, seed in rows]
    header = 300  # what they share is at least the tables in front
    assert len({image[:header] for image in images}) == 1
    scans = [image[header:-2] for image in images]
    arrays = {
        "classes": np.array(CLASSES),
        "header": np.frombuffer(images[0][:header], np.uint8),
        "scans": np.frombuffer(b"".join(scans), np.uint8),
        "offsets": np.cumsum([0, *map(len, scans)]),
        "labels": np.array([label for _, label, _ in rows], np.int8),
        "split": np.array([part for part, _, _ in rows], np.uint8),
        "ids": np.arange(len(rows), dtype=np.uint32),
    }
    np.savez(folder / TABLE, **{**arrays, **changes})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [(0, label, 100 * label + seed) for label in range(3) for seed in range(20)]
    rows += [(1, label, 1000 + 100 * label + seed) for label in range(3) for seed in range(4)]
    return table(tmp_path, rows)


def record(identifier: str, emotion: str, split: str, **more: Any) -> Record:
    return Record.alone("a.wav", "c", "c:s", emotion, split, 2.0, "", "", "", id=identifier, **more)  # type: ignore[arg-type]


def test_sides_share_no_picture_and_divide_each_emotion(folder: Path) -> None:
    faces = read_fer2013(folder)
    assert not any(faces.dropped.values())
    counted = {side: Counter(face.emotion for face in faces.sides[side]) for side in SIDES}
    assert counted == {
        side: dict.fromkeys(("anger", "happiness", "neutral"), number)
        for side, number in (("network", 16), ("train", 2), ("valid", 2), ("test", 4))
    }
    images = [face.image for side in SIDES for face in faces.sides[side]]
    assert len(set(images)) == len(images) == 72
    assert decode_picture(images[0]).shape == (48, 48, 3)


def test_repeats_contradictions_and_constant_pictures_are_left_out_and_counted(
    tmp_path: Path,
) -> None:
    rows = [(0, 0, 1), (0, 0, 1), (0, 1, 2), (0, 2, 2), (0, 0, -1), (1, 0, 1), (1, 1, 5)]
    faces = read_fer2013(table(tmp_path, rows))
    assert faces.dropped == {"repeated": 3, "of two emotions": 1, "constant": 1}
    kept = {face.id: side for side in SIDES for face in faces.sides[side]}
    assert kept == {"Training_0": "network", "PublicTest_6": "test"}


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=rf"{TABLE}: no table of FER2013"):
        read_fer2013(tmp_path)
    table(tmp_path, [(0, 0, 1), (0, 1, 2)], labels=np.zeros(3, np.int8))
    with pytest.raises(ManifestError, match="labels, split, ids and offsets do not match"):
        read_fer2013(tmp_path)
    table(tmp_path, [(0, 0, 1)], header=np.zeros(300, np.uint8))
    with pytest.raises(ManifestError, match="face Training_0 is no JPEG"):
        read_fer2013(tmp_path)


def test_a_records_faces_are_of_its_emotion_and_its_side(folder: Path) -> None:
    sides = read_fer2013(folder).sides
    source = ComposedFaces(str(folder), pictures=2)
    for split in ("train", "valid", "test"):
        for emotion, nearest in (("anger", "anger"), ("calm", "neutral")):
            own = {face.id for face in sides[split] if face.emotion == nearest}
            drawn = {f.id for i in range(30) for f in source.chosen(record(f"{i}", emotion, split))}
            assert drawn == own


def test_a_draw_depends_on_the_record_and_the_seed_alone(folder: Path) -> None:
    one, other = ComposedFaces(str(folder)), ComposedFaces(str(folder), seed=1)
    records = [record(f"{i}", "anger", "train") for i in range(20)]
    drawn = [one.chosen(r)[0].id for r in records]
    assert [ComposedFaces(str(folder)).chosen(r)[0].id for r in reversed(records)] == drawn[::-1]
    assert [other.chosen(r)[0].id for r in records] != drawn


def test_frames_are_spread_over_the_record(folder: Path) -> None:
    source = ComposedFaces(str(folder), pictures=4)
    one = record("a", "happiness", "test")
    frames = source.frames(one)
    assert [frame.sample for frame in frames] == [i * SAMPLE_RATE // 2 for i in range(4)]
    assert [frame.image for frame in frames] == [face.image for face in source.chosen(one)]


def test_no_face_where_there_is_no_split_or_no_such_emotion(folder: Path) -> None:
    source = frame_source({"folder": str(folder)})
    assert source.has(record("a", "anger", "train"))
    assert not source.has(record("a", "anger", ""))
    assert not source.has(record("a", "boredom", "train"))


def test_settings_that_are_none_are_named(folder: Path) -> None:
    with pytest.raises(ManifestError, match="pictures must be at least 1, not 0"):
        frame_source({"folder": str(folder), "pictures": 0})
    with pytest.raises(ManifestError, match=r"data\.faces: .*photos"):
        frame_source({"folder": str(folder), "photos": 2})


@pytest.mark.skipif(not (REAL / TABLE).is_file(), reason="FER2013 is not there")
def test_the_real_table_without_its_repeats() -> None:
    """SOURCE.txt: 28,709 and 3,589 faces, 1,236 repeats in Training, 280 in both, 12 constant."""
    faces = read_fer2013(REAL)
    assert {side: len(faces.sides[side]) for side in SIDES} == {
        "network": 21_948, "train": 2_740, "valid": 2_739, "test": 3_292,
    }  # fmt: skip
    assert faces.dropped == {"repeated": 1_521, "of two emotions": 46, "constant": 12}
    total = sum(len(faces.sides[side]) for side in SIDES)
    assert total + sum(faces.dropped.values()) == 28_709 + 3_589
