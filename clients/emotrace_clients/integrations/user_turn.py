"""Which of a user's utterances are of the turn that the agent answers next. Pure."""

from __future__ import annotations

from emotrace_protocol import Event
from emotrace_protocol.events import EmotionFinal, Failed, SpeechRejected, SpeechStarted


class UserTurn:
    """unjudged: the user's utterances that have no estimate yet. judged: the newest that has one,
    or gets none; -1 before the first.
    """

    def __init__(self, user: str) -> None:
        self.unjudged: set[int] = set()
        self.judged = -1
        self._user = user
        self._spoke = False
        self._asked = -1  # the user's newest when the agent last began to answer
        self._answered = -1  # the user's newest that the agent has answered

    @property
    def has_begun(self) -> bool:
        """Whether the user said anything since the agent's answer."""
        return self._spoke or self._is_due()

    @property
    def is_judged(self) -> bool:
        """Whether every utterance of the turn has its estimate, and there is one."""
        return not self._is_due() and self.judged > self._answered

    def holds(self, utterance: int) -> bool:
        """Whether an utterance of the user is of this turn."""
        return utterance > self._answered

    def take(self, event: Event) -> None:
        """An event of the session."""
        if isinstance(event, SpeechStarted) and event.speaker == self._user:
            self.unjudged.add(event.utterance)
        elif (
            isinstance(event, EmotionFinal | SpeechRejected | Failed)
            and event.utterance in self.unjudged
        ):
            self.unjudged.remove(event.utterance)
            self.judged = max(self.judged, event.utterance)

    def hear_words(self) -> None:
        """The agent's recogniser heard the user say something."""
        self._spoke = True

    def ask(self) -> None:
        """The agent begins to answer what was said up to now."""
        self._asked = max([self.judged, *self.unjudged])

    def reply(self) -> None:
        """The agent has answered. What the user began to say meanwhile is of the next turn."""
        self._answered = self._asked
        self._spoke = False

    def _is_due(self) -> bool:
        return any(self.holds(one) for one in self.unjudged)
