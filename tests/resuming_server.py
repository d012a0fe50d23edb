"""A scripted server whose session outlives its connections, for tests of clients that resume."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from scripted_server import started
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from emotrace_clients import Session
from emotrace_protocol import (
    ErrorCode,
    Message,
    ProtocolError,
    ServerConversation,
    decode_message,
    encode,
)
from emotrace_protocol.events import (
    Event,
    Failed,
    InputAck,
    MarkerReached,
    ResumeInfo,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    Totals,
)
from emotrace_protocol.messages import Ack, Marker, SessionEnd, SessionResume, SessionStart

WINDOW_MS = 60_000
BUFFER_MS = 30_000
SECOND = bytes(range(250)) * 128  # of sound: 32,000 bytes of s16le at 16 kHz


class KeptSession:
    """The server's side of one session. heard: numbered messages, each once if all is well.

    connections: so far. acks: sequences that the client acknowledged. resumes: as they came.
    """

    def __init__(self, window_ms: int = WINDOW_MS, buffer_ms: int = BUFFER_MS) -> None:
        self.conversation = ServerConversation()
        self.heard: list[Message | bytes] = []
        self.acks: list[int] = []
        self.resumes: list[SessionResume] = []
        self.connections = 0
        self.socket: ServerConnection
        self._info = {"window_ms": window_ms, "buffer_ms": buffer_ms}
        self._log: list[str] = []

    @property
    def token(self) -> str:
        return f"t-{self.connections}"

    @property
    def audio(self) -> bytes:
        return b"".join(one for one in self.heard if isinstance(one, bytes))

    async def begin(self) -> None:
        """Answers the first message of a connection."""
        message, _ = decode_message(str(await self.socket.recv()))
        if isinstance(message, SessionStart):
            self.conversation.receive(message)
            info = ResumeInfo(token=self.token, **self._info)
            await self.say(SessionStarted, **started(message), resume=info)
            return
        assert isinstance(message, SessionResume)
        assert (message.session, message.token) == ("s-1", f"t-{self.connections - 1}")
        self.resumes.append(message)
        before = self.conversation
        self.conversation = ServerConversation()
        self.conversation.receive(message)
        self.conversation.resume(before.sent, before.counts, message.sequence - 1)
        for text in self._log[message.sequence :]:
            await self.socket.send(text)

    async def resume(self, messages: int | None = None) -> None:
        """Says session.resumed; messages: which number is the first that is missing."""
        missing = len(self.heard) if messages is None else messages
        await self.say(SessionResumed, messages=missing, token=self.token)

    async def refuse(self, error: ProtocolError) -> None:
        """Answers session.resume with an error, as a server that knows no such session does."""
        await refuse(self.socket, error)

    async def hear(self) -> Message | bytes:
        """The next numbered message."""
        while True:
            data = await self.socket.recv()
            if isinstance(data, bytes):
                self.heard.append(data)
                return data
            message, unknown = decode_message(data)
            assert not unknown
            if isinstance(message, Ack):
                self.acks.append(message.sequence)
                continue
            self.conversation.receive(message)
            self.heard.append(message)
            return message

    async def say(self, event_type: type[Event], *, lose: bool = False, **fields: Any) -> None:
        """lose: the event happens, and does not reach the client on this connection."""
        text = encode(self.conversation.number(event_type, **fields))
        self._log.append(text)
        if not lose:
            await self.socket.send(text)

    async def acknowledge(self) -> None:
        await self.say(InputAck, messages=len(self.heard))

    async def serve_until_end(self) -> None:
        """Echoes markers, and ends the session with true totals."""
        while not isinstance(message := await self.hear(), SessionEnd):
            if isinstance(message, Marker):
                await self.say(MarkerReached, id=message.id, audio_ms=0)
        await self.end()

    async def echo(self, number: int) -> None:
        """Hears so many messages, and answers markers."""
        for _ in range(number):
            if isinstance(message := await self.hear(), Marker):
                await self.say(MarkerReached, id=message.id, audio_ms=0)

    async def end(self) -> None:
        counts = self.conversation.counts
        totals = Totals(
            audio_ms=0,
            audio_bytes=len(self.audio),
            messages=0,
            utterances=counts["speech.ended"],
            finals=counts["emotion.final"],
            revisions=counts["emotion.revised"],
            failed=0,
            events=self.conversation.sent + 1,
        )
        await self.say(SessionEnded, reason="client", totals=totals)

    def cut(self) -> None:
        """The connection breaks without a word."""
        self.socket.transport.abort()


async def refuse(socket: ServerConnection, error: ProtocolError) -> None:
    await socket.recv()
    await socket.send(encode(Failed(sequence=0, **error.fields())))
    await socket.close(error.code.kind.close or 1000)


async def on_to_the_end(kept: KeptSession) -> None:
    """The part of a connection that takes the session up again, with what is missing."""
    await kept.begin()
    await kept.resume()
    await kept.serve_until_end()


Part = Callable[[KeptSession], Awaitable[None]]


@asynccontextmanager
async def resuming(kept: KeptSession, parts: Sequence[Part]) -> AsyncIterator[str]:
    """The address of a server that plays one part a connection, and refuses further ones.

    A fault in a part fails the test.
    """
    faults: list[BaseException] = []

    async def handle(socket: ServerConnection) -> None:
        if faults or kept.connections == len(parts):  # the test has failed: let the client see it
            await refuse(socket, ProtocolError(ErrorCode.SESSION_UNKNOWN, "The script is over."))
            return
        kept.socket = socket
        part = parts[kept.connections]
        kept.connections += 1
        try:
            await part(kept)
        except ConnectionClosed:
            pass  # the client left
        except Exception as fault:
            faults.append(fault)
            socket.transport.abort()

    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/stream"
    if faults:
        raise faults[0]


async def read(session: Session) -> list[Event]:
    """What the client reads, to the end of the session."""
    return [event async for event in session]
