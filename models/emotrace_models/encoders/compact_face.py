"""Compact face encoder: pictures of a speaker -> a unit vector in the shared emotion space.

In a few pictures of an utterance the speaker's face is found, followed and judged; the network
(face_tower.py), trained against the same class prototypes as the other compact towers, reads it in
each; the vector is the normalised mean, each face with the weight of its quality. The face that is
followed is the speaker's state, a value, with what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.face_cascade import FaceCascade
from emotrace_models.encoders.face_quality import FaceQuality, FaceSight, quality
from emotrace_models.encoders.face_tower import FaceTower, FaceTowerConfig, equalised, grey_face
from emotrace_models.encoders.face_tracking import FaceTrack
from emotrace_models.encoders.faces import (
    FaceDetector,
    FaceDetectorUnavailable,
    WholePicture,
    face_square,
)
from emotrace_models.encoders.pictures import spread
from emotrace_models.encoders.prototypes import in_frame
from emotrace_models.picture_decoding import PictureUnreadable, Pixels, Seeing
from emotrace_models.registry import register
from emotrace_models.types import FloatArray, Frame, Modality, Utterance


@dataclass(frozen=True, slots=True)
class CompactFaceConfig:
    """frames: pictures of an utterance that are looked at, at most.

    detector: `cascade`, OpenCV's, unless whoever serves the bundle gives another one; `whole`,
    every picture is a face that somebody has cut out.
    margin: around a face, in shares of its side; detectors frame faces as FER2013 does without.
    gate: whether faces are judged; without, each counts alike. widths, blocks: of the network.
    """

    width: int = 128
    frames: int = 8
    detector: Literal["cascade", "whole"] = "cascade"
    margin: float = 0.0
    gate: bool = True
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 1)

    def __post_init__(self) -> None:
        network = self.tower().network()
        object.__setattr__(self, "widths", network.widths)
        object.__setattr__(self, "blocks", network.blocks)
        if min(self.width, self.frames) < 1:
            raise ValueError("width and frames must be at least 1")
        if not 0.0 <= self.margin <= 1.0:
            raise ValueError(f"margin must lie between 0 and 1, not {self.margin}")
        if self.detector not in ("cascade", "whole"):
            raise ValueError(f"detector must be cascade or whole, not {self.detector!r}")

    def tower(self) -> FaceTowerConfig:
        return FaceTowerConfig(self.width, self.widths, self.blocks)


@dataclass(frozen=True, slots=True)
class FaceState:
    """track: the face followed, its box in shares of the picture's longer side. sight: what was
    seen in the last utterance."""

    track: FaceTrack
    sight: FaceSight


@dataclass(frozen=True, slots=True, eq=False)
class SeenFaces:
    """faces [picture, SIDE, SIDE] grey, equalised; weights [picture], all above 0."""

    faces: NDArray[np.uint8]
    weights: FloatArray


@register("encoder", "compact_face")
class CompactFace(Seeing, Encoder):
    modality: ClassVar[Modality] = Modality.FACIAL
    config_type: ClassVar[type[CompactFaceConfig]] = CompactFaceConfig

    def __init__(
        self, config: CompactFaceConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        self.config = config
        self.width = config.width
        self.tower = FaceTower(config.tower())
        self._detector: FaceDetector | None = None
        self._fault: str | None = None
        try:
            self._detector = WholePicture() if config.detector == "whole" else FaceCascade()
        except FaceDetectorUnavailable as error:
            self._fault = f"Faces cannot be found: {error}."

    @classmethod
    def small(cls) -> tuple[CompactFaceConfig, Mapping[str, bytes]]:
        """Every picture is a face."""
        return CompactFaceConfig(16, 3, "whole", gate=False, widths=(4, 8), blocks=(1, 1)), {}

    @property
    def unavailable(self) -> str | None:
        return self._fault

    def detect_with(self, detector: FaceDetector) -> None:
        """Find faces with another one than OpenCV's, before the encoder is used. Where pictures
        are faces already, nothing changes."""
        if self.config.detector == "cascade":
            self._detector, self._fault = detector, None

    def in_bf16(self) -> Self:
        own = self.copied()
        own.tower.network.to_bf16()
        return own

    def start(self) -> FaceState:
        return FaceState(FaceTrack(), FaceSight())

    @torch.inference_mode()
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        looks = [self.look(state, utterance) for state, utterance in items]
        results: list[tuple[FloatArray | None, SpeakerState]] = [(None, s) for _, s in looks]
        seen = {i: faces for i, (faces, _) in enumerate(looks) if faces is not None}
        if seen:
            pixels = torch.from_numpy(np.concatenate([one.faces for one in seen.values()]))
            vectors = self.tower.seen(pixels[:, None].float())
            parts = torch.split(vectors, [len(one.faces) for one in seen.values()])
            for (i, one), part in zip(seen.items(), parts, strict=True):
                mean = F.normalize(torch.from_numpy(one.weights) @ part, dim=-1)
                results[i] = (in_frame(mean).numpy().copy(), looks[i][1])
        return results

    def look(self, state: FaceState, utterance: Utterance) -> tuple[SeenFaces | None, FaceState]:
        """The speaker's face in the pictures of an utterance, and the next state; None where no
        picture shows one well enough."""
        sight, track = FaceSight(), state.track
        faces: list[Pixels] = []
        weights: list[float] = []
        if self._detector is None:
            return None, FaceState(track, sight)
        for frame in self._chosen(utterance):
            try:
                pixels = self.decode(frame.image)
            except PictureUnreadable:
                sight = sight.having("unreadable")
                continue
            side = max(pixels.shape[:2])
            found = self._detector.detect(pixels)
            track, box = track.follow([face.scaled(1 / side) for face in found], frame.sample)
            if box is None:
                sight = sight.having("no_face")
                continue
            box = box.scaled(side)
            grey = grey_face(face_square(pixels, box, self.config.margin))
            judged = quality(box, grey) if self.config.gate else FaceQuality(1.0, "used")
            sight = sight.having(judged.reason)
            if judged.weight > 0.0:
                faces.append(equalised(grey))
                weights.append(judged.weight)
        after = FaceState(track, sight)
        if not faces:
            return None, after
        return SeenFaces(np.stack(faces), np.array(weights, np.float32)), after

    def _chosen(self, utterance: Utterance) -> list[Frame]:
        """At most as many frames as the config says, spread evenly over the utterance."""
        start, end, frames = utterance.start_sample, utterance.end_sample, utterance.frames
        if not frames:
            return []
        moments = spread(frames, start, end, end - start, self.config.frames)
        return [frames[i] for i in sorted(set(moments))]
