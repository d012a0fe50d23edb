"""Whether sessions may be recorded at all: a folder and a public key, which the operator names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from emotrace_service.auditing import Audit
from emotrace_service.errors import StartRefused
from emotrace_service.logs import Logger
from emotrace_service.settings import Settings

if TYPE_CHECKING:
    from emotrace_service.session_recording import SessionRecordings


def load_recordings(
    settings: Settings, audit: Audit, registry: CollectorRegistry, log: Logger
) -> SessionRecordings | None:
    """None: no session is recorded. Raises StartRefused."""
    folder, key = settings.recordings, settings.recordings_key
    if folder is None and key is None:
        return None
    if folder is None or key is None:
        raise StartRefused(
            "To record sessions takes both a folder (EMOTRACE_RECORDINGS) and a public key "
            "(EMOTRACE_RECORDINGS_KEY), to which recordings are sealed. Name both, or neither."
        )
    try:
        from emotrace_service.sealing import Unsealable, load_public_key
        from emotrace_service.session_recording import SessionRecordings
    except ImportError:
        raise StartRefused(
            "To record sessions takes the package cryptography: pip install 'emotrace[recording]'."
        ) from None
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StartRefused(
            f"{folder} (EMOTRACE_RECORDINGS) is no folder that the server may write to. Make it, "
            "for the server's user alone (mode 0700)."
        )
    try:
        public = load_public_key(key)
    except OSError as error:
        raise StartRefused(f"{key} (EMOTRACE_RECORDINGS_KEY): {error.strerror}.") from None
    except Unsealable as error:
        raise StartRefused(f"EMOTRACE_RECORDINGS_KEY: {error}") from None
    return SessionRecordings(folder, public, settings.recordings_days, audit, registry, log)
