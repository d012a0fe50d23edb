"""Bytes of one audio encoding -> float32 samples in [-1, 1]. Pure.

Mu-law and A-law follow ITU-T G.711; the tables are computed here because Python's audioop is gone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from emotrace_models.types import FloatArray
from emotrace_protocol.messages import AudioEncoding

# Smaller samples are silence, and arithmetic on what they decay to (denormals) is slow.
SMALLEST = np.float32(1e-20)

SAMPLE_BYTES: dict[AudioEncoding, int] = {
    AudioEncoding.S16LE: 2,
    AudioEncoding.F32LE: 4,
    AudioEncoding.MULAW: 1,
    AudioEncoding.ALAW: 1,
}


def mulaw_table() -> NDArray[np.int16]:
    """The 256 linear values of G.711 mu-law, 14 bits scaled to 16, at most 32,124 in size."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    exponent, mantissa = (code >> 4) & 0x07, code & 0x0F
    magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def alaw_table() -> NDArray[np.int16]:
    """The 256 linear values of G.711 A-law, 13 bits scaled to 16, at most 32,256 in size."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code >> 4) & 0x07, code & 0x0F
    magnitude = np.where(
        exponent == 0,
        (mantissa << 4) + 8,
        ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0),
    )
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_INT16_SCALE = np.float32(1 / 32768)
_MULAW = mulaw_table().astype(np.float32) * _INT16_SCALE
_ALAW = alaw_table().astype(np.float32) * _INT16_SCALE


def _s16le(data: bytes) -> FloatArray:
    return np.frombuffer(data, dtype="<i2").astype(np.float32) * _INT16_SCALE


def _f32le(data: bytes) -> FloatArray:
    samples = np.frombuffer(data, dtype="<f4").astype(np.float32)  # a writable copy
    if not np.isfinite(samples).all():
        raise ValueError("the audio holds samples that are not finite numbers")
    np.clip(samples, -1.0, 1.0, out=samples)
    samples[np.abs(samples) < SMALLEST] = 0.0
    return samples


def _mulaw(data: bytes) -> FloatArray:
    return _MULAW[np.frombuffer(data, dtype=np.uint8)]


def _alaw(data: bytes) -> FloatArray:
    return _ALAW[np.frombuffer(data, dtype=np.uint8)]


_DECODERS: dict[AudioEncoding, Callable[[bytes], FloatArray]] = {
    AudioEncoding.S16LE: _s16le,
    AudioEncoding.F32LE: _f32le,
    AudioEncoding.MULAW: _mulaw,
    AudioEncoding.ALAW: _alaw,
}


def decode_samples(encoding: AudioEncoding, data: bytes) -> FloatArray:
    """[sample] float32 in [-1, 1] of `data`, whose length is a whole number of samples.

    Float samples are clamped to [-1, 1], and those under 1e-20 become 0.
    Raises ValueError if a float sample is NaN or infinite.
    """
    return _DECODERS[encoding](data)
