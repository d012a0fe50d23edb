"""Speaks the demo dialogue and writes it: `python -m emotrace_clients.demo.make_demo`.

Needs the program espeak-ng (Debian package espeak-ng). espeak-ng itself is GPL-3.0 and is not part
of Emotrace; the sound that it makes is not a work derived from it and is free to use, so the demo
is under Emotrace's own licence. The voices are synthetic: they show how the system works, and say
nothing about how well it works.

Writes `dialogue.flac` (two channels, one a speaker, 16 kHz, 16 bits) and `dialogue.json` (the
turns: who, what, when) into the browser page's folder `demo`, which is the only copy.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from xml.sax.saxutils import escape

import numpy as np
import soundfile
from numpy.typing import NDArray

from emotrace_clients.demo.script import BASE_PITCH, LINES, PROSODY, SPEAKERS, VOICES, Line
from emotrace_clients.demo.shipped import AUDIO, FOLDER, TURNS
from emotrace_clients.resampling import Resampler

SAMPLE_RATE = 16_000
END_SILENCE_MS = 1_000
_QUIET = 0.01  # of the peak: what counts as silence before and after a turn

FloatArray = NDArray[np.float32]


def main() -> None:
    """Writes the demo. Exits with a message where espeak-ng is missing or fails."""
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: `apt-get install espeak-ng`, or `make system-deps`")
    audio, turns = compose()
    FOLDER.mkdir(parents=True, exist_ok=True)
    soundfile.write(AUDIO, audio, SAMPLE_RATE, subtype="PCM_16")
    description = {
        "made_by": "python -m emotrace_clients.demo.make_demo (espeak-ng, synthetic voices)",
        "sample_rate": SAMPLE_RATE,
        "speakers": list(SPEAKERS),
        "turns": turns,
    }
    TURNS.write_text(json.dumps(description, indent=1) + "\n")
    print(f"{len(turns)} turns, {len(audio) / SAMPLE_RATE:.1f} s -> {FOLDER}")


def compose() -> tuple[FloatArray, list[dict[str, object]]]:
    """The whole dialogue: samples [sample, channel] in -1 to 1, and the turns with their times."""
    spoken = [(line, _speak(line)) for line in LINES]
    turns: list[dict[str, object]] = []
    starts: list[int] = []
    position = 0
    for line, samples in spoken:
        start = position + line.gap_ms * SAMPLE_RATE // 1000
        position = start + len(samples)
        starts.append(start)
        turns.append(
            {
                "speaker": line.speaker,
                "start_ms": start * 1000 // SAMPLE_RATE,
                "end_ms": position * 1000 // SAMPLE_RATE,
                "acted": line.acted,
                "text": line.text,
            }
        )
    audio = np.zeros(
        (position + END_SILENCE_MS * SAMPLE_RATE // 1000, len(SPEAKERS)), dtype=np.float32
    )
    for (line, samples), start in zip(spoken, starts, strict=True):
        audio[start : start + len(samples), SPEAKERS.index(line.speaker)] += samples
    return audio, turns


def _speak(line: Line) -> FloatArray:
    prosody = PROSODY[line.acted]
    command = [
        "espeak-ng",
        *("-v", VOICES[line.speaker]),
        *("-s", str(prosody.speed)),
        *("-p", str(BASE_PITCH[line.speaker] + prosody.pitch)),
        *("-m", "-z", "--stdout"),  # SSML in, no pause at the end
        f'<prosody range="{prosody.pitch_range}%">{escape(line.text)}</prosody>',
    ]
    wav = subprocess.run(command, check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    resampler = Resampler(rate, SAMPLE_RATE)
    samples = np.concatenate([resampler.push(samples[:, None]), resampler.finish()])[:, 0]
    samples = _trimmed(samples)
    return samples * (prosody.gain / float(np.abs(samples).max()))


def _trimmed(samples: FloatArray) -> FloatArray:
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


if __name__ == "__main__":
    main()
