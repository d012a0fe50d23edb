"""Encoders: utterance to vector, one file a family."""

from emotrace_models.encoders.base import Encoder, SpeakerState
from emotrace_models.encoders.clap_audio import ClapAudio, ClapAudioConfig
from emotrace_models.encoders.clap_text import ClapText, ClapTextConfig
from emotrace_models.encoders.compact_acoustic import CompactAcoustic, CompactAcousticConfig
from emotrace_models.encoders.compact_lexical import CompactLexical, CompactLexicalConfig
from emotrace_models.encoders.hubert import Hubert, HubertConfig
from emotrace_models.encoders.mel_frames import MelFrames, MelFramesConfig
from emotrace_models.encoders.mel_image import MelImage, MelImageConfig
from emotrace_models.encoders.mel_segment import MelSegment, MelSegmentConfig
from emotrace_models.encoders.resnet_frames import ResNetFrames, ResNetFramesConfig
from emotrace_models.encoders.roberta import Roberta, RobertaConfig
from emotrace_models.encoders.tera import Tera, TeraConfig
from emotrace_models.encoders.words import Words, WordsConfig

__all__ = [
    "ClapAudio",
    "ClapAudioConfig",
    "ClapText",
    "ClapTextConfig",
    "CompactAcoustic",
    "CompactAcousticConfig",
    "CompactLexical",
    "CompactLexicalConfig",
    "Encoder",
    "Hubert",
    "HubertConfig",
    "MelFrames",
    "MelFramesConfig",
    "MelImage",
    "MelImageConfig",
    "MelSegment",
    "MelSegmentConfig",
    "ResNetFrames",
    "ResNetFramesConfig",
    "Roberta",
    "RobertaConfig",
    "SpeakerState",
    "Tera",
    "TeraConfig",
    "Words",
    "WordsConfig",
]
