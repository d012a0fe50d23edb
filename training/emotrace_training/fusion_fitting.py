"""Fitting a fusion model to windows, with modalities and context hidden at random.

Hiding teaches one model every situation that a session meets: a voice without words, words without
a voice, a first utterance, a gap. The loss is cross-entropy (models.md 2.6), weighted by class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.fusion import FusionModel, Inputs
from emotrace_models.types import FloatArray, Modality
from emotrace_training.windows import Windows

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FusionRecipe:
    """Shares of samples in which something is hidden: only_acoustic hides all words, only_lexical
    all sound, alone all context; gap hides single slots.

    balance: exponent of the inverse class frequency in the loss of composed dialogues.
    clips: weight of a single clip's loss, relative to a composed turn's.
    teacher: sharpness of what the acoustic tower says by itself (cosines to the prototypes), which
    is what the model learns where there are no words; 0: it learns the labels there too. Labels
    would teach it the errors that each tower makes about the few actors that it has not heard.
    """

    epochs: int = 5
    batch: int = 128
    rate: float = 1e-3
    decay: float = 1e-4
    smoothing: float = 0.05
    balance: float = 0.5
    clips: float = 1.0
    only_acoustic: float = 0.2
    only_lexical: float = 0.15
    alone: float = 0.2
    gap: float = 0.1
    teacher: float = 6.0


def class_weights(labels: NDArray[np.int64], classes: int, exponent: float) -> FloatArray:
    """A weight [turn] for each label, by the inverse frequency of its class; their mean is 1."""
    counts = np.maximum(1, np.bincount(labels[labels >= 0], minlength=classes))
    weights = (counts.astype(np.float64) ** -exponent)[np.maximum(labels, 0)]
    weights[labels < 0] = 0.0
    return np.asarray(weights / weights[labels >= 0].mean(), dtype=np.float32)


def fit(
    model: FusionModel,
    draws: Sequence[tuple[Windows, FloatArray]],
    recipe: FusionRecipe,
    seed: int,
    prototypes: Tensor,
    judge: Callable[[FusionModel], float],
    progress: Progress = lambda step, steps: None,
) -> tuple[FusionModel, list[float]]:
    """`model` with the weights of its best epoch, and what `judge` said of each epoch.

    draws: windows and the loss weight of each turn; one draw an epoch, in turn.
    prototypes: [class, embedding], of the classes in order.
    """
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    sizes = [-(-len(part.targets()) // recipe.batch) for part, _ in draws]
    steps = sum(sizes[epoch % len(draws)] for epoch in range(recipe.epochs))
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, steps, pct_start=0.15)
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history: list[float] = []
    step = 0
    for epoch in range(recipe.epochs):
        part, weights = draws[epoch % len(draws)]
        model.train()
        targets = generator.permutation(part.targets())
        for start in range(0, len(targets), recipe.batch):
            turns = targets[start : start + recipe.batch]
            keep = hidden(part, turns, recipe, generator)
            inputs, labels = part.gather(turns, keep)
            aims = aims_of(inputs, labels, prototypes, recipe)
            losses = F.cross_entropy(model(inputs).logits, aims, reduction="none")
            loss = (losses * torch.from_numpy(weights[turns])).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            step += 1
            progress(step, steps)
        history.append(judge(model.eval()))
        if history[-1] >= max(history):
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(best)
    return model.eval(), history


def aims_of(inputs: Inputs, labels: Tensor, prototypes: Tensor, recipe: FusionRecipe) -> Tensor:
    """What the model should say [turn, class]: the label, smoothed; where there are no words at
    all, what the acoustic tower says by itself."""
    count = len(prototypes)
    aims = F.one_hot(labels, count) * (1 - recipe.smoothing) + recipe.smoothing / count
    if recipe.teacher:
        wordless = ~(inputs[Modality.LEXICAL].lengths > 0).any(dim=1)
        sound = inputs[Modality.ACOUSTIC].values[:, 0, 0]
        taught = (recipe.teacher * sound @ prototypes.T).softmax(dim=1)
        aims = torch.where(wordless[:, None], taught, aims)
    return aims


def hidden(
    part: Windows,
    turns: NDArray[np.int64],
    recipe: FusionRecipe,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """What of each context may be seen: [turn, entry, stream]. Something of the current
    utterance always is."""
    count, names = len(turns), list(part.streams)
    keep = generator.random((count, part.entries.shape[1], len(names))) >= recipe.gap
    keep[generator.random(count) < recipe.alone, 1:] = False
    scene = generator.random(count)
    only_acoustic = scene < recipe.only_acoustic
    only_lexical = ~only_acoustic & (scene < recipe.only_acoustic + recipe.only_lexical)
    for only, stream in ((only_acoustic, Modality.ACOUSTIC), (only_lexical, Modality.LEXICAL)):
        for column, other in enumerate(names):
            if other != stream:
                keep[only, :, column] = False
    nothing = ~(keep[:, 0] & part.present[turns]).any(axis=1)
    keep[nothing, 0] = True
    return keep


def only(stream: str, part: Windows, alone: bool) -> NDArray[np.bool_]:
    """A `keep` [1, entry, stream] that shows one stream, with or without context."""
    keep = np.zeros((1, part.entries.shape[1], len(part.streams)), dtype=np.bool_)
    keep[:, : 1 if alone else None, list(part.streams).index(stream)] = True
    return keep


@torch.inference_mode()
def logits_of(
    model: FusionModel,
    part: Windows,
    turns: NDArray[np.int64],
    keep: NDArray[np.bool_] | None = None,
    batch: int = 512,
) -> FloatArray:
    """Logits [turn, class] of `turns`, of which only `keep` is seen."""
    model.eval()
    found = []
    for start in range(0, len(turns), batch):
        inputs, _ = part.gather(turns[start : start + batch], keep)
        found.append(model(inputs).logits.numpy())
    return np.concatenate(found)
