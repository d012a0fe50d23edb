"""How sessions end: what it is called, with which close code, and how one is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator
from typing import Any, TypeVar

from emotrace_protocol.errors import ErrorCode
from emotrace_service.listening import SocketClosed

NORMAL = 1000
VANISHED, LOST, TAKEN_OVER, DELETED = "vanished", "lost", "taken_over", "deleted"

AGAIN_S = 0.05

T = TypeVar("T")


class Deleted(Exception):
    """The client wants nothing to be kept of the session."""


async def unless(asked: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Do the work and give its result. Raises Deleted, with the work broken off, once `asked`."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(asked.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if asked.is_set():
            raise Deleted
        return working.result()
    finally:
        waiting.cancel()
        await broken_off({working})
        if not working.cancelled():
            working.exception()  # it is raised above, or does not matter any more


async def broken_off(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Returns once all are done. A library may swallow one cancellation, as Redis' client does."""
    going = {one for one in tasks if not one.done()}
    while going:
        for one in going:
            one.cancel()
        _, going = await asyncio.wait(going, timeout=AGAIN_S)


def reason_of(code: ErrorCode) -> str:
    """What session.ended calls it."""
    if code in (ErrorCode.IDLE_NO_AUDIO, ErrorCode.IDLE_NO_SPEECH):
        return "idle"
    return "going_away" if code is ErrorCode.GOING_AWAY else "error"


def close_code_of(code: ErrorCode) -> int:
    return code.kind.close or NORMAL


def leaves(group: BaseExceptionGroup[SocketClosed]) -> Iterator[SocketClosed]:
    """The exceptions themselves."""
    for one in group.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from leaves(one)
        else:
            yield one
