"""Files as one dialogue: channels, mixtures of files, rates, and what cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.errors import SourceError

RNG = np.random.default_rng(7)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return RNG.integers(-20_000, 20_000, (samples, channels)).astype(np.int16)


def written(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    soundfile.write(path, samples, rate)
    return path


def whole(paths: list[Path], block_ms: int = 40) -> tuple[np.ndarray, int]:
    with AudioFiles(paths) as files:
        blocks = list(files.blocks(block_ms))
        assert all(len(block) == files.sample_rate * block_ms // 1000 for block in blocks[:-1])
        return np.concatenate(blocks), files.sample_rate


def as_int16(samples: np.ndarray) -> np.ndarray:
    return np.round(samples * 32_768).astype(np.int16)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_channels_are_speakers_and_samples_are_exact(tmp_path: Path, ending: str) -> None:
    samples = noise(10_007, 2)
    read, rate = whole([written(tmp_path / f"a.{ending}", samples)])
    assert rate == 16_000
    np.testing.assert_array_equal(as_int16(read), samples)


def test_several_files_start_together_and_the_short_end_in_silence(tmp_path: Path) -> None:
    long, short = noise(9_000), noise(4_001, 2)
    read, _ = whole([written(tmp_path / "l.wav", long), written(tmp_path / "s.flac", short)])
    assert read.shape == (9_000, 3)
    np.testing.assert_array_equal(as_int16(read[:, :1]), long)
    np.testing.assert_array_equal(as_int16(read[:4_001, 1:]), short)
    assert not read[4_001:, 1:].any()


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
def test_rates_that_the_protocol_carries_are_kept(tmp_path: Path, rate: int) -> None:
    samples = noise(3_000)
    read, kept = whole([written(tmp_path / "a.wav", samples, rate)])
    assert kept == rate
    np.testing.assert_array_equal(as_int16(read), samples)


def test_other_rates_and_mixed_rates_become_16_khz(tmp_path: Path) -> None:
    odd = written(tmp_path / "odd.wav", noise(22_050), 22_050)
    other = written(tmp_path / "other.wav", noise(48_000), 48_000)
    for paths, channels in (([odd], 1), ([odd, other], 2)):
        read, rate = whole(paths)
        assert rate == 16_000
        assert read.shape == (16_000, channels)


def test_an_ogg_file_is_read(tmp_path: Path) -> None:
    read, _ = whole([written(tmp_path / "a.ogg", noise(16_000))])
    assert len(read) == 16_000


def test_an_empty_file_gives_no_blocks(tmp_path: Path) -> None:
    with AudioFiles([written(tmp_path / "a.wav", noise(0))]) as files:
        assert list(files.blocks(40)) == []


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(SourceError, match=r"notes\.txt cannot be read: .* convert anything else"):
        AudioFiles([text])
    with pytest.raises(SourceError, match="there is no such file"):
        AudioFiles([tmp_path / "none.wav"])
    with pytest.raises(SourceError, match="at least one"):
        AudioFiles([])
    many = [written(tmp_path / f"{n}.wav", noise(10, 3)) for n in range(3)]
    with pytest.raises(SourceError, match="at most 8"):
        AudioFiles(many)


def test_a_file_that_breaks_off_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac", noise(40_000))
    path.write_bytes(path.read_bytes()[:30_000])
    with AudioFiles([path]) as files, pytest.raises(SourceError, match="damaged"):
        list(files.blocks(40))
