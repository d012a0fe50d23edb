"""connect(): from an address and a few settings to a running Session."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import websockets.asyncio.client
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

from emotrace_clients.errors import ServerNotReady, ServerUnreachable
from emotrace_clients.line import OnConnection
from emotrace_clients.session import Session
from emotrace_protocol.messages import (
    AudioFormat,
    Endpointing,
    Record,
    SessionStart,
    Transcription,
)

DEFAULT_URL = "ws://127.0.0.1:8080/v1/stream"
DEFAULT_EVENT_BUFFER = 4_096
OPEN_TIMEOUT_S = 10.0
PING_EVERY_S = 5.0  # a connection that is dead without a word is found out while all sound is kept
KEY_VARIABLE = "EMOTRACE_API_KEY"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    audio: AudioFormat | int = 16_000,
    speakers: Sequence[str] | None = None,
    transcription: Transcription | str = Transcription.AUTO,
    language: str | None = None,
    endpointing: Endpointing | None = None,
    interim: bool = True,
    bundle: str | None = None,
    labels: Sequence[str] | str | None = None,
    purpose: str | None = None,
    record: str | None = None,
    key: str | None = None,
    event_buffer: int = DEFAULT_EVENT_BUFFER,
    resume: bool = True,
    on_connection: OnConnection | None = None,
) -> AsyncIterator[Session]:
    """Opens a session: `async with connect(audio=16_000, speakers=("Ann", "Ben")) as session:`.

    audio: the format of what will be sent, or just the sample rate in Hz of s16le with one channel
        for each of `speakers` (one channel if they are not named).
    speakers: one name a channel; default A, B, C, ...
    transcription: auto, client or off (docs/protocol.md, Text).
    labels: one of the bundle's label sets, by its names or by its scheme ("common4"); default: the
        bundle's own. `session.started.label_sets` has them all.
    record: have the session recorded, if the server does that (`session.started.recording`): what
        those who are heard agreed to, or its name.
    key: for a server that asks for one; default: EMOTRACE_API_KEY of the environment. Send it to
        wss:// addresses only, or within a network that you trust.
    event_buffer: how many events may wait to be read.
    resume: where the connection breaks, open another and go on with the session, if the server
        offers it (`session.started.resume`). What was sent meanwhile is kept and sent then, events
        that were missed come then: readers see one stream. Where it cannot be, ConnectionLost says
        what is missing.
    on_connection: gets a ConnectionChange when the connection broke, and when it is back.

    Leaving the block closes the connection; call `end()` and read to session.ended before, so that
    nothing is lost. Raises ServerUnreachable, ServerNotReady, SessionFailed, ConnectionLost, and
    pydantic.ValidationError for settings that no server would take.
    """
    if isinstance(audio, int):
        audio = AudioFormat(sample_rate=audio, channels=len(speakers) if speakers else 1)
    start = SessionStart(
        audio=audio,
        speakers=None if speakers is None else tuple(speakers),
        transcription=Transcription(transcription),
        language=language,
        endpointing=endpointing or Endpointing(),
        interim=interim,
        bundle=bundle,
        labels=labels if labels is None or isinstance(labels, str) else tuple(labels),
        purpose=purpose,
        record=None if record is None else Record(consent=record),
        resume=resume,
    )
    open_ = partial(_open, url, os.environ.get(KEY_VARIABLE) if key is None else key)
    session = Session(await open_(), start, event_buffer, open_, on_connection)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await session.open()
    except TimeoutError:
        await session.close()
        raise ServerNotReady(
            f"{url} did not answer session.start within {OPEN_TIMEOUT_S:.0f} s. "
            "Is it an Emotrace server, and is it overloaded? Its /readyz and its log say more."
        ) from None
    except BaseException:
        await session.close()
        raise
    try:
        yield session
    finally:
        await session.close()


async def _open(url: str, key: str | None) -> websockets.asyncio.client.ClientConnection:
    try:
        host = urlsplit(url).hostname
        return await websockets.asyncio.client.connect(
            url,
            compression=None,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=PING_EVERY_S,
            proxy=None if host in LOOPBACK else True,
            additional_headers={"Authorization": f"Bearer {key}"} if key else None,
        )
    except (InvalidURI, ValueError):
        raise ServerUnreachable(
            f"{url!r} is not a websocket address. It looks like {DEFAULT_URL} "
            "(wss:// behind a server with TLS)."
        ) from None
    except InvalidStatus as error:
        raise _refused(url, error.response.status_code) from None
    except (OSError, TimeoutError) as error:
        raise ServerUnreachable(not_running(url, error)) from None
    except InvalidHandshake as error:
        raise ServerUnreachable(
            f"What answers at {url} does not speak websocket ({error}). Check address and port."
        ) from None


def _refused(url: str, status: int) -> ServerUnreachable | ServerNotReady:
    if status in (429, 502, 503, 504):  # 502 and 504: of a proxy whose servers do not answer
        return ServerNotReady(
            f"The server at {url} takes no session now (HTTP {status}): it is full or still "
            "starting. Try again in a moment; its /readyz says more."
        )
    if status == 401:
        return ServerNotReady(
            f"The server at {url} does not know this key (HTTP 401). Whoever runs it can make one: "
            f"emotrace-serve keys new NAME. It goes into {KEY_VARIABLE}, or connect(key=...)."
        )
    if status == 403:
        return ServerNotReady(
            f"The server at {url} refuses this client (HTTP 403): there is no stream at that path "
            "(it is usually /v1/stream), or this client may not come in."
        )
    return ServerUnreachable(
        f"The server at {url} has no Emotrace stream there (HTTP {status}). "
        "The path is usually /v1/stream."
    )


def not_running(url: str, error: object) -> str:
    """The sentence for an address where nothing answers."""
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        reason = "connection refused"
    else:
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return (
        f"No server answers at {url} ({reason}). Start one with `emotrace-serve` "
        "(or `make serve` in the repository), or give another address."
    )
