"""The single door to a bundle: utterances of dialogues in, estimates with their reasons out.

Live streams, files and training's evaluation all come through here, so they give the same numbers.
A dialogue is a value: `predict` takes it and returns the next one. Dropping what it returns makes
an interim estimate; keeping it makes a final one. A batch may hold any number of dialogues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from emotrace_models.bundle import Bundle
from emotrace_models.context import ContextWindow
from emotrace_models.decoding import Beam, Decision, EmotionDecoder, Revision, revisions
from emotrace_models.encoders import SpeakerState
from emotrace_models.types import (
    Explanation,
    FloatArray,
    Modality,
    Prediction,
    Slot,
    Utterance,
    UtteranceFeatures,
    frozen_mapping,
)


class NothingToHear(ValueError):
    """An utterance that has none of the bundle's modalities: there is nothing to estimate from."""


@dataclass(frozen=True, slots=True, eq=False)
class DialogueState:
    """All that is kept of a dialogue between turns; its size does not grow with the dialogue.

    speakers: what each encoder keeps of each speaker.
    """

    speakers: Mapping[tuple[Modality, str], SpeakerState]
    window: ContextWindow
    beam: Beam


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """turn: the utterance's number in the decoder; `revisions` name earlier turns by it."""

    turn: int
    prediction: Prediction
    decision: Decision
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """An utterance's features, and its dialogue with speaker state and window advanced."""

    state: DialogueState
    features: UtteranceFeatures


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    state: DialogueState
    speaker: str
    prediction: Prediction


class Predictor:
    """A loaded bundle, ready to predict. Safe to call from several threads at once."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.labels = bundle.labels.names
        self.modalities = bundle.fusion.modalities
        self._encoders = {encoder.modality: encoder for encoder in bundle.encoders}
        self._decoder = EmotionDecoder(len(self.labels), bundle.decoder)

    def start(self) -> DialogueState:
        """A dialogue in which nobody has spoken."""
        return DialogueState(frozen_mapping({}), ContextWindow.empty(), self._decoder.start())

    def predict(
        self, items: Sequence[tuple[DialogueState, Utterance]]
    ) -> list[tuple[DialogueState, Outcome]]:
        """Each dialogue with its next utterance -> the dialogue after it, and the outcome.

        Raises NothingToHear where an utterance has none of the bundle's modalities.
        """
        return self.decode(self.fuse(self.encode(items)))

    def encode(self, items: Sequence[tuple[DialogueState, Utterance]]) -> list[Encoded]:
        """First step: vectors of every modality that is there."""
        vectors: list[dict[Modality, FloatArray]] = [{} for _ in items]
        speakers = [dict(state.speakers) for state, _ in items]
        for modality, encoder in self._encoders.items():
            known = [
                (state.speakers.get((modality, utterance.speaker), encoder.start()), utterance)
                for state, utterance in items
            ]
            for i, (vector, after) in enumerate(encoder.encode(known)):
                if vector is not None:
                    vectors[i][modality] = vector
                if after is not None:
                    speakers[i][modality, items[i][1].speaker] = after
        encoded = []
        for (state, utterance), found, heard in zip(items, vectors, speakers, strict=True):
            if not found:
                raise NothingToHear(
                    f"utterance {utterance.index} has none of {', '.join(self.modalities)}"
                )
            features = UtteranceFeatures(utterance.index, utterance.speaker, frozen_mapping(found))
            after_state = replace(
                state, speakers=frozen_mapping(heard), window=state.window.push(features)
            )
            encoded.append(Encoded(after_state, features))
        return encoded

    def fuse(self, encoded: Sequence[Encoded]) -> list[Fused]:
        """Second step: one forward pass of the fusion model over all contexts, then calibration."""
        slots = [item.state.window.context().slots(self.modalities) for item in encoded]
        with torch.inference_mode():
            output = self.bundle.fusion(*_tensors(slots))
        logits = output.logits.numpy()
        if not np.isfinite(logits).all():
            raise FloatingPointError("the fusion model returned NaN or infinity")
        gates = output.explain["gates"].flatten(1).numpy()
        contributions = output.explain["contributions"].numpy()
        bias = output.explain["bias"].detach().numpy()
        return [
            Fused(
                item.state,
                item.features.speaker,
                self._prediction(
                    item.features,
                    logits[i],
                    Explanation(slots[i], gates[i], contributions[i], bias),
                ),
            )
            for i, item in enumerate(encoded)
        ]

    def decode(self, fused: Sequence[Fused]) -> list[tuple[DialogueState, Outcome]]:
        """Last step: the emotion sequence of each dialogue, one turn further."""
        results = []
        for item in fused:
            before = item.state.beam
            scores = np.log(np.maximum(item.prediction.posterior, np.finfo(np.float64).tiny))
            beam = self._decoder.advance(before, item.speaker, scores)
            outcome = Outcome(
                turn=before.turns,
                prediction=item.prediction,
                decision=self._decoder.decide(beam),
                revisions=revisions(before, beam),
            )
            results.append((replace(item.state, beam=beam), outcome))
        return results

    def _prediction(
        self, features: UtteranceFeatures, logits: FloatArray, explanation: Explanation
    ) -> Prediction:
        used = tuple(m for m in self.modalities if m in features.vectors)
        posterior = self.bundle.calibration.posterior(logits, used)
        confidence = float(posterior.max())
        return Prediction(
            logits=logits,
            posterior=posterior,
            confidence=confidence,
            abstained=confidence < self.bundle.calibration.abstain_below,
            used=used,
            missing=tuple(m for m in self.modalities if m not in features.vectors),
            explanation=explanation,
        )


def _tensors(slots: Sequence[Sequence[Slot]]) -> tuple[torch.Tensor, torch.Tensor]:
    """vectors [batch, slot, embedding], zero where empty; valid [batch, slot]."""
    width = next(s.vector.size for row in slots for s in row if s.vector is not None)
    vectors = np.zeros((len(slots), len(slots[0]), width), dtype=np.float32)
    valid = np.zeros(vectors.shape[:2], dtype=np.bool_)
    for i, row in enumerate(slots):
        for j, slot in enumerate(row):
            if slot.vector is not None:
                vectors[i, j] = slot.vector
                valid[i, j] = True
    return torch.from_numpy(vectors), torch.from_numpy(valid)
