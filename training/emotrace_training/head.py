"""The last layer of a fusion model: found, given other classes, and fitted while all else stays.

Rows of classes that the model had are kept; a class that is new to it begins as the mean of the
rows that it had, which prefers nothing. What the layer reads of an utterance does not change while
it is fitted, so it is computed once, and the fit is a multinomial logistic regression that begins
where the layer was and stops early. Utterances stand without context: in a model that leaves empty
slots out, the layer reads zeros of context and of modalities that no utterance has, and its weights
for these stay.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.fusion import FusionModel
from emotrace_models.types import FloatArray, UtteranceFeatures
from emotrace_training.telling import TrainingError
from emotrace_training.windows import HeardTurn, Windows, windows

EPOCHS, PATIENCE = 40, 5
STEPS = 4  # of L-BFGS an epoch
BATCH = 64
BALANCE = 0.5  # exponent of the inverse frequency of a class in the loss


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """weight [class, width], bias [class]."""

    weight: Tensor
    bias: Tensor

    def logits(self, read: Tensor) -> FloatArray:
        """read [row, width] -> raw logits [row, class]."""
        return np.asarray(F.linear(read, self.weight, self.bias).numpy(), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What the layer reads of utterances [row, width]; truth [row]; weight [row] of each."""

    read: Tensor
    truth: NDArray[np.int64]
    weight: FloatArray

    def of(self, rows: NDArray[np.bool_]) -> Examples:
        return Examples(self.read[torch.from_numpy(rows)], self.truth[rows], self.weight[rows])


def head_of(model: FusionModel) -> Head:
    """Raises TrainingError where there is no single last layer."""
    layer = model.get_submodule(_name(model))
    assert isinstance(layer, nn.Linear)
    return Head(layer.weight.detach().clone(), layer.bias.detach().clone())


def with_classes(model: FusionModel, old: Sequence[str], new: Sequence[str]) -> FusionModel:
    """The same model for other classes. Raises TrainingError where it has no such last layer."""
    name, other = _name(model), _built(model, len(new))
    fresh = other.state_dict()
    for key, tensor in model.state_dict().items():
        if key.rpartition(".")[0] == name:
            mean = tensor.mean(dim=0)
            rows = [tensor[list(old).index(one)] if one in old else mean for one in new]
            tensor = torch.stack(rows)
        fresh[key] = tensor
    other.load_state_dict(fresh)
    return other.eval()


def with_head(model: FusionModel, head: Head) -> FusionModel:
    """A copy of the model with another last layer of the same size."""
    made = copy.deepcopy(model)
    made.get_submodule(_name(model)).load_state_dict({"weight": head.weight, "bias": head.bias})
    return made


def turns_of(
    model: FusionModel, features: Sequence[UtteranceFeatures], truth: NDArray[np.int64]
) -> Windows:
    """Utterances without context, as the model reads them."""
    dialogues = [
        [HeardTurn(one.speaker, one.streams, int(label))]
        for one, label in zip(features, truth, strict=True)
    ]
    widths = {name: spec.width for name, spec in model.streams.items()}
    return windows(dialogues, widths, model.start_window())


@torch.no_grad()
def read_by_head(
    model: FusionModel,
    turns: Windows,
    rows: NDArray[np.int64],
    keep: NDArray[np.bool_] | None = None,
) -> Tensor:
    """What the last layer reads [row, width]; keep: as in Windows.gather.

    Raises TrainingError where the logits are no linear function of it.
    """
    layer, found = model.get_submodule(_name(model)), []
    head = head_of(model)
    for first in range(0, len(rows), BATCH):
        caught: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, given, to=caught: to.append(given[0]))
        try:
            output = model(turns.gather(rows[first : first + BATCH], keep)[0])
        finally:
            handle.remove()
        # GatedxLSTM uses the layer's columns a slot at a time, and calls no layer.
        explain = output.explain
        if not caught and {"features", "gates"} <= explain.keys():
            caught.append((explain["features"] * explain["gates"][..., None]).flatten(1))
        logits = F.linear(caught[-1], head.weight, head.bias) if caught else None
        if logits is None or not torch.allclose(logits, output.logits, rtol=1e-3, atol=1e-3):
            raise _no_head(model)
        found.append(caught[-1])
    return torch.cat(found)


def fit_head(
    start: Head, train: Examples, valid: Examples | None, epochs: int = EPOCHS
) -> tuple[Head, int]:
    """The layer fitted to `train`, and after how many epochs it was best.

    With `valid` it stops where their likelihood is best; without, after `epochs`. Nothing in it is
    left to chance.
    """
    weight = start.weight.clone().requires_grad_()
    bias = start.bias.clone().requires_grad_()
    truth = torch.from_numpy(train.truth)
    counts = np.bincount(train.truth, train.weight, minlength=len(bias))
    balance = np.maximum(counts / counts.mean(), 1e-3) ** -BALANCE
    weights = torch.from_numpy(train.weight * balance[train.truth]).float()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        losses = F.cross_entropy(F.linear(train.read, weight, bias), truth, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        torch.autograd.backward(loss)
        return loss.item()

    best, kept, at = float("inf"), start, 0
    for epoch in range(1, epochs + 1):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        head = Head(weight.detach().clone(), bias.detach().clone())
        if valid is None:
            kept, at = head, epoch
            continue
        cost = _cost(head, valid)
        if cost < best:
            best, kept, at = cost, head, epoch
        elif epoch - at >= PATIENCE:
            break
    return kept, at


def _cost(head: Head, part: Examples) -> float:
    logits = F.linear(part.read, head.weight, head.bias)
    losses = F.cross_entropy(logits, torch.from_numpy(part.truth), reduction="none")
    return float(np.average(losses.numpy(), weights=part.weight))


def _name(model: FusionModel) -> str:
    """Of the one layer whose shape follows the number of classes. Raises TrainingError."""
    other = _built(model, int(cast(Any, model).config.classes) + 1).state_dict()
    grown = {k for k, tensor in model.state_dict().items() if tensor.shape != other[k].shape}
    names = {key.rpartition(".")[0] for key in grown}
    name = next(iter(names), "")
    layer = model.get_submodule(name)
    if len(names) != 1 or not isinstance(layer, nn.Linear) or layer.bias is None:
        raise _no_head(model)
    return name


def _no_head(model: FusionModel) -> TrainingError:
    return TrainingError(
        f"the fusion model {type(model).__name__} has no single last layer that can be given other "
        "classes; train a model of your own with `emotrace-train fit`"
    )


def _built(model: FusionModel, classes: int) -> FusionModel:
    return type(model)(replace(cast(Any, model).config, classes=classes))
