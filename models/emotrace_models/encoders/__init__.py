"""Encoders: utterance to vector or sequence, one file a family.

Named here are those of the default bundle. The others are found by the registry, which imports them
when they are asked for (docs/decisions/0009).
"""

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
