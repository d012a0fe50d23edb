"""A client that loses its connection on purpose and takes its session up again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from live import LiveServer, Talk, talk
from websockets.exceptions import ConnectionClosed

from emotrace_protocol import Event, Message
from emotrace_protocol.events import (
    InputAck,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    SpeechEnded,
)
from emotrace_protocol.messages import Ack, SessionResume, SessionStart
from emotrace_protocol.order import ClientConversation

Answer = Callable[[SpeechEnded], Message]


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
    speaking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, server: LiveServer, most_cuts: int = 12) -> Sequence[Event]:
        """Until session.ended. Checks the order of all events."""
        waiting = iter(self.to_say)
        while not self.over:
            left = None
            if self.lose is not None and self.cuts < most_cuts:
                left = self.lose.randint(1, 12)
            async with talk(server) as client:
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
        elif isinstance(event, InputAck):
            assert event.messages >= self.safe
            self.safe = event.messages

    async def _begin(self, client: Talk) -> None:
        if not self.heard:
            await client.say(self.start)
            return
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
