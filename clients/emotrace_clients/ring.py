"""Ring: what was said and is not yet safe at the server, to be sent again after a break.

The server numbers messages from 0 in the order in which they are first sent. A cursor stands at the
next one to send; a break moves it back to the first that the server has not. Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from emotrace_protocol import ConversationError

MAX_KEPT_BYTES = 64 * 1024 * 1024  # with texts and pictures, which `limit_bytes` does not count


@dataclass(slots=True, eq=False)
class Kept:
    """One message. audio_end: bytes of audio up to and with it, in all. went: it was sent once."""

    data: str | bytes
    audio_end: int
    went: bool = False

    @property
    def is_audio(self) -> bool:
        return isinstance(self.data, bytes)


class Ring:
    """limit_bytes: of audio that waits for an acknowledgement; None: nothing is kept once sent.

    safe: how many messages the server has. said_bytes, sent_bytes, safe_bytes: audio that was said,
    that was sent on this connection or before, and that is safe.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._kept: deque[Kept] = deque()  # from message number `safe` on
        self._kept_bytes = 0
        self._cursor = 0  # in `_kept`: the next to send
        self._numbered = 0  # in `_kept`: those before it were sent once, and have their number
        self.safe = 0
        self.said_bytes = self.sent_bytes = self.safe_bytes = 0

    def has_room(self, audio_bytes: int) -> bool:
        """Whether a message may be said now; audio_bytes: how much of it is audio."""
        if self._kept_bytes >= MAX_KEPT_BYTES:
            return False
        waiting = self.said_bytes - self.safe_bytes
        return self._limit_bytes is None or waiting + audio_bytes <= self._limit_bytes

    def push(self, data: str | bytes, *, overtakes: bool = False) -> Kept:
        """Says a message; bytes are audio. overtakes: it goes before all that was never sent."""
        self._kept_bytes += len(data)
        if overtakes:
            before = self._kept[self._numbered - 1].audio_end if self._numbered else self.safe_bytes
            message = Kept(data, before)
            self._kept.insert(self._numbered, message)
        else:
            self.said_bytes += len(data) if isinstance(data, bytes) else 0
            message = Kept(data, self.said_bytes)
            self._kept.append(message)
        return message

    def following(self) -> Kept | None:
        """The next message to send, if any waits."""
        return self._kept[self._cursor] if self._cursor < len(self._kept) else None

    def take(self) -> Kept:
        """The next message, which is now being sent."""
        message = self._kept[self._cursor]
        self._cursor += 1
        self._numbered = max(self._numbered, self._cursor)
        self.sent_bytes = message.audio_end
        if self._limit_bytes is None:
            self.acknowledge(self.safe + 1)
        return message

    def acknowledge(self, messages: int) -> None:
        """Messages before number `messages` are safe. What is known already changes nothing.

        Raises ConversationError where they were never sent.
        """
        if messages > self.safe + self._numbered:
            raise ConversationError(
                f"the server has {messages} messages, and {self.safe + self._numbered} were sent"
            )
        while self.safe < messages:
            message = self._kept.popleft()
            self._kept_bytes -= len(message.data)
            self._cursor = max(0, self._cursor - 1)
            self._numbered -= 1
            self.safe, self.safe_bytes = self.safe + 1, message.audio_end
        self.sent_bytes = max(self.sent_bytes, self.safe_bytes)

    def rewind(self, messages: int) -> None:
        """Everything from number `messages` on is to be sent again; before it, all is safe.

        Raises ConversationError where it is gone, or was never sent.
        """
        if messages < self.safe:
            raise ConversationError(
                f"the server asks again for message {messages}, and had {self.safe} already"
            )
        self.acknowledge(messages)
        self._cursor, self.sent_bytes = 0, self.safe_bytes
