"""The same client without async: `with connect(...) as session:`, the same names.

An event loop in a thread of its own does the work, so events are read while you send. Any thread
may call any method.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from emotrace_clients import connecting
from emotrace_clients import session as asynchronous
from emotrace_clients.connecting import DEFAULT_EVENT_BUFFER, DEFAULT_URL
from emotrace_clients.line import OnConnection
from emotrace_clients.samples import Samples
from emotrace_protocol import ServerEvent
from emotrace_protocol.events import MarkerReached, SessionStarted, Totals
from emotrace_protocol.messages import AudioFormat, Endpointing, Transcription

T = TypeVar("T")


class Session:
    """A session whose methods wait. A context manager and an iterator of events.

    `send_audio`, `send_text`, `send_image`, `marker`, `ack`, `end`, `started`, `totals` are those
    of the asynchronous Session and raise the same errors.
    """

    def __init__(self, opening: AbstractAsyncContextManager[asynchronous.Session]) -> None:
        self._opening = opening
        self._session: asynchronous.Session | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="emotrace", daemon=True)
        self._thread.start()
        try:
            self._session = self._run(self._opening.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._run(self._opening.__aexit__(None, None, None))
        finally:
            self._stop()

    def __repr__(self) -> str:
        return repr(self._session) if self._session is not None else "<Session: not open>"

    @property
    def started(self) -> SessionStarted:
        """What the server runs with."""
        return self._opened.started

    @property
    def totals(self) -> Totals | None:
        """What the server counted, once session.ended has come."""
        return self._opened.totals

    def send_audio(self, samples: Samples) -> None:
        """Sends bytes in the declared format, or an array, and waits while there is no room."""
        self._run(self._opened.send_audio(samples))

    def send_text(
        self,
        text: str,
        *,
        utterance: int | None = None,
        speaker: str | None = None,
        language: str | None = None,
    ) -> None:
        """Sends the words of an announced utterance, or a speaker's turn without audio."""
        self._run(
            self._opened.send_text(text, utterance=utterance, speaker=speaker, language=language)
        )

    def send_image(self, jpeg: bytes, *, speaker: str) -> None:
        """Sends one webcam frame of a speaker, taken where the audio now is."""
        self._run(self._opened.send_image(jpeg, speaker=speaker))

    def marker(self, id: str) -> MarkerReached:
        """Waits until everything sent before has been processed."""
        return self._run(self._opened.marker(id))

    def ack(self, sequence: int) -> None:
        """Tells the server that events up to `sequence` have arrived."""
        self._run(self._opened.ack(sequence))

    def end(self) -> None:
        """Says that no more audio comes. Then read events until session.ended."""
        self._run(self._opened.end())

    def delete(self) -> None:
        """Ends the session at once, and has the server forget all of it."""
        self._run(self._opened.delete())

    def __iter__(self) -> Iterator[ServerEvent]:
        return self

    def __next__(self) -> ServerEvent:
        try:
            return self._run(self._next())
        except StopAsyncIteration:
            raise StopIteration from None

    @property
    def _opened(self) -> asynchronous.Session:
        if self._session is None:
            raise RuntimeError("the session is not open: use it inside `with connect(...)`")
        return self._session

    async def _next(self) -> ServerEvent:
        return await self._opened.__anext__()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return waiting.result()
        except BaseException:
            waiting.cancel()  # Ctrl-C here must not leave the work running there
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def connect(
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
) -> Session:
    """Opens a session: `with connect(audio=16_000, speakers=("Ann", "Ben")) as session:`.

    Arguments and errors are those of `emotrace_clients.connect`; `on_connection` is called in the
    session's own thread.
    """
    return Session(
        connecting.connect(
            url,
            audio=audio,
            speakers=speakers,
            transcription=transcription,
            language=language,
            endpointing=endpointing,
            interim=interim,
            bundle=bundle,
            labels=labels,
            purpose=purpose,
            record=record,
            key=key,
            event_buffer=event_buffer,
            resume=resume,
            on_connection=on_connection,
        )
    )
