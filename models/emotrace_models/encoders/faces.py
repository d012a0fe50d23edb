"""Faces in pictures: what a detector finds, detectors that run in onnxruntime, and crops.

Two public detectors are known by their outputs: YuNet (libfacedetection, Apache-2.0), of any
picture size, and UltraFace RFB-320 (MIT). Their files come with no package: `emotrace-serve models
pull` fetches them, or give a path. OpenCV's comes with a package (face_cascade.py).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from emotrace_models.encoders.pictures import resized_to
from emotrace_models.picture_decoding import Pixels
from emotrace_models.types import FloatArray

OVERLAP = 0.3  # of union, above which two boxes are one face
STRIDES = (8, 16, 32)  # of YuNet's three maps
KINDS = ("cls", "obj", "bbox", "kps")  # what each of them says


class FaceDetectorUnavailable(RuntimeError):
    """The detector, or what it needs, is not here; the message names the cure."""


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face in a picture, in its pixels; it may reach over the edge.

    score: from 0 to 1. ahead: 1 where it looks into the camera, 0 where it is seen from the side,
    as far as the detector can tell; 1 where it cannot.
    """

    left: float
    top: float
    right: float
    bottom: float
    score: float
    ahead: float = 1.0

    @property
    def side(self) -> float:
        """The longer one."""
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def area(self) -> float:
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def scaled(self, factor: float) -> FaceBox:
        """In a picture of another size."""
        left, top, right, bottom = (
            factor * edge for edge in (self.left, self.top, self.right, self.bottom)
        )
        return FaceBox(left, top, right, bottom, self.score, self.ahead)

    def distance(self, other: FaceBox) -> float:
        """Between the middles."""
        across = self.left + self.right - other.left - other.right
        down = self.top + self.bottom - other.top - other.bottom
        return math.hypot(across, down) / 2

    def overlap(self, other: FaceBox) -> float:
        """Area that both cover over area that either does."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        both = max(0.0, width) * max(0.0, height)
        either = self.area + other.area - both
        return both / either if either > 0 else 0.0


class FaceDetector(ABC):
    """Safe to call from several threads at once; holds nothing of a picture."""

    @abstractmethod
    def detect(self, pixels: Pixels) -> list[FaceBox]:
        """pixels [height, width, 3] -> faces, the most certain first, none twice."""


class WholePicture(FaceDetector):
    """For pictures that somebody has cut to a face: it fills all of each."""

    def detect(self, pixels: Pixels) -> list[FaceBox]:
        height, width = pixels.shape[:2]
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]


class OnnxDetector(FaceDetector):
    def __init__(self, session: onnxruntime.InferenceSession, least_score: float) -> None:
        self._session = session
        self._least = least_score

    def detect(self, pixels: Pixels) -> list[FaceBox]:
        found = self._candidates(pixels)
        certain = np.flatnonzero(found.scores >= self._least)
        order = certain[np.argsort(-found.scores[certain], kind="stable")]
        kept: list[FaceBox] = []
        for row in order:
            left, top, right, bottom = found.boxes[row].tolist()
            box = FaceBox(
                left, top, right, bottom, float(found.scores[row]), float(found.ahead[row])
            )
            if all(box.overlap(other) < OVERLAP for other in kept):
                kept.append(box)
        return kept

    @abstractmethod
    def _candidates(self, pixels: Pixels) -> _Candidates: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """boxes [candidate, 4]: left, top, right, bottom in pixels; scores, ahead [candidate]."""

    boxes: FloatArray
    scores: FloatArray
    ahead: FloatArray


class YuNet(OnnxDetector):
    """Pictures are shrunk to `longest` pixels and filled up to whole strides of 32."""

    longest = 320

    def _candidates(self, pixels: Pixels) -> _Candidates:
        height, width = pixels.shape[:2]
        scale = min(1.0, self.longest / max(height, width))
        small = resized_to(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
        rows, columns = (-(-side // 32) * 32 for side in small.shape[:2])
        image = np.zeros((1, 3, rows, columns), np.float32)
        # Blue first, 0 to 255, as OpenCV gives it.
        image[0, :, : small.shape[0], : small.shape[1]] = small[..., ::-1].transpose(2, 0, 1)
        names = [f"{kind}_{stride}" for stride in STRIDES for kind in KINDS]
        out = dict(zip(names, self._session.run(names, {"input": image}), strict=True))
        boxes, scores, ahead = [], [], []
        for stride in STRIDES:
            cls, obj, bbox, kps = (out[f"{kind}_{stride}"][0] for kind in KINDS)
            cells = np.arange(len(bbox))
            centre_x = (cells % (columns // stride) + bbox[:, 0]) * stride
            centre_y = (cells // (columns // stride) + bbox[:, 1]) * stride
            half = np.exp(bbox[:, 2:]) * (stride / 2)
            edges = (
                centre_x - half[:, 0],
                centre_y - half[:, 1],
                centre_x + half[:, 0],
                centre_y + half[:, 1],
            )
            boxes.append(np.stack(edges, axis=1))
            scores.append(np.sqrt(cls[:, 0].clip(0, 1) * obj[:, 0].clip(0, 1)))
            ahead.append(_ahead(kps.reshape(-1, 5, 2)))
        back = np.array([width / small.shape[1], height / small.shape[0]] * 2, np.float32)
        return _Candidates(
            np.concatenate(boxes) * back, np.concatenate(scores), np.concatenate(ahead)
        )


class UltraFace(OnnxDetector):
    """Pictures are stretched to 320 x 240."""

    def _candidates(self, pixels: Pixels) -> _Candidates:
        height, width = pixels.shape[:2]
        image = resized_to(pixels, 240, 320).astype(np.float32).transpose(2, 0, 1)
        scores, boxes = self._session.run(["scores", "boxes"], {"input": (image[None] - 127) / 128})
        back = np.array([width, height] * 2, np.float32)
        return _Candidates(boxes[0] * back, scores[0, :, 1], np.ones(len(boxes[0]), np.float32))


def load_detector(source: Path | bytes, least_score: float = 0.6) -> FaceDetector:
    """A detector from its ONNX file. Raises FaceDetectorUnavailable, which names it."""
    name = source.name if isinstance(source, Path) else "the face detector"
    if isinstance(source, Path) and not source.is_file():
        raise FaceDetectorUnavailable(f"{source} is not there; give the path of an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model: Any = source if isinstance(source, bytes) else str(source)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class
        raise FaceDetectorUnavailable(f"{name} cannot be loaded: {error}") from error
    inputs = [one.name for one in session.get_inputs()]
    outputs = {one.name for one in session.get_outputs()}
    if inputs == ["input"] and {f"bbox_{stride}" for stride in STRIDES} <= outputs:
        return YuNet(session, least_score)
    if inputs == ["input"] and {"scores", "boxes"} <= outputs:
        return UltraFace(session, least_score)
    raise FaceDetectorUnavailable(
        f"{name} gives {sorted(outputs)[:4]}; expected YuNet (bbox_8, ...) or UltraFace "
        "(scores, boxes)"
    )


def _ahead(points: FloatArray) -> FloatArray:
    """How far each face looks into the camera: points [face, 5, 2] of eyes, nose, mouth corners.

    The nose stands between the eyes, seen along the line through them; over one eye it is 0.
    """
    one, other, nose = points[:, 0], points[:, 1], points[:, 2]
    line = other - one
    length = np.maximum((line**2).sum(axis=1), 1e-6)
    along = ((nose - one) * line).sum(axis=1) / length  # 0 at one eye, 1 at the other
    ahead: FloatArray = (1.0 - 2.0 * np.abs(along - 0.5)).clip(0.0, 1.0)
    return ahead


def face_square(pixels: Pixels, box: FaceBox, margin: float = 0.2) -> Pixels:
    """The square around a face with `margin` of its longer side on every side, moved or cut where
    it would leave the picture."""
    height, width = pixels.shape[:2]
    longer = max(box.right - box.left, box.bottom - box.top)
    side = int(min(max(1, round(longer * (1 + 2 * margin))), height, width))
    top, left = (
        min(max(0, round((low + high - side) / 2)), size - side)
        for low, high, size in ((box.top, box.bottom, height), (box.left, box.right, width))
    )
    return pixels[top : top + side, left : left + side]
