"""A file instead of a live stream: the same understanding, at the pace of the machine.

A file is a session whose audio is all there. It takes the same path through the same classes, so
its estimates are those of a stream of the same samples.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from emotrace_models.types import Transcript
from emotrace_protocol import events
from emotrace_protocol.codec import decode_message
from emotrace_protocol.errors import ErrorCode, ProtocolError
from emotrace_protocol.messages import AudioFormat, SessionStart, Text
from emotrace_protocol.order import ServerConversation
from emotrace_service.auditing import AuditEvent, Entry
from emotrace_service.decoding import Decoding
from emotrace_service.errors import EngineClosed
from emotrace_service.identity import Caller
from emotrace_service.notices import Notices
from emotrace_service.opening import plan_session, started_fields
from emotrace_service.serving import Serving
from emotrace_service.texts import ClientTexts
from emotrace_service.understanding import Understanding

NO_SPEECH = "No speech was found in the file."


class UtteranceWords(BaseModel):
    """Words of utterance number `utterance`, as an earlier analysis of the same file counted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utterance: int = Field(ge=0)
    text: Text


_WORDS = TypeAdapter(tuple[UtteranceWords, ...])


def read_words(text: str) -> dict[int, Transcript]:
    """The form field `texts`. Raises ProtocolError."""
    try:
        words = _WORDS.validate_json(text)
    except ValidationError:
        raise ProtocolError(
            ErrorCode.CONFIG_INVALID,
            '`texts` is no JSON list of {"utterance": number, "text": words}.',
            "texts",
        ) from None
    return {one.utterance: Transcript(one.text, "client") for one in words}


def read_start(text: str, audio: AudioFormat) -> SessionStart:
    """The form field `start`: fields of session.start, but for `audio`. Raises ProtocolError."""
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ProtocolError(ErrorCode.CONFIG_INVALID, "`start` is no JSON object.", "start")
    given |= {"type": "session.start", "audio": audio.model_dump(mode="json"), "interim": False}
    message, unknown = decode_message(json.dumps(given))
    if unknown or not isinstance(message, SessionStart):
        cause = f"`start` has fields that session.start has not: {', '.join(unknown)}."
        raise ProtocolError(ErrorCode.CONFIG_INVALID, cause, "start")
    if message.record is not None:
        raise ProtocolError(ErrorCode.CONFIG_INVALID, "A file is not recorded.", "record")
    return message


class Analysis:
    """One file on its way through the understanding. said: its events so far."""

    def __init__(
        self,
        serving: Serving,
        recording: Decoding,
        start: SessionStart,
        words: Mapping[int, Transcript],
        caller: Caller | None,
    ) -> None:
        """Raises ProtocolError where the server cannot give what `start` asks for."""
        plan = plan_session(
            start,
            serving.bundles,
            serving.settings,
            transcribes=serving.backend.transcribes(start.language),
        )
        # Nobody waits at the other end: silence is no reason to stop, nor words to wait.
        self._plan = replace(plan, idle_samples=sys.maxsize, text_wait_s=0.0)
        self._serving = serving
        self._purpose = start.purpose
        self._key = None if caller is None else caller.name
        self._recording = recording
        self._conversation = ServerConversation()
        self._conversation.receive(start)
        self._name = secrets.token_hex(8)
        self._understanding = Understanding(
            self._plan,
            serving.backend,
            ClientTexts(words),
            Notices(self._emit),
            metrics=serving.metrics,
            log=serving.log.bind(session=self._name),
            clock=serving.clock,
            busy=lambda: True,
            crowded=lambda: True,
            blind=lambda: False,
        )
        self.said: list[events.Event] = []

    @property
    def audio_ms(self) -> int:
        """Understood so far."""
        return self._understanding.audio_ms

    @property
    def total_ms(self) -> int:
        return self._recording.total_ms

    @property
    def utterances(self) -> int:
        """Found so far."""
        return self._understanding.utterances

    async def _emit(self, event_type: type[events.Event], /, **fields: Any) -> None:
        self.said.append(self._conversation.number(event_type, **fields))

    async def steps(self, gone: Callable[[], Awaitable[bool]]) -> AsyncGenerator[None]:
        """Understand the file, about a second of it at each step.

        gone: whether whoever asked has left; then it ends early. Raises ProtocolError.
        """
        understanding, clock = self._understanding, self._serving.clock
        fields = started_fields(self._name, self._plan, self._serving.settings)
        await self._emit(events.SessionStarted, **fields)
        try:
            async for block in self._recording.blocks():
                if await gone():
                    break
                await understanding.hear((block,), clock())
                yield
            await understanding.flush(clock())
        except EngineClosed:
            raise ProtocolError(ErrorCode.GOING_AWAY, "The server is stopping.") from None
        finally:
            await understanding.close()
            self._note()
        totals = understanding.totals(self._conversation, messages=0)
        await self._emit(events.SessionEnded, reason="client", totals=totals)

    def close(self) -> None:
        """Nothing more of the file is wanted."""
        self._recording.close()

    def _note(self) -> None:
        counts = {"audio_ms": self._understanding.taken_ms, "utterances": self.utterances}
        live = tuple(one.modality for one in self._plan.modalities if one.live)
        self._serving.observers.audit.record(
            Entry(
                AuditEvent.FILE_ANALYZED,
                self._name,
                self._key,
                self._purpose,
                live,
                counts=counts,
            )
        )


