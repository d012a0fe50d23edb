"""FER2013 (Goodfellow et al., 2013): grey faces of 48 x 48 pixels with one of seven emotions.

Read from `fer2013_training_publictest.npz`, in which every face is a JPEG file. There are no people
to keep apart, and many pictures stand there more than once: exact repeats are left out and counted,
constant ones too. No licence is stated: research use only.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.manifests import ManifestError

TABLE = "fer2013_training_publictest.npz"
JPEG_END = b"\xff\xd9"
TRAINING, PUBLIC_TEST = 0, 1

Side = Literal["network", "train", "valid", "test"]
SIDES: tuple[Side, ...] = get_args(Side)

# How every ten faces of an emotion in the Training part are dealt: eight teach the network that
# reads faces; one stands for the training part of what is trained on top of it, which must not read
# faces that the network knows by heart; one is there to choose by. All of PublicTest is `test`.
TAUGHT: Side = "network"
DEALT: tuple[Side, ...] = (*[TAUGHT] * 8, "train", "valid")


@dataclass(frozen=True, slots=True)
class Face:
    """id: of the file it came from. image: a JPEG. emotion: canonical."""

    id: str
    emotion: str
    image: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Faces by side, and how many were left out, by reason."""

    sides: Mapping[Side, Sequence[Face]]
    dropped: Mapping[str, int]


def read_fer2013(folder: Path) -> Faces:
    """Raises ManifestError, which names the file."""
    file = folder / TABLE
    try:
        with np.load(file, allow_pickle=False) as table:
            arrays = {name: table[name] for name in table.files}
        faces = _faces(arrays)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ManifestError(f"{file}: no table of FER2013: {error!r}") from error
    dropped: Counter[str] = Counter()
    seen: dict[str, list[tuple[int, Face]]] = defaultdict(list)
    for part, face in faces:
        try:
            with Image.open(io.BytesIO(face.image), formats=("JPEG",)) as picture:
                pixels = picture.convert("L").tobytes()
        except OSError as error:
            raise ManifestError(f"{file}: face {face.id} is no JPEG: {error}") from error
        if len(set(pixels)) == 1:
            dropped["constant"] += 1
        else:
            seen[hashlib.sha256(pixels).hexdigest()].append((part, face))
    sides: dict[Side, list[Face]] = {side: [] for side in SIDES}
    turn: Counter[tuple[int, str]] = Counter()  # how many of a part and emotion are dealt
    for alike in seen.values():
        dropped["repeated"] += len(alike) - 1
        part, face = alike[0]  # Training comes first: what stands in both is no test
        if len({one.emotion for _, one in alike}) > 1:
            dropped["of two emotions"] += 1
            continue
        sides[_side(part, turn[part, face.emotion])].append(face)
        turn[part, face.emotion] += 1
    return Faces(sides, dropped)


def _side(part: int, number: int) -> Side:
    return DEALT[number % len(DEALT)] if part == TRAINING else "test"


def _faces(arrays: Mapping[str, Any]) -> list[tuple[int, Face]]:
    """Part and face of every row, the Training part first."""
    header, scans = arrays["header"].tobytes(), arrays["scans"].tobytes()
    offsets, labels = arrays["offsets"].tolist(), arrays["labels"].tolist()
    parts, ids = arrays["split"].tolist(), arrays["ids"].tolist()
    if not len(labels) == len(parts) == len(ids) == len(offsets) - 1:
        raise ValueError("labels, split, ids and offsets do not match")
    try:
        classes = [canonical(str(name)) for name in arrays["classes"].tolist()]
    except UnknownLabel as error:
        raise ValueError(str(error)) from error
    rows = sorted(range(len(labels)), key=lambda row: (parts[row], ids[row]))
    return [
        (
            parts[row],
            Face(
                f"{'PublicTest' if parts[row] == PUBLIC_TEST else 'Training'}_{ids[row]}",
                classes[labels[row]],
                header + scans[offsets[row] : offsets[row + 1]] + JPEG_END,
            ),
        )
        for row in rows
    ]
