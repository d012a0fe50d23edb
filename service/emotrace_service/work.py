"""The parts of a session that is open, and how they are joined."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from emotrace_protocol.messages import SessionStart
from emotrace_protocol.order import ServerConversation
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
    """others: messages on earlier connections that have no number."""

    start: SessionStart
    receipts: Receipts
    inlet: Inlet
    listener: Listener
    understanding: Understanding
    others: int


def begin(
    socket: Socket,
    serving: Serving,
    conversation: ServerConversation,
    outlet: Outlet,
    log: Logger,
    start: SessionStart,
    plan: Plan,
    snapshot: Snapshot | None,
    *,
    keeps: bool,
    confirm: Callable[[], None],
    note: Callable[[int, bytes | str], str | None],
) -> Work:
    """snapshot: what to go on from. keeps: whether events wait until what led to them is kept."""
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
    others = 0 if snapshot is None else snapshot.others
    return Work(start, receipts, inlet, listener, understanding, others)
