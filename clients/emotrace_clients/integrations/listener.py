"""Listener: a session of Emotrace beside a voice agent, which it never holds up.

Sound and words are handed over without waiting. A task of its own sends them, reads the events into
a tracker, and connects again where the session is over. Where Emotrace cannot be reached or does
not keep up, one warning says so and `turn` gives None: the agent goes on without emotion.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from random import Random

import numpy as np

from emotrace_clients.connecting import DEFAULT_URL, connect
from emotrace_clients.errors import EmotraceError, SessionFailed
from emotrace_clients.integrations.user_turn import UserTurn
from emotrace_clients.integrations.word_matcher import WordMatcher
from emotrace_clients.line import ConnectionChange
from emotrace_clients.patience import Patience
from emotrace_clients.session import Session
from emotrace_clients.tracker import EmotionTracker
from emotrace_clients.tracker_state import SpeakerState
from emotrace_protocol import ErrorCode
from emotrace_protocol.messages import (
    SAMPLE_RATES,
    AudioFormat,
    Endpointing,
    SessionStart,
    Transcription,
    UtteranceText,
)

logger = logging.getLogger("emotrace.listener")

DEFAULT_TIMEOUT_MS = 300
# So the estimate, with the words in it, is there when an agent begins to answer.
DEFAULT_ENDPOINTING = Endpointing(silence_ms=300)
MAX_WAITING_MS = 2_000  # of sound that is not sent yet; then the oldest is left out
MAX_REPLY = 2_000  # characters: half of what the protocol allows, since NFC lengthens some texts
SAMPLE_BYTES = 2
# A session that nobody speaks in ends; the next one begins when there is sound.
IDLE = (ErrorCode.IDLE_NO_AUDIO, ErrorCode.IDLE_NO_SPEECH)
NO_EMOTION = "the agent goes on without emotion"


class Listener:
    """Listens to one user of one agent.

    user, agent: what the two are called in the dialogue.
    timeout_ms: the most that `turn` waits.
    transcription: `client`, words are those of `hear_words`; `auto`, the server's, or `off`.
    endpointing: by default an utterance ends after 0.3 s of silence, and not after 0.5 s.
    url and the rest are those of `emotrace_clients.connect`.

    tracker, user_turn: of the session that runs. connected: whether one does. All methods belong to
    one event loop. Raises ValueError (pydantic.ValidationError) for settings that no server would
    take.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        user: str = "User",
        agent: str = "Agent",
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        transcription: Transcription | str = Transcription.CLIENT,
        language: str | None = None,
        endpointing: Endpointing | None = None,
        bundle: str | None = None,
        labels: Sequence[str] | str | None = None,
        purpose: str | None = None,
    ) -> None:
        self.user = user
        self._agent = agent
        self._url = url
        self._timeout_s = timeout_ms / 1000
        self._start = SessionStart(
            speakers=(user,),
            transcription=Transcription(transcription),
            language=language,
            endpointing=endpointing or DEFAULT_ENDPOINTING,
            bundle=bundle,
            labels=labels if labels is None or isinstance(labels, str) else tuple(labels),
            purpose=purpose,
        )
        UtteranceText(text="", speaker=agent)  # raises where the name is none
        if user == agent:
            raise ValueError(f"user and agent are both {user!r}: give them two names")
        self._rate = 0
        self._sound: deque[bytes] = deque()
        self._sound_bytes = 0
        self._to_send = asyncio.Event()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self._begin()

    def hear(self, pcm: bytes, rate: int, channels: int = 1) -> None:
        """Takes a piece of the user's sound, s16le, without waiting. The first one connects.

        rate: Hz, one of the protocol's and the same throughout; other sound is left out, and a
        warning says so. channels: several become one.
        """
        if rate not in SAMPLE_RATES or self._rate not in (0, rate):
            known = ", ".join(map(str, SAMPLE_RATES))
            self._warn(f"Sound of {rate} Hz is left out: give one rate throughout, of {known} Hz")
            return
        self._rate = rate
        if channels > 1:
            frames = np.frombuffer(pcm, dtype="<i2").reshape(-1, channels)
            pcm = frames.mean(axis=1).astype("<i2").tobytes()
        self._sound.append(pcm)
        self._sound_bytes += len(pcm)
        self._heard_bytes += len(pcm)
        while self._sound_bytes > MAX_WAITING_MS * rate * SAMPLE_BYTES // 1000:
            oldest = len(self._sound.popleft())
            self._sound_bytes -= oldest
            self._heard_bytes -= oldest
            if self.connected:
                self._warn("Emotrace does not keep up: some sound is left out")
        self._to_send.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_report)

    def hear_words(self, text: str) -> None:
        """Takes what the agent's own recogniser finally made of the user's words."""
        if not text.strip():
            return
        self.user_turn.hear_words()
        if self._start.transcription is Transcription.CLIENT:
            heard_ms = self._heard_bytes * 1000 // (max(1, self._rate) * SAMPLE_BYTES)
            self._send_words(self._matcher.give(text, heard_ms))

    def reply(self, text: str) -> None:
        """Takes what the agent said: a turn of the dialogue, after which the user's next begins.

        That next one holds what the user began to say since `turn` was called last.
        """
        self.user_turn.reply()
        if text.strip():
            self._send_text(UtteranceText(text=text[:MAX_REPLY], speaker=self._agent))

    async def turn(self) -> SpeakerState | None:
        """Where the user stands, by an utterance since the agent's last reply; None: not known.

        Waits until every utterance of the turn has its estimate, and at most `timeout_ms`; then an
        interim estimate counts. Waits not at all where nobody spoke or there is no connection.
        """
        if self.user_turn.has_begun:
            try:
                async with asyncio.timeout(self._timeout_s):
                    while self.connected and not self.user_turn.is_judged:
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                logger.debug("no final estimate within %.1f s", self._timeout_s)
        self.user_turn.ask()
        return self.known()

    def known(self) -> SpeakerState | None:
        """What `turn` would give without waiting."""
        state = self.tracker.state().of(self.user)
        return state if state is not None and self.user_turn.holds(state.utterance) else None

    async def line(self) -> str | None:
        """The turn as one line for a language model, which waits as `turn` does."""
        return None if await self.turn() is None else self.tracker.prompt_line(self.user)

    async def close(self) -> None:
        """Ends the session. `hear` begins another."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._rate = 0
        self._sound.clear()
        self._sound_bytes = 0
        self._begin()

    def _begin(self) -> None:
        """Nothing is known yet of a session."""
        self.tracker = EmotionTracker()
        self._matcher = WordMatcher(self.user)
        self._texts: deque[UtteranceText] = deque()
        self.user_turn = UserTurn(self.user)
        self.connected = False
        self._heard_bytes = self._sound_bytes  # of the session: what waits is its beginning
        self._news.set()

    async def _run(self) -> None:
        """One session after another, until there can be none."""
        patience = Patience(math.inf, 0.0, Random())
        while True:
            if not self._sound:
                await self._to_send.wait()
            at_least_s = 0.0
            try:
                async with connect(
                    self._url,
                    audio=AudioFormat(sample_rate=self._rate),
                    speakers=self._start.speakers,
                    transcription=self._start.transcription,
                    language=self._start.language,
                    endpointing=self._start.endpointing,
                    bundle=self._start.bundle,
                    labels=self._start.labels,
                    purpose=self._start.purpose,
                    on_connection=self._note_connection,
                ) as session:
                    patience = Patience(math.inf, 0.0, Random())
                    self._note_connection(ConnectionChange(True, "Emotrace listens"))
                    await self._talk(session)
            except SessionFailed as failed:
                event = failed.event
                if event.code in IDLE:
                    continue
                if not event.retryable:
                    logger.error("%s; %s", failed, NO_EMOTION)
                    return
                self._warn(str(failed))
                at_least_s = (event.retry_after_ms or 0) / 1000
            except EmotraceError as error:
                self._warn(str(error))
            finally:
                self._begin()
            pause_s = patience.pause_s(0.0, at_least_s)
            assert pause_s is not None, "patience has no end here"
            await asyncio.sleep(pause_s)

    async def _talk(self, session: Session) -> None:
        """Sends and reads until either is over. Raises what ended it."""
        both = {asyncio.create_task(self._send(session)), asyncio.create_task(self._read(session))}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        for task in done:
            task.result()

    async def _send(self, session: Session) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._texts or self._sound:
                while self._texts:
                    one = self._texts.popleft()
                    await session.send_text(one.text, utterance=one.utterance, speaker=one.speaker)
                if self._sound:
                    pcm = self._sound.popleft()
                    self._sound_bytes -= len(pcm)
                    await session.send_audio(pcm)

    async def _read(self, session: Session) -> None:
        async for event in session:
            self.tracker.push(event)
            self._send_words(self._matcher.take(event))
            self.user_turn.take(event)
            self._news.set()

    def _send_words(self, words: list[tuple[int, str]]) -> None:
        for utterance, text in words:
            self._send_text(UtteranceText(text=text[:MAX_REPLY], utterance=utterance))

    def _send_text(self, message: UtteranceText) -> None:
        if self.connected:
            self._texts.append(message)
            self._to_send.set()

    def _note_connection(self, change: ConnectionChange) -> None:
        self.connected = change.up
        self._news.set()
        if change.up:
            self._warned = False
            logger.info("%s", change.message)
        else:
            self._warn(change.message)

    def _warn(self, sentence: str) -> None:
        """One warning an outage, whatever else follows from it."""
        level = logging.DEBUG if self._warned else logging.WARNING
        self._warned = True
        logger.log(level, "%s; %s", sentence, NO_EMOTION)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        logger.error("the listener failed; %s", NO_EMOTION, exc_info=fault)
