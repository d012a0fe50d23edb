"""The face encoder: one face a speaker, weighed by its quality; nothing where none is seen."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from emotrace_models.encoders import compact_face
from emotrace_models.encoders.compact_face import CompactFace, CompactFaceConfig, FaceState
from emotrace_models.encoders.face_quality import FaceQuality, FaceSight
from emotrace_models.encoders.face_tracking import PATIENCE, FaceTrack
from emotrace_models.encoders.faces import FaceBox, FaceDetector, WholePicture
from emotrace_models.picture_decoding import Pixels
from emotrace_models.types import FloatArray, Frame, Utterance

TABLE = Path("../shared/data/fer2013/fer2013_training_publictest.npz")
SMALL = CompactFaceConfig(16, 4, widths=(4, 8), blocks=(1, 1))
EDGE = 160  # pixels of the faces that are drawn


class Marked(FaceDetector):
    """Finds what is drawn in red: a rectangle of it is one face. Its size is as drawn."""

    def detect(self, pixels: Pixels) -> list[FaceBox]:
        red = (pixels[..., 0] > 0) & (pixels[..., 2] == 0)
        columns = np.flatnonzero(red.any(axis=0))
        if not len(columns):
            return []
        parts = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        faces = []
        for part in parts:
            rows = np.flatnonzero(red[:, part[0]])
            left, right, top, bottom = part[0], part[-1] + 1, rows[0], rows[-1] + 1
            faces.append(FaceBox(float(left), float(top), float(right), float(bottom), 0.9))
        return faces


def pattern(seed: int, side: int) -> Pixels:
    rng = np.random.default_rng(seed)
    detail = sum(np.kron(rng.normal(0, 25, (side // k, side // k)), np.ones((k, k)))
                 for k in (4, 8, 20, 40))  # fmt: skip
    return np.clip(detail + 128, 1, 255).astype(np.uint8)


def picture(*faces: tuple[int, int, int]) -> Pixels:
    """Drawn faces: number, left, top; each has its own pattern."""
    pixels = np.full((360, 480, 3), 90, np.uint8)
    for number, left, top in faces:
        levels = pattern(number, EDGE)
        drawn = np.stack([levels, levels, np.zeros_like(levels)], axis=-1)
        pixels[top : top + EDGE, left : left + EDGE] = drawn
    return pixels


def said(pictures: Sequence[Pixels | bytes], start: int = 0, step: int = 3_200) -> Utterance:
    frames = tuple(Frame(start + n * step, image) for n, image in enumerate(pictures))
    return Utterance(0, "A", start, start + len(pictures) * step, None, frames=frames)


def encoder(config: CompactFaceConfig = SMALL, seed: int = 3) -> CompactFace:
    torch.manual_seed(seed)
    made = CompactFace(config).eval()
    made.detect_with(Marked())
    return made


def vector_of(
    made: CompactFace, utterance: Utterance, state: FaceState | None = None
) -> tuple[FloatArray | None, FaceState]:
    (result,) = made.encode([(state or made.start(), utterance)])
    return result


def seen_in(made: CompactFace, *pictures: Pixels | bytes) -> FloatArray:
    vector, _ = vector_of(made, said(pictures))
    assert vector is not None
    return vector


def test_the_vector_is_of_unit_length_and_of_the_face_wherever_it_stands() -> None:
    made = encoder()
    one, elsewhere = seen_in(made, picture((1, 40, 60))), seen_in(made, picture((1, 250, 150)))
    another = seen_in(made, picture((2, 40, 60)))
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(one, elsewhere, atol=1e-5)
    assert np.abs(one - another).max() > 1e-3


def test_a_face_and_its_mirror_image_are_one() -> None:
    made = encoder()
    np.testing.assert_allclose(
        seen_in(made, picture((1, 160, 60))),
        seen_in(made, picture((1, 160, 60))[:, ::-1].copy()),
        atol=1e-4,
    )


def test_without_a_usable_face_there_is_no_vector_and_the_reason_is_kept() -> None:
    made = encoder()
    flat = picture()
    flat[100:260, 100:260] = (90, 90, 0)
    tiny = picture()
    tiny[100:115, 100:115] = (200, 90, 0)
    for bad, reasons in ((flat, {"badly_lit": 1}), (tiny, {"small": 1})):
        vector, state = vector_of(made, said([b"no picture", picture(), bad]))
        assert vector is None
        assert state.sight == FaceSight(looked_at=3, unreadable=1, no_face=1, **reasons)
    vector, state = vector_of(made, said([]), state)
    assert vector is None
    assert state.sight == FaceSight()


def test_the_vector_moves_with_the_weight_of_a_picture_without_a_jump(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = encoder()
    good, bad = picture((1, 40, 60)), picture((2, 40, 60))
    weights: dict[bytes, float] = {}

    def judged(box: FaceBox, grey: Pixels) -> FaceQuality:
        weight = weights[grey.tobytes()]
        return FaceQuality(weight, "used" if weight else "blurred")

    keys = []
    monkeypatch.setattr(
        compact_face, "quality", lambda b, g: keys.append(g.tobytes()) or FaceQuality(1.0, "used")
    )
    alone, other = seen_in(made, good), seen_in(made, bad)
    monkeypatch.setattr(compact_face, "quality", judged)
    path = []
    for share in np.linspace(0, 1, 41):
        weights.update({keys[0]: 1.0, keys[1]: float(share)})
        path.append(seen_in(made, good, bad))
    np.testing.assert_allclose(path[0], alone, atol=1e-5)
    steps = [np.linalg.norm(a - b) for a, b in zip(path[1:], path, strict=False)]
    assert max(steps) < 0.08 * max(0.2, float(np.linalg.norm(alone - other)))


def test_one_bad_picture_among_good_ones_changes_little() -> None:
    made = encoder()
    good, other = picture((1, 40, 60)), picture((2, 40, 60))
    soft = np.asarray(Image.fromarray(other).resize((48, 36)).resize((480, 360)))
    alone, far = seen_in(made, good), seen_in(made, soft)
    together = seen_in(made, good, good, good, soft)
    assert np.linalg.norm(together - alone) < 0.3 * np.linalg.norm(far - alone)


def test_the_same_face_is_followed_from_picture_to_picture_and_utterance_to_utterance() -> None:
    made = encoder()
    first = picture((1, 20, 60))
    both = picture((1, 50, 60), (2, 300, 150))
    other = picture((2, 300, 150))
    alone = seen_in(made, first)
    vector, state = vector_of(made, said([first]))
    vector, state = vector_of(made, said([both], start=10_000), state)
    assert vector is not None
    np.testing.assert_allclose(vector, alone, atol=1e-5)
    vector, waiting = vector_of(made, said([other], start=20_000), state)
    assert vector is None
    assert waiting.sight == FaceSight(looked_at=1, no_face=1)
    assert waiting.track == state.track
    late = state.track.sample + PATIENCE + 1
    vector, taken = vector_of(made, said([other], start=late), waiting)
    assert vector is not None
    np.testing.assert_allclose(vector, seen_in(made, other), atol=1e-5)
    assert taken.track.sample == late


def test_a_track_is_in_shares_of_the_picture() -> None:
    """A client that changes the size of its pictures in between is the same person."""
    made = encoder()
    _, state = vector_of(made, said([picture((1, 20, 60), (2, 300, 60))]))
    small = picture((1, 20, 60), (2, 300, 60))[::2, ::2].copy()
    vector, after = vector_of(made, said([small], start=5_000), state)
    assert vector is not None
    assert after.track.box is not None
    assert state.track.box is not None
    assert after.track.box.overlap(state.track.box) > 0.9


def test_the_cost_of_an_utterance_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encoder(replace(SMALL, frames=3))
    looked: list[int] = []
    real = Marked.detect

    def counted(self: Marked, pixels: Pixels) -> list[FaceBox]:
        looked.append(int(pixels[0, 0, 0]))
        return real(self, pixels)

    monkeypatch.setattr(Marked, "detect", counted)
    pictures = []
    for number in range(30):
        pictures.append(picture((1, 40, 60)))
        pictures[-1][0, 0] = (number, number, 90)
    _, state = vector_of(made, said(pictures))
    assert state.sight.looked_at == len(looked) == 3
    assert looked[0] < 8
    assert 8 <= looked[1] < 22
    assert looked[2] >= 18


def test_cut_faces_need_no_detector() -> None:
    made = CompactFace(replace(SMALL, detector="whole")).eval()
    made.detect_with(Marked())  # nothing changes
    levels = pattern(1, EDGE)
    vector, state = vector_of(made, said([np.stack([levels] * 3, axis=-1)]))
    assert vector is not None
    assert state.sight.used == 1
    assert state.track.box == WholePicture().detect(np.zeros((1, 1, 3), np.uint8))[0]


def test_without_a_detector_the_modality_is_missing_and_the_cure_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    made = CompactFace(SMALL).eval()
    assert made.unavailable is not None
    assert "install 'opencv-python-headless" in made.unavailable
    assert vector_of(made, said([picture((1, 40, 60))])) == (
        None,
        FaceState(FaceTrack(), FaceSight()),
    )
    made.detect_with(Marked())
    assert made.unavailable is None
    assert vector_of(made, said([picture((1, 40, 60))]))[0] is not None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"frames": 0}, "at least 1"),
        ({"margin": -0.1}, "margin"),
        ({"detector": "guess"}, "cascade or whole"),
        ({"widths": (8,)}, "one number for each stage"),
    ],
)
def test_a_config_that_cannot_be_is_refused(setting: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CompactFaceConfig(**setting)  # type: ignore[arg-type]


def encoded(pixels: Pixels, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "cut short": encoded(picture((1, 40, 60)))[:900],
    "one pixel": encoded(np.zeros((1, 1, 3), np.uint8)),
    "a line": encoded(np.full((1, 3_000, 3), 90, np.uint8)),
    "noise": encoded(np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)),
    "black": encoded(np.zeros((240, 320, 3), np.uint8)),
    "a bomb": encoded(np.zeros((5_000, 4_000, 3), np.uint8), "PNG"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_no_face(name: str) -> None:
    made = CompactFace(SMALL).eval()
    vector, state = vector_of(made, said([HOSTILE[name]]))
    assert vector is None
    assert state.sight.used == 0
    assert state.sight.looked_at == 1


@cache
def real_faces(count: int = 24) -> list[Pixels]:
    with np.load(TABLE) as table:
        header, offsets = table["header"].tobytes(), table["offsets"]
        scans = table["scans"].tobytes()
    files = [header + scans[offsets[r] : offsets[r + 1]] + b"\xff\xd9" for r in range(500, 524)]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files[:count]]


@pytest.mark.skipif(not TABLE.is_file(), reason="FER2013 is not there")
@pytest.mark.parametrize("side", [90, 200])
def test_the_tower_sees_of_a_picture_what_fer2013_shows_of_a_face(side: int) -> None:
    """By OpenCV's cascade, through JPEG: nearly the tile that was put into the picture."""
    made = CompactFace(CompactFaceConfig())
    overlaps = []
    for number, tile in enumerate(real_faces()):
        room = np.full((360, 480, 3), 120, np.uint8)
        face = np.asarray(Image.fromarray(tile).resize((side, side)))
        left, top = 20 + 7 * number, 10 + 5 * number
        room[top : top + side, left : left + side] = face
        look, state = made.look(made.start(), said([encoded(room)]))
        if look is not None:
            assert state.track.box is not None
            placed = FaceBox(left, top, left + side, top + side, 1.0)
            overlaps.append(state.track.box.scaled(480).overlap(placed))
    assert len(overlaps) >= 0.5 * len(real_faces())
    assert np.median(overlaps) > 0.7
    assert min(overlaps) > 0.3
