"""What every tower of one ensemble is fitted with, and how one is fitted, scored and kept.

Towers of folds are scored on speakers that they never heard: whole clips as they are, and under
the virtual conditions of the bank.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from emotrace_models.encoders.acoustic_tower import AcousticTower
from emotrace_models.encoders.compact_acoustic import CompactAcousticConfig
from emotrace_training.acoustic_bank import Bank
from emotrace_training.acoustic_fitting import AcousticRecipe, fit_tower
from emotrace_training.acoustic_scoring import Scores, Tower, Voices, scores
from emotrace_training.manifests import Record

ALTERED = 2  # virtual conditions that a tower of a fold is scored under
WATCHED = 400  # held-out clips scored now and then
WATCH_EVERY = 5  # epochs


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """clips: those of the bank, in its order; fold: of each clip. out: the working folder.

    without: a corpus that shipped towers never hear, or empty.
    """

    clips: list[Record]
    fold: list[int]
    bank: Bank
    prior: Tensor
    config: CompactAcousticConfig
    recipe: AcousticRecipe
    seed: int
    out: Path
    without: str = ""

    def prepare(self, resume: bool) -> None:
        """The working folder; what an earlier run left there goes unless it is to be resumed."""
        self.out.mkdir(parents=True, exist_ok=True)
        if not resume:
            for pattern in ("fold-*", "tower-*", "report.json"):
                for file in self.out.glob(pattern):
                    file.unlink()

    @property
    def voices(self) -> Voices:
        return Voices(self.clips, self.bank, self.prior, self.config.anchor)

    def held(self, k: int) -> list[int]:
        return [i for i, fold in enumerate(self.fold) if fold == k]

    def fit_fold(self, k: int) -> None:
        """fold-k.safetensors, without the speakers of fold k, and its scores on them as JSON."""
        held = self.held(k)
        watched = sorted(np.random.default_rng(self.seed).permutation(held)[:WATCHED].tolist())
        chosen = [i for i, fold in enumerate(self.fold) if fold != k]
        if self._fit(f"fold-{k}", chosen, self.seed * 1_000 + k, watched):
            tower = self.tower(f"fold-{k}")
            found = {"clean": self.scores(tower, held, 0)}
            for variant in range(1, min(self.bank.variants, ALTERED + 1)):
                found[f"altered {variant}"] = self.scores(tower, held, variant)
            (self.out / f"fold-{k}.json").write_text(json.dumps(found, indent=2) + "\n")

    def fit_shipped(self, member: int) -> None:
        """tower-member.safetensors, fitted to the clips of all speakers."""
        chosen = [i for i, clip in enumerate(self.clips) if clip.corpus != self.without]
        self._fit(f"tower-{member}", chosen, self.seed * 1_000 + 500 + member, [])

    def tower(self, name: str) -> AcousticTower:
        return load_tower(self.out / f"{name}.safetensors", self.config)

    def scores(self, tower: Tower, chosen: Sequence[int], variant: int) -> dict[str, Scores]:
        vectors = self.voices.embed(tower, chosen, self.seed, variant)
        return scores(vectors, [self.clips[i] for i in chosen])

    def _fit(self, name: str, chosen: Sequence[int], seed: int, watched: Sequence[int]) -> bool:
        """Whether it was fitted: not where its weights are there."""
        weights = self.out / f"{name}.safetensors"
        if weights.exists():
            typer.echo(f"{name}: {weights} is there")
            return False
        began = time.monotonic()

        def report(epoch: int, loss: float, tower: AcousticTower) -> None:
            line = f"{name} epoch {epoch + 1} loss {loss:.3f} ({time.monotonic() - began:.0f} s)"
            if watched and (epoch + 1) % WATCH_EVERY == 0:
                found = self.scores(tower.eval(), watched, 0)
                line += "".join(f" {s} {found[s]['mean']:.3f}" for s in found)
            typer.echo(line)

        checkpoint = self.out / f"{name}.checkpoint"
        tower = fit_tower(
            self.clips, chosen, self.bank, self.prior, self.config, self.recipe, seed, checkpoint,
            report,
        )  # fmt: skip
        save_file({n: t.contiguous() for n, t in tower.state_dict().items()}, weights)
        checkpoint.unlink()
        return True


def load_tower(weights: Path, config: CompactAcousticConfig) -> AcousticTower:
    tower = AcousticTower(config.tower())
    tower.load_state_dict(load_file(weights))
    return tower.eval()
