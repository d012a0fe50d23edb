"""One face from picture to picture: a speaker's own, where several are to be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emotrace_models.encoders.faces import FaceBox
from emotrace_models.types import SAMPLE_RATE

SAME_FACE = 0.2  # overlap, from which a box in the next picture is the same face
REACH = 0.75  # of a face's side, how far it may have moved where the boxes do not overlap
GROWTH = 1.6  # by how much it may have grown or shrunk then
PATIENCE = 3 * SAMPLE_RATE  # how long a lost face is waited for, before another one is taken


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The face followed: where it was last seen (None: never), and when (sample)."""

    box: FaceBox | None = None
    sample: int = 0

    def follow(self, faces: Sequence[FaceBox], sample: int) -> tuple[FaceTrack, FaceBox | None]:
        """The track after the next picture, and the face there; None where it is not to be seen.

        The largest face at first and once the old one is lost for good. A lost face is waited for:
        somebody who walks through the picture is not the speaker.
        """
        chosen = max(faces, key=lambda face: face.area, default=None)
        if chosen is not None and self.box is not None:
            nearest = min(faces, key=self.box.distance)
            if self._is(nearest):
                chosen = nearest
            elif sample - self.sample <= PATIENCE:
                chosen = None
        return (self, None) if chosen is None else (FaceTrack(chosen, sample), chosen)

    def _is(self, face: FaceBox) -> bool:
        assert self.box is not None
        if self.box.overlap(face) >= SAME_FACE:
            return True
        smaller, larger = sorted((self.box.side, face.side))
        return larger <= GROWTH * smaller and self.box.distance(face) <= REACH * larger


def tracked(found: Sequence[Sequence[FaceBox]], samples: Sequence[int]) -> list[FaceBox | None]:
    """The face followed through pictures in order of time, where it was last seen in each."""
    chosen: list[FaceBox | None] = []
    track = FaceTrack()
    for faces, sample in zip(found, samples, strict=True):
        track, _ = track.follow(faces, sample)
        chosen.append(track.box)
    return chosen
