"""Fits one tower of the acoustic ensemble to the clips it is given.

Cosine cross-entropy against the fixed class prototypes, with label smoothing, plus a supervised
contrastive term (Khosla et al., arXiv 2004.11362, equation 2); half of the batches are mixed
(Zhang et al., arXiv 1710.09412). Always the last epoch is kept: no epoch is chosen by a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.encoders.acoustic_tower import AcousticTower
from emotrace_models.encoders.compact_acoustic import CompactAcousticConfig
from emotrace_models.encoders.prototypes import EMOTIONS, class_prototypes
from emotrace_models.encoders.running_statistics import moments, views
from emotrace_training.acoustic_bank import Bank
from emotrace_training.acoustic_sampling import Batch, Sampler
from emotrace_training.acoustic_voices import disguised
from emotrace_training.losses import contrastive
from emotrace_training.manifests import Record
from emotrace_training.muon import muon_and_adamw
from emotrace_training.one_cycle import one_cycle


@dataclass(frozen=True, slots=True)
class AcousticRecipe:
    """scale: of the cosines. steps: batches an epoch. half: bfloat16 inside the tower.

    others: share of draws with an emotion beyond the main four. warp: largest relative change of
    frequencies, 0 for voices as they are. mixed: share of mixed batches.
    """

    epochs: int = 20
    steps: int = 64
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.05
    scale: float = 12.0
    smoothing: float = 0.1
    contrast: float = 0.1
    temperature: float = 0.2
    half: bool = True
    others: float = 0.43
    warp: float = 0.1
    mixed: float = 0.5


class Interrupted(ValueError):
    """A checkpoint that another recipe has made; the message says which file."""


def fit_tower(
    clips: Sequence[Record],
    chosen: Sequence[int],
    bank: Bank,
    prior: Tensor,
    config: CompactAcousticConfig,
    recipe: AcousticRecipe,
    seed: int,
    checkpoint: Path,
    report: Callable[[int, float, AcousticTower], None],
) -> AcousticTower:
    """The tower after the last epoch. `report` gets epoch, mean loss and tower after each epoch.

    A checkpoint is written after every epoch, and training goes on from one that is there; each
    epoch has its own seed, so a resumed run draws what an unbroken one would have drawn.
    """
    torch.manual_seed(seed)
    tower = AcousticTower(config.tower())
    tower.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = muon_and_adamw(tower, recipe.rate, recipe.decay)
    schedules = one_cycle(optimizers, recipe.rate, recipe.epochs * recipe.steps, warm=0.2)
    parts: list[Any] = [*optimizers, *schedules]
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] != asdict(recipe) or saved["seed"] != seed:
            raise Interrupted(f"{checkpoint} is of another recipe; remove it or use that recipe")
        tower.load_state_dict(saved["tower"])
        for part, state in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(state)
        first = saved["epochs"]
    for epoch in range(first, recipe.epochs):
        torch.manual_seed(seed * 10_007 + epoch)
        rng = np.random.default_rng([seed, epoch])
        sampler = Sampler(clips, chosen, bank, rng, recipe.others)
        tower.train()
        total = 0.0
        for _ in range(recipe.steps):
            batch = sampler.batch(recipe.batch)
            if recipe.warp:
                batch = disguised(batch, recipe.warp, rng)
            inputs = network_inputs(batch, prior, config.anchor)
            loss = step_loss(tower, *inputs, recipe, rng)
            tower.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(tower.parameters(), 5.0)
            for part in parts:
                part.step()
            total += loss.item()
        saved = {
            "recipe": asdict(recipe),
            "seed": seed,
            "epochs": epoch + 1,
            "tower": tower.state_dict(),
            "parts": [part.state_dict() for part in parts],
        }
        temporary = checkpoint.with_suffix(".tmp")
        torch.save(saved, temporary)
        temporary.replace(checkpoint)
        report(epoch, total / recipe.steps, tower)
    return tower.eval()


def network_inputs(
    batch: Batch, prior: Tensor, anchor: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """bands, contours, lengths, labels: the arguments of the tower and what it should say."""
    own = moments(batch.frames, batch.mask)
    bands, contours = views(batch.frames, batch.mask, own, batch.earlier, prior, anchor)
    return bands, contours, batch.mask.sum(dim=1), batch.labels


def step_loss(
    tower: AcousticTower,
    bands: Tensor,
    contours: Tensor,
    lengths: Tensor,
    labels: Tensor,
    recipe: AcousticRecipe,
    rng: np.random.Generator,
) -> Tensor:
    bands, contours = masked(bands, contours, rng)
    targets = F.one_hot(labels, len(EMOTIONS)).float()
    mixed = rng.random() < recipe.mixed
    if mixed:
        share = float(rng.beta(0.4, 0.4))
        share = max(share, 1 - share)
        order = torch.from_numpy(rng.permutation(len(labels)))
        bands = share * bands + (1 - share) * bands[order]
        contours = share * contours + (1 - share) * contours[order]
        targets = share * targets + (1 - share) * targets[order]
        lengths = torch.maximum(lengths, lengths[order])
    bands = bands.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
        vectors = tower(bands, contours, lengths)
    vectors = F.normalize(vectors.float(), dim=-1)
    logits = recipe.scale * vectors @ class_prototypes(vectors.shape[1]).T
    targets = targets * (1 - recipe.smoothing) + recipe.smoothing / len(EMOTIONS)
    loss = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    if not mixed:
        loss = loss + recipe.contrast * contrastive(vectors, labels, recipe.temperature)
    return loss


def masked(bands: Tensor, contours: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """SpecAugment (Park et al., arXiv 1904.08779), and now and then a whole view left out."""
    bands, contours = bands.clone(), contours.clone()
    count, _, rows, frames = bands.shape
    for item in range(count):
        for _ in range(2):
            high = int(rng.integers(0, 11))
            low = int(rng.integers(0, rows - high + 1))
            bands[item, :, low : low + high] = 0
            long = int(rng.integers(0, min(25, frames // 6)))
            start = int(rng.integers(0, frames - long + 1))
            bands[item, :, :, start : start + long] = 0
        dice = rng.random()
        if dice < 0.08:
            bands[item, 0] = 0
        elif dice < 0.16:
            bands[item, 1] = 0
        elif dice < 0.24:
            contours[item] = 0
    return bands, contours
