"""What a live dialogue sounds like: the demo dialogue with longer pauses between its turns."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

FRAME_S = 0.032
SPEECH = 0.003  # level of a frame that holds speech, of full scale
GAP_FRAMES = 12  # of silence on all channels, where a pause may be made longer
ROOM = 4.0  # deviation of the room's noise in the pauses, in 16-bit steps


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """samples [sample, channel] int16. speech_share: of the time, in which somebody speaks."""

    samples: NDArray[np.int16]
    rate: int
    speech_share: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def messages(self, frame_ms: int) -> list[bytes]:
        """The whole of it as audio messages, but for an end that fills none."""
        hop = self.rate * frame_ms // 1_000
        last = len(self.samples) - hop
        return [self.samples[at : at + hop].tobytes() for at in range(0, last + 1, hop)]


def scenario(recording: bytes, share: float, seed: int) -> Scenario:
    """recording: an audio file of a dialogue, one speaker a channel. share: of speech, wanted.

    Raises ValueError where the recording has less speech than that, or no pause to make longer.
    """
    samples, rate = soundfile.read(io.BytesIO(recording), dtype="int16", always_2d=True)
    frame = int(FRAME_S * rate)
    speech = _speech(samples, frame)
    missing = int(speech.sum() / share) - len(speech)  # frames
    places = _pauses(speech)
    if missing < 0 or not places:
        raise ValueError(
            f"the recording has {speech.mean():.0%} speech and {len(places)} pauses; it cannot be "
            f"brought to {share:.0%}"
        )
    rng = np.random.default_rng(seed)
    parts: list[Any] = []
    before = 0
    for number, place in enumerate(places):
        count = missing // len(places) + (number < missing % len(places))
        room = rng.normal(0.0, ROOM, (count * frame, samples.shape[1])).round().astype(np.int16)
        parts += [samples[before : place * frame], room]
        before = place * frame
    longer = np.concatenate([*parts, samples[before:]])
    return Scenario(longer, rate, float(speech.sum() / (len(speech) + missing)))


def _speech(samples: NDArray[np.int16], frame: int) -> NDArray[np.bool_]:
    """[frame] whether somebody speaks on any channel."""
    whole = samples[: len(samples) // frame * frame].astype(np.float32) / 32_768
    level = np.sqrt(np.square(whole.reshape(-1, frame, samples.shape[1])).mean(axis=1))
    found: NDArray[np.bool_] = (level > SPEECH).any(axis=1)
    return found


def _pauses(speech: NDArray[np.bool_]) -> list[int]:
    """The middle of each pause on all channels, as a frame's number."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], speech, [True]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    return [
        int(start + end) // 2
        for start, end in zip(starts, ends, strict=True)
        if end - start >= GAP_FRAMES
    ]
