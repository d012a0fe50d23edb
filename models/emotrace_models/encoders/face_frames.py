"""Face frames: ResNet frames of the face that a detector finds, instead of the picture's middle.

The paper mentions no face detection (models.md section 7.1), so this is an encoder of its own. The
detector's file is an asset: a bundle carries it, and live pictures are cut like those of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from emotrace_models.encoders.face_tracking import tracked
from emotrace_models.encoders.faces import face_square, load_detector
from emotrace_models.encoders.pictures import centre_square
from emotrace_models.encoders.resnet_frames import ResNetFrames, ResNetFramesConfig
from emotrace_models.picture_decoding import Pixels
from emotrace_models.registry import register

DETECTOR = "face_detector.onnx"


@register("encoder", "face_frames")
class FaceFrames(ResNetFrames):
    """The largest face, followed from picture to picture; the middle square until one is found.

    Raises FaceDetectorUnavailable for a file that is no known detector.
    """

    assets: ClassVar[tuple[str, ...]] = (DETECTOR,)

    def __init__(
        self, config: ResNetFramesConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        if DETECTOR not in self.asset_files:
            raise ValueError(f"face_frames needs the file of a face detector as {DETECTOR}")
        self._detector = load_detector(self.asset_files[DETECTOR])

    @classmethod
    def small(cls) -> tuple[ResNetFramesConfig, Mapping[str, bytes]]:
        """With a detector that finds the same face in every picture."""
        return ResNetFrames.small()[0], {DETECTOR: _still_detector()}

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        frames: int = 90,
        size: int = 224,
        seconds: float = 3.0,
        detector: str | Path = "",
    ) -> Self:
        """As ResNetFrames; detector: path of its ONNX file."""
        network = ResNetFrames.from_pretrained(source, frames, size, seconds)
        encoder = cls(network.config, {DETECTOR: Path(detector).read_bytes()})
        encoder.load_state_dict(network.state_dict())
        return encoder.eval()

    def squares(self, pictures: Sequence[Pixels], samples: Sequence[int]) -> list[Pixels]:
        boxes = tracked([self._detector.detect(pixels) for pixels in pictures], samples)
        return [
            centre_square(pixels) if box is None else face_square(pixels, box)
            for pixels, box in zip(pictures, boxes, strict=True)
        ]


def _still_detector() -> bytes:
    """An ONNX model with UltraFace's inputs and outputs that always finds one face, in the middle.

    Written field by field (onnx.proto): numbers are tags, lengths are varints under 128 or two.
    """

    def field(tag: int, content: bytes) -> bytes:
        size = len(content)
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        return bytes([tag << 3 | 2]) + length + content

    def number(tag: int, value: int) -> bytes:
        return bytes([tag << 3]) + (
            bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])
        )

    def described(name: bytes, *sizes: int) -> bytes:
        shape = b"".join(field(1, number(1, size)) for size in sizes)
        return field(1, name) + field(2, field(1, number(1, 1) + field(2, shape)))

    graph = b""
    for name, values in ((b"scores", (0.0, 1.0)), (b"boxes", (0.25, 0.25, 0.75, 0.75))):
        sizes = (1, 1, len(values))
        constant = b"".join(number(1, size) for size in sizes) + number(2, 1)
        constant += field(8, b"constant " + name) + field(9, np.array(values, np.float32).tobytes())
        node = field(1, b"constant " + name) + field(2, name) + field(4, b"Identity")
        graph += field(1, node) + field(5, constant) + field(12, described(name, *sizes))
    graph += field(2, b"still") + field(11, described(b"input", 1, 3, 240, 320))
    return number(1, 8) + field(8, number(2, 17)) + field(7, graph)
