"""Replicas: the models on a node of a Ray cluster, as Ray Serve runs them.

A replica computes one batch at a time on a thread of its own, so that its event loop goes on taking
messages in. Messages and answers are packed values (packing.py); an answer is a result or an
EngineError, so nothing of what was said gets into an exception that Ray might log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ray import serve

from emotrace_models.predictor import DialogueState
from emotrace_models.weights import WeightSet
from emotrace_service import computing
from emotrace_service.errors import StartRefused, place
from emotrace_service.loading import (
    Origin,
    load_again,
    load_predictors,
    open_transcriber,
    transcribed_together,
)
from emotrace_service.packing import pack, parts, unpack
from emotrace_service.settings import Settings

Requests = Sequence[tuple[Any, ...]]
Compute = Callable[[Requests], Sequence[Any]]

log = logging.getLogger("ray.serve")


class Replica:
    """What both kinds of replicas have: the thread, and what is done about a poison item."""

    def __init__(self, settings: Settings) -> None:
        self._hang_s = settings.compute_timeout_ms / 1_000
        self._busy_since = float("inf")
        self._thread = ThreadPoolExecutor(
            1, "compute", computing.begin_thread, (max(1, int(settings.ray_cpus_a_replica)),)
        )

    def check_health(self) -> None:
        """Ray asks now and then, and replaces a replica in which this raises."""
        if time.monotonic() - self._busy_since > self._hang_s:
            raise RuntimeError("the model hung")

    async def _together(self, messages: Sequence[bytes], compute: Compute) -> list[bytes]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._answers, messages, compute)

    def _answers(self, messages: Sequence[bytes], compute: Compute) -> list[bytes]:
        self._busy_since = time.monotonic()
        try:
            requests = [unpack(message) for message in messages]
            results = alone_if_need_be(requests, compute)
            return [
                pack(result, parts(request))
                for request, result in zip(requests, results, strict=True)
            ]
        finally:
            self._busy_since = float("inf")


def alone_if_need_be(requests: Requests, compute: Compute) -> list[Any]:
    """Results, or the EngineErrors of those that fail also when they are computed alone."""
    try:
        return list(compute(requests))
    except Exception as error:
        if len(requests) > 1:
            return [result for one in requests for result in alone_if_need_be([one], compute)]
        log.warning("the model failed with %s at %s", type(error).__name__, place(error))
        told = computing.failure(error)
        told.__cause__ = None  # its text may quote what somebody said, and it stays here
        return [told]


class ModelReplica(Replica):
    """The bundles that the server has. Raises StartRefused where this node has not the same."""

    def __init__(self, settings: Settings, origins: Sequence[Origin]) -> None:
        super().__init__(settings)
        try:
            bundles = load_again(origins, settings)
        except StartRefused as refused:
            raise StartRefused(
                f"A node of the cluster has other bundles than the server. {refused} Copy the "
                "server's to every node, to the same place."
            ) from None
        self._predictors = load_predictors(bundles, settings.device)
        for batched in (self._sense, self._predict):
            batched.set_max_batch_size(settings.max_batch)
            batched.set_batch_wait_timeout_s(settings.batch_wait_ms / 1_000)

    async def appraise(self, message: bytes) -> bytes:
        return await self._alone("appraise", message)

    async def sense(self, message: bytes) -> bytes:
        answer: bytes = await self._sense(message)
        return answer

    async def read(self, message: bytes) -> bytes:
        return await self._alone("read", message)

    async def predict(self, message: bytes) -> bytes:
        answer: bytes = await self._predict(message)
        return answer

    async def prepare(self, message: bytes) -> bytes:
        return await self._alone("prepare", message)

    @serve.batch
    async def _sense(self, messages: list[bytes]) -> list[bytes]:
        return await self._together(messages, partial(self._by_bundle, "sense"))

    @serve.batch
    async def _predict(self, messages: list[bytes]) -> list[bytes]:
        return await self._together(messages, partial(self._by_bundle, "predict"))

    async def _alone(self, work: str, message: bytes) -> bytes:
        (answer,) = await self._together([message], partial(self._by_bundle, work))
        return answer

    def _by_bundle(self, work: str, requests: Requests) -> list[Any]:
        """Items of several bundles may have come together; each bundle computes its own."""
        groups: dict[str, list[int]] = {}
        for number, (of, *_) in enumerate(requests):
            bundle = of.bundle if isinstance(of, DialogueState) else ""  # any may appraise
            groups.setdefault(bundle, []).append(number)
        now = time.monotonic()
        results: dict[int, Any] = {}
        for bundle, numbers in groups.items():
            items = [requests[number] for number in numbers]
            made = computing.compute(self._predictors, work, bundle, items, [now] * len(items))
            results.update(zip(numbers, made, strict=True))
        return [results[number] for number in range(len(requests))]


class WordsReplica(Replica):
    """The transcriber of the weights that the server chose. Raises StartRefused where this node
    has not the same."""

    def __init__(self, settings: Settings, weights: WeightSet) -> None:
        super().__init__(settings)
        self._transcriber = open_transcriber(weights, settings)
        self._transcribe.set_max_batch_size(transcribed_together(settings))
        self._transcribe.set_batch_wait_timeout_s(0.0)

    def languages(self) -> frozenset[str]:
        """Those that it knows, as `knows` wants them."""
        return self._transcriber.languages

    async def transcribe(self, message: bytes) -> bytes:
        answer: bytes = await self._transcribe(message)
        return answer

    @serve.batch
    async def _transcribe(self, messages: list[bytes]) -> list[bytes]:
        return await self._together(
            messages,
            lambda requests: self._transcriber.transcribe(
                [(utterance, language) for utterance, language in requests]
            ),
        )
