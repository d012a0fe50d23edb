"""The words of an utterance that is over: the client's if they are there, else the server's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

from emotrace_models.types import Transcript
from emotrace_protocol.errors import WarningCode
from emotrace_service.errors import EngineClosed, EngineError
from emotrace_service.hearing import Hearing
from emotrace_service.logs import Logger, warn_failed
from emotrace_service.notices import Notices
from emotrace_service.opening import Plan
from emotrace_service.texts import ClientTexts


class Words:
    """Of one session. meanwhile: is awaited where words are slow to come, for an estimate without
    them."""

    __slots__ = ("_log", "_meanwhile", "_notices", "_plan", "_texts")

    def __init__(
        self,
        plan: Plan,
        texts: ClientTexts,
        notices: Notices,
        log: Logger,
        meanwhile: Callable[[Hearing], Awaitable[None]],
    ) -> None:
        self._plan = plan
        self._texts = texts
        self._notices = notices
        self._log = log
        self._meanwhile = meanwhile

    async def of(self, hearing: Hearing) -> Transcript | None:
        """Those of the utterance that is heard; any that come after this are late."""
        index = hearing.utterance.index
        words = self._texts.take(index)
        if words is None and self._plan.waits_for_words:
            words = await self._awaited(hearing)
            if words is None:
                await self._notices.warn(
                    WarningCode.TEXT_TIMEOUT,
                    f"No words came for utterance {index} in time; it is judged without them.",
                    "utterance.text",
                )
        elif words is None and self._plan.server_words:
            recognised = await self._transcribed(hearing)
            words = self._texts.take(index) or recognised
        self._texts.close(index)
        return words

    async def _transcribed(self, hearing: Hearing) -> Transcript | None:
        try:
            with suppress(TimeoutError):
                return await hearing.recognised(self._plan.early_s)
            await self._meanwhile(hearing)
            return await hearing.recognised()
        except EngineClosed:
            raise
        except EngineError as error:
            warn_failed(self._log, "transcription failed", error)
            await self._notices.warn(
                WarningCode.MODALITY_MISSING,
                f"Utterance {hearing.utterance.index} could not be transcribed.",
                "lexical",
            )
            return None

    async def _awaited(self, hearing: Hearing) -> Transcript | None:
        """The client's words, if they come in time."""
        index, wait_s = hearing.utterance.index, self._plan.text_wait_s
        first_s = min(wait_s, self._plan.early_s)
        words = await self._texts.wait(index, first_s)
        if words is None and first_s < wait_s:
            await self._meanwhile(hearing)
            words = await self._texts.wait(index, wait_s - first_s)
        return words
