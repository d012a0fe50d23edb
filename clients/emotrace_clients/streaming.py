"""One dialogue through a session: send blocks at their pace, answer with words, show what comes.

The shell of `emotrace stream`, `listen` and `demo`. Time and sleep are arguments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from emotrace_clients.errors import (
    ConnectionLost,
    EmotraceError,
    MicrophoneError,
    ProtocolBroken,
    SessionFailed,
    SourceError,
)
from emotrace_clients.samples import Samples
from emotrace_clients.session import Session
from emotrace_clients.turns import TurnMatcher
from emotrace_protocol import ServerEvent
from emotrace_protocol.events import SessionStarted, SpeechEnded

BLOCK_MS = 40

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
Show = Callable[[ServerEvent], None]


async def paced(
    blocks: Iterable[Samples], block_ms: int, clock: Clock, sleep: Sleep
) -> AsyncIterator[Samples]:
    """Blocks at the pace of time: each when the last of its sound would have been heard."""
    begin = clock()
    for number, block in enumerate(blocks, 1):
        await sleep(max(0.0, begin + number * block_ms / 1000 - clock()))
        yield block


async def hurried(blocks: Iterable[Samples]) -> AsyncIterator[Samples]:
    """Blocks at once; the session itself waits while the server has enough to do."""
    for block in blocks:
        yield block


async def until(blocks: AsyncIterator[Samples], stop: asyncio.Event) -> AsyncIterator[Samples]:
    """Blocks until `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(blocks, None))
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                await asyncio.wait({following})
                return
            block = following.result()
            if block is None or stop.is_set():
                return
            yield block
    finally:
        stopping.cancel()


async def converse(
    session: Session, blocks: AsyncIterator[Samples], show: Show, turns: TurnMatcher | None = None
) -> None:
    """Sends all blocks and ends the session, while events are shown as they come.

    turns: the words; given, each `speech.ended` is answered with `utterance.text`, as long as the
    server can use words. Raises what `blocks` or `Session` raises, whichever comes first. A source
    that fails (SourceError, MicrophoneError) first ends the session: what it gave is estimated.
    """
    sending = asyncio.create_task(_send(session, blocks))
    reading = asyncio.create_task(_read(session, show, turns))
    tasks = {sending, reading}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        # A session that broke ends the reading too, after what came before; a source does not.
        if sending.done() and not isinstance(
            sending.exception(), (SessionFailed, ConnectionLost, ProtocolBroken)
        ):
            sending.result()
        await reading
        if sending.done() and (fault := sending.result()) is not None:
            raise fault
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(session: Session, blocks: AsyncIterator[Samples]) -> EmotraceError | None:
    """Gives the fault of the source, if it had one."""
    fault = None
    try:
        async for block in blocks:
            await session.send_audio(block)
    except (SourceError, MicrophoneError) as error:
        fault = error
    await session.end()
    return fault


async def _read(session: Session, show: Show, turns: TurnMatcher | None) -> None:
    async for event in session:
        show(event)
        if isinstance(event, SessionStarted) and not _reads_words(event):
            turns = None
        if turns is not None and isinstance(event, SpeechEnded):
            text = turns.take(event.speaker, event.start_ms, event.end_ms)
            await session.send_text(text, utterance=event.utterance)


def _reads_words(started: SessionStarted) -> bool:
    return any(one.live for one in started.modalities if one.modality == "lexical")
