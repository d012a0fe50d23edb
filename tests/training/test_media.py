"""Films of records: spans, halves, rates, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from emotrace_models.picture_decoding import decode_picture
from emotrace_models.types import SAMPLE_RATE, Frame
from emotrace_training.manifests import Record
from emotrace_training.media import MediaUnreadable, read_frames

Picture = Callable[[int], NDArray[np.uint8]]


def brightness(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A grey picture that tells its own number: 10 a frame, twenty-fold over."""
    return np.full((height, width, 3), 20 + 10 * (number % 20), np.uint8)


def film(path: Path, frames: int, rate: int = 30, picture: Picture = brightness) -> Path:
    codec = "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 10
        for number in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture(number), "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def record(video: Path | None, **more: Any) -> Record:
    values: dict[str, Any] = {
        "id": "a", "corpus": "c", "dialogue": "d", "turn": 0, "start_s": 0.0, "end_s": 1.0,
        "speaker": "c:s", "emotion": "anger", "split": "", "place": "m.jsonl:7",
        "video": None if video is None else str(video),
    }  # fmt: skip
    return Record(**{**values, **more})


def numbers(frames: list[Frame]) -> list[int]:
    """Which pictures of the film they are, modulo 20."""
    return [round((float(decode_picture(f.image).mean()) - 20) / 10) for f in frames]


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_whole_film_frame_by_frame(tmp_path: Path, suffix: str) -> None:
    frames = read_frames(record(film(tmp_path / f"film{suffix}", 18)))
    assert numbers(frames) == list(range(18))
    expected = [round(i / 30 * SAMPLE_RATE) for i in range(18)]
    assert np.abs(np.subtract([frame.sample for frame in frames], expected)).max() <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_span_in_the_middle_on_the_dialogues_clock(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"film{suffix}", 60)
    one = record(path, video_span=(25 / 30 - 0.005, 31 / 30 - 0.005), start_s=7.0, end_s=7.2)
    frames = read_frames(one)
    assert numbers(frames) == [5, 6, 7, 8, 9, 10]  # 25 to 30
    assert abs(frames[0].sample - 7.005 * SAMPLE_RATE) <= 1


def test_sixty_frames_a_second_become_thirty(tmp_path: Path) -> None:
    frames = read_frames(record(film(tmp_path / "fast.mp4", 40, rate=60)))
    assert numbers(frames) == [i % 20 for i in range(0, 40, 2)]


def side_by_side(number: int) -> NDArray[np.uint8]:
    """A letterbox: black above and below, a dark actor on the left and a light one on the right."""
    picture = np.zeros((480, 720, 3), np.uint8)
    picture[112:368, :360] = 60
    picture[112:368, 360:] = 200
    return picture


@pytest.mark.parametrize(("crop", "grey"), [("left", 60), ("right", 200)])
def test_the_half_that_shows_the_speaker(tmp_path: Path, crop: str, grey: int) -> None:
    path = film(tmp_path / "both.avi", 2, picture=side_by_side)
    pixels = decode_picture(read_frames(record(path, crop=crop))[0].image)
    assert pixels.shape == (256, 360, 3)
    assert abs(float(pixels[4:-4, 8:-8].mean()) - grey) < 4
    assert decode_picture(read_frames(record(path))[0].image).shape[:2] == (320, 480)


def test_a_film_without_that_time_is_named(tmp_path: Path) -> None:
    path = film(tmp_path / "short.mp4", 10)
    with pytest.raises(MediaUnreadable, match=r"short\.mp4: no picture between 5\.000 s and 6\.00"):
        read_frames(record(path, video_span=(5.0, 6.0)))


def test_what_is_no_film_is_named_with_its_line(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", 10).read_bytes()
    cases = {
        "empty.mp4": b"",
        "noise.avi": bytes(range(256)) * 20,
        "cut.mp4": whole[: len(whole) // 4],
        "text.mp4": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaUnreadable, match=rf"^m\.jsonl:7: .*{name}: "):
            read_frames(record(tmp_path / name))
    with pytest.raises(MediaUnreadable, match=r"gone\.mp4: there is no such film"):
        read_frames(record(tmp_path / "gone.mp4"))
    with pytest.raises(MediaUnreadable, match=r"m\.jsonl:7: record 'a' has no film"):
        read_frames(record(None))


def test_sound_alone_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(MediaUnreadable, match=r"sound\.mp4: .*it has no picture"):
        read_frames(record(path))
