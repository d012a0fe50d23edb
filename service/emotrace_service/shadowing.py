"""The shadow: a second bundle that understands the same dialogue, unseen, to be compared.

It has its own state of the dialogue and works when nothing else is to be done. Clients hear nothing
of it; metrics say how often its label is another, and how far its probabilities lie apart. Where it
cannot follow (the server is busy, it is too slow, it fails) it gives the session up: from then on
it would know another dialogue, and what it said could not be compared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from emotrace_models.bundle import Bundle
from emotrace_models.predictor import Outcome
from emotrace_models.types import Utterance
from emotrace_service.errors import EngineError
from emotrace_service.inference import InferenceBackend
from emotrace_service.metrics import Metrics

MOST_WAITING = 4  # utterances
# What is begun is finished, even where the session is over meanwhile: short ones count too.
UNDER_WAY: set[asyncio.Task[None]] = set()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a bundle said of an utterance when it was over."""

    label: str
    posterior: Mapping[str, float]


def estimate_of(outcome: Outcome, bundle: Bundle) -> Estimate:
    """The decoder's label, and the probabilities before it."""
    names = bundle.labels.names
    return Estimate(
        names[outcome.decision.label],
        dict(zip(names, map(float, outcome.prediction.posterior), strict=True)),
    )


def distance(one: Estimate, other: Estimate) -> float:
    """Of the probabilities: half the sum of what they differ by, 0 to 1 (total variation)."""
    return sum(abs(share - other.posterior[name]) for name, share in one.posterior.items()) / 2


class Shadow:
    """Of one session. bundle: has the session's classes. busy: whether there is no time for it."""

    def __init__(
        self,
        bundle: Bundle,
        backend: InferenceBackend,
        metrics: Metrics,
        busy: Callable[[], bool],
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self._metrics = metrics
        self._busy = busy
        self._dialogue = backend.start(bundle.key)
        self._waiting: deque[tuple[Utterance, Estimate]] = deque()
        self._following: asyncio.Task[None] | None = None
        self._lost = False

    def follow(self, utterance: Utterance, estimate: Estimate) -> None:
        """The utterance is over, and this is what the client was told of it."""
        if self._lost:
            return
        if self._busy() or len(self._waiting) >= MOST_WAITING:
            self._give_up("dropped")
            return
        self._waiting.append((utterance, estimate))
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
            UNDER_WAY.add(self._following)
            self._following.add_done_callback(UNDER_WAY.discard)

    async def _follow(self) -> None:
        while self._waiting:
            utterance, estimate = self._waiting[0]
            try:
                predicted = await self._backend.shadow(self._dialogue, utterance)
            except EngineError:
                self._give_up("failed")
                return
            self._dialogue = predicted.state
            own = estimate_of(predicted.outcome, self._bundle)
            self._count("same" if own.label == estimate.label else "other")
            self._metrics.shadow_distance.observe(distance(own, estimate))
            self._waiting.popleft()

    def _give_up(self, result: str) -> None:
        self._lost = True
        self._waiting.clear()
        self._count(result)

    def _count(self, result: str) -> None:
        self._metrics.shadow.labels(result).inc()
