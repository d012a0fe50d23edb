"""Encoders: utterance to vector, one file a family."""

from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.compact_lexical import CompactLexical, CompactLexicalConfig

__all__ = [
    "CompactAcoustic",
    "CompactAcousticConfig",
    "CompactLexical",
    "CompactLexicalConfig",
    "Encoder",
    "SpeakerState",
]
