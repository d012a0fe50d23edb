"""Faces found by OpenCV's cascade of Haar features, which comes with its package.

Viola and Jones (CVPR 2001); the tree of Lienhart, Kuranov and Pisarevsky (DAGM 2003),
`haarcascade_frontalface_alt2.xml`. It finds faces that look into the camera. OpenCV 5 has dropped
it: the package must be older.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from emotrace_models.encoders.faces import FaceBox, FaceDetector, FaceDetectorUnavailable
from emotrace_models.picture_decoding import Pixels

FILE = "haarcascade_frontalface_alt2.xml"
CURE = "install 'opencv-python-headless>=4.10,<5'"
LONGEST = 240  # pixels, to which larger pictures are shrunk
SMALLEST = 20  # pixels of a face then; it is the cascade's own window
STEP = 1.15  # from one size of face to the next
NEIGHBOURS = 3  # windows that must agree on a face


class FaceCascade(FaceDetector):
    """Raises FaceDetectorUnavailable where OpenCV or its cascades are not here."""

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise FaceDetectorUnavailable(f"OpenCV is not here ({error}): {CURE}") from error
        if not hasattr(cv2, "CascadeClassifier"):
            raise FaceDetectorUnavailable(f"OpenCV {cv2.__version__} has no cascades: {CURE}")
        cv2.setNumThreads(1)
        self._cv2 = cv2
        self._file = Path(cv2.data.haarcascades) / FILE  # type: ignore[attr-defined]
        self._own = threading.local()  # a classifier serves one thread at a time
        self._classifier()

    def detect(self, pixels: Pixels) -> list[FaceBox]:
        cv2 = self._cv2
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        scale = min(1.0, LONGEST / max(height, width))
        if scale < 1.0:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        boxes, agreed = self._classifier().detectMultiScale2(
            grey, scaleFactor=STEP, minNeighbors=NEIGHBOURS, minSize=(SMALLEST, SMALLEST)
        )
        faces = [
            FaceBox(x / scale, y / scale, (x + w) / scale, (y + h) / scale, _sure(count))
            for (x, y, w, h), count in zip(boxes, agreed, strict=True)
        ]
        return sorted(faces, key=lambda face: -face.score)

    def _classifier(self) -> Any:
        """This thread's."""
        if not hasattr(self._own, "classifier"):
            classifier = self._cv2.CascadeClassifier(str(self._file))
            if classifier.empty():
                raise FaceDetectorUnavailable(f"OpenCV has no {FILE}: {CURE}")
            self._own.classifier = classifier
        return self._own.classifier


def _sure(agreed: int) -> float:
    """From the windows that agree on a face: more than none, less than one."""
    return float(agreed) / (float(agreed) + NEIGHBOURS)
