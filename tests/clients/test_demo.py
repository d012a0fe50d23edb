"""The demo that ships: its sound, its words, and the program that made both."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from emotrace_clients.demo import make_demo, shipped
from emotrace_clients.demo.script import LINES, PROSODY, SPEAKERS
from emotrace_clients.turns import read_turns


def test_the_sound_is_a_short_stereo_dialogue() -> None:
    samples, rate = soundfile.read(shipped.AUDIO, dtype="float32")
    assert rate == make_demo.SAMPLE_RATE == 16_000
    assert samples.shape[1] == len(shipped.speakers()) == 2
    assert 25 <= len(samples) / rate <= 40
    assert np.abs(samples).max() < 1
    assert shipped.AUDIO.stat().st_size <= 1_000_000


def test_each_turn_sounds_on_its_speakers_channel_at_its_time() -> None:
    samples, rate = soundfile.read(shipped.AUDIO, dtype="float32")
    silent = np.ones(samples.shape, dtype=bool)
    for turn in read_turns(shipped.TURNS):
        channel = SPEAKERS.index(turn.speaker)
        span = slice(turn.start_ms * rate // 1000, turn.end_ms * rate // 1000 + rate // 500)
        assert np.sqrt(np.mean(samples[span, channel] ** 2)) > 0.01, turn.text
        silent[span, channel] = False
    assert np.abs(samples[silent]).max() == 0


def test_the_words_are_the_scripts() -> None:
    turns = read_turns(shipped.TURNS)
    assert [(turn.speaker, turn.text) for turn in turns] == [
        (line.speaker, line.text) for line in LINES
    ]
    assert shipped.speakers() == SPEAKERS
    assert {line.acted for line in LINES} == set(PROSODY)
    assert 8 <= len(LINES) <= 10


def test_only_one_copy_ships(root: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "*.flac"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert tracked == [str(shipped.AUDIO.relative_to(root))]


def test_the_program_makes_the_demo_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng (make system-deps)")
    for name in ("AUDIO", "TURNS"):
        monkeypatch.setattr(make_demo, name, tmp_path / getattr(shipped, name).name)
    monkeypatch.setattr(make_demo, "FOLDER", tmp_path)
    make_demo.main()
    made, _ = soundfile.read(tmp_path / "dialogue.flac", dtype="float32")
    kept, _ = soundfile.read(shipped.AUDIO, dtype="float32")
    # Another version of the synthesiser may speak a little differently, but not another dialogue.
    assert abs(len(made) - len(kept)) < 16_000
    words = [
        [(turn["speaker"], turn["text"]) for turn in json.loads(path.read_text())["turns"]]
        for path in (tmp_path / "dialogue.json", shipped.TURNS)
    ]
    assert words[0] == words[1]


def test_without_the_synthesiser_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt-get install espeak-ng"):
        make_demo.main()
