"""Turns of a dialogue by our way, through the Predictor as the service runs it where the words are
there with the sound: `sense` and `read` beside one another, then the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from emotrace_bench.timed import Stages, Timed, Workers
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.predictor import DialogueState, Predictor, Sensed
from emotrace_models.types import Modality, Utterance, frozen_mapping


class OurWay:
    """A dialogue of its own. Sound and words are on workers of their own where there are enough."""

    def __init__(self, predictor: Predictor, workers: Workers) -> None:
        self._predictor = predictor
        self._workers = workers
        self._state = predictor.start()

    def turn(self, utterance: Utterance) -> Timed:
        predictor, workers = self._predictor, self._workers
        prepared = workers.run(lambda: self._prepare(utterance.speaker))
        began = perf_counter()
        items = [(self._state, utterance)]
        hearing = workers.start(lambda: _timed(predictor.sense, items))
        reading = workers.start(lambda: _timed(predictor.read, items))
        (heard, audio), (read, text) = hearing.result(), reading.result()
        sensed = [frozen_mapping({**heard, **read})]
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
                audio=audio - front,
                text=text,
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

    def _front(self, utterance: Utterance) -> float:
        """The sound's front end once more by itself, after the turn: milliseconds."""
        began = perf_counter()
        for encoder in self._predictor.bundle.encoders:
            if isinstance(encoder, NetworkEncoder) and encoder.modality is Modality.ACOUSTIC:
                encoder.front(utterance)
        return 1e3 * (perf_counter() - began)


Items = Sequence[tuple[DialogueState, Utterance]]


def _timed(encode: Callable[[Items], list[Sensed]], items: Items) -> tuple[Sensed, float]:
    """What was made of the one item, and the milliseconds that it took."""
    began = perf_counter()
    (sensed,) = encode(items)
    return sensed, 1e3 * (perf_counter() - began)
