"""Turns of a dialogue by the authors' way: all twelve stacks anew at every turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from emotrace_bench.papers_network import LaionFront, PapersNetwork, padded_tokens
from emotrace_bench.timed import Stages, Timed
from emotrace_models.types import Utterance

OFFSETS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A turn as later ones need it."""

    speaker: str
    audio: Tensor
    text: Tensor


class PapersWay:
    """tokens: to which every text is padded; 0, not at all. What is said must have words."""

    def __init__(self, network: PapersNetwork, front: LaionFront, tokens: int) -> None:
        self._network = network
        self._front = front
        self._tokens = tokens
        self._dialogue: list[Spoken] = []

    def turn(self, utterance: Utterance) -> Timed:
        assert utterance.samples is not None
        assert utterance.transcript is not None
        network = self._network
        times = [perf_counter()]
        mel = self._front(utterance.samples)
        times.append(perf_counter())
        audio = network.hear(mel)
        times.append(perf_counter())
        ids = network.model.text.tokenizer.encode(utterance.transcript.text).ids
        text = network.read(*padded_tokens(ids, self._tokens))
        times.append(perf_counter())
        self._dialogue.append(Spoken(utterance.speaker, audio, text))
        encoded = network.encode(slots(self._dialogue))
        logits = network.classify(encoded, audio).numpy()
        posterior = softmax(logits)
        times.append(perf_counter())
        front, hearing, reading, stacks = (1e3 * np.diff(times)).tolist()
        return Timed(
            logits,
            posterior,
            Stages(front, hearing, reading, stacks, decoder=0.0, prepared=0.0),
            critical=1e3 * (times[-1] - times[0]),
        )


def slots(dialogue: Sequence[Spoken]) -> list[Tensor]:
    """The twelve vectors of the newest turn, by walking back through all turns (models.md 2.2)."""
    found: list[Tensor] = []
    for offset in range(OFFSETS):
        own = len(dialogue) - 1 - offset
        other = own - 1
        while other >= 0 and own >= 0 and dialogue[other].speaker == dialogue[own].speaker:
            other -= 1
        for place in (own, other):
            nothing = torch.zeros_like(dialogue[-1].audio)
            there = dialogue[place] if place >= 0 else Spoken("", nothing, nothing)
            found += [there.audio, there.text]
    return found


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(weights / weights.sum())
