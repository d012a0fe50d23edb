"""Events of a session from a file, as `emotrace stream --json` or an export wrote them."""

from __future__ import annotations

import json
from pathlib import Path

from emotrace_clients.errors import SourceError
from emotrace_protocol import Event, ProtocolError, UnknownEvent, decode_event
from emotrace_protocol.events import SessionStarted

WRITERS = "`emotrace stream FILE --json > events.jsonl` writes one."


def read_events(path: Path) -> list[Event]:
    """One session's events: JSON Lines, or a JSON object with `events`.

    Events of a newer server are left out. Raises SourceError, naming the event at fault.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if not path.exists() else str(error)
        raise SourceError(f"{path} cannot be read: {reason}.") from None
    events: list[Event] = []
    for number, one in enumerate(_texts(text), 1):
        try:
            event = decode_event(one)
        except ProtocolError as error:
            raise SourceError(f"{path}, event {number}: {error.cause} {WRITERS}") from None
        if isinstance(event, SessionStarted) != (not events):
            told = "begins a second session" if events else "begins no session"
            raise SourceError(f"{path}, event {number}: it {told}; a file holds one. {WRITERS}")
        if not isinstance(event, UnknownEvent):
            events.append(event)
    if not events:
        raise SourceError(f"{path} holds no events. {WRITERS}")
    return events


def _texts(text: str) -> list[str]:
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        return [json.dumps(event) for event in whole["events"]]
    return [line for line in text.split("\n") if line.strip()]
