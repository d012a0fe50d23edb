"""Sound of any media file, whole or a part: 16 kHz, mono."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from av.audio.resampler import AudioResampler

from emotrace_models.types import SAMPLE_RATE, FloatArray
from emotrace_training.containers import open_container

# What libsndfile does not open: the sound beside a picture, and AAC.
CONTAINERS = frozenset(
    (".aac", ".avi", ".flv", ".m4a", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv")
)

LEAD_S = 1.0  # decoded before a part, so that it begins exactly and with a decoder warmed up


class SoundUnreadable(ValueError):
    """There is no sound to read; the message says why, not where."""


def read_sound_file(file: Path, span: tuple[float, float] | None = None) -> FloatArray:
    """Samples [sample] float32 at 16 kHz, channels mixed; span: the seconds wanted.

    Raises SoundUnreadable.
    """
    try:
        if file.suffix.lower() in CONTAINERS:
            samples, rate = _from_container(file, span)
        else:
            samples, rate = _from_sound(file, span)
    except (OSError, soundfile.SoundFileError, av.FFmpegError) as error:
        raise SoundUnreadable(f"cannot be read as audio: {error}") from error
    mono = samples.mean(axis=1)
    if not len(mono) or not np.isfinite(mono).all():
        raise SoundUnreadable("empty or not finite")
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")
    return np.asarray(mono, dtype=np.float32)


def seconds_of(file: Path) -> float:
    """Length of the sound as the file's header states it. Raises SoundUnreadable."""
    try:
        if file.suffix.lower() not in CONTAINERS:
            return float(soundfile.info(str(file)).duration)
        with open_container(file) as container:
            if not container.streams.audio:
                raise SoundUnreadable("has no sound")
            stream = container.streams.audio[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            if container.duration:
                return container.duration / av.time_base
    except (OSError, soundfile.SoundFileError, av.FFmpegError) as error:
        raise SoundUnreadable(f"cannot be read as audio: {error}") from error
    raise SoundUnreadable("states no duration")


def _from_sound(file: Path, span: tuple[float, float] | None) -> tuple[FloatArray, int]:
    with soundfile.SoundFile(str(file)) as source:
        rate = int(source.samplerate)
        first, last = (round(s * rate) for s in span) if span else (0, source.frames)
        source.seek(min(first, source.frames))
        return source.read(max(last - first, 0), dtype="float32", always_2d=True), rate


def _from_container(file: Path, span: tuple[float, float] | None) -> tuple[FloatArray, int]:
    with open_container(file) as container:
        if not container.streams.audio:
            raise SoundUnreadable("has no sound")
        stream = container.streams.audio[0]
        rate = stream.rate
        # A seek to the very start would bring back the encoder's priming, which players skip.
        if span and span[0] > LEAD_S:
            container.seek(int((span[0] - LEAD_S) * av.time_base))
        plain = AudioResampler(format="fltp")
        blocks, begin = [], None
        for frame in container.decode(stream):
            if span and frame.time is not None and frame.time >= span[1]:
                break
            if begin is None:
                begin = frame.time or 0.0
            blocks += [np.asarray(part.to_ndarray(), np.float32) for part in plain.resample(frame)]
        if not blocks:
            raise SoundUnreadable("empty or not finite")
        samples = np.concatenate(blocks, axis=1).T
    if span:
        first, last = (round((s - (begin or 0.0)) * rate) for s in span)
        samples = samples[max(first, 0) : max(last, 0)]
    return samples, rate
