"""The context window: which earlier utterances the fusion model sees beside the current one.

The rule is that of GatedxLSTM (models.md section 2.2). For offsets j = 0, 1, 2 behind the current
utterance u_t, whoever speaks:

    self(j)  = u_{t-j}
    inter(j) = the most recent utterance before u_{t-j} by anyone but the speaker of u_{t-j}

Training and serving both use this file, so they cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass

from emotrace_models.types import Context, UtteranceFeatures

Pair = tuple[UtteranceFeatures | None, UtteranceFeatures | None]

OFFSETS = 3  # the current utterance and the two before it


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """What a dialogue must remember for its next context. A value of constant size.

    pairs: (self, inter) of each offset, newest first; (None, None) before the dialogue's start.
    No more is needed, also with three or more speakers: inter(0) is the most recent utterance by
    anyone but the last speaker, which is what the next utterance needs if that speaker goes on.
    """

    pairs: tuple[Pair, ...]

    @classmethod
    def empty(cls, offsets: int = OFFSETS) -> ContextWindow:
        """The window of a dialogue in which nobody has spoken. Raises ValueError if offsets < 1."""
        if offsets < 1:
            raise ValueError(f"a context window needs at least 1 offset, not {offsets}")
        return cls(((None, None),) * offsets)

    def push(self, features: UtteranceFeatures) -> ContextWindow:
        """The window after one more utterance; this one stays as it is."""
        last, before_last = self.pairs[0]
        same_speaker = last is not None and last.speaker == features.speaker
        inter = before_last if same_speaker else last
        return ContextWindow(((features, inter), *self.pairs[:-1]))

    def context(self) -> Context:
        """The context of the newest utterance."""
        return Context(self.pairs)
