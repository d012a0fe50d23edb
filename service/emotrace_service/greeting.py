"""The first message of a connection, before there is a session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from emotrace_protocol.codec import decode_message, encode
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.events import Failed
from emotrace_protocol.messages import SessionResume, SessionStart
from emotrace_protocol.order import ServerConversation
from emotrace_service.listening import Socket
from emotrace_service.metrics import Metrics

Opening: TypeAlias = SessionStart | SessionResume


class Greeting:
    """Of one connection, where no task sends yet. messages: taken in so far."""

    def __init__(
        self,
        socket: Socket,
        conversation: ServerConversation,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._socket = socket
        self._conversation = conversation
        self._metrics = metrics
        self._clock = clock
        self.messages = 0

    async def run(self, timeout_ms: int) -> tuple[Opening, tuple[str, ...]]:
        """What the client wants, and the names of its unknown fields.

        Raises ProtocolError where it does not say, or says what ends the connection; SocketClosed.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while True:
                    data = await self._socket.receive()
                    self.messages += 1
                    try:
                        if isinstance(data, bytes):
                            self._conversation.receive_audio()  # raises: nothing has started
                            continue
                        message, unknown = decode_message(data)
                        self._conversation.receive(message)
                    except ProtocolError as error:
                        weighed = self._conversation.weigh(error, self._clock())
                        if weighed.code.kind.fatal:
                            raise weighed from None
                        await self.tell(weighed)
                        continue
                    if isinstance(message, SessionStart | SessionResume):
                        return message, unknown
        except TimeoutError:
            raise ProtocolError(
                ErrorCode.START_TIMEOUT, f"No session.start came within {timeout_ms} ms."
            ) from None

    async def tell(self, error: ProtocolError) -> None:
        """Raises SocketClosed."""
        event = self._conversation.number(Failed, **error.fields())
        self._metrics.refusals.labels(str(event.code)).inc()
        await self._socket.send(encode(event))
