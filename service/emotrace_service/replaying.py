"""A recorded session once more: its messages through the same classes, hence the same estimates.

What depends on how busy a server is, or on when a client read, is left out: interim estimates,
heartbeats, acknowledgements. Words that came too late then are left out now.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import msgpack
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from emotrace_models.types import Transcript
from emotrace_protocol import events
from emotrace_protocol.codec import decode_message
from emotrace_protocol.errors import ProtocolError
from emotrace_protocol.events import Event
from emotrace_protocol.messages import (
    Image,
    Marker,
    Message,
    SessionStart,
    UtteranceEnd,
    UtteranceText,
)
from emotrace_protocol.order import ServerConversation
from emotrace_service.notices import Notices
from emotrace_service.opening import plan_session, started_fields
from emotrace_service.recorder import About
from emotrace_service.sealing import Unsealable, Unsealer
from emotrace_service.serving import Serving
from emotrace_service.texts import ClientTexts
from emotrace_service.understanding import Understanding

# Ends before which the server understood all that it had taken in.
FINISHED = {"client", "idle", "error", "going_away"}


class RecordedSession:
    """The parts of one session, in any order. about: what it was. end: how it ended; None: that is
    not recorded. missing: numbers of messages that are not recorded although later ones are."""

    def __init__(self, paths: Sequence[Path], key: X25519PrivateKey) -> None:
        """Raises Unsealable, OSError."""
        self._parts = sorted((_Part(path, key) for path in paths), key=lambda part: part.number)
        self.about = self._parts[0].about
        for part in self._parts:
            if part.about.session != self.about.session:
                raise Unsealable(f"{part.path} is of another session than {paths[0]}.")
        self.missing: range | None = None

    @property
    def end(self) -> str | None:
        return self._parts[-1].end

    def messages(self) -> Iterator[bytes | str]:
        """In the order of their numbers, up to the first that is missing. Raises Unsealable."""
        expected = 0
        # What was said again on a later connection counts, and not what was said first.
        numbered = heapq.merge(
            *(part.items() for part in reversed(self._parts)), key=lambda item: item[0]
        )
        for number, data in numbered:
            if number > expected:
                self.missing = range(expected, number)
                return
            if number == expected:
                expected += 1
                yield data


class _Part:
    """What was recorded on one connection."""

    def __init__(self, path: Path, key: X25519PrivateKey) -> None:
        self.path = path
        self._key = key
        self.end: str | None = None
        with path.open("rb") as file:
            unsealer = _unsealer(path, file, key)
            self.number: int = json.loads(unsealer.label)["part"]
            first = next(unsealer.chunks(), None)
        if first is None:
            raise Unsealable(f"{path} ends before anything was recorded.")
        self.about = About(**msgpack.unpackb(first))

    def items(self) -> Iterator[tuple[int, bytes | str]]:
        """Numbers and messages."""
        with self.path.open("rb") as file:
            chunks = _unsealer(self.path, file, self._key).chunks()
            next(chunks)
            for chunk in chunks:
                unpacker = msgpack.Unpacker()
                unpacker.feed(chunk)
                for item in unpacker:
                    if isinstance(item, dict):
                        self.end = item["end"]
                    else:
                        yield item[0], item[1]


def _unsealer(path: Path, file: BinaryIO, key: X25519PrivateKey) -> Unsealer:
    """Raises Unsealable."""
    try:
        return Unsealer(file, key)
    except Unsealable as error:
        raise Unsealable(f"{path}: {error}") from None


class Replay:
    """Of one session, on a server's models. elsewhere: by the server's default bundle, whatever the
    session ran with. bundle: that it runs with."""

    def __init__(
        self, serving: Serving, session: RecordedSession, *, elsewhere: bool = False
    ) -> None:
        """Raises ProtocolError where the server cannot give what the session asks for."""
        start, _ = decode_message(session.about.start)
        assert isinstance(start, SessionStart)
        start = start.model_copy(update={"interim": False, "resume": False})
        if elsewhere:
            start = start.model_copy(update={"bundle": None})
        plan = plan_session(
            start,
            serving.bundles,
            serving.settings,
            transcribes=serving.backend.transcribes(start.language),
        )
        self._plan = replace(plan, text_wait_s=0.0)  # what words there are, are there
        self._session = session
        self._serving = serving
        self._conversation = ServerConversation()
        self._conversation.receive(start)
        self.bundle = plan.bundle

    async def run(self, tell: Callable[[Event], None]) -> None:
        """Tell all events, in order. Raises Unsealable."""
        serving, clock = self._serving, self._serving.clock

        async def emit(event_type: type[Event], /, **fields: Any) -> None:
            tell(self._conversation.number(event_type, **fields))

        understanding = Understanding(
            self._plan,
            serving.backend,
            ClientTexts(self._words()),
            Notices(emit),
            metrics=serving.metrics,
            log=serving.log,
            clock=clock,
            busy=lambda: True,  # nothing is left out, and nothing is made ahead
            crowded=lambda: True,
            blind=lambda: False,
        )
        name = self._session.about.session
        await emit(events.SessionStarted, **started_fields(name, self._plan, serving.settings))
        error = None
        count = 0
        try:
            for data in self._session.messages():
                count += 1
                await self._take(data, understanding)
            if self._session.missing is None and self._session.end in FINISHED:
                await understanding.flush(clock())
        except ProtocolError as refused:
            error = refused
            with suppress(ProtocolError):
                await understanding.flush(clock())
        finally:
            await understanding.close()
        if error is not None:
            await emit(events.Failed, **error.fields())
        reason = "error" if error is not None else self._session.end
        if reason in FINISHED and self._session.missing is None:
            await emit(
                events.SessionEnded,
                reason=reason,
                totals=understanding.totals(self._conversation, count),
            )

    async def _take(self, data: bytes | str, understanding: Understanding) -> None:
        """Raises ProtocolError."""
        arrival = self._serving.clock()
        if isinstance(data, bytes):
            await understanding.hear((data,), arrival)
            return
        message = _message(data)
        if isinstance(message, Marker):
            await understanding.reach_marker(message.id)
        elif isinstance(message, Image):
            await understanding.see(message)
        elif isinstance(message, UtteranceText) and message.utterance is None:
            await understanding.say(message, arrival)
        elif isinstance(message, UtteranceEnd):
            understanding.cut()
            await understanding.go_on(arrival)

    def _words(self) -> dict[int, Transcript]:
        """The client's words for utterances, which went past the audio."""
        words: dict[int, Transcript] = {}
        if self._plan.words:
            for data in self._session.messages():
                said = _message(data) if isinstance(data, str) else None
                if isinstance(said, UtteranceText) and said.utterance is not None:
                    given = Transcript(said.text, "client", said.language)
                    words.setdefault(said.utterance, given)  # the first ones count
        return words


def _message(text: str) -> Message | None:
    """None: it had no effect."""
    return decode_message(text)[0] if text else None
