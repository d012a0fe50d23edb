"""Faces put to records that have no film: others' faces of the same emotion, from FER2013.

They are not the speaker's. What is learned from them shows that a model fuses two modalities, not
how well it would on films: say so wherever such a figure stands.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emotrace_models.types import SAMPLE_RATE, Frame
from emotrace_training.corpora.fer2013 import TABLE, Face, Side, read_fer2013
from emotrace_training.manifests import ManifestError, Record

# Emotions that FER2013 has no faces of.
NEAREST = {"calm": "neutral", "excitement": "happiness", "frustration": "anger"}


class ComposedFaces:
    """A source of frames (frame_sources.FrameSource), named by `data.faces` of a recipe:

        faces = { folder = "../shared/data/fer2013", pictures = 1, seed = 0 }

    A record's faces are drawn by its id from its own side of the split (corpora/fer2013.py): none
    of them taught the face network. So the corpus must have a split of its own. `pictures` of them
    follow one another.
    """

    def __init__(self, folder: str, pictures: int = 1, seed: int = 0) -> None:
        if pictures < 1:
            raise ManifestError(f"data.faces: pictures must be at least 1, not {pictures}")
        self._file = Path(folder) / TABLE
        self._pictures, self._seed = pictures, seed
        self._faces: dict[tuple[Side, str], list[Face]] = defaultdict(list)
        for side, faces in read_fer2013(Path(folder)).sides.items():
            for face in faces:
                self._faces[side, face.emotion].append(face)

    def has(self, record: Record) -> bool:
        return self._stock(record) != []

    def key(self, record: Record, digest: Callable[[str], str]) -> Any:
        return ["composed", digest(self._file.as_posix()), *(f.id for f in self.chosen(record))]

    def chosen(self, record: Record) -> list[Face]:
        """The faces of a record, the same on every machine; none where it has none."""
        stock = self._stock(record)
        name = f"{self._seed}:{record.corpus}:{record.id}"
        return [
            stock[_drawn(f"{name}:{number}", len(stock))]
            for number in range(self._pictures if stock else 0)
        ]

    def frames(self, record: Record) -> tuple[Frame, ...]:
        """Spread evenly from the start of the record to its end."""
        start, length = (round(s * SAMPLE_RATE) for s in (record.start_s, record.seconds))
        faces = self.chosen(record)
        return tuple(
            Frame(start + number * length // len(faces), face.image)
            for number, face in enumerate(faces)
        )

    def _stock(self, record: Record) -> list[Face]:
        if not record.split:
            return []
        emotion = NEAREST.get(record.emotion, record.emotion)
        return self._faces.get((record.split, emotion), [])


def _drawn(name: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count
