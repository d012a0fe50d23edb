"""Labelled clips as records: JSON lines, a clip a line, written by `prepare`, read by the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile

from emotrace_models.labels import CANONICAL
from emotrace_models.types import SAMPLE_RATE, FloatArray

ClipSplit = Literal["train", "valid", "test"]


class ManifestError(ValueError):
    """A manifest or a corpus folder that cannot be used; the message names file and line."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One labelled clip.

    file: path of the audio as seen from the working directory. speaker: `corpus:speaker`.
    emotion: canonical (labels.CANONICAL). text: the words, empty where they are not known.
    """

    file: str
    corpus: str
    speaker: str
    emotion: str
    split: ClipSplit
    seconds: float
    text: str
    language: str
    licence: str


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(clip), ensure_ascii=False) + "\n" for clip in clips)
    path.write_text("".join(lines), encoding="utf-8")


def read_manifest(path: Path, splits: Sequence[ClipSplit] = ()) -> list[Clip]:
    """The clips of a manifest; each of `splits` must have some.

    Raises ManifestError for a missing file, a broken line, an unknown label or split, audio that
    is not there, and an empty split.
    """
    try:
        # Not str.splitlines: a text may hold other line separators, such as U+2028.
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = list(file)
    except OSError as error:
        raise ManifestError(
            f"{path}: {error.strerror}; write it with `emotrace-train prepare`"
        ) from error
    clips = [_clip(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    for split in splits:
        if not any(clip.split == split for clip in clips):
            raise ManifestError(f"{path}: no clip of split {split!r}; prepare a corpus that has it")
    return clips


def read_audio(file: str | Path) -> FloatArray:
    """Samples [sample] float32 of a clip. Raises ManifestError if it is not 16 kHz mono audio."""
    try:
        samples, rate = soundfile.read(str(file), dtype="float32", always_2d=False)
    except (OSError, soundfile.SoundFileError) as error:
        raise ManifestError(f"{file}: cannot be read as audio: {error}") from error
    if rate != SAMPLE_RATE or samples.ndim != 1:
        shape = "mono" if samples.ndim == 1 else f"{samples.shape[1]} channels"
        raise ManifestError(f"{file}: {rate} Hz {shape}; convert it to {SAMPLE_RATE} Hz mono")
    if not len(samples) or not np.isfinite(samples).all():
        raise ManifestError(f"{file}: empty or not finite")
    return np.asarray(samples, dtype=np.float32)


def _clip(line: str, place: str) -> Clip:
    try:
        values = json.loads(line)
        clip = Clip(**{field.name: values[field.name] for field in fields(Clip)})
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{place}: not a clip ({error!r})") from error
    if clip.emotion not in CANONICAL:
        raise ManifestError(f"{place}: {clip.emotion!r} is no canonical emotion")
    if clip.split not in get_args(ClipSplit):
        raise ManifestError(f"{place}: {clip.split!r} is no split")
    if not Path(clip.file).is_file():
        raise ManifestError(
            f"{place}: no audio at {clip.file}; run from the folder it is seen from"
        )
    return clip
