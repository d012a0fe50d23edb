"""How the parts of a session speak to its client: events, warnings, errors that do not end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol, TypeAlias

from emotrace_protocol.errors import ErrorCode, ProtocolError, WarningCode
from emotrace_protocol.events import Event, Failed, Warned


class Emit(Protocol):
    async def __call__(self, event_type: type[Event], /, **fields: Any) -> None:
        """Number an event and send it on its way."""


Once: TypeAlias = tuple[WarningCode, str | None]


class Notices:
    """Of one session. What is emitted within a `step` is told when it is over, together with what
    the step changed: a session that is taken up again has seen both, or neither.

    warned: what was said once already.
    """

    def __init__(
        self,
        emit: Emit,
        step: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        warned: Iterable[Once] = (),
    ) -> None:
        self.emit = emit
        self.step = step
        self._warned = set(warned)

    @property
    def warned(self) -> frozenset[Once]:
        return frozenset(self._warned)

    async def warn(self, code: WarningCode, message: str, param: str | None = None) -> None:
        await self.emit(Warned, code=code, message=message, param=param)

    async def warn_once(self, code: WarningCode, message: str, param: str | None = None) -> None:
        """A warning that says all there is to say the first time."""
        if (code, param) not in self._warned:
            self._warned.add((code, param))
            await self.warn(code, message, param)

    async def fail(
        self, code: ErrorCode, cause: str, *, param: str | None = None, utterance: int | None = None
    ) -> None:
        """An error after which the session goes on."""
        error = ProtocolError(code, cause, param, utterance=utterance)
        await self.emit(Failed, **error.fields())


def sentence(error: Exception) -> str:
    """An error's own words as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


async def warn_wordless(notices: Notices) -> None:
    """The client sends words to a session that uses none."""
    await notices.warn_once(
        WarningCode.MODALITY_MISSING,
        "This session uses no words; they are ignored.",
        "utterance.text",
    )
