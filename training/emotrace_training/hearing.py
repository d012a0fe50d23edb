"""Acoustic vectors of composed dialogues, each speaker's utterances in the order of the dialogue.

A clip goes through the tower that never heard its actor, so that training and dev dialogues sound
to the fusion model as strangers do. What a tower knows of a voice is what that
voice said earlier in the same dialogue, as in a live one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from emotrace_models.encoders.acoustic_tower import AcousticTower
from emotrace_models.encoders.compact_acoustic import CompactAcousticConfig, collate
from emotrace_models.encoders.prototypes import in_frame
from emotrace_models.encoders.running_statistics import KEPT, views
from emotrace_models.types import FloatArray
from emotrace_training.acoustic_bank import Bank, build_bank
from emotrace_training.acoustic_study import load_tower
from emotrace_training.compose import ComposedDialogue
from emotrace_training.manifests import Record

BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """The towers of the folds, and the frames of the clips that each never heard."""

    towers: tuple[AcousticTower, ...]
    prior: Tensor
    anchor: float
    bank: Bank
    row: dict[str, int]  # file of a clip -> its row of the bank
    fold: dict[str, int]  # file of a clip -> the tower that never heard its actor
    width: int

    @torch.inference_mode()
    def hear(
        self,
        dialogues: Sequence[ComposedDialogue],
        progress: Callable[[int], None] = lambda turns: None,
    ) -> list[list[FloatArray | None]]:
        """A unit vector [width] for each turn that has a clip. Raises KeyError for other clips."""
        found: list[list[FloatArray | None]] = [[None] * len(d.turns) for d in dialogues]
        for tower, jobs in enumerate(self._jobs(dialogues)):
            jobs.sort(key=lambda job: int(self.bank.starts[job.clip, 0, 1]))
            for start in range(0, len(jobs), BATCH):
                batch = jobs[start : start + BATCH]
                vectors = self.towers[tower](*collate([self._input(job) for job in batch]))
                for job, vector in zip(batch, in_frame(vectors).numpy(), strict=True):
                    found[job.dialogue][job.turn] = vector
                progress(len(batch))
        return found

    def _jobs(self, dialogues: Sequence[ComposedDialogue]) -> list[list[_Job]]:
        """What each tower hears."""
        jobs: list[list[_Job]] = [[] for _ in self.towers]
        for number, dialogue in enumerate(dialogues):
            said: dict[str, NDArray[np.float64]] = {}
            for place, turn in enumerate(dialogue.turns):
                if turn.clip is None:
                    continue
                clip = self.row[turn.clip]
                earlier = said.get(turn.speaker, np.zeros((3, KEPT)))
                jobs[self.fold[turn.clip]].append(_Job(number, place, clip, earlier))
                said[turn.speaker] = earlier + self.bank.moments[clip, 0]
        return jobs

    def _input(self, job: _Job) -> tuple[Tensor, Tensor]:
        frames = torch.from_numpy(self.bank.spoken(job.clip, 0).astype(np.float32))
        mask = torch.ones(len(frames), dtype=torch.bool)
        own = torch.from_numpy(self.bank.moments[job.clip, 0])
        earlier = torch.from_numpy(job.earlier.astype(np.float32))
        return views(frames, mask, own, earlier, self.prior, self.anchor)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    dialogue: int
    turn: int
    clip: int
    earlier: NDArray[np.float64]  # moments [3, KEPT] of the speaker before


def load_listener(folder: Path, clips: Sequence[Record], workers: int) -> Listener:
    """The towers of folds that `acoustic` left in `folder`, over those `clips` that are held out by
    one of them.
    """
    config = CompactAcousticConfig(**json.loads((folder / "config.json").read_text()))
    with np.load(folder / "oof.npz") as held_out:
        fold = dict(zip(held_out["file"].tolist(), held_out["fold"].tolist(), strict=True))
    towers = [
        load_tower(folder / f"fold-{k}.safetensors", config) for k in range(max(fold.values()) + 1)
    ]
    known = [clip for clip in clips if clip.file in fold]
    # Variant 0 alone: the clips as they are.
    bank = build_bank(folder, known, [fold[clip.audio] for clip in known], 1, 0, workers)
    prior = load_file(folder / "encoder.safetensors")["prior"]
    row = {clip.audio: i for i, clip in enumerate(known)}
    return Listener(tuple(towers), prior, config.anchor, bank, row, fold, config.width)
