"""What has been understood of a dialogue, as a value: a session that broke off goes on from it.

There is one between any two steps. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emotrace_models.types import FloatArray, Frame
from emotrace_models.voice_activity import VoiceState
from emotrace_service.audio import Block, FramerState
from emotrace_service.centring import CentringState
from emotrace_service.judging import JudgeState
from emotrace_service.notices import Once
from emotrace_service.segmenting import Item, SegmenterState
from emotrace_service.texts import TextsState


@dataclass(frozen=True, slots=True, eq=False)
class Understood:
    """By default nothing yet; None: the part has not begun.

    voices: what the voice detector remembers, a channel each. due: framed, with what the detector
    is to hear of it, [channel, 512]. heard: with the probability of speech a channel, and not cut
    yet. items: cut, and not acted on yet. warned: what was said once already. taken_bytes: of
    audio. nonfinite: messages in a row. last_speech: in samples.
    """

    framer: FramerState | None = None
    centring: CentringState | None = None
    voices: tuple[VoiceState, ...] = ()
    segmenter: SegmenterState | None = None
    pictures: Mapping[str, tuple[Frame, ...]] = field(default_factory=dict)
    texts: TextsState | None = None
    judge: JudgeState | None = None
    due: tuple[tuple[Block, FloatArray], ...] = ()
    heard: tuple[tuple[Block, FloatArray], ...] = ()
    items: tuple[Item, ...] = ()
    warned: frozenset[Once] = frozenset()
    speakers: frozenset[str] = frozenset()
    utterances: int = 0
    taken_bytes: int = 0
    nonfinite: int = 0
    last_speech: int = 0

    @property
    def bundle(self) -> str | None:
        """Key of the bundle that understood it; None: nothing was said yet."""
        return None if self.judge is None else self.judge.dialogue.bundle


NOTHING_YET = Understood()
