"""Bytes to samples: against libsndfile for G.711, and by the law for the rest."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from emotrace_protocol.messages import AudioEncoding
from emotrace_service.pcm import SAMPLE_BYTES, alaw_table, decode_samples, mulaw_table

EVERY_BYTE = bytes(range(256))


@pytest.mark.parametrize(
    ("encoding", "subtype"), [(AudioEncoding.MULAW, "ULAW"), (AudioEncoding.ALAW, "ALAW")]
)
def test_companded_samples_are_those_of_libsndfile(encoding: AudioEncoding, subtype: str) -> None:
    expected, _ = soundfile.read(
        io.BytesIO(EVERY_BYTE),
        format="RAW",
        subtype=subtype,
        samplerate=8_000,
        channels=1,
        dtype="float32",
    )
    assert np.array_equal(decode_samples(encoding, EVERY_BYTE), expected)


def test_tables_have_the_extremes_of_the_standard() -> None:
    assert (mulaw_table().min(), mulaw_table().max()) == (-32_124, 32_124)
    assert (alaw_table().min(), alaw_table().max()) == (-32_256, 32_256)


@given(st.lists(st.integers(-32_768, 32_767)))
def test_s16le_is_exact(samples: list[int]) -> None:
    decoded = decode_samples(AudioEncoding.S16LE, np.array(samples, "<i2").tobytes())
    assert decoded.dtype == np.float32
    assert (decoded * 32_768).tolist() == samples


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_f32le_is_clamped_and_free_of_denormals(samples: list[float]) -> None:
    decoded = decode_samples(AudioEncoding.F32LE, np.array(samples, "<f4").tobytes())
    assert np.all(np.abs(decoded) <= 1)
    assert np.all((decoded == 0) | (np.abs(decoded) >= 1e-20))
    ordinary = np.array([1e-20 <= abs(sample) <= 1 for sample in samples], bool)
    assert np.array_equal(decoded[ordinary], np.array(samples, np.float32)[ordinary])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_f32le_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        decode_samples(AudioEncoding.F32LE, np.array([0.0, bad], "<f4").tobytes())


@pytest.mark.parametrize("encoding", list(AudioEncoding))
def test_nothing_is_nothing(encoding: AudioEncoding) -> None:
    assert decode_samples(encoding, b"").shape == (0,)
    assert decode_samples(encoding, bytes(SAMPLE_BYTES[encoding] * 3)).shape == (3,)
