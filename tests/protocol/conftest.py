"""Events that several tests of the protocol use."""

from __future__ import annotations

from typing import Any

import pytest

from emotrace_protocol.events import SessionStarted


@pytest.fixture(scope="session")
def started_fields() -> dict[str, Any]:
    """The fields of a session.started, all but its sequence."""
    return {
        "session": "s",
        "protocol_version": 1,
        "bundle": {"name": "default", "version": "1", "licence": "CC0", "languages": ["en"]},
        "labels": ["anger", "neutral"],
        "modalities": [{"modality": "acoustic", "live": True}],
        "audio": {"encoding": "s16le", "sample_rate": 16_000, "channels": 1},
        "speakers": ["A"],
        "decoder": {
            "shift_probability": 0.3,
            "concentration": 1.0,
            "beam": 10,
            "lag": 2,
            "commit": False,
        },
        "limits": {
            "max_message_bytes": 1,
            "max_text_characters": 1,
            "max_utterance_ms": 1,
            "audio_queue_ms": 1,
            "idle_no_audio_ms": 1,
            "idle_no_speech_ms": 1,
        },
    }


@pytest.fixture(scope="session")
def started(started_fields: dict[str, Any]) -> SessionStarted:
    return SessionStarted(sequence=0, **started_fields)
