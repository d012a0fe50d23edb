"""How much sound Whisper's encoder is given: its whole 30 s, or the speech and a little more.

The encoder takes anything up to 30 s and gives it the first of its positions. It has no mask: it
looks at padding as it looks at speech, so a longer window gives other words. Therefore an
utterance's window depends on nothing but its own length, never on whom it is computed with, and
only utterances with equal windows are encoded together.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from emotrace_models.types import SAMPLE_RATE

Window = Literal["full", "speech"]

FRAMES_PER_SECOND = 100  # of log-mel features; an encoder position is two of them
FULL_FRAMES = 3_000
MARGIN_FRAMES = 128  # 64 positions of silence after the speech: with fewer, Whisper loops
# None is more than a quarter above the one before, the first not above the margin alone: at most a
# fifth of what is encoded lies beyond speech and margin. Few lengths: batches are found sooner.
RUNGS = (160, 200, 250, 300, 350, 400, 500, 600, 700, 800, 1_000, 1_200, 1_500, 1_800, 2_200, 2_600)


def window_frames(samples: int, window: Window) -> int:
    """How many feature frames are encoded for so many samples at 16 kHz; at most FULL_FRAMES.

    full: all of them, as the published models were trained.
    speech: those of the speech and the margin, rounded up to the next rung.
    """
    if window == "full":
        return FULL_FRAMES
    needed = -(-samples * FRAMES_PER_SECOND // SAMPLE_RATE) + MARGIN_FRAMES
    rung = bisect_left(RUNGS, needed)
    return RUNGS[rung] if rung < len(RUNGS) else FULL_FRAMES
