"""The single door to a bundle: utterances of dialogues in, estimates with their reasons out.

Live streams, files and training's evaluation all come through here, so they give the same numbers.
A dialogue is a value: `predict` takes it and returns the next one. Dropping what it returns makes
an interim estimate; keeping it makes a final one. A batch may hold any number of dialogues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from emotrace_models.attribution import attributed
from emotrace_models.bundle import Bundle
from emotrace_models.context import Window
from emotrace_models.decoding import Beam, Decision, EmotionDecoder, Revision, revisions
from emotrace_models.encoders import Encoder, SpeakerState
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.fusion import FusionModel, FusionOutput, Inputs, Known, Sequences
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

# By reader and utterance: an utterance's features are one value for as long as it is remembered.
SlotFeatures = Mapping[tuple[int, UtteranceFeatures], FloatArray]


class NothingToHear(ValueError):
    """An utterance without what the bundle needs: there is nothing to estimate from."""


@dataclass(frozen=True, slots=True, eq=False)
class DialogueState:
    """All that is kept of a dialogue between turns; its size does not grow with the dialogue.

    bundle: the key of the bundle that understands it (`Bundle.key`). speakers: what each encoder
    keeps of each speaker. read: slot features of the window's utterances, by reader and utterance,
    which need not be computed again (models.md 2.10).
    """

    bundle: str
    speakers: Mapping[tuple[str, str], SpeakerState]  # by stream and speaker
    window: Window
    beam: Beam
    read: SlotFeatures = field(default_factory=lambda: frozen_mapping({}))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """turn: the utterance's number in the decoder; `revisions` name earlier turns by it."""

    turn: int
    prediction: Prediction
    decision: Decision
    revisions: tuple[Revision, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Felt:
    """What one encoder made of an utterance, and the speaker's state before and after it."""

    before: SpeakerState
    values: FloatArray | None
    after: SpeakerState


# By stream. What is heard and seen of an utterance is known before its words are.
Sensed = Mapping[str, Felt]


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
    """A loaded bundle, ready to predict. Safe to call from several threads at once.

    device: where its large networks compute, and go for good. The compact encoders stay on the
    processor: a device would spend longer on being asked.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        self.bundle = bundle
        self._device = torch.device(device)
        for part in (bundle.fusion, *bundle.encoders):
            if isinstance(part, FusionModel | NetworkEncoder):
                part.to(self._device)
        self.labels = bundle.labels.names
        self.modalities = bundle.fusion.modalities
        self._encoders = {encoder.stream: encoder for encoder in bundle.encoders}
        self._method: Literal["additive", "shapley"] = (
            "additive" if bundle.fusion.additive else "shapley"
        )
        self._decoder = EmotionDecoder(len(self.labels), bundle.decoder)

    def start(self) -> DialogueState:
        """A dialogue in which nobody has spoken."""
        window = self.bundle.fusion.start_window()
        return DialogueState(self.bundle.key, frozen_mapping({}), window, self._decoder.start())

    def predict(
        self,
        items: Sequence[tuple[DialogueState, Utterance]],
        sensed: Sequence[Sensed] | None = None,
    ) -> list[tuple[DialogueState, Outcome]]:
        """Each dialogue with its next utterance -> the dialogue after it, and the outcome.

        sensed: see `encode`. Raises NothingToHear where an utterance lacks what the bundle needs.
        """
        return self.decode(self.fuse(self.encode(items, sensed)))

    def sense(self, items: Sequence[tuple[DialogueState, Utterance]]) -> list[Sensed]:
        """What is heard and seen of utterances, whether or not their words are known yet."""
        return self._sensed(items, [one for one in self._encoders.values() if not _reads(one)])

    def read(self, items: Sequence[tuple[DialogueState, Utterance]]) -> list[Sensed]:
        """What the words of utterances say, whether or not they were heard yet."""
        return self._sensed(items, [one for one in self._encoders.values() if _reads(one)])

    def _sensed(
        self, items: Sequence[tuple[DialogueState, Utterance]], encoders: Sequence[Encoder]
    ) -> list[Sensed]:
        found: list[dict[str, Felt]] = [{} for _ in items]
        for encoder in encoders:
            for sensed, felt in zip(found, _felt(encoder, items), strict=True):
                sensed[encoder.stream] = felt
        return [frozen_mapping(sensed) for sensed in found]

    @property
    def prepares(self) -> bool:
        """Whether `prepare` has anything to do: some slots are read as no other slot is."""
        readers = self.bundle.fusion.slot_readers
        return readers is not None and len(set(readers)) > len(self.bundle.fusion.streams)

    def prepare(self, items: Sequence[tuple[DialogueState, str]]) -> list[DialogueState]:
        """Each dialogue with who speaks next -> the same dialogue, the slots of earlier utterances
        read as the next turn will read them (models.md 2.10): less is left to do when it is over.

        It changes no result, only when it is computed.
        """
        if not self.prepares:
            return [state for state, _ in items]
        nobody: Mapping[str, FloatArray] = frozen_mapping({})
        ahead = [
            Encoded(
                replace(state, window=state.window.push(UtteranceFeatures(-1, speaker, nobody))),
                UtteranceFeatures(-1, speaker, nobody),
            )
            for state, speaker in items
        ]
        slots = [self._slots(item.state) for item in ahead]
        with torch.inference_mode():
            output = on_processor(
                attributed(self.bundle.fusion, self._inputs(slots), self._known(ahead, slots))
            )
        return [
            replace(state, read=frozen_mapping({**state.read, **self._read(slots[i], output, i)}))
            for i, (state, _) in enumerate(items)
        ]

    def encode(
        self,
        items: Sequence[tuple[DialogueState, Utterance]],
        sensed: Sequence[Sensed] | None = None,
    ) -> list[Encoded]:
        """First step: the features of every modality that is there.

        sensed: what `sense` and `read` gave for these very utterances; it is used where the
        speaker's state is still the one that it began from, else computed again.
        """
        known = sensed or [frozen_mapping({})] * len(items)
        streams: list[dict[str, FloatArray]] = [{} for _ in items]
        speakers = [dict(state.speakers) for state, _ in items]
        for stream, encoder in self._encoders.items():
            for i, felt in enumerate(_felt(encoder, items, [one.get(stream) for one in known])):
                if felt.values is not None:
                    streams[i][stream] = felt.values
                if felt.after is not None:
                    speakers[i][stream, items[i][1].speaker] = felt.after
        encoded = []
        for (state, utterance), found, heard in zip(items, streams, speakers, strict=True):
            self._check(utterance, found)
            features = UtteranceFeatures(utterance.index, utterance.speaker, frozen_mapping(found))
            after_state = replace(
                state, speakers=frozen_mapping(heard), window=state.window.push(features)
            )
            encoded.append(Encoded(after_state, features))
        return encoded

    def _check(self, utterance: Utterance, found: Mapping[str, FloatArray]) -> None:
        """Raises NothingToHear."""
        if not found:
            raise NothingToHear(
                f"utterance {utterance.index} has none of {', '.join(self.modalities)}"
            )
        for stream, encoder in self._encoders.items():
            if encoder.modality in self.bundle.requires and stream not in found:
                raise NothingToHear(
                    f"utterance {utterance.index} has nothing {encoder.modality}, which the "
                    f"bundle {self.bundle.name!r} needs"
                )

    def fuse(self, encoded: Sequence[Encoded]) -> list[Fused]:
        """Second step: the fusion model over all contexts, its reasons, then calibration."""
        fusion = self.bundle.fusion
        slots = [self._slots(item.state) for item in encoded]
        with torch.inference_mode():
            output = on_processor(
                attributed(fusion, self._inputs(slots), self._known(encoded, slots))
            )
        logits = output.logits.numpy()
        if not np.isfinite(logits).all():
            raise FloatingPointError("the fusion model returned NaN or infinity")
        gates = output.explain["gates"].numpy() if "gates" in output.explain else None
        contributions = output.explain["contributions"].numpy()
        bias = output.explain["bias"].detach().numpy()
        return [
            Fused(
                replace(item.state, read=self._read(slots[i], output, i)),
                item.features.speaker,
                self._prediction(
                    item.features,
                    logits[i],
                    Explanation(
                        slots[i],
                        None if gates is None else gates[i],
                        contributions[i],
                        bias,
                        self._method,
                    ),
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
        there = {self.bundle.fusion.stream_modalities[stream] for stream in features.streams}
        used = tuple(modality for modality in self.modalities if modality in there)
        posterior = self.bundle.calibration.posterior(logits, used)
        confidence = float(posterior.max())
        return Prediction(
            logits=logits,
            posterior=posterior,
            confidence=confidence,
            abstained=confidence < self.bundle.calibration.abstain_below,
            used=used,
            missing=tuple(m for m in self.modalities if m not in there),
            explanation=explanation,
        )

    def _slots(self, state: DialogueState) -> tuple[Slot, ...]:
        return state.window.context().slots(self.bundle.fusion.stream_modalities)

    def _known(self, encoded: Sequence[Encoded], slots: Sequence[Sequence[Slot]]) -> Known | None:
        """What earlier turns have computed of these slots; None where that is nothing."""
        readers = self.bundle.fusion.slot_readers
        kept = [item.state.read for item in encoded]
        if readers is None or not any(kept):
            return None
        width = next(feature.size for read in kept for feature in read.values())
        features = np.zeros((len(encoded), len(readers), width), dtype=np.float32)
        have = np.zeros(features.shape[:2], dtype=np.bool_)
        for i, (read, row) in enumerate(zip(kept, slots, strict=True)):
            for j, (reader, slot) in enumerate(zip(readers, row, strict=True)):
                if slot.features is not None and slot.values is not None:
                    found = read.get((reader, slot.features))
                    if found is not None:
                        features[i, j], have[i, j] = found, True
        return Known(
            torch.from_numpy(features).to(self._device), torch.from_numpy(have).to(self._device)
        )

    def _read(self, slots: Sequence[Slot], output: FusionOutput, row: int) -> SlotFeatures:
        """What this turn's slots leave for the next ones."""
        readers = self.bundle.fusion.slot_readers
        if readers is None:
            return frozen_mapping({})
        features = output.explain["features"][row].numpy()
        return frozen_mapping(
            {
                (reader, slot.features): feature.copy()
                for reader, slot, feature in zip(readers, slots, features, strict=True)
                if slot.features is not None and slot.values is not None
            }
        )

    def _inputs(self, slots: Sequence[Sequence[Slot]]) -> Inputs:
        specs = self.bundle.fusion.streams
        return {
            name: sequences(
                [[slot.values for slot in row[number :: len(specs)]] for row in slots],
                spec.width,
                self._device,
            )
            for number, (name, spec) in enumerate(specs.items())
        }


def _reads(encoder: Encoder) -> bool:
    return encoder.modality is Modality.LEXICAL


def _felt(
    encoder: Encoder,
    items: Sequence[tuple[DialogueState, Utterance]],
    known: Sequence[Felt | None] | None = None,
) -> list[Felt]:
    """What an encoder makes of utterances. known: what it has made of them already."""
    found: list[Felt | None] = list(known or [None] * len(items))
    open_items: list[tuple[int, SpeakerState, Utterance]] = []
    for i, (state, utterance) in enumerate(items):
        before = state.speakers.get((encoder.stream, utterance.speaker))
        earlier = found[i]
        if earlier is None or earlier.before is not before:
            open_items.append((i, before, utterance))
    made = encoder.encode(
        [(encoder.start() if before is None else before, one) for _, before, one in open_items]
    )
    for (i, before, _), (values, after) in zip(open_items, made, strict=True):
        found[i] = Felt(before, values, after)
    return [felt for felt in found if felt is not None]


def on_processor(output: FusionOutput) -> FusionOutput:
    """The output in the processor's memory, wherever it was computed."""
    return FusionOutput(
        output.logits.cpu(), {name: one.cpu() for name, one in output.explain.items()}
    )


def sequences(
    rows: Sequence[Sequence[FloatArray | None]],
    width: int,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - a value
) -> Sequences:
    """Features of contexts, [width] or [step, width] or None where empty, as one padded batch."""
    steps = [[0 if v is None else len(np.atleast_2d(v)) for v in row] for row in rows]
    lengths = np.array(steps, dtype=np.int64)  # [batch, entry]
    values = np.zeros((*lengths.shape, max(1, lengths.max()), width), dtype=np.float32)
    for i, row in enumerate(rows):
        for j, features in enumerate(row):
            if features is not None:
                values[i, j, : lengths[i, j]] = features
    return Sequences(torch.from_numpy(values).to(device), torch.from_numpy(lengths).to(device))
