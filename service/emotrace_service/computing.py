"""Computing: a batch of one kind of work, on the thread that calls; with times, and errors told
without what was said.

The engine's threads and the replicas of a cluster both compute by these functions, so a result does
not depend on where it was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from emotrace_models.predictor import DialogueState, NothingToHear, Predictor, Sensed
from emotrace_models.speech_gate import appraise
from emotrace_models.types import Utterance, frozen_mapping
from emotrace_service.errors import EngineError, UtteranceIncomplete
from emotrace_service.inference import Heard, Predicted, StageTimes

NOTHING: Sensed = frozen_mapping({})

Predictors = Mapping[str, Predictor]  # by the key of their bundle


class Models(Protocol):
    """Where the work of one compute thread is done."""

    @property
    def used_s(self) -> float:
        """Processor seconds of processes other than this one."""

    def compute(
        self, work: str, bundle: str, items: Sequence[tuple[Any, ...]], arrivals: Sequence[float]
    ) -> list[Any]:
        """As the function `compute`, of the models that these are."""

    def ready(self) -> None:
        """Returns once they are loaded. Raises EngineError."""

    def kill(self) -> None:
        """Whatever it is doing, nobody waits for it."""

    def close(self) -> None: ...


class OwnModels:
    """Models in this process."""

    used_s = 0.0

    def __init__(self, predictors: Predictors) -> None:
        self._predictors = predictors

    def compute(
        self, work: str, bundle: str, items: Sequence[tuple[Any, ...]], arrivals: Sequence[float]
    ) -> list[Any]:
        return compute(self._predictors, work, bundle, items, arrivals)

    def ready(self) -> None: ...

    def kill(self) -> None:
        """A thread cannot be ended."""

    def close(self) -> None: ...


def compute(
    predictors: Predictors,
    work: str,
    bundle: str,
    items: Sequence[tuple[Any, ...]],
    arrivals: Sequence[float],
) -> list[Any]:
    """One kind of work, by the name of the backend's coroutine, on the arguments of several calls.

    bundle: key of the bundle that they belong to. arrivals: when each came, in seconds of
    time.monotonic. Raises whatever a model raises.
    """
    if work == "appraise":
        return [appraise(utterance) for (utterance,) in items]
    predictor = predictors[bundle]
    if work == "prepare":
        return list(predictor.prepare([(state, speaker) for state, speaker in items]))
    if work in ("sense", "read"):
        encode = predictor.sense if work == "sense" else predictor.read
        return _encoded(encode, [(state, utterance) for state, utterance in items], arrivals)
    if work in ("predict", "shadow"):
        return predict(
            predictor,
            [(state, utterance, sensed) for state, utterance, sensed in items],
            arrivals,
        )
    raise ValueError(f"there is no work called {work!r}")


def begin_thread(torch_threads: int = 1) -> None:
    """The calling thread is going to compute."""
    torch.set_num_threads(torch_threads)
    torch.set_flush_denormal(True)


def _encoded(
    encode: Callable[[Sequence[tuple[DialogueState, Utterance]]], list[Sensed]],
    items: Sequence[tuple[DialogueState, Utterance]],
    arrivals: Sequence[float],
) -> list[Heard]:
    begun = time.monotonic()
    sensed = encode(items)
    encoding = time.monotonic() - begun
    return [
        Heard(one, StageTimes(queue=begun - arrival, encoding=encoding))
        for arrival, one in zip(arrivals, sensed, strict=True)
    ]


def predict(
    predictor: Predictor,
    items: Sequence[tuple[DialogueState, Utterance, Sensed | None]],
    arrivals: Sequence[float],
) -> list[Predicted]:
    begun = time.monotonic()
    encoded = predictor.encode(
        [(state, utterance) for state, utterance, _ in items],
        [sensed or NOTHING for _, _, sensed in items],
    )
    after_encoding = time.monotonic()
    fused = predictor.fuse(encoded)
    after_fusion = time.monotonic()
    decoded = predictor.decode(fused)
    after_decoding = time.monotonic()
    return [
        Predicted(
            state,
            outcome,
            StageTimes(
                queue=begun - arrival,
                encoding=after_encoding - begun,
                fusion=after_fusion - after_encoding,
                decoding=after_decoding - after_fusion,
            ),
        )
        for arrival, (state, outcome) in zip(arrivals, decoded, strict=True)
    ]


def failure(cause: Exception) -> EngineError:
    """The model's error, told without its text, which may quote what somebody said."""
    if isinstance(cause, EngineError):
        return cause  # as a compute process told it
    if isinstance(cause, NothingToHear):
        return UtteranceIncomplete(str(cause))
    error = EngineError(f"the model failed with {type(cause).__name__}")
    error.__cause__ = cause
    return error
