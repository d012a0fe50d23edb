"""Context windows: which earlier utterances a fusion model sees beside the current one.

A window is a value: `push` gives the next one. Training and serving both use this file, so they
cannot differ. A fusion model says which window it needs (`FusionModel.start_window`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from emotrace_models.types import Context, Entry, Role, UtteranceFeatures

Pair = tuple[UtteranceFeatures | None, UtteranceFeatures | None]

OFFSETS = 3  # the current utterance and the two before it
TRIPLE_TURNS = 8  # how far IAAN looks back


class Window(Protocol):
    """What a dialogue must remember for its next context. A value of bounded size."""

    def push(self, features: UtteranceFeatures) -> Self:
        """The window after one more utterance; this one stays as it is."""

    def context(self) -> Context:
        """The context of the newest utterance; before the first one, all its entries are empty."""


@dataclass(frozen=True, slots=True)
class UtteranceWindow:
    """No context: the current utterance alone."""

    current: UtteranceFeatures | None = None

    def push(self, features: UtteranceFeatures) -> UtteranceWindow:
        return UtteranceWindow(features)

    def context(self) -> Context:
        return Context((Entry(0, Role.SELF, self.current),))


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """GatedxLSTM's (models.md section 2.2). For offsets j = 0, 1, 2 behind the current u_t:

        self(j)  = u_{t-j}, whoever speaks
        inter(j) = the most recent utterance before u_{t-j} by anyone but the speaker of u_{t-j}

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
        last, before_last = self.pairs[0]
        same_speaker = last is not None and last.speaker == features.speaker
        inter = before_last if same_speaker else last
        return ContextWindow(((features, inter), *self.pairs[:-1]))

    def context(self) -> Context:
        return Context(
            tuple(
                Entry(offset, role, features)
                for offset, pair in enumerate(self.pairs)
                for role, features in zip((Role.SELF, Role.INTERLOCUTOR), pair, strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class TripleWindow:
    """IAAN's (Yeh et al., ICASSP 2019; models.md section 2.9), in this order: the current
    utterance, the speaker's previous one, the interlocutor's previous one; both of the last
    `TRIPLE_TURNS` turns, else empty.

    recent: the newest first, at most TRIPLE_TURNS + 1.
    """

    recent: tuple[UtteranceFeatures, ...] = ()

    def push(self, features: UtteranceFeatures) -> TripleWindow:
        return TripleWindow((features, *self.recent[:TRIPLE_TURNS]))

    def context(self) -> Context:
        current, earlier = (self.recent[0], self.recent[1:]) if self.recent else (None, ())
        own = (f for f in earlier if current is not None and f.speaker == current.speaker)
        other = (f for f in earlier if current is not None and f.speaker != current.speaker)
        return Context(
            (
                Entry(0, Role.SELF, current),
                Entry(1, Role.SELF, next(own, None)),
                Entry(1, Role.INTERLOCUTOR, next(other, None)),
            )
        )
