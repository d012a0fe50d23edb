"""Which utterance the words of an agent's own recogniser belong to. Pure.

The recogniser and the server find the ends of speech by themselves, so words come before or after
`speech.ended`. What each call gives is to be sent as `utterance.text`, in that order.
"""

from __future__ import annotations

from emotrace_protocol import Event
from emotrace_protocol.events import EmotionFinal, SpeechEnded, SpeechRejected, SpeechStarted

Words = tuple[int, str]  # an utterance, and what was said in it


class WordMatcher:
    """Words go to the utterance that ended last and has none yet, else to the one that goes on, or
    that is still to be announced and began before the words came.

    Utterances before it then have no words of their own, and are told so with empty ones: the
    server waits for no more.
    """

    def __init__(self, speaker: str) -> None:
        self._speaker = speaker
        self._open: int | None = None
        self._said = ""  # in the utterance that goes on, or is still to be announced
        self._said_ms = 0
        self._waiting: list[int] = []  # ended, without words

    def take(self, event: Event) -> list[Words]:
        """An event of the session."""
        if isinstance(event, SpeechStarted) and event.speaker == self._speaker:
            self._open = event.utterance
            if event.start_ms >= self._said_ms:
                self._said = ""  # came too late for what was said before
        elif isinstance(event, SpeechEnded) and event.utterance == self._open:
            self._open = None
            self._waiting.append(event.utterance)
            if self._said:
                said, self._said = self._said, ""
                return self._give(said)
        elif isinstance(event, SpeechRejected | EmotionFinal):
            self._waiting = [one for one in self._waiting if one != event.utterance]
        return []

    def give(self, text: str, heard_ms: int) -> list[Words]:
        """Final words of the recogniser. heard_ms: how much sound there had been when they came."""
        if self._waiting:
            return self._give(text)
        self._said = f"{self._said} {text}".strip()
        self._said_ms = heard_ms
        return []

    def _give(self, text: str) -> list[Words]:
        *earlier, newest = self._waiting
        self._waiting = []
        return [*((one, "") for one in earlier), (newest, text)]
