"""Sound out of any media file: whole, parts, and what cannot be heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus_trees import film, tone

from emotrace_training.sound import SoundUnreadable, read_sound_file, seconds_of


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.flv", "a.mkv"])
@pytest.mark.parametrize("span", [(0.0, 0.5), (2.25, 3.5), (4.0, 9.0)])
def test_a_part_of_a_film_is_that_part(
    tmp_path: Path, name: str, span: tuple[float, float]
) -> None:
    """To a millisecond, which is as fine as some containers know the time."""
    file = film(tmp_path / name, seconds=4.5)
    whole = read_sound_file(file)
    part = read_sound_file(file, span)
    expected = whole[round(span[0] * 16_000) : round(span[1] * 16_000)]
    assert len(part) == pytest.approx(len(expected), abs=16)
    inner = expected[400:4_400]
    lags = {lag: np.abs(part[400 + lag :][: len(inner)] - inner).max() for lag in range(-30, 31)}
    best = min(lags, key=lambda lag: lags[lag])
    assert abs(best) <= 16
    assert lags[best] < 0.02
    assert seconds_of(file) == pytest.approx(4.5, abs=0.15)


def test_what_has_no_sound(tmp_path: Path) -> None:
    silent = film(tmp_path / "a.mp4", sound=False)
    short = tone(tmp_path / "a.wav")
    (tmp_path / "b.mp4").write_bytes(b"no film")
    (tmp_path / "b.wav").write_bytes(b"no sound")
    for file, span, message in (
        (silent, None, "has no sound"),
        (tmp_path / "b.mp4", None, "cannot be read as audio"),
        (tmp_path / "b.wav", None, "cannot be read as audio"),
        (tmp_path / "c.wav", None, "cannot be read as audio"),
        (short, (1.0, 2.0), "empty or not finite"),
    ):
        with pytest.raises(SoundUnreadable, match=message):
            read_sound_file(file, span)
    for file in (silent, tmp_path / "b.mp4", tmp_path / "b.wav", tmp_path / "c.wav"):
        with pytest.raises(SoundUnreadable):
            seconds_of(file)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile there.mp4\n",
    ],
)
def test_a_playlist_leads_nowhere(tmp_path: Path, text: str) -> None:
    there = film(tmp_path / "there.mp4")
    (tmp_path / "list.mp4").write_text(text.format(there=there))
    with pytest.raises(SoundUnreadable, match="cannot be read as audio"):
        read_sound_file(tmp_path / "list.mp4")
    with pytest.raises(SoundUnreadable, match="cannot be read as audio"):
        seconds_of(tmp_path / "list.mp4")
