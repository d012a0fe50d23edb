"""How surely speech at another pace is told, as where 48 kHz are sent as 16 (docs/faults.md, 51).

    python tests/benchmarks/bench_rate.py          # five minutes

Train and valid clips of ../shared/data, and each third of them at twice, half and a third of its
pace. Printed for each rule: false alarms on the clips as they are, and the share that it finds of
the others; for the last rule, of a corpus that it was not fitted on. Then how many of the clips the
voice detector hears at all. Decision 0027 has the figures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from emotrace_models.voice_activity import VoiceDetector

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
CORPORA = ("emodb", "ravdess_speech", "nemo")
RATE = 16_000
FRAME, HOP = 640, 320
PACES = {"2": 1 / 2, "1/2": 2.0, "1/3": 3.0}  # and how much longer it takes
EACH, HEARD_EACH = 3, 30  # clip is played at another pace; is given to the voice detector
ORDER, FORMANT_FRAMES = 16, 60
HEARD_S, FRAME_S = 0.25, 512 / RATE

Floats = npt.NDArray[np.float64]
WINDOW = np.hanning(FRAME)


def features(sound: Floats) -> Floats:
    """[8]: pitch (median, its 10th and 90th percentile), distance of formants, the first and the
    third of them, Hz; pace of loudness, Hz; change of pitch, semitones a frame. All but the last
    as logarithms to base 2."""
    frames = np.lib.stride_tricks.sliding_window_view(sound - sound.mean(), FRAME)[::HOP]
    energy = (frames**2).mean(axis=1)
    loud = energy > 0.05 * np.percentile(energy, 95)
    pitch = pitches(frames, loud)
    changes = np.abs(np.diff(12 * np.log2(pitch)))
    tops = formants(np.append(sound[0], np.diff(sound) + 0.05 * sound[:-1]), ~np.isnan(pitch))
    numbers = [
        *(np.nanmedian(pitch), np.nanpercentile(pitch, 10), np.nanpercentile(pitch, 90)),
        *(np.median(np.diff(tops, axis=1)), np.median(tops[:, 0]), np.median(tops[:, 2])),
        pace(energy),
    ]
    return np.append(np.log2(numbers), np.nanmedian(changes))


def pitches(frames: Floats, loud: npt.NDArray[np.bool_]) -> Floats:
    """[frame], Hz; NaN where there is none."""
    likeness = np.fft.irfft(np.abs(np.fft.rfft(frames * WINDOW, 2_048)) ** 2)
    own = np.fft.irfft(np.abs(np.fft.rfft(WINDOW, 2_048)) ** 2)
    first, last = RATE // 1_000, RATE // 35
    likeness = likeness[:, first:last] / np.maximum(likeness[:, :1], 1e-12)
    likeness /= own[first:last] / own[0]
    found = np.full(len(frames), np.nan)
    for number in np.flatnonzero(loud):
        row = likeness[number]
        peaks = (row[1:-1] > row[:-2]) & (row[1:-1] >= row[2:]) & (row[1:-1] > 0.85 * row.max())
        if row.max() > 0.5 and peaks.any():
            found[number] = RATE / (first + 1 + np.argmax(peaks))
    return found


def formants(sound: Floats, voiced: npt.NDArray[np.bool_]) -> Floats:
    """[frame, 3], Hz: by linear prediction."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * WINDOW
    places = np.flatnonzero(voiced)
    found = []
    for place in places[np.linspace(0, len(places) - 1, FORMANT_FRAMES).astype(int)]:
        power = np.abs(np.fft.rfft(frames[place], 2 * FRAME)) ** 2
        likeness = np.fft.irfft(power)[: ORDER + 1]
        likeness[0] *= 1.0001
        lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
        weights = np.linalg.solve(likeness[lags], likeness[1:])
        roots = np.roots(np.append(1.0, -weights))
        roots = roots[roots.imag > 0.01]
        narrow = -np.log(np.abs(roots)) * RATE / np.pi < 600
        tops = np.sort(np.angle(roots[narrow]) * RATE / (2 * np.pi))
        if len(tops := tops[tops > 90]) >= 3:
            found.append(tops[:3])
    return np.array(found)


