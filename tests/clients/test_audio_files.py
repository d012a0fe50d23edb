"""Files as one dialogue: channels, mixtures of files, rates, and what cannot be read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.channels import SameSound
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


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match=r"notes\.txt cannot be read: .* or convert it"):
        AudioFiles([text])
    with pytest.raises(SourceError, match="is no file"):
        AudioFiles([tmp_path])
    with pytest.raises(SourceError, match="there is no such file"):
        AudioFiles([tmp_path / "none.wav"])
    with pytest.raises(SourceError, match="at least one"):
        AudioFiles([])
    many = [written(tmp_path / f"{n}.wav", noise(10, 3)) for n in range(3)]
    with pytest.raises(SourceError, match="at most 8"):
        AudioFiles(many)
    with AudioFiles(many, mono=True) as files:
        assert files.channels == 3


def test_mono_mixes_the_channels_of_each_file(tmp_path: Path) -> None:
    stereo = written(tmp_path / "s.wav", np.array([[8_000, 4_000]] * 100, dtype=np.int16))
    single = written(tmp_path / "m.wav", np.full((50, 1), 1_000, dtype=np.int16))
    with AudioFiles([stereo, single], mono=True) as files:
        read = as_int16(np.concatenate(list(files.blocks(40))))
    assert read.shape == (100, 2)
    assert set(read[:, 0]) == {6_000}
    assert set(read[:50, 1]) == {1_000}
    assert set(read[50:, 1]) == {0}


def test_the_length_is_the_longest_files(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.wav", noise(n)) for n in (8_000, 16_000)]
    with AudioFiles(paths) as files:
        assert files.duration_s == 1.0


def same(blocks: list[np.ndarray]) -> list[bool]:
    watch = SameSound(16_000)
    return [watch.push(block) for block in blocks]


def test_channels_with_the_same_sound_are_noticed_once() -> None:
    one = (noise(16_000) / 32_768).astype(np.float32)
    twice = np.concatenate([one, one], axis=1)
    assert same([twice] * 15) == [False] * 9 + [True] + [False] * 5
    silence = np.zeros((16_000, 2), dtype=np.float32)
    assert not any(same([silence] * 15)), "silence says nothing"
    assert not any(same([one] * 15)), "one channel has none to be like"
    apart = np.concatenate([one, one[::-1]], axis=1)
    assert not any(same([apart, *[twice] * 15])), "they differ somewhere"


def test_a_file_that_breaks_off_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac", noise(40_000))
    path.write_bytes(path.read_bytes()[:30_000])
    with AudioFiles([path]) as files, pytest.raises(SourceError, match="damaged"):
        list(files.blocks(40))
