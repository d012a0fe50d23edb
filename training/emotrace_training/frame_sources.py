"""Where the pictures of a record's speaker come from: its film, or faces put to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from emotrace_models.types import Frame
from emotrace_training.manifests import ManifestError, Record


class FrameSource(Protocol):
    """has: whether a record has pictures. key: a JSON value that changes when they do; `digest`
    gives the SHA-256 of a file. frames: raises ManifestError where they cannot be read."""

    def has(self, record: Record) -> bool: ...

    def key(self, record: Record, digest: Callable[[str], str]) -> Any: ...

    def frames(self, record: Record) -> tuple[Frame, ...]: ...


class Film:
    """The film of a record."""

    def has(self, record: Record) -> bool:
        return record.video is not None

    def key(self, record: Record, digest: Callable[[str], str]) -> Any:
        return [digest(record.video or ""), record.video_span, record.crop]

    def frames(self, record: Record) -> tuple[Frame, ...]:
        from emotrace_training.media import read_frames  # needs a decoder of films

        return tuple(read_frames(record))


def frame_source(faces: Mapping[str, Any] | None) -> FrameSource:
    """faces: settings of composed faces (`data.faces` of a recipe), None for films.

    Raises ManifestError.
    """
    if faces is None:
        return Film()
    from emotrace_training.composed_faces import ComposedFaces

    try:
        return ComposedFaces(**faces)
    except TypeError as error:
        raise ManifestError(f"data.faces: {error}") from error
