"""Videos and what else only FFmpeg decodes, made here by PyAV itself."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotrace_clients.audio_files import AudioFiles
from emotrace_clients.errors import SourceError

av = pytest.importorskip("av", reason="needs PyAV: pip install 'emotrace[media]'")
RATE = 48_000


def tone(seconds: float, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """A tone on the first channel, silence on the others, [sample, channel]."""
    samples = np.zeros((int(seconds * rate), channels), dtype=np.float32)
    samples[:, 0] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(samples)) / rate)
    return samples


def written(
    path: Path,
    sound: np.ndarray | None,
    codec: str = "aac",
    *,
    picture: bool = False,
    gap_s: float = 0.0,
) -> Path:
    """gap_s: so long is nothing in the file after its first second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10) if picture else None
        layout = "stereo" if sound is None or sound.shape[1] == 2 else "mono"
        audio = None if sound is None else container.add_stream(codec, rate=RATE, layout=layout)
        if video is not None:
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            video.codec_context.time_base = Fraction(1, 10)
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts = number
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None and sound is not None:
            size = audio.codec_context.frame_size or 960
            resampler = av.AudioResampler(format=audio.format, layout=layout, rate=RATE)
            for at in range(0, len(sound), size):
                piece = np.ascontiguousarray(sound[at : at + size].reshape(1, -1))
                frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
                frame.rate = RATE
                frame.pts = at + (int(gap_s * RATE) if at >= RATE else 0)
                for part in resampler.resample(frame):
                    container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def whole(path: Path, **options: Any) -> tuple[np.ndarray, AudioFiles]:
    with AudioFiles([path], **options) as files:
        return np.concatenate(list(files.blocks(40))), files


@pytest.mark.parametrize(
    ("name", "codec", "picture"),
    [("a.m4a", "aac", False), ("a.mp4", "aac", True), ("a.webm", "libopus", False)],
)
def test_the_sound_of_a_film_or_phone_is_read(
    tmp_path: Path, name: str, codec: str, picture: bool
) -> None:
    sound = tone(2.0)
    read, files = whole(written(tmp_path / name, sound, codec, picture=picture))
    assert (files.sample_rate, files.channels) == (RATE, 2)
    assert files.duration_s == pytest.approx(2.0, abs=0.1)
    assert len(read) == pytest.approx(2 * RATE, abs=0.06 * RATE)
    # A codec changes the phase; the energy stays where it is.
    assert np.sqrt(np.mean(read[:, 0] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert np.abs(read[:, 1]).max() < 0.02


def test_a_gap_in_a_recording_is_silence_and_times_stay_true(tmp_path: Path) -> None:
    path = written(tmp_path / "gap.mkv", tone(2.0), "libopus", gap_s=3.0)
    read, _ = whole(path)
    assert len(read) == pytest.approx(5 * RATE, abs=0.06 * RATE)
    assert np.abs(read[int(1.5 * RATE) : int(3.5 * RATE)]).max() < 0.01
    assert np.abs(read[int(4.2 * RATE) : int(4.8 * RATE), 0]).max() > 0.4


def test_a_file_as_one_speaker(tmp_path: Path) -> None:
    read, files = whole(written(tmp_path / "a.m4a", tone(1.0)), mono=True)
    assert files.channels == read.shape[1] == 1
    assert np.sqrt(np.mean(read**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.05)


def test_a_video_without_sound_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "silent.mp4", None, picture=True)
    with pytest.raises(SourceError, match=r"silent\.mp4 is a video without sound"):
        AudioFiles([path])


def test_what_is_no_media_is_said(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(SourceError, match=r"notes\.txt cannot be read: .* no sound or video file"):
        AudioFiles([path])


def test_a_playlist_leads_nowhere(tmp_path: Path) -> None:
    """Only the file that was named is read, whatever it asks for."""
    there = written(tmp_path / "there.m4a", tone(1.0))
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile there.m4a\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(SourceError, match="cannot be read"):
            AudioFiles([tmp_path / name])


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.m4a", tone(0.5))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match=r"emotrace\[media\].*or convert it"):
        AudioFiles([path])
