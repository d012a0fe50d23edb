"""A turn of the full-size model for a batch of dialogues, without a look at any value, so that a
CUDA graph can hold it: every shape is known beforehand, and every slot is filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_bench.dialogue import dialogue
from emotrace_bench.full_size import Model
from emotrace_models.encoders.base import padded_fronts


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """mel [dialogue, frame, band] in dB; ids [dialogue, token], all texts equally long; context
    [dialogue, slot, width]: unit vectors of the ten slots of earlier utterances."""

    mel: Tensor
    ids: Tensor
    context: Tensor

    def on(self, device: str, size: int) -> Batch:
        """The first `size` dialogues, there."""
        parts = (self.mel, self.ids, self.context)
        return Batch(*(part[:size].to(device) for part in parts))


class StaticTurn(nn.Module):
    """Weights are those of the model, which is used and not copied."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.audio, self.text, self.fusion = model.audio, model.text, model.fusion

    def forward(self, batch: Batch) -> Tensor:
        """-> logits [dialogue, class]."""
        heard, read = self._heard(batch.mel), self._read(batch.ids)
        slots = torch.cat([heard[:, None], read[:, None], batch.context], dim=1)
        features = self._encoded(slots)
        weights = self.fusion.gate(heard).sigmoid()
        gates = torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)
        logits: Tensor = self.fusion.classifier((features * gates[..., None]).flatten(1))
        return logits

    def _heard(self, mel: Tensor) -> Tensor:
        """Unit vectors [dialogue, width]."""
        lengths = torch.full((len(mel),), mel.shape[1], device=mel.device)
        vectors: Tensor = self.audio(mel, lengths)[0]
        return vectors[:, 0].float()

    def _read(self, ids: Tensor) -> Tensor:
        """Unit vectors [dialogue, width]. No text is padded. The tower would look at a mask of
        tokens to find that out; what is to be added to its scores it takes as it is."""
        weights = self.text.tower.text_projection.linear1.weight
        nothing = torch.zeros(len(ids), 1, 1, ids.shape[1], device=ids.device, dtype=weights.dtype)
        pooled = self.text.tower.text_model(input_ids=ids, attention_mask=nothing).pooler_output
        return F.normalize(self.text.tower.text_projection(pooled).float(), dim=-1)

    def _encoded(self, slots: Tensor) -> Tensor:
        """Equation 2, a stack a slot: [dialogue, slot, width] -> the same."""
        encoders, steps = self.fusion.encoders, self.fusion.config.steps
        x = torch.unflatten(slots, 2, (steps, -1)).transpose(0, 1)  # [slot, dialogue, step, ..]
        rows = encoders.input_proj(x.flatten(1, 2).transpose(1, 2), None).transpose(1, 2)
        last = torch.full(x.shape[:2], steps - 1, device=slots.device)
        y: Tensor = encoders.xlstm(torch.unflatten(rows, 1, x.shape[1:3]), last, None)
        return y.transpose(0, 1)


def batch_of(model: Model, size: int, seconds: float, tokens: int, seed: int) -> Batch:
    """Different utterances, in float32 on the processor."""
    said = dialogue(size, seconds, tokens, seed)
    mel = [front for one in said if (front := model.audio.front(one)) is not None]
    ids = [front for one in said if (front := model.text.front(one)) is not None]
    config = model.fusion.config
    rng = np.random.default_rng(seed)
    context = rng.normal(size=(size, config.slots - len(config.modalities), config.embedding))
    context /= np.linalg.norm(context, axis=-1, keepdims=True)
    return Batch(
        padded_fronts(mel)[0],
        padded_fronts(ids)[0],
        torch.from_numpy(context.astype(np.float32)),
    )
