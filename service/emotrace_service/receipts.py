"""Receipts: which messages of a client are part of the session's state. Pure.

A client's messages are numbered from 0, as it sent them: audio and text, all but session.start,
session.resume and ack. Most are understood in order; words for an utterance go past the audio that
waits. So what is safe is all before one number, and some after it.
"""

from __future__ import annotations

from collections.abc import Iterable


class Receipts:
    """Of one session; a connection that goes on with it starts at what is not safe yet.

    through: every message before this number is done. next: number of the message that comes next.
    """

    def __init__(self, through: int = 0, ahead: Iterable[int] = ()) -> None:
        self.through = self.next = through
        self._ahead = set(ahead)

    @property
    def ahead(self) -> frozenset[int]:
        """Messages after `through` that are done."""
        return frozenset(self._ahead)

    def take(self) -> int | None:
        """The number of a message that arrives; None: it was said again, and is done already."""
        number, self.next = self.next, self.next + 1
        return None if number in self._ahead or number < self.through else number

    def done(self, number: int) -> None:
        """A message is part of the state."""
        self._ahead.add(number)
        while self.through in self._ahead:
            self._ahead.discard(self.through)
            self.through += 1
