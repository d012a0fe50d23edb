"""Turns of a dialogue by our way, through the Predictor as the service runs it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter

from emotrace_bench.timed import Stages, Timed, Workers
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.predictor import Felt, Predictor
from emotrace_models.types import Modality, Utterance, frozen_mapping


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What one encoder made of an utterance, and the milliseconds that it took."""

    felt: Felt
    taken: float


class OurWay:
    """A dialogue of its own. Each encoder runs on a worker of its own where there are enough."""

    def __init__(self, predictor: Predictor, workers: Workers) -> None:
        self._predictor = predictor
        self._workers = workers
        self._state = predictor.start()

    def turn(self, utterance: Utterance) -> Timed:
        predictor, workers = self._predictor, self._workers
        prepared = workers.run(lambda: self._prepare(utterance.speaker))
        began = perf_counter()
        running = {
            encoder.modality: (encoder, workers.start(partial(self._feel, encoder, utterance)))
            for encoder in predictor.bundle.encoders
        }
        felt = {modality: done.result() for modality, (_, done) in running.items()}
        by_stream = {running[modality][0].stream: one.felt for modality, one in felt.items()}
        items = [(self._state, utterance)]
        sensed = [frozen_mapping(by_stream)]
        encoded = workers.run(lambda: predictor.encode(items, sensed))
        fusing = perf_counter()
        fused = workers.run(lambda: predictor.fuse(encoded))
        decoding = perf_counter()
        ((self._state, outcome),) = workers.run(lambda: predictor.decode(fused))
        ended = perf_counter()
        front = workers.run(lambda: self._front(utterance))
        return Timed(
            outcome.prediction.logits,
            outcome.prediction.posterior,
            Stages(
                front=front,
                audio=felt[Modality.ACOUSTIC].taken - front,
                text=felt[Modality.LEXICAL].taken,
                stacks=1e3 * (decoding - fusing),
                decoder=1e3 * (ended - decoding),
                prepared=prepared,
            ),
            critical=1e3 * (ended - began),
        )

    def _prepare(self, speaker: str) -> float:
        """What need not wait for the end of the turn: milliseconds."""
        began = perf_counter()
        (self._state,) = self._predictor.prepare([(self._state, speaker)])
        return 1e3 * (perf_counter() - began)

    def _feel(self, encoder: Encoder, utterance: Utterance) -> Encoded:
        began = perf_counter()
        before = self._state.speakers.get((encoder.stream, utterance.speaker))
        ((values, after),) = encoder.encode(
            [(encoder.start() if before is None else before, utterance)]
        )
        return Encoded(Felt(before, values, after), 1e3 * (perf_counter() - began))

    def _front(self, utterance: Utterance) -> float:
        """The sound's front end once more by itself, after the turn: milliseconds."""
        began = perf_counter()
        for encoder in self._predictor.bundle.encoders:
            if isinstance(encoder, NetworkEncoder) and encoder.modality is Modality.ACOUSTIC:
                encoder.front(utterance)
        return 1e3 * (perf_counter() - began)
