"""What is trained: a fusion model and the encoders that are tuned with it, as one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emotrace_models import registry
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.fusion import FusionModel, Inputs, Sequences
from emotrace_models.layers.standardise import Standardise
from emotrace_training.recipe import Recipe, RecipeError
from emotrace_training.tables import Batch, FrontBatch, Table
from emotrace_training.windows import EMPTY

SAMPLED = 512  # training turns that a tuned stream's mean and deviation are estimated from


class Learner(nn.Module):
    """Contexts in, logits [row, class] out; encoders: of tuned streams."""

    def __init__(self, fusion: FusionModel, encoders: Mapping[str, NetworkEncoder]) -> None:
        super().__init__()
        self.fusion = fusion
        self.encoders = nn.ModuleDict(encoders)

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.fusion(self.inputs(batch)).logits
        return logits

    def inputs(self, batch: Batch) -> Inputs:
        """What the fusion model reads."""
        return {
            name: batch.features[name]
            if name in batch.features
            else encoded(self.encoders[name], batch.fronts[name])
            for name in self.fusion.streams
        }


def encoded(encoder: nn.Module, fronts: FrontBatch) -> Sequences:
    """Each utterance once through the encoder, then to wherever it stands."""
    assert isinstance(encoder, NetworkEncoder)
    if not len(fronts.values):
        shape = (*fronts.where.shape, 1, encoder.width)
        device = fronts.where.device
        return Sequences(torch.zeros(shape, device=device), torch.zeros_like(fronts.where))
    if encoder.pads:
        features, steps = encoder(fronts.values, fronts.lengths)
    else:
        features, steps = _by_length(encoder, fronts)
    seen = fronts.where != EMPTY
    rows = fronts.where.clamp(min=0)
    return Sequences(
        features[rows] * seen[..., None, None],
        torch.where(seen, steps[rows], torch.zeros_like(rows)),
    )


def _by_length(encoder: NetworkEncoder, fronts: FrontBatch) -> tuple[Tensor, Tensor]:
    """For encoders in which padding would be heard: one pass for each length."""
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for length in sorted(set(fronts.lengths.tolist())):
        own = (fronts.lengths == length).nonzero().squeeze(1)
        features, steps = encoder(fronts.values[own, :length], fronts.lengths[own])
        for row, one, count in zip(own.tolist(), features, steps, strict=True):
            found[row] = (one, count)
    longest = max(one.shape[0] for one, _ in found.values())
    ordered = [found[row] for row in range(len(fronts.lengths))]
    return (
        torch.stack([nn.functional.pad(one, (0, 0, 0, longest - len(one))) for one, _ in ordered]),
        torch.stack([count for _, count in ordered]),
    )


def build_fusion(recipe: Recipe) -> FusionModel:
    """The recipe's fusion model with random weights. Raises RecipeError."""
    where = f"{recipe.name}: model"
    try:
        config = registry.configured("fusion", recipe.model.name, model_config(recipe))
    except (registry.UnknownName, registry.BadConfig) as error:
        raise RecipeError(f"{where}: {error}") from error
    model: FusionModel = registry.lookup("fusion", recipe.model.name)(config)
    if set(model.streams) != set(recipe.streams):
        raise RecipeError(
            f"{where}: {recipe.model.name} takes the streams {', '.join(model.streams)}; the "
            f"recipe has {', '.join(recipe.streams)}"
        )
    return model


def model_config(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.model.config, "classes": len(recipe.data.label_set.names)}


def check_widths(recipe: Recipe, model: FusionModel, widths: Mapping[str, int]) -> None:
    """Raises RecipeError where a stream is not as wide as the model expects."""
    for name, width in widths.items():
        if (expected := model.streams[name].width) != width:
            raise RecipeError(
                f"{recipe.name}: stream {name} is {width} wide, and model {recipe.model.name} is "
                f"set to {expected}: correct the model's width of this stream"
            )


@torch.inference_mode()
def fill_standardise(learner: Learner, table: Table, turns: NDArray[np.int64]) -> None:
    """Mean and deviation of each stream's steps over `turns` (of the training split) into the
    model's buffers, where it has some."""
    modules = getattr(learner.fusion, "standardise", None)
    if not isinstance(modules, nn.ModuleDict):
        return
    for name, module in modules.items():
        assert isinstance(module, Standardise)
        column = table.streams.index(name)
        own = turns[table.present[turns, column]]
        if name in table.fronts:
            own = own[np.linspace(0, len(own) - 1, min(SAMPLED, len(own))).astype(int)]
        total = torch.zeros(2, learner.fusion.streams[name].width, dtype=torch.float64)
        count = 0
        learner.eval()
        for start in range(0, len(own), 64):
            batch = table.batch(own[start : start + 64])
            stream = learner.inputs(batch)[name]
            steps = stream.values[:, 0][stream.mask()[:, 0]].double()
            total += torch.stack([steps.sum(0), steps.square().sum(0)])
            count += len(steps)
        if count:
            mean = total[0] / count
            deviation = (total[1] / count - mean.square()).clamp(min=0).sqrt()
            module.fit(mean.float(), deviation.float())
