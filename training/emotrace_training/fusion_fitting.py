"""Fitting a fusion model to windows, with modalities and context hidden at random.

Hiding teaches one model every situation that a session meets: a voice without words, words without
a voice, no camera, a first utterance, a gap. The loss is cross-entropy (models.md 2.6), weighted by
class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from emotrace_models.calibration import modality_key
from emotrace_models.fusion import FusionModel, Inputs
from emotrace_models.types import FloatArray, Modality
from emotrace_training.windows import Windows

Progress = Callable[[int, int], None]
A, L, V = Modality.ACOUSTIC, Modality.LEXICAL, Modality.FACIAL
# Mostly one modality alone: where voices and labels are shown together, the model learns the few
# actors' clips by heart (a clip is heard some fourteen times), and strangers suffer for it.
SCENES: tuple[tuple[tuple[Modality, ...], float], ...] = (
    ((L,), 0.35),
    ((A,), 0.20),
    ((V,), 0.10),
    ((A, L), 0.15),
    ((A, L, V), 0.10),
    ((A, V), 0.05),
    ((L, V), 0.05),
)


@dataclass(frozen=True, slots=True)
class FusionRecipe:
    """alone, gap: shares of samples in which all context is hidden, and of slots hidden singly.

    scenes: what a sample shows at all, and how often; a modality that a model has not is left out.
    balance: exponent of the inverse class frequency in the loss of composed dialogues.
    singles: weight of a single clip's or face's loss, relative to a composed turn's.
    teacher: by modality, the sharpness of what its tower says by itself (cosines to the
    prototypes), which is what the model learns where nothing else is shown; without it learns the
    labels there too. Labels of the voice would teach it the errors that each tower makes about the
    few actors that it has not heard.
    """

    epochs: int = 6
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1e-4
    smoothing: float = 0.05
    balance: float = 0.25
    singles: float = 1.0
    alone: float = 0.1
    gap: float = 0.05
    scenes: tuple[tuple[tuple[Modality, ...], float], ...] = SCENES
    teacher: Mapping[str, float] = field(default_factory=lambda: {A.value: 4.0, V.value: 4.0})


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
    """What the model should say [turn, class]: the label, smoothed; where one modality is shown
    alone and has a teacher, what its tower says by itself."""
    count = len(prototypes)
    aims = F.one_hot(labels, count) * (1 - recipe.smoothing) + recipe.smoothing / count
    shown = {name: (stream.lengths > 0).any(dim=1) for name, stream in inputs.items()}
    single = torch.stack(list(shown.values())).sum(dim=0) == 1
    for name in recipe.teacher.keys() & inputs.keys():
        vectors = inputs[name].values[:, 0, 0]
        taught = (recipe.teacher[name] * vectors @ prototypes.T).softmax(dim=1)
        aims = torch.where((shown[name] & single)[:, None], taught, aims)
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
    shown = np.array([[name in scene for name in names] for scene, _ in recipe.scenes])
    shares = np.array([share for _, share in recipe.scenes]) * shown.any(axis=1)
    keep &= shown[generator.choice(len(shown), count, p=shares / shares.sum())][:, None]
    nothing = ~(keep[:, 0] & part.present[turns]).any(axis=1)
    keep[nothing, 0] = True
    return keep


def only(streams: Sequence[str], part: Windows, alone: bool) -> NDArray[np.bool_]:
    """A `keep` [1, entry, stream] that shows some streams, with or without context."""
    keep = np.zeros((1, part.entries.shape[1], len(part.streams)), dtype=np.bool_)
    keep[:, : 1 if alone else None] = [name in streams for name in part.streams]
    return keep


def used_of(
    part: Windows, turns: NDArray[np.int64], keep: NDArray[np.bool_] | None = None
) -> NDArray[np.str_]:
    """What each turn is estimated from, [turn] of `modality_key`, empty where it shows nothing."""
    present = part.present[turns]
    seen = present if keep is None else present & keep[:, 0]
    names = [Modality(name) for name in part.streams]
    keys = {bits: modality_key([n for n, bit in zip(names, bits, strict=True) if bit])
            for bits in {tuple(row) for row in seen.tolist()}}  # fmt: skip
    return np.array([keys[tuple(row)] for row in seen.tolist()], dtype=np.str_)


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
