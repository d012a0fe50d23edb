"""The parts of a session that is open, and how they are joined."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from emotrace_protocol.events import Totals
from emotrace_protocol.messages import SessionStart
from emotrace_protocol.order import ServerConversation, State
from emotrace_service.brownout import PICTURELESS_LEVEL
from emotrace_service.listening import Listener, Socket
from emotrace_service.logs import Logger
from emotrace_service.notices import Notices
from emotrace_service.opening import Plan
from emotrace_service.pcm import SAMPLE_BYTES
from emotrace_service.queues import Inlet, Outlet
from emotrace_service.receipts import Receipts
from emotrace_service.serving import Serving
from emotrace_service.session_store import Snapshot
from emotrace_service.texts import ClientTexts
from emotrace_service.understanding import Understanding
from emotrace_service.understood import NOTHING_YET

INTERIM_SHARE = 0.6  # of the machine: where more is used, interim estimates are left out
BEHIND_MS = 500  # where more audio waits, interim estimates are left out


@dataclass(frozen=True, slots=True)
class Work:
    """greeted: messages of this connection and earlier ones that have no number, as it began."""

    conversation: ServerConversation
    start: SessionStart
    receipts: Receipts
    inlet: Inlet
    listener: Listener
    understanding: Understanding
    greeted: int

    @property
    def others(self) -> int:
        """Messages so far that have no number."""
        return self.greeted + self.listener.acks

    def snapshot(self, caller: str | None) -> Snapshot:
        """caller: by whose key it was let in."""
        over = self.conversation.state is State.ENDED
        return Snapshot(
            start=self.start.model_copy(update={"token": None}),
            sent=self.conversation.sent,
            counts=dict(self.conversation.counts),
            through=self.receipts.through,
            ahead=self.receipts.ahead,
            others=self.others,
            age_s=self.listener.age_s,
            caller=caller,
            understood=NOTHING_YET if over else self.understanding.state,
            over=over,
        )

    def totals(self) -> Totals:
        """Of the session, session.ended included, which comes next."""
        return self.understanding.totals(self.conversation, self.others + self.receipts.next)


def begin(
    socket: Socket,
    serving: Serving,
    conversation: ServerConversation,
    outlet: Outlet,
    log: Logger,
    start: SessionStart,
    plan: Plan,
    snapshot: Snapshot | None,
    greeted: int,
    *,
    keeps: bool,
    confirm: Callable[[], None],
    note: Callable[[int, bytes | str], str | None],
) -> Work:
    """snapshot: what to go on from. greeted: messages of this connection so far. keeps: whether
    events wait until what led to them is kept."""
    state = NOTHING_YET if snapshot is None else snapshot.understood
    receipts = Receipts() if snapshot is None else Receipts(snapshot.through, snapshot.ahead)
    step_bytes = SAMPLE_BYTES[plan.audio.encoding] * plan.audio.channels
    inlet = Inlet(step_bytes * plan.audio.sample_rate, serving.settings.audio_queue_ms)
    texts = ClientTexts(state=state.texts)
    notices = Notices(outlet.emit, outlet.step if keeps else nullcontext, state.warned)
    understanding = Understanding(
        plan,
        serving.backend,
        texts,
        notices,
        metrics=serving.metrics,
        log=log,
        clock=serving.clock,
        busy=lambda: serving.level > 0 or inlet.queued_ms > BEHIND_MS,
        crowded=lambda: serving.share > INTERIM_SHARE,
        blind=lambda: serving.level >= PICTURELESS_LEVEL,
        state=state,
    )
    listener = Listener(
        socket,
        plan,
        conversation,
        inlet,
        texts,
        notices,
        receipts,
        serving.settings,
        serving.clock,
        outlet.room,
        confirm,
        note,
        0.0 if snapshot is None else snapshot.age_s,
    )
    if snapshot is not None:
        greeted += snapshot.others
    return Work(conversation, start, receipts, inlet, listener, understanding, greeted)
