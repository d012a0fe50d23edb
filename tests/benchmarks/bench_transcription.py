"""What Whisper costs and how well it hears: both windows, alone and in batches.

    python tests/benchmarks/bench_transcription.py --language en
    python tests/benchmarks/bench_transcription.py --weights whisper-tiny --clips 64 \\
        --manifest labels.csv --split test --language pl

Without weights: a random Whisper of the size of OpenAI's tiny, on made-up sounds; times and their
ratios are real, words are not. Without a language, it is detected. With `--manifest`, a table with
the columns file (from its own folder, 16 kHz mono) and text (what is said; `split` picks rows),
also the word error rate of each window, and the shares of texts that did not end (`capped`) and
that transcript_gates refuses.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile
from faster_whisper import WhisperModel

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from whispers import TINY, through_the_library, write_whisper  # noqa: E402

from emotrace_models.transcript_gates import Gates  # noqa: E402
from emotrace_models.transcription import WhisperTranscriber, token_limit  # noqa: E402
from emotrace_models.types import SAMPLE_RATE, FloatArray, Transcript, Utterance  # noqa: E402
from emotrace_models.whisper_windows import Window, window_frames  # noqa: E402

BATCHES = (1, 4, 8)
WORDS = 12  # after which the random Whisper ends: about 3 s of speech


@dataclass(frozen=True)
class Clip:
    """samples: [sample] at 16 kHz. text: what is said; empty where nobody knows."""

    samples: FloatArray
    text: str = ""

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def utterance(self) -> Utterance:
        return Utterance(0, "A", 0, len(self.samples), self.samples)


def made_up(count: int, seconds: float) -> list[Clip]:
    """Noise, of lengths within a quarter of `seconds`."""
    draw = np.random.default_rng(0)
    lengths = (seconds * draw.uniform(0.75, 1.25, count) * SAMPLE_RATE).astype(int)
    return [Clip(draw.normal(0, 0.1, length).astype(np.float32)) for length in lengths]


def recorded(manifest: Path, count: int, split: str | None) -> list[Clip]:
    with manifest.open(encoding="utf-8") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["text"] and split in (None, row.get("split"))
        ]
    random.Random(0).shuffle(rows)
    clips = []
    for row in rows[:count]:
        samples, rate = soundfile.read(manifest.parent / row["file"], dtype="float32")
        if rate != SAMPLE_RATE or samples.ndim != 1:
            raise SystemExit(f"{row['file']} is not 16 kHz mono.")
        clips.append(Clip(samples, row["text"]))
    return clips


def words(text: str) -> list[str]:
    """In lower case, without punctuation."""
    return "".join(sign if sign.isalnum() or sign == "'" else " " for sign in text.lower()).split()


def word_errors(said: list[str], heard: list[str]) -> int:
    """The fewest words to put in, leave out or exchange that turn one into the other."""
    errors = list(range(len(heard) + 1))
    for number, word in enumerate(said, 1):
        before, errors = errors, [number]
        for place, other in enumerate(heard):
            exchanged = before[place] + (word != other)
            errors.append(min(exchanged, before[place + 1] + 1, errors[place] + 1))
    return errors[-1]


def quality(clips: list[Clip], heard: list[Transcript | None]) -> dict[str, float]:
    wrong = said = capped = refused = 0
    for clip, one in zip(clips, heard, strict=True):
        wrong += word_errors(words(clip.text), words(one.text if one else ""))
        said += len(words(clip.text))
        capped += one is not None and one.capped
        refused += one is not None and Gates().refuse(one, clip.seconds, clip.seconds, clip.seconds)
    return {
        "word_error_rate": round(wrong / said, 4),
        "capped": round(capped / len(clips), 4),
        "refused": round(refused / len(clips), 4),
    }


def quickest(work: Callable[[], list[Any]], repeats: int) -> tuple[float, list[Any]]:
    """The least milliseconds that one of the results took, and the results."""
    took = []
    for _ in range(repeats):
        begun = time.perf_counter()
        results = work()
        took.append(1_000 * (time.perf_counter() - begun) / len(results))
    return round(min(took), 1), results


def through_faster_whisper(
    weights: Path, clips: list[Clip], options: argparse.Namespace
) -> dict[str, Any]:
    """Its own path, which knows neither batches nor windows."""
    model = WhisperModel(
        str(weights),
        device=options.device,
        compute_type=options.compute_type,
        cpu_threads=options.threads,
    )

    def all_clips() -> list[Any]:
        return [
            through_the_library(model, one.samples, options.language, token_limit(len(one.samples)))
            for one in clips
        ]

    return {"path": "faster-whisper", "milliseconds": quickest(all_clips, options.repeats)[0]}


def through_ours(
    whisper: WhisperTranscriber, clips: list[Clip], batch: int, options: argparse.Namespace
) -> dict[str, Any]:
    items = [(clip.utterance, options.language) for clip in clips]

    def all_clips() -> list[Any]:
        batches = [items[begin : begin + batch] for begin in range(0, len(items), batch)]
        return [one for items in batches for one in whisper.transcribe(items)]

    milliseconds, heard = quickest(all_clips, options.repeats)
    known = quality(clips, heard) if options.manifest else {}
    return {"batch": batch, "milliseconds": milliseconds, **known}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="folder in CTranslate2's format")
    parser.add_argument("--manifest", type=Path, help="table of clips and what is said in them")
    parser.add_argument("--split", help="rows of the manifest to take; default: all")
    parser.add_argument("--language", help="what is spoken; default: it is detected")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a made-up sound, on average")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pass-frames", type=int, help="see WhisperTranscriber")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compute-type", default="int8")
    options = parser.parse_args()
    if options.manifest:
        clips = recorded(options.manifest, options.clips, options.split)
    else:
        clips = made_up(options.clips, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        weights = options.weights or write_whisper(
            Path(folder), size=TINY, spread=0.02, pull=10.0, words=WORDS
        )
        print(json.dumps(through_faster_whisper(weights, clips, options)), flush=True)
        for window in get_args(Window):
            whisper = WhisperTranscriber(
                weights,
                threads=options.threads,
                device=options.device,
                compute_type=options.compute_type,
                window=window,
                pass_frames=options.pass_frames,
            )
            frames = [window_frames(len(clip.samples), window) for clip in clips]
            encoded = round(sum(frames) / 100 / len(frames), 2)
            for batch in BATCHES:
                result = through_ours(whisper, clips, batch, options)
                print(json.dumps({"path": window, "encoded_s": encoded, **result}), flush=True)


if __name__ == "__main__":
    main()
