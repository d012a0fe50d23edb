"""The frames of all clips and virtual speakers, analysed once and kept on disk.

A bank is a folder `bank-<key>/`, where the key is a hash of the clips and of every setting, so a
bank is never used for something that it was not made for. A part that is there is not made again:
a killed run goes on where it stopped. Frames are float16: their noise, 0.4 % at the most, is far
below that of any recording.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from emotrace_models.encoders.running_statistics import KEPT, MARGIN, active_range, moments
from emotrace_models.encoders.spectral import COLUMNS, analyse
from emotrace_models.types import FloatArray
from emotrace_training.augmentation import CLEAN, apply, draw_condition
from emotrace_training.manifests import Record, as_json, read_sound

FORMAT = 2
PART = 128  # clips of one file of the bank
VOICES = 4  # that make up a babble


@dataclass(frozen=True, slots=True, eq=False)
class Bank:
    """starts [clip, variant, 2]: first row and number of rows in `frames` [row, COLUMNS].

    moments [clip, variant, 3, KEPT]. active [clip, variant, 2]: first and last frame of speech.
    Variant 0 is the clip itself.
    """

    frames: Sequence[NDArray[np.float16]]  # a part each
    starts: NDArray[np.int64]
    moments: NDArray[np.float32]
    active: NDArray[np.int64]

    @property
    def variants(self) -> int:
        return int(self.starts.shape[1])

    def clip(self, clip: int, variant: int) -> NDArray[np.float16]:
        """The frames [frame, COLUMNS] of one clip."""
        start, rows = self.starts[clip, variant]
        return self.frames[clip // PART][start : start + rows]

    def spoken(self, clip: int, variant: int) -> NDArray[np.float16]:
        """The frames that the encoder hears: what `without_silence` leaves."""
        first, last = self.active[clip, variant]
        return self.clip(clip, variant)[max(0, int(first) - MARGIN) : int(last) + 1 + MARGIN]


def build_bank(
    folder: Path,
    clips: Sequence[Record],
    folds: Sequence[int],
    variants: int,
    seed: int,
    workers: int,
) -> Bank:
    """The bank of `clips`, made where it is not there. folds: babble comes from the same fold.

    Raises ManifestError for a clip that cannot be read.
    """
    key = _key(clips, folds, variants, seed)
    place = folder / f"bank-{key}"
    place.mkdir(parents=True, exist_ok=True)
    parts = range(0, len(clips), PART)
    waiting = [p for p in parts if not (place / f"{p}.npz").exists()]
    if waiting:
        jobs = [(place, list(clips), list(folds), variants, seed, part) for part in waiting]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for _ in tqdm(pool.map(_make_part, jobs), total=len(jobs), desc="frames"):
                pass
    tables = [np.load(place / f"{p}.npz") for p in parts]
    return Bank(
        frames=[np.load(place / f"{p}.npy", mmap_mode="r") for p in parts],
        starts=np.concatenate([t["starts"] for t in tables]),
        moments=np.concatenate([t["moments"] for t in tables]),
        active=np.concatenate([t["active"] for t in tables]),
    )


def _make_part(job: tuple[Path, list[Record], list[int], int, int, int]) -> None:
    place, clips, folds, variants, seed, part = job
    torch.set_num_threads(1)
    rows: list[NDArray[np.float16]] = []
    count = min(PART, len(clips) - part)
    starts = np.zeros((count, variants, 2), np.int64)
    sums = np.zeros((count, variants, 3, KEPT), np.float32)
    active = np.zeros((count, variants, 2), np.int64)
    used = 0
    for index in range(count):
        clip = clips[part + index]
        samples = read_sound(clip)
        for variant in range(variants):
            rng = np.random.default_rng([seed, variant, part + index])
            condition = CLEAN
            if variant:  # one condition for all clips of the speaker
                voice = int.from_bytes(hashlib.sha256(clip.speaker.encode()).digest()[:4], "big")
                condition = draw_condition(np.random.default_rng([seed, variant, voice]))
            babble = samples
            if condition.channel == "babble":
                babble = _babble(clips, folds, part + index, rng)
            frames = analyse(torch.from_numpy(apply(condition, samples, babble, rng)))
            everything = torch.ones(len(frames), dtype=torch.bool)
            starts[index, variant] = used, len(frames)
            sums[index, variant] = moments(frames, everything).numpy()
            active[index, variant] = active_range(frames)
            rows.append(frames.numpy().astype(np.float16))
            used += len(frames)
    np.save(place / f"{part}.npy", np.concatenate(rows).reshape(-1, COLUMNS))
    # The table comes last and at once: where it is, the part is whole.
    temporary = place / f"{part}.{os.getpid()}.tmp.npz"
    np.savez(temporary, starts=starts, moments=sums, active=active)
    temporary.replace(place / f"{part}.npz")


def _babble(
    clips: Sequence[Record], folds: Sequence[int], index: int, rng: np.random.Generator
) -> FloatArray:
    """Other speakers of the same fold at once, so that no fold hears another."""
    near = [
        i
        for i, clip in enumerate(clips)
        if folds[i] == folds[index] and clip.speaker != clips[index].speaker
    ] or [index]
    voices = [read_sound(clips[int(i)]) for i in rng.choice(near, VOICES)]
    length = max(len(v) for v in voices)
    total = np.sum([np.resize(v / (np.std(v) + 1e-6), length) for v in voices], axis=0)
    return np.asarray(total, dtype=np.float32)


def _key(clips: Sequence[Record], folds: Sequence[int], variants: int, seed: int) -> str:
    described = {
        "format": FORMAT,
        "clips": [as_json(clip) for clip in clips],
        "folds": list(folds),
        "variants": variants,
        "seed": seed,
        "columns": COLUMNS,
        "part": PART,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