async def open_analysis(
    serving: Serving,
    data: bytes,
    start_text: str,
    words_text: str,
    caller: Caller | None = None,
) -> Analysis:
    """To be closed. caller: who asks. Raises ProtocolError where the file or the form's fields are
    of no use."""
    words = read_words(words_text)
    seconds = serving.settings.max_file_minutes * 60
    recording = await serving.decoders.open(data, seconds)
    try:
        start = read_start(start_text, recording.audio)
        return Analysis(serving, recording, start, words, caller)
    except BaseException:
        recording.close()
        raise


async def analyze(
    serving: Serving,
    data: bytes,
    start_text: str,
    words_text: str,
    gone: Callable[[], Awaitable[bool]],
    caller: Caller | None = None,
) -> dict[str, Any]:
    """All that a live session would have said about the file, as `report` tells it.

    gone: whether whoever asked, `caller`, has left. Raises ProtocolError.
    """
    analysis = await open_analysis(serving, data, start_text, words_text, caller)
    try:
        async for _ in analysis.steps(gone):
            pass
    finally:
        analysis.close()
    return report(analysis.said)


def report(said: Sequence[events.Event]) -> dict[str, Any]:
    """Events of a whole session -> what a reader of a file wants first, then every event."""
    first, last = said[0], said[-1]
    assert isinstance(first, events.SessionStarted)
    assert isinstance(last, events.SessionEnded)
    return {
        **first.model_dump(
            mode="json",
            include={"bundle", "labels", "label_sets", "modalities", "speakers", "notice"},
        ),
        "audio_ms": last.totals.audio_ms,
        "note": None if last.totals.utterances > last.totals.rejected else NO_SPEECH,
        "utterances": _utterances(said),
        "events": [event.model_dump(mode="json") for event in said],
    }


def _utterances(said: Sequence[events.Event]) -> list[Mapping[str, Any]]:
    """One entry an utterance, in the order of their ends, with its last label."""
    found: dict[int, dict[str, Any]] = {}
    for event in said:
        if isinstance(event, events.SpeechEnded | events.SpeechRejected):
            entry = {
                "utterance": event.utterance,
                "speaker": event.speaker,
                "start_ms": event.start_ms,
                "end_ms": event.end_ms,
                "text": None,
                "label": None,
                "posterior": None,
                "abstained": None,
                "doubts": (),
                "affect": None,
                "rejected": None,
            }
            entry = found.setdefault(event.utterance, entry)
            if isinstance(event, events.SpeechRejected):
                entry["rejected"] = event.reason
        elif isinstance(event, events.TranscriptFinal):
            found[event.utterance]["text"] = event.text
        elif isinstance(event, events.EmotionFinal):
            found[event.utterance] |= {
                "label": event.decoder.label,
                "posterior": event.posterior,
                "abstained": event.abstained,
                "doubts": event.doubts,
                "affect": None if event.affect is None else event.affect.model_dump(),
            }
        elif isinstance(event, events.EmotionRevised):
            found[event.utterance]["label"] = event.label
    return list(found.values())
