"""Samples as a person has them to bytes as the wire wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotrace_protocol.messages import AudioEncoding, AudioFormat

Samples = bytes | bytearray | memoryview | NDArray[Any]


def wire_bytes(samples: Samples, audio: AudioFormat) -> bytes | memoryview:
    """The bytes of one binary message.

    samples: bytes in the declared format already (any cut), or an array [sample] for one channel,
        [sample, channel] for more; int16 at full scale, or floats in -1 to 1.

    Floats become s16le by rounding and clipping. Raises ValueError where the array does not fit
    the declared channels or encoding, or holds NaN or infinity; TypeError for other dtypes.
    """
    if not isinstance(samples, np.ndarray):
        return memoryview(samples)
    channels = 1 if samples.ndim == 1 else samples.shape[-1]
    if samples.ndim not in (1, 2) or channels != audio.channels:
        raise ValueError(
            f"an array of shape {samples.shape} does not fit {audio.channels} channel(s): "
            "give [sample] for one, [sample, channel] for more"
        )
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.dtype == np.int16:
        if audio.encoding is AudioEncoding.S16LE:
            return samples.astype("<i2", copy=False).tobytes()
        samples = samples.astype(np.float32) / 32_768
    if samples.dtype not in (np.float32, np.float64):
        raise TypeError(f"samples are int16 or floats in -1 to 1, and not {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("the samples hold NaN or infinity; nothing was sent")
    if audio.encoding is AudioEncoding.F32LE:
        return samples.astype("<f4", copy=False).tobytes()
    if audio.encoding is AudioEncoding.S16LE:
        scaled = np.round(samples.astype(np.float64) * 32_768)
        return np.clip(scaled, -32_768, 32_767).astype("<i2").tobytes()
    raise ValueError(f"for {audio.encoding.value} give bytes that are encoded already")
