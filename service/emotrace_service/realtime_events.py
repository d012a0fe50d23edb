"""Events of a session -> events of OpenAI's Realtime protocol, and this server's own beside them.

Pure: one object a connection, which numbers events and remembers the items of its conversation. An
utterance is an item. `...transcription.completed` carries the estimate as extra fields; what the
Realtime protocol has no name for goes as `emotrace.<name>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emotrace_protocol.errors import ErrorCode, ProtocolError

Fields = dict[str, Any]

TRANSCRIPTION = "conversation.item.input_audio_transcription"
# Of emotion.final; the rest of it is in `emotrace.emotion.final`.
ESTIMATE = (
    "utterance", "speaker", "start_ms", "end_ms", "confidence", "abstained", "doubts", "affect",
    "quality", "modalities", "missing", "decoder", "explanation",
)  # fmt: skip
# Events that Realtime clients know under no name.
OWN = frozenset(
    {"session.started", "session.ended", "emotion.interim", "emotion.final", "emotion.revised",
     "speech.rejected", "service.degraded", "warning"}
)  # fmt: skip
SERVERS = frozenset(
    {ErrorCode.CAPACITY, ErrorCode.GOING_AWAY, ErrorCode.INTERNAL, ErrorCode.INFERENCE_FAILED}
)


class RealtimeEvents:
    """name: of this connection, in the names of its items and events. beta: of the protocol.

    speaking: whether an utterance is open. committed: utterances that ended. manual: the client
    says where they end, and is not told where voice activity begins and ends.
    """

    def __init__(self, name: str, *, beta: bool) -> None:
        self._name = name
        self._beta = beta
        self._told = 0
        self._previous: str | None = None
        self._words: dict[int, str] = {}
        self.speaking = False
        self.committed = 0
        self.manual = False

    def event(self, kind: str, **fields: Any) -> Fields:
        """One event, numbered."""
        self._told += 1
        return {"type": kind, "event_id": f"event_{self._name}_{self._told}", **fields}

    def error(self, error: ProtocolError, event_id: str | None = None) -> Fields:
        """event_id: how the client calls the message that was refused."""
        return self._error(error.fields(), event_id)

    def empty(self, event_id: str | None) -> Fields:
        """A commit of nothing, in OpenAI's own words for it, which clients know."""
        details = {
            "type": "invalid_request_error",
            "code": "input_audio_buffer_commit_empty",
            "message": "No speech was heard since the last commit: there is nothing to commit.",
            "param": None,
            "event_id": event_id,
        }
        return self.event("error", error=details)

    def translate(self, said: Mapping[str, Any]) -> Iterator[Fields]:
        """said: a session's event, as on the wire."""
        kind = said["type"]
        if kind == "error":
            yield from self._failed(said)
            return
        if kind == "speech.started":
            yield from self._started(said)
        elif kind == "speech.ended":
            yield from self._stopped(said)
        elif kind == "transcript.final":
            yield from self._transcribed(said)
        elif kind == "speech.rejected":
            yield from self._completed(said, {"rejected": said["reason"]})
        elif kind == "emotion.final":
            estimate = {name: said[name] for name in ESTIMATE}
            yield from self._completed(
                said,
                {"emotion": said["decoder"]["label"], "emotions": said["posterior"], **estimate},
            )
        if kind in OWN:
            yield self._own(said)

    def _own(self, said: Mapping[str, Any]) -> Fields:
        """The event as it is, under this server's own name."""
        fields = {name: value for name, value in said.items() if name != "type"}
        if "utterance" in said:
            fields["item_id"] = self._item(said)
        return self.event(f"emotrace.{said['type']}", **fields)

    def _item(self, said: Mapping[str, Any]) -> str:
        return f"item_{self._name}_{said['utterance']}"

    def _started(self, said: Mapping[str, Any]) -> Iterator[Fields]:
        self.speaking = True
        if self.manual:
            return
        yield self.event(
            "input_audio_buffer.speech_started",
            audio_start_ms=said["start_ms"],
            item_id=self._item(said),
        )

    def _stopped(self, said: Mapping[str, Any]) -> Iterator[Fields]:
        self.speaking = False
        self.committed += 1
        item = self._item(said)
        previous, self._previous = self._previous, item
        if not self.manual:
            yield self.event(
                "input_audio_buffer.speech_stopped", audio_end_ms=said["end_ms"], item_id=item
            )
        yield self.event("input_audio_buffer.committed", item_id=item, previous_item_id=previous)
        message = {
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        kinds = ("created",) if self._beta else ("added", "done")
        for kind in kinds:
            yield self.event(f"conversation.item.{kind}", previous_item_id=previous, item=message)

    def _transcribed(self, said: Mapping[str, Any]) -> Iterator[Fields]:
        self._words[said["utterance"]] = said["text"]
        yield self.event(
            f"{TRANSCRIPTION}.delta",
            item_id=self._item(said),
            content_index=0,
            delta=said["text"],
        )

    def _completed(self, said: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Fields]:
        yield self.event(
            f"{TRANSCRIPTION}.completed",
            item_id=self._item(said),
            content_index=0,
            transcript=self._words.pop(said["utterance"], ""),
            usage={"type": "duration", "seconds": (said["end_ms"] - said["start_ms"]) / 1_000},
            **found,
        )

    def _failed(self, said: Mapping[str, Any]) -> Iterator[Fields]:
        if said["utterance"] is None:
            yield self._error(said)
            return
        self._words.pop(said["utterance"], None)
        yield self.event(
            f"{TRANSCRIPTION}.failed",
            item_id=self._item(said),
            content_index=0,
            error=_details(said),
        )

    def _error(self, said: Mapping[str, Any], event_id: str | None = None) -> Fields:
        return self.event("error", error={**_details(said), "event_id": event_id})


def _details(said: Mapping[str, Any]) -> Fields:
    code = said["code"]
    details = {
        "type": "server_error" if code in SERVERS else "invalid_request_error",
        "code": str(code),
        "message": said["message"],
        "param": said["param"],
    }
    if said["retry_after_ms"] is not None:
        details["retry_after_ms"] = said["retry_after_ms"]
    return details
