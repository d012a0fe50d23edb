"""A client that loses its connection on purpose and takes its session up again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from live import LiveServer, Talk, comparable, talk
from websockets.exceptions import ConnectionClosed

from emotrace_protocol import Event, Message
from emotrace_protocol.events import (
    InputAck,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    SpeechEnded,
)
from emotrace_protocol.messages import Ack, SessionResume, SessionStart, UtteranceText
from emotrace_protocol.order import ClientConversation

# What depends on the connection, or on how busy the server is, and not on the dialogue.
PASSING = {"input.ack", "session.resumed", "emotion.interim", "heartbeat", "session.started"}

# However busy the machine is, words come in time.
PATIENT: dict[str, Any] = {"workers": "threads", "text_wait_ms": 10_000}

Answer = Callable[[SpeechEnded], Message]


def lasting(heard: Sequence[Event]) -> list[dict[str, Any]]:
    """What the dialogue led to."""
    kept = [
        one
        for one in comparable(heard)
        if one["type"] not in PASSING and one.get("code") != "interim_skipped"
    ]
    for one in kept:
        del one["sequence"]
        if one["type"] == "marker.reached":
            del one["audio_ms"]  # a new resampler may be a frame earlier or later
        if one["type"] == "session.ended":
            del one["totals"]["events"], one["totals"]["messages"]
    return kept


def reply(event: SpeechEnded) -> Message:
    return UtteranceText(text=f"Turn {event.utterance}, well.", utterance=event.utterance)


@dataclass
class Undaunted:
    """One session over as many connections as it takes.

    said: the numbered messages so far, of which those before `safe` need not be said again.
    cuts: how many connections were lost. again: messages said more than once.
    """

    start: SessionStart
    to_say: list[Message | bytes]
    lose: random.Random | None = None
    answer: Answer | None = None
    heard: list[Event] = field(default_factory=list)
    said: list[Message | bytes] = field(default_factory=list)
    safe: int = 0
    cuts: int = 0
    again: int = 0
    session: str = ""
    token: str = ""
    resuming: bool = False
    speaking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, *servers: LiveServer, most_cuts: int = 12) -> Sequence[Event]:
        """Until session.ended, by turns on the servers. Checks the order of all events."""
        waiting = iter(self.to_say)
        while not self.over:
            left = None
            if self.lose is not None and self.cuts < most_cuts:
                left = self.lose.randint(1, 12)
            async with talk(servers[self.cuts % len(servers)]) as client:
                await self._begin(client)
                sending: asyncio.Task[None] | None = None
                try:
                    while not self.over and left != 0:
                        event = await client.hear()
                        self.take(event)
                        if isinstance(event, SessionStarted | SessionResumed):
                            sending = asyncio.create_task(self._send(client, waiting))
                        if isinstance(event, SpeechEnded) and self.answer is not None:
                            await self._say(client, self.answer(event))
                        if left is not None and not isinstance(event, SessionStarted):
                            left -= 1
                finally:
                    if sending is not None:
                        sending.cancel()
                        await asyncio.gather(sending, return_exceptions=True)
                if not self.over:
                    self.cuts += 1
                    client.socket.transport.abort()
        self._check_order()
        return self.heard

    @property
    def over(self) -> bool:
        return bool(self.heard) and isinstance(self.heard[-1], SessionEnded)

    def take(self, event: Event) -> None:
        assert event.sequence == len(self.heard), "lost, doubled or reordered"
        self.heard.append(event)
        if isinstance(event, SessionStarted):
            assert event.resume is not None
            self.session, self.token = event.session, event.resume.token
        elif isinstance(event, SessionResumed):
            self.token = event.token
            self.safe = event.messages
            self.resuming = False
        elif isinstance(event, InputAck):
            assert event.messages >= self.safe
            self.safe = event.messages

    async def _begin(self, client: Talk) -> None:
        if not self.heard:
            await client.say(self.start)
            return
        self.resuming = True
        await client.say(
            SessionResume(session=self.session, token=self.token, sequence=len(self.heard))
        )

    async def _send(self, client: Talk, waiting: object) -> None:
        try:
            async with self.speaking:
                self.again += len(self.said) - self.safe
                await client.say(*self.said[self.safe :])
            for message in waiting:  # type: ignore[attr-defined]
                await self._say(client, message)
                await client.say(Ack(sequence=len(self.heard) - 1))
        except ConnectionClosed:
            pass

    async def _say(self, client: Talk, message: Message | bytes) -> None:
        self.said.append(message)
        if not self.resuming:  # else it is said when all the rest is said again
            async with self.speaking:  # an answer must not come between what is said again
                await client.say(message)

    def _check_order(self) -> None:
        """By the rules of the protocol's own client, over the whole session."""
        conversation = ClientConversation()
        conversation.send(self.start)
        for message in self.said:
            if isinstance(message, bytes):
                conversation.messages += 1
        conversation.messages = len(self.said)
        for event in self.heard:
            if isinstance(event, SessionResumed):
                conversation.resume()
            conversation.receive(event)
