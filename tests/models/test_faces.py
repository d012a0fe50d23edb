"""Face detection on real faces, crops, and the encoder of face frames with them."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from emotrace_models.encoders.face_cascade import FaceCascade
from emotrace_models.encoders.face_frames import DETECTOR, FaceFrames
from emotrace_models.encoders.faces import (
    FaceBox,
    FaceDetector,
    FaceDetectorUnavailable,
    UltraFace,
    WholePicture,
    YuNet,
    face_square,
    load_detector,
)
from emotrace_models.encoders.resnet_frames import ResNetFrames
from emotrace_models.types import Frame, Utterance

DATA = Path("../shared/data")
FACES = DATA / "fer2013" / "fer2013_training_publictest.npz"
FILES = {
    "yunet": DATA / "weights" / "yunet_n_dynamic.onnx",
    "ultraface": DATA / "weights" / "ultraface_RFB-320.onnx",
}
COUNT = 24

needs_data = pytest.mark.skipif(
    not all(path.is_file() for path in (FACES, *FILES.values())),
    reason="the detectors' files and FER2013 are not there",
)


@cache
def real_faces() -> list[NDArray[np.uint8]]:
    """Faces from all over the table, [48, 48] grey."""
    with np.load(FACES) as table:
        header, offsets = table["header"].tobytes(), table["offsets"]
        scans = table["scans"].tobytes()
    rows = np.linspace(100, 28_000, COUNT).astype(int)
    return [
        np.asarray(
            Image.open(io.BytesIO(header + scans[offsets[r] : offsets[r + 1]] + b"\xff\xd9"))
        )
        for r in rows
    ]


def canvas(
    *places: tuple[int, int, int, int], height: int = 360, width: int = 480
) -> NDArray[np.uint8]:
    """A room of soft grey with real faces: number of the face, left, top, side."""
    slope = np.linspace(90, 170, width)[None, :, None]
    picture = np.broadcast_to(slope, (height, width, 3)).astype(np.uint8)
    for number, left, top, side in places:
        face = Image.fromarray(real_faces()[number]).resize((side, side))
        picture[top : top + side, left : left + side] = np.asarray(face)[..., None]
    return picture


def detector_called(name: str) -> FaceDetector:
    return FaceCascade() if name == "cascade" else load_detector(FILES[name])


def placed(left: int, top: int, side: int) -> FaceBox:
    return FaceBox(left, top, left + side, top + side, 1.0)


@needs_data
@pytest.mark.parametrize(
    ("name", "kind"), [("yunet", YuNet), ("ultraface", UltraFace), ("cascade", FaceCascade)]
)
def test_real_faces_are_found_where_they_are(name: str, kind: type) -> None:
    detector = detector_called(name)
    assert isinstance(detector, kind)
    found = 0
    for number in range(COUNT):
        left, top, side = 40 + 8 * number, 20 + 5 * number, 130
        faces = detector.detect(canvas((number, left, top, side)))
        found += bool(faces) and faces[0].overlap(placed(left, top, side)) > 0.4
    assert found >= 0.7 * COUNT
    assert detector.detect(canvas()) == []


@needs_data
@needs_data
@pytest.mark.parametrize(("name", "smallest"), [("yunet", 72), ("ultraface", 48), ("cascade", 72)])
def test_small_faces_are_found_and_framed_as_they_were_cut(name: str, smallest: int) -> None:
    """In a picture of 480 x 360. FER2013's frames are those of OpenCV's detector."""
    detector = detector_called(name)
    for side in (smallest, 110, 180):
        boxes = [
            (box, number)
            for number in range(COUNT)
            for box in detector.detect(canvas((number, 150, 100, side)))
            if box.overlap(placed(150, 100, side)) > 0.4
        ]
        assert len(boxes) >= 0.5 * COUNT
        longer = np.median([box.side for box, _ in boxes])
        assert longer == pytest.approx(side, rel=0.12)


@needs_data
@pytest.mark.parametrize("name", [*FILES, "cascade"])
def test_each_of_two_faces_is_found_once_at_any_size_of_picture(name: str) -> None:
    detector = detector_called(name)
    sure = [
        number
        for number in range(COUNT)
        if all(len(detector.detect(canvas((number, left, 100, 150)))) == 1 for left in (30, 290))
    ]
    one, other = sure[:2]
    for scale in (1, 2):
        picture = canvas((one, 30, 100, 150), (other, 290, 100, 150))
        large = np.asarray(Image.fromarray(picture).resize((480 * scale, 360 * scale)))
        faces = sorted(detector.detect(large), key=lambda face: face.left)
        assert len(faces) == 2
        for face, left in zip(faces, (30, 290), strict=True):
            assert face.overlap(placed(left * scale, 100 * scale, 150 * scale)) > 0.4


@needs_data
def test_a_file_that_is_no_detector_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"no onnx")
    with pytest.raises(FaceDetectorUnavailable, match=r"noise\.onnx cannot be loaded"):
        load_detector(tmp_path / "noise.onnx")
    with pytest.raises(FaceDetectorUnavailable, match=r"gone\.onnx is not there"):
        load_detector(tmp_path / "gone.onnx")
    with pytest.raises(FaceDetectorUnavailable, match=r"expected YuNet .* or UltraFace"):
        load_detector(DATA / "weights" / "silero_vad.onnx")


@needs_data
def test_the_encoder_sees_the_face_wherever_it_stands() -> None:
    config, _ = ResNetFrames.small()
    torch.manual_seed(1)
    detector = FILES["yunet"].read_bytes()
    encoder = FaceFrames(config, {DETECTOR: detector}).eval()
    assert encoder.asset_files == {DETECTOR: detector}
    load = load_detector(FILES["yunet"])
    number = next(n for n in range(COUNT) if load.detect(canvas((n, 20, 30, 140))))
    fronts = [
        encoder.front(Utterance(0, "a", 0, 16_000, None, frames=(Frame(0, picture),)))
        for picture in (canvas((number, 20, 30, 140)), canvas((number, 320, 200, 140)))
    ]
    assert fronts[0] is not None
    middle = ResNetFrames(config).front(
        Utterance(0, "a", 0, 16_000, None, frames=(Frame(0, canvas((number, 20, 30, 140))),))
    )
    elsewhere, unseen = (
        float(np.abs(np.subtract(fronts[0], other, dtype=np.int16)).mean())
        for other in (fronts[1], middle)
    )
    assert elsewhere < 0.6 * unseen


def test_the_encoder_without_a_detector_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match=r"face detector as face_detector\.onnx"):
        FaceFrames(ResNetFrames.small()[0])


def test_overlap_is_intersection_over_union() -> None:
    one = FaceBox(0, 0, 10, 10, 1.0)
    assert one.overlap(FaceBox(5, 0, 15, 10, 1.0)) == pytest.approx(50 / 150)
    assert one.overlap(FaceBox(20, 20, 30, 30, 1.0)) == 0.0
    assert FaceBox(3, 3, 3, 3, 1.0).overlap(one) == 0.0


@given(
    st.tuples(*[st.integers(-50, 150)] * 2),
    st.tuples(*[st.integers(0, 120)] * 2),
    st.integers(1, 90),
    st.integers(1, 90),
)
def test_a_crop_is_a_square_of_the_picture(
    corner: tuple[int, int], size: tuple[int, int], height: int, width: int
) -> None:
    rows, columns = np.indices((height, width), dtype=np.uint8)
    pixels = np.stack([rows, columns, rows], axis=-1)
    box = FaceBox(corner[0], corner[1], corner[0] + size[0], corner[1] + size[1], 0.9)
    square = face_square(pixels, box)
    assert 1 <= square.shape[0] == square.shape[1] <= min(height, width)


def test_a_crop_has_the_face_in_its_middle_and_a_margin() -> None:
    rows, columns = np.indices((100, 200), dtype=np.uint8)
    square = face_square(np.stack([rows, columns, rows], axis=-1), FaceBox(90, 40, 110, 60, 1.0))
    assert square.shape == (28, 28, 3)
    assert square[0, 0].tolist() == [36, 86, 36]


def test_the_small_form_finds_one_face_in_the_middle() -> None:
    """Its detector is written by hand, for tests that need no real one."""
    detector = load_detector(FaceFrames.small()[1][DETECTOR])
    assert detector.detect(np.zeros((40, 60, 3), np.uint8)) == [FaceBox(15, 10, 45, 30, 1.0)]


@needs_data
def test_one_cascade_serves_several_threads() -> None:
    detector = FaceCascade()
    pictures = [canvas((number, 100, 80, 150)) for number in range(8)]
    alone = [detector.detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, pictures * 3)) == alone * 3


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (19, 19), (700, 5)])
def test_the_cascade_bears_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    assert FaceCascade().detect(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("module", "said"),
    [(None, "OpenCV is not here"), (SimpleNamespace(__version__="5.0"), "5.0 has no cascades")],
)
def test_without_cascades_the_cure_is_named(
    monkeypatch: pytest.MonkeyPatch, module: object, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", module)
    with pytest.raises(FaceDetectorUnavailable, match=rf"{said}.*install 'opencv-python-headless"):
        FaceCascade()


def test_a_whole_picture_is_one_face() -> None:
    assert WholePicture().detect(np.zeros((40, 60, 3), np.uint8)) == [FaceBox(0, 0, 60, 40, 1.0)]


@needs_data
def test_yunet_tells_a_turned_face() -> None:
    """The left half of a face twice is a face that looks ahead; its nose is then between its eyes.

    Seen from the side it is nearer to one eye: here, by stretching one half of the picture.
    """
    detector = load_detector(FILES["yunet"])
    ahead, turned = [], []
    for number in range(COUNT):
        face = Image.fromarray(real_faces()[number]).resize((160, 160))
        left, right = face.crop((0, 0, 80, 160)), face.crop((80, 0, 160, 160))
        for seen, (one, other) in ((ahead, (80, 80)), (turned, (30, 130))):
            picture = canvas()
            for half, width, start in ((left, one, 150), (right, other, 150 + one)):
                pixels = np.asarray(half.resize((width, 160)))
                picture[100:260, start : start + width] = pixels[..., None]
            seen += [box.ahead for box in detector.detect(picture)[:1]]
    assert min(len(ahead), len(turned)) >= 0.3 * COUNT
    assert np.median(ahead) > 0.7
    assert np.median(turned) < np.median(ahead) - 0.2
