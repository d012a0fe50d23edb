"""Samples as people have them become the declared bytes, exactly or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from emotrace_clients.samples import wire_bytes
from emotrace_protocol.messages import AudioFormat

MONO, STEREO = AudioFormat(), AudioFormat(channels=2)
FLOAT = AudioFormat(encoding="f32le")


def test_bytes_go_as_they_are() -> None:
    assert bytes(wire_bytes(b"\x01\x02\x03", MONO)) == b"\x01\x02\x03"
    assert bytes(wire_bytes(bytearray(b"ab"), AudioFormat(encoding="mulaw"))) == b"ab"


def test_int16_is_interleaved_little_endian() -> None:
    samples = np.array([[1, -1], [256, 0]], dtype=np.int16)
    assert wire_bytes(samples, STEREO) == b"\x01\x00\xff\xff\x00\x01\x00\x00"
    assert wire_bytes(samples.astype(">i2")[:, 0].copy(), MONO) == b"\x01\x00\x00\x01"


def test_every_int16_survives_as_a_float() -> None:
    every = np.arange(-32_768, 32_768, dtype=np.int16)
    for dtype in (np.float32, np.float64):
        assert wire_bytes(every.astype(dtype) / 32_768, MONO) == every.tobytes()
    assert wire_bytes(every, FLOAT) == (every / 32_768).astype("<f4").tobytes()


def test_what_is_too_loud_is_clipped() -> None:
    loud = np.array([1.0, 7.5, -1.0, -7.5])
    sent = np.frombuffer(wire_bytes(loud, MONO), "<i2")
    assert sent.tolist() == [32_767, 32_767, -32_768, -32_768]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        wire_bytes(np.array([0.0, bad]), MONO)


@pytest.mark.parametrize(
    ("shape", "audio"), [((4, 2), MONO), ((4,), STEREO), ((4, 3), STEREO), ((1, 4, 2), STEREO)]
)
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...], audio: AudioFormat) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        wire_bytes(np.zeros(shape, dtype=np.int16), audio)


def test_other_dtypes_and_encodings_are_refused() -> None:
    with pytest.raises(TypeError, match="int32"):
        wire_bytes(np.zeros(3, dtype=np.int32), MONO)
    with pytest.raises(ValueError, match="encoded already"):
        wire_bytes(np.zeros(3, dtype=np.float32), AudioFormat(encoding="alaw"))
