"""Encoders: utterance to vector, one file a family."""

from emotrace_models.encoders.base import Encoder, SpeakerState

__all__ = ["Encoder", "SpeakerState"]
