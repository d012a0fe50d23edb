"""What the models found, in the words of the wire. Pure: values in, fields of events out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emotrace_models.abstention import abstains
from emotrace_models.affect import read_affect
from emotrace_models.decoding import Decision, Revision
from emotrace_models.signal_quality import SignalQuality
from emotrace_models.types import SAMPLE_RATE, Explanation, Modality, Prediction, Utterance
from emotrace_protocol import estimates
from emotrace_protocol.errors import DoubtCode


def to_ms(samples: int) -> int:
    return samples * 1_000 // SAMPLE_RATE


def place_fields(utterance: Utterance) -> dict[str, Any]:
    """Which utterance, whose, and where on the session's audio clock."""
    return {
        "utterance": utterance.index,
        "speaker": utterance.speaker,
        "start_ms": to_ms(utterance.start_sample),
        "end_ms": to_ms(utterance.end_sample),
    }


class Reporter:
    """Knows the label set's names, and under which confidence the bundle abstains."""

    def __init__(self, labels: tuple[str, ...], abstain_below: float) -> None:
        self._labels = labels
        self._abstain_below = abstain_below

    def estimate_fields(
        self,
        prediction: Prediction,
        utterance: Utterance,
        quality: SignalQuality | None,
        doubts: Sequence[str],
    ) -> dict[str, Any]:
        """Of an estimate without the decoder, interim or final. doubts: those known before it."""
        doubts = (*doubts, *_unused(utterance, prediction))
        abstained = abstains(prediction.confidence, self._abstain_below, doubts)
        posterior = self._named(prediction.posterior)
        affect = read_affect(posterior)
        return {
            "label": self._labels[int(prediction.posterior.argmax())],
            "posterior": posterior,
            "confidence": prediction.confidence,
            "abstained": abstained,
            "doubts": (*((DoubtCode.LOW_CONFIDENCE,) if abstained else ()), *doubts),
            "quality": None if quality is None else _quality(quality),
            "affect": None
            if affect is None
            else estimates.Affect(valence=affect.valence, arousal=affect.arousal),
            "modalities": tuple(modality.value for modality in prediction.used),
            "missing": tuple(modality.value for modality in prediction.missing),
        }

    def decoder_result(self, decision: Decision) -> estimates.DecoderResult:
        other = decision.runner_up
        return estimates.DecoderResult(
            label=self._labels[decision.label],
            posterior=self._named(decision.posterior),
            emission=decision.emission,
            shift=decision.shift,
            assignment=decision.assignment,
            runner_up=None if other is None else self._labels[other],
            gap=decision.gap,
        )

    def explanation(self, prediction: Prediction) -> estimates.Explanation:
        why: Explanation = prediction.explanation
        contributions = []
        gates = [None] * len(why.slots) if why.gates is None else why.gates.tolist()
        for slot, gate, logits in zip(why.slots, gates, why.contributions, strict=True):
            heard = None if slot.values is None else slot.features
            contributions.append(
                estimates.Contribution(
                    offset=slot.offset,
                    role=slot.role.value,
                    modality=slot.modality.value,
                    stream=None if slot.stream == slot.modality else slot.stream,
                    utterance=None if heard is None else heard.index,
                    speaker=None if heard is None else heard.speaker,
                    gate=gate,
                    logits=self._named(logits),
                )
            )
        return estimates.Explanation(
            method=why.method,
            contributions=tuple(contributions),
            bias=self._named(why.bias),
            logits=self._named(prediction.logits),
        )

    def revision_fields(self, revision: Revision) -> dict[str, Any]:
        return {
            "previous": self._labels[revision.old],
            "label": self._labels[revision.new],
            "posterior": self._named(revision.posterior),
        }

    def _named(self, values: Sequence[Any] | Any) -> dict[str, float]:
        """[class] -> numbers by label."""
        return {label: float(value) for label, value in zip(self._labels, values, strict=True)}


def _unused(utterance: Utterance, prediction: Prediction) -> tuple[DoubtCode, ...]:
    """What there was of an utterance that its encoders could make nothing of."""
    doubts = []
    words = utterance.transcript
    if words is not None and Modality.LEXICAL in prediction.missing:
        said = any(letter.isalpha() for letter in words.text)
        doubts.append(DoubtCode.LANGUAGE if said else DoubtCode.TEXT_UNRELIABLE)
    if utterance.frames and Modality.FACIAL in prediction.missing:
        doubts.append(DoubtCode.FACE_UNUSABLE)
    return tuple(doubts)


def _quality(quality: SignalQuality) -> estimates.Quality:
    return estimates.Quality(
        snr_db=None if quality.snr_db is None else round(quality.snr_db, 1),
        bandwidth_hz=quality.bandwidth_hz,
        clipped=quality.clipped,
        level_db=round(quality.level_db, 1),
    )
