"""What a client said, taken in turn: sound is heard, messages obeyed, and what is safe is told."""

from __future__ import annotations

from collections.abc import Callable

from emotrace_protocol import events
from emotrace_protocol.errors import ProtocolError
from emotrace_protocol.messages import Image, Marker, Message, UtteranceEnd, UtteranceText
from emotrace_service.metrics import Metrics
from emotrace_service.queues import Audio, Finish, Outlet
from emotrace_service.understanding import Understanding
from emotrace_service.work import Work

ACK_S = 1.0  # how often a client that keeps its messages hears which are safe


class Intake:
    """Of one connection. keeps: whether the client wants to know what is safe. moves: whether
    another server goes on with the session, and what was not understood yet is said again there.
    clock: in seconds."""

    def __init__(
        self,
        work: Work,
        outlet: Outlet,
        metrics: Metrics,
        *,
        keeps: Callable[[], bool],
        moves: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._work = work
        self._outlet = outlet
        self._metrics = metrics
        self._keeps = keeps
        self._moves = moves
        self._clock = clock
        self._acked = 0.0

    async def run(self) -> ProtocolError | None:
        """Until nothing more comes; gives why, unless the client wished it. Raises TakenOver."""
        inlet, understanding = self._work.inlet, self._work.understanding
        error: ProtocolError | None = None
        try:
            await understanding.go_on(self._clock())
        except ProtocolError as refused:
            inlet.put(Finish(self._clock(), refused))
        while True:
            queued_s = inlet.queued_ms / 1_000
            item = await inlet.get()
            if isinstance(item, Finish):
                error = item.error
                break
            try:
                if isinstance(item, Audio):
                    self._metrics.queued_audio.observe(queued_s)
                    await self._hear(item)
                else:
                    async with understanding.notices.step():
                        await _obey(item.message, item.arrival, understanding)
                        self._work.receipts.done(item.number)
                    await understanding.go_on(item.arrival)
            except ProtocolError as refused:
                error = refused
                inlet.put(Finish(item.arrival, error))
                break
            await self._acknowledge()
        if self._moves():
            return error
        try:
            await understanding.flush(item.arrival)
        except ProtocolError as refused:
            error = error or refused
        return error

    async def _hear(self, item: Audio) -> None:
        def taken(place: int) -> None:
            self._work.receipts.done(item.numbers[place])

        await self._work.understanding.hear(item.messages, item.arrival, taken)

    async def _acknowledge(self) -> None:
        now = self._clock()
        if self._keeps() and now - self._acked >= ACK_S:
            self._acked = now
            await self._outlet.emit(events.InputAck, messages=self._work.receipts.through)


async def _obey(message: Message, arrival: float, understanding: Understanding) -> None:
    if isinstance(message, Marker):
        await understanding.reach_marker(message.id)
    elif isinstance(message, UtteranceText):
        await understanding.say(message, arrival)
    elif isinstance(message, UtteranceEnd):
        understanding.cut()
    elif isinstance(message, Image):
        await understanding.see(message)