def pace(energy: Floats) -> float:
    """Where the middle of what modulates loudness lies, Hz."""
    loudness = np.sqrt(energy)
    bent = (loudness - loudness.mean()) * np.hanning(len(loudness))
    power = np.abs(np.fft.rfft(bent, 1_024)) ** 2
    rates = np.fft.rfftfreq(1_024, HOP / RATE)
    there = (rates > 0.5) & (rates < 25)
    return float(power[there] @ rates[there] / power[there].sum())


def fitted(natural: Floats, other: Floats) -> Callable[[Floats], npt.NDArray[np.bool_]]:
    """Logistic regression, and the threshold that 1 of 2,000 of its own natural clips exceeds."""
    both = np.concatenate([natural, other])
    mean, deviation = both.mean(axis=0), both.std(axis=0)
    weights = np.zeros(both.shape[1] + 1)

    def scores(rows: Floats) -> Floats:
        scaled = np.c_[(rows - mean) / deviation, np.ones(len(rows))]
        return np.asarray(scaled @ weights)

    rows = np.c_[(both - mean) / deviation, np.ones(len(both))]
    target = np.repeat([0.0, 1.0], [len(natural), len(other)])
    share = np.where(target == 1.0, len(natural) / len(other), 1.0)
    for _ in range(30):  # Newton's steps
        found = 1 / (1 + np.exp(-np.clip(scores(both), -30, 30)))
        slope = rows.T @ (share * (found - target)) + np.append(weights[:-1], 0.0)
        curve = (rows.T * (share * found * (1 - found))) @ rows + np.eye(len(weights))
        weights = weights - np.linalg.solve(curve, slope)
    limit = np.sort(scores(natural))[-1 - len(natural) // 2_000]
    return lambda rows: scores(rows) > limit


def main() -> None:
    detector = VoiceDetector()
    rows: dict[str, list[Floats]] = {"1": [], **{name: [] for name in PACES}}
    where: dict[str, list[str]] = {name: [] for name in rows}
    heard, offered = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
    number = 0
    for corpus in CORPORA:
        with (DATA / corpus / "labels.csv").open(encoding="utf-8") as table:
            clips = [row for row in csv.DictReader(table) if row["split"] in ("train", "valid")]
        for clip in clips:
            sound, _ = soundfile.read(DATA / corpus / clip["file"])
            number += 1
            for name in rows if number % EACH == 0 else ("1",):
                longer = PACES.get(name, 1.0)
                played = soxr.resample(sound, RATE, RATE * longer) if longer != 1.0 else sound
                rows[name].append(features(played))
                where[name].append(corpus)
                if number % HEARD_EACH == 0:
                    blocks = len(played) // 512
                    given = played[: blocks * 512].reshape(blocks, 512).astype(np.float32)
                    (speech,), _ = detector.forward([given], [detector.start()])
                    offered[name] += 1
                    heard[name] += bool((speech > 0.5).sum() * FRAME_S >= HEARD_S)
    found = {name: np.array(one) for name, one in rows.items()}
    of = {name: np.array(one) for name, one in where.items()}
    natural = found["1"]
    slow, fast = np.percentile(natural[:, 6], [1, 99])

    def rule(low: float, high: float, paced: bool) -> Callable[[Floats], npt.NDArray[np.bool_]]:
        def holds(rows: Floats) -> npt.NDArray[np.bool_]:
            below, above = rows[:, 0] < np.log2(low), rows[:, 0] > np.log2(high)
            if paced:
                return (below & (rows[:, 6] < slow)) | (above & (rows[:, 6] > fast))
            return np.asarray(below | above)

        return holds

    print(f"{len(natural)} clips, {len(found['2'])} at each other pace")
    for low, high, paced in ((55, 450, False), (55, 450, True), (70, 400, True)):
        holds = rule(low, high, paced)
        hits = {name: f"{holds(found[name]).mean():.0%}" for name in PACES}
        print(f"pitch {low} to {high}, pace {paced}: {holds(natural).sum()} false, found {hits}")
    for name in PACES:
        false = hits_there = 0
        for corpus in CORPORA:
            tells = fitted(natural[of["1"] != corpus], found[name][of[name] != corpus])
            false += int(tells(natural[of["1"] == corpus]).sum())
            hits_there += int(tells(found[name][of[name] == corpus]).sum())
        share = hits_there / len(found[name])
        print(f"fitted on other corpora, {name}: {false} false, found {share:.0%}")
    for name in rows:
        print(f"at {name} the voice detector hears {heard[name]} of {offered[name]}")


if __name__ == "__main__":
    main()
