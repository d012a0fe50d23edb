"""Fits the network of the face encoder to FER2013.

Cosine cross-entropy against the fixed class prototypes, with label smoothing, on faces that are
varied anew in every epoch. What is kept is the running average of the weights (Polyak and Juditsky,
1992) after the last epoch: no epoch is chosen by a score.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.encoders.face_tower import FaceTower, FaceTowerConfig
from emotrace_models.encoders.prototypes import class_prototypes
from emotrace_training.face_views import varied
from emotrace_training.muon import muon_and_adamw
from emotrace_training.one_cycle import one_cycle
from emotrace_training.telling import TrainingError


@dataclass(frozen=True, slots=True)
class FaceRecipe:
    """scale: of the cosines. average: what the running average keeps at each step.
    coarse: epochs at first on faces of `coarse_side` pixels, which cost half as much.
    half: bfloat16 inside the tower.
    """

    epochs: int = 20
    coarse: int = 8
    coarse_side: int = 32
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.05
    scale: float = 12.0
    smoothing: float = 0.05
    average: float = 0.995
    half: bool = True


def fit_tower(
    pixels: Tensor,
    labels: Tensor,
    config: FaceTowerConfig,
    recipe: FaceRecipe,
    seed: int,
    checkpoint: Path,
    report: Callable[[int, float, FaceTower], None],
    start: Mapping[str, Tensor] | None = None,
) -> FaceTower:
    """pixels [face, 1, side, side] uint8; labels [face], indices of prototypes.EMOTIONS.
    start: weights to begin with, of an earlier run whose end was too early (a warm restart:
    Loshchilov & Hutter, arXiv 1608.03983).

    `report` gets epoch, mean loss and the averaged tower after each epoch. A checkpoint is written
    then, and training goes on from one that is there; each epoch has its own seed, so a resumed run
    draws what an unbroken one would have drawn.
    """
    torch.manual_seed(seed)
    tower: FaceTower = FaceTower(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if start is not None:
        tower.load_state_dict(start)
    kept: FaceTower = copy.deepcopy(tower).eval().requires_grad_(False)
    optimizers = muon_and_adamw(tower, recipe.rate, recipe.decay)
    batches = math.ceil(len(labels) / recipe.batch)
    schedules = one_cycle(optimizers, recipe.rate, recipe.epochs * batches, warm=0.2)
    parts: list[Any] = [tower, kept, *optimizers, *schedules]
    made_by = {"recipe": asdict(recipe), "config": asdict(config), "seed": seed}
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if any(saved[name] != value for name, value in made_by.items()):
            raise TrainingError(f"{checkpoint} is of another recipe; remove it or use that recipe")
        for part, state in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        first = saved["epochs"]
    for epoch in range(first, recipe.epochs):
        torch.manual_seed(seed * 10_007 + epoch)
        generator = torch.Generator().manual_seed(seed * 10_007 + epoch)
        tower.train()
        total = 0.0
        side = recipe.coarse_side if epoch < recipe.coarse else pixels.shape[-1]
        for rows in torch.split(torch.randperm(len(labels), generator=generator), recipe.batch):
            seen = varied(pixels[rows].float(), side, generator)
            loss = step_loss(tower, seen, labels[rows], recipe)
            tower.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            done = schedules[0].last_epoch
            follow(kept, tower, min(recipe.average, done / (done + 9)))
            total += loss.item()
        states = [part.state_dict() for part in parts]
        temporary = checkpoint.with_suffix(".tmp")
        torch.save({"parts": states, **made_by, "epochs": epoch + 1}, temporary)
        temporary.replace(checkpoint)
        report(epoch, total / batches, kept)
    return kept


def step_loss(tower: FaceTower, pixels: Tensor, labels: Tensor, recipe: FaceRecipe) -> Tensor:
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
        vectors = tower(pixels)
    vectors = F.normalize(vectors.float(), dim=-1)
    logits = recipe.scale * vectors @ class_prototypes(vectors.shape[1]).T
    return F.cross_entropy(logits, labels, label_smoothing=recipe.smoothing)


@torch.no_grad()
def follow(kept: FaceTower, tower: FaceTower, share: float) -> None:
    """Weights and running statistics of `kept` a step towards those of `tower`."""
    for own, new in zip(kept.state_dict().values(), tower.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.mul_(share).add_(new, alpha=1 - share)
        else:
            own.copy_(new)
