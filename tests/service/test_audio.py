"""The Framer: any cut of the bytes gives the same blocks, and bad bytes are typed errors."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from emotrace_models import voice_activity
from emotrace_models.types import FloatArray
from emotrace_protocol.errors import ErrorCode
from emotrace_protocol.messages import SAMPLE_RATES, AudioEncoding, AudioFormat
from emotrace_service.audio import (
    FRAME_SAMPLES,
    AudioFormatSuspect,
    AudioNonfinite,
    Block,
    Framer,
)
from emotrace_service.pcm import SAMPLE_BYTES

RAW = AudioFormat(encoding=AudioEncoding.S16LE, sample_rate=16_000, channels=1)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def _frame(audio: AudioFormat, messages: list[bytes]) -> tuple[list[Block], int]:
    framer = Framer(audio)
    blocks = [block for message in messages for block in framer.push(message)]
    tail = framer.finish()
    return blocks + tail.blocks, tail.leftover_bytes


def _heard(blocks: list[Block]) -> FloatArray:
    """[channel, sample] of what was heard, without the zeros at the end."""
    return np.concatenate([block.samples[:, : block.length] for block in blocks], axis=1)


def _speechlike(seconds: float, audio: AudioFormat, seed: int) -> bytes:
    """Band-limited noise in the stated encoding; companded bytes are simply random."""
    steps = round(seconds * audio.sample_rate)
    random = np.random.default_rng(seed)
    if SAMPLE_BYTES[audio.encoding] == 1:
        return random.integers(0, 256, steps * audio.channels, np.uint8).tobytes()
    samples = np.clip(random.normal(0, 0.2, (steps, audio.channels)), -1, 1)
    if audio.encoding is AudioEncoding.F32LE:
        return samples.astype("<f4").tobytes()
    return (samples * 32_767).astype("<i2").tobytes()


formats = st.builds(
    AudioFormat,
    encoding=st.sampled_from(AudioEncoding),
    sample_rate=st.sampled_from(SAMPLE_RATES),
    channels=st.integers(1, 3),
)


@settings(deadline=None, max_examples=60)
@given(
    formats,
    st.integers(0, 2**32),
    st.integers(0, 7),
    st.lists(st.integers(0, 2**20), max_size=30),
)
def test_no_cut_shows(audio: AudioFormat, seed: int, spare: int, cuts: list[int]) -> None:
    data = _speechlike(0.13, audio, seed)
    data += data[:spare]
    whole, leftover = _frame(audio, [data])
    cut, leftover_cut = _frame(audio, _cut(data, cuts))
    assert leftover == leftover_cut == len(data) % (SAMPLE_BYTES[audio.encoding] * audio.channels)
    assert [(block.start_sample, block.length) for block in whole] == [
        (block.start_sample, block.length) for block in cut
    ]
    assert all(
        np.array_equal(one.samples, other.samples) for one, other in zip(whole, cut, strict=True)
    )


@pytest.mark.parametrize("rate", SAMPLE_RATES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 160, 882])
def test_no_fixed_message_size_shows(rate: int, size: int) -> None:
    audio = AudioFormat(sample_rate=rate, channels=2)
    data = _speechlike(0.1, audio, 3)
    whole, _ = _frame(audio, [data])
    cut, _ = _frame(audio, [data[at : at + size] for at in range(0, len(data), size)])
    assert np.array_equal(_heard(whole), _heard(cut))


@settings(deadline=None, max_examples=40)
@given(formats, st.integers(0, 2**32), st.floats(0, 0.3))
def test_blocks_are_whole_frames_in_a_row(audio: AudioFormat, seed: int, seconds: float) -> None:
    data = _speechlike(seconds, audio, seed)
    framer = Framer(audio)
    blocks = framer.push(data)
    assert all(block.length == FRAME_SAMPLES for block in blocks)
    blocks += framer.finish().blocks
    assert [block.start_sample for block in blocks] == [
        FRAME_SAMPLES * number for number in range(len(blocks))
    ]
    assert framer.position == FRAME_SAMPLES * len(blocks)
    for block in blocks:
        assert block.samples.shape == (audio.channels, FRAME_SAMPLES)
        assert block.samples.dtype == np.float32
        assert np.all(np.abs(block.samples) <= 1)
        assert not block.samples.flags.writeable
        assert not block.samples[:, block.length :].any()
    heard = sum(block.length for block in blocks)
    assert framer.samples_in == len(data) // (SAMPLE_BYTES[audio.encoding] * audio.channels)
    assert abs(heard - framer.samples_in * 16_000 / audio.sample_rate) < 1


@pytest.mark.parametrize("rate", [rate for rate in SAMPLE_RATES if rate != 16_000])
def test_resampling_is_that_of_the_whole_file(rate: int) -> None:
    audio = AudioFormat(encoding=AudioEncoding.F32LE, sample_rate=rate, channels=1)
    time = np.arange(rate) / rate
    sound = (0.4 * np.sin(2 * np.pi * 440 * time) + 0.3 * np.sin(2 * np.pi * 1_800 * time)).astype(
        np.float32
    )
    heard = _heard(_frame(audio, [sound.tobytes()])[0])[0]
    expected = soxr.resample(sound, rate, 16_000, quality="HQ")
    assert np.allclose(heard, expected, atol=1e-6)
    ideal = np.arange(len(heard)) / 16_000
    ideal = 0.4 * np.sin(2 * np.pi * 440 * ideal) + 0.3 * np.sin(2 * np.pi * 1_800 * ideal)
    inside = slice(800, -800)  # the filter rings at the edges
    assert np.abs(heard[inside] - ideal[inside]).max() < 1e-3


def test_channels_keep_apart() -> None:
    audio = AudioFormat(channels=2)
    left, right = np.arange(600, dtype="<i2"), -np.arange(600, dtype="<i2")
    blocks, _ = _frame(audio, [np.stack([left, right], axis=1).tobytes()])
    assert np.array_equal(_heard(blocks) * 32_768, np.stack([left, right]))


def test_the_end_is_filled_with_zeros_and_odd_bytes_are_counted() -> None:
    blocks, leftover = _frame(RAW, [np.full(FRAME_SAMPLES + 3, 100, "<i2").tobytes() + b"\x01"])
    assert leftover == 1
    assert [block.length for block in blocks] == [FRAME_SAMPLES, 3]
    assert np.count_nonzero(blocks[1].samples) == 3


def test_finishing_twice_gives_the_end_once() -> None:
    framer = Framer(RAW)
    framer.push(bytes(100))
    assert len(framer.finish().blocks) == 1
    assert framer.finish() == ([], 0)


def test_an_empty_stream_is_no_error() -> None:
    framer = Framer(AudioFormat(sample_rate=44_100))
    assert framer.push(b"") == []
    assert framer.finish() == ([], 0)


def test_what_is_kept_between_messages_is_bounded() -> None:
    """The last block comes out at most 0.16 s after its sound went in, at every rate."""
    for rate in SAMPLE_RATES:
        audio = AudioFormat(sample_rate=rate)
        framer = Framer(audio)
        message = bytes(rate // 100 * 2)
        for _ in range(300):
            framer.push(message)
            heard = framer.samples_in * 16_000 // rate
            assert heard - framer.position < 0.16 * 16_000


# Samples that are no numbers ---------------------------------------------------------------------

FLOATS = AudioFormat(encoding=AudioEncoding.F32LE, channels=2)


@given(
    st.integers(0, 399),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.lists(st.integers(0, 1_600), max_size=3),
    st.lists(st.integers(0, 1_600), max_size=3),
    st.data(),
)
def test_a_message_that_is_not_finite_is_left_out_and_the_stream_stays_aligned(
    place: int, bad: float, before: list[int], after: list[int], data: st.DataObject
) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 2)).astype("<f4")
    sound.reshape(-1)[place] = bad
    raw = sound.tobytes()
    step = 8
    start = data.draw(st.integers(0, place * 4))
    end = data.draw(st.integers((place // 2 + 1) * step, len(raw)))
    framer = Framer(FLOATS)
    blocks = [block for one in _cut(raw[:start], before) for block in framer.push(one)]
    with pytest.raises(AudioNonfinite) as caught:
        framer.push(raw[start:end])
    assert caught.value.code is ErrorCode.AUDIO_NONFINITE
    blocks += [block for one in _cut(raw[end:], after) for block in framer.push(one)]
    tail = framer.finish()
    blocks += tail.blocks
    kept = np.concatenate([sound[: start // step], sound[-(-end // step) :]])
    heard = _heard(blocks).T if blocks else np.empty((0, 2))
    assert np.array_equal(heard, kept)
    assert tail.leftover_bytes == 0


# What is not raw audio ---------------------------------------------------------------------------


def _wav(audio: AudioFormat, subtype: str) -> bytes:
    stream = io.BytesIO()
    sound = np.random.default_rng(5).uniform(-0.5, 0.5, (2_000, audio.channels))
    soundfile.write(stream, sound, audio.sample_rate, format="WAV", subtype=subtype)
    return stream.getvalue()


@given(st.lists(st.integers(0, 60), max_size=8))
def test_a_plain_wav_header_of_the_stated_format_is_skipped(cuts: list[int]) -> None:
    wav = _wav(RAW, "PCM_16")
    with_header, _ = _frame(RAW, _cut(wav, cuts))
    without, _ = _frame(RAW, [wav[44:]])
    assert np.array_equal(_heard(with_header), _heard(without))


@pytest.mark.parametrize(
    ("audio", "subtype"),
    [
        (AudioFormat(sample_rate=8_000), "PCM_16"),
        (AudioFormat(channels=2), "PCM_16"),
        (RAW, "PCM_24"),
        (RAW, "PCM_U8"),
        (RAW, "FLOAT"),
        (RAW, "ULAW"),
    ],
)
def test_a_wav_file_of_another_format_is_refused(audio: AudioFormat, subtype: str) -> None:
    with pytest.raises(AudioFormatSuspect, match="WAV") as caught:
        Framer(RAW).push(_wav(audio, subtype))
    assert caught.value.code is ErrorCode.AUDIO_FORMAT_SUSPECT


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"OggS\x00\x02", "Ogg"),
        (b"\x1a\x45\xdf\xa3\x9f", "WebM"),
        (b"ID3\x04\x00", "MP3"),
        (b"fLaC\x00\x00", "FLAC"),
        (b"\x00\x00\x00\x20ftypM4A ", "MP4"),
        (b"RF64\xff\xff", "RF64"),
    ],
)
def test_an_encoded_file_is_refused_at_any_cut(head: bytes, kind: str) -> None:
    data = head + bytes(100)
    for size in range(1, 12):
        with pytest.raises(AudioFormatSuspect, match=kind):
            _frame(RAW, [data[at : at + size] for at in range(0, len(data), size)])


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_raw_bytes_are_taken_as_they_are(data: bytes, cuts: list[int]) -> None:
    starts = (b"RIFF", b"RF64", b"OggS", b"\x1a\x45\xdf\xa3", b"ID3", b"fLaC")
    assume(not data.startswith(starts) and data[4:8] != b"ftyp")
    blocks, leftover = _frame(RAW, _cut(data, cuts))
    assert sum(block.length for block in blocks) == len(data) // 2
    assert leftover == len(data) % 2


@pytest.mark.parametrize("data", [b"RIFF", b"RIFFxxxxWAVE", b"RIFFxxxxWAVEfmt ", b"R", b"ID3"])
def test_the_beginning_of_a_header_alone_is_sound(data: bytes) -> None:
    blocks, leftover = _frame(RAW, [data])
    assert sum(block.length for block in blocks) * 2 + leftover == len(data)


def test_the_frame_is_the_one_that_the_voice_detector_takes() -> None:
    assert voice_activity.FRAME_SAMPLES == FRAME_SAMPLES


@settings(deadline=None, max_examples=60)
@given(
    formats,
    st.integers(0, 2**32),
    st.lists(st.integers(0, 2**20), min_size=1, max_size=8),
    st.lists(st.booleans(), min_size=9, max_size=9),
)
def test_a_new_framer_goes_on_from_the_state_of_another(
    audio: AudioFormat, seed: int, cuts: list[int], breaks: list[bool]
) -> None:
    """After any message; the samples are the same, to the rounding of a new resampler."""
    data = _speechlike(0.6, audio, seed)
    whole, leftover = _frame(audio, [data])
    framer, blocks = Framer(audio), []
    for message, breaks_off in zip(_cut(data, cuts), breaks, strict=False):
        blocks += framer.push(message)
        if breaks_off:
            framer = Framer(audio, framer.state)
    tail = framer.finish()
    assert tail.leftover_bytes == leftover
    again, expected = _heard([*blocks, *tail.blocks]), _heard(whole)
    assert again.shape == expected.shape
    tolerance = 0 if audio.sample_rate == 16_000 else 3e-7
    assert np.abs(again - expected).max() <= tolerance
