"""The Dialogical Emotion Decoder: labels of a whole dialogue, turn by turn."""

from emotrace_models.decoding.beam import Beam, Hypothesis, Revision, Settled, revisions
from emotrace_models.decoding.decoder import Decision, DecoderConfig, EmotionDecoder
from emotrace_models.decoding.offline import (
    Decoded,
    decode_dialogue,
    log_softmax,
    path_steps,
)
from emotrace_models.decoding.transition import Step, Transition, estimate_p0

__all__ = [
    "Beam",
    "Decision",
    "Decoded",
    "DecoderConfig",
    "EmotionDecoder",
    "Hypothesis",
    "Revision",
    "Settled",
    "Step",
    "Transition",
    "decode_dialogue",
    "estimate_p0",
    "log_softmax",
    "path_steps",
    "revisions",
]
