"""The client's words for utterances: accepted from an utterance's announcement to its estimate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from emotrace_models.types import Transcript


class Offered(Enum):
    """What became of a client's words."""

    TAKEN = auto()
    LATE = auto()  # that utterance has its estimate already
    UNKNOWN = auto()  # no such utterance was announced


@dataclass(frozen=True, slots=True)
class TextsState:
    """announced: utterances so far. open: the words of those that have no estimate yet; None: they
    have not come."""

    announced: int = 0
    open: Mapping[int, Transcript | None] = field(default_factory=dict)


class ClientTexts:
    """Holds words for open utterances only, so it never grows.

    ahead: words that are there before the utterances are (a file's). state: to go on from.
    """

    def __init__(
        self, ahead: Mapping[int, Transcript] | None = None, state: TextsState | None = None
    ) -> None:
        self._ahead = dict(ahead or {})
        self._announced = 0
        self._open: dict[int, asyncio.Future[Transcript]] = {}
        self._closed: dict[int, Transcript | None] = {}
        for index, words in (state.open if state else {}).items():
            self.announce(index)
            if words is not None:
                self.offer(index, words)
        self._announced = state.announced if state else 0

    @property
    def state(self) -> TextsState:
        """A value that a new one can go on from."""
        words = {index: self.take(index) for index in self._open}
        return TextsState(self._announced, self._closed | words)

    def announce(self, index: int) -> None:
        """Utterance `index` may be given words from now on."""
        self._announced = max(self._announced, index + 1)
        words: asyncio.Future[Transcript] = asyncio.get_running_loop().create_future()
        if index in self._ahead:
            words.set_result(self._ahead.pop(index))
        self._open[index] = words

    def offer(self, index: int, transcript: Transcript) -> Offered:
        """Words for an utterance; if it has some, the first ones stay."""
        words = self._open.get(index)
        if words is None:
            return Offered.LATE if index < self._announced else Offered.UNKNOWN
        if not words.done():
            words.set_result(transcript)
        return Offered.TAKEN

    def take(self, index: int) -> Transcript | None:
        """The words that are there now."""
        words = self._open.get(index)
        return words.result() if words is not None and words.done() else None

    async def wait(self, index: int, seconds: float) -> Transcript | None:
        """The words, if they come in time."""
        if index in self._open:
            await asyncio.wait({self._open[index]}, timeout=seconds)
        return self.take(index)

    def close(self, index: int) -> None:
        """Utterance `index` is being estimated: words that come now are late."""
        self._closed[index] = self.take(index)
        self._open.pop(index, None)

    def forget(self, index: int) -> None:
        """Utterance `index` has its estimate, or will have none."""
        self._open.pop(index, None)
        self._closed.pop(index, None)
