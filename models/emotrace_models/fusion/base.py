"""What every fusion model does: the streams of a context in, raw logits and their reasons out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from emotrace_models.context import UtteranceWindow, Window
from emotrace_models.layers.masking import real_steps
from emotrace_models.layers.precision import weights_numerics
from emotrace_models.types import Modality


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """What a fusion model takes of one stream: [step, width]; a vector is one step.

    steps: how many; None for any number.
    """

    modality: Modality
    width: int
    steps: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """One stream of a batch of contexts.

    values [batch, entry, step, width] float32, padded with zeros on the right;
    lengths [batch, entry] int64: real steps, 0 where the slot is empty.
    """

    values: Tensor
    lengths: Tensor

    def mask(self) -> Tensor:
        """[batch, entry, step] bool: which steps are real."""
        return real_steps(self.values.shape[2], self.lengths)

    def current(self) -> tuple[Tensor, Tensor]:
        """The current utterance: values [batch, step, width], zero where padded, and lengths
        [batch], for models without context."""
        values = self.values[:, 0].masked_fill(~self.mask()[:, 0, :, None], 0.0)
        return values, self.lengths[:, 0]


Inputs = Mapping[str, Sequences]  # by stream


@dataclass(frozen=True, slots=True, eq=False)
class FusionOutput:
    """logits [batch, class], raw; explain: the interpretable tensors named in models.md.

    Of a model with `additive`, explain has `contributions` [batch, slot, class] and `bias` [class],
    whose sum is the logits. `gates` [batch, slot] stands there where the model has gates.
    Slots are entries times streams: s = entry * (number of streams) + stream.
    """

    logits: Tensor
    explain: dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Slot features of earlier passes: features [batch, slot, width]; have [batch, slot] bool."""

    features: Tensor
    have: Tensor


class FusionModel(nn.Module):
    """Registered by name and built from a frozen config, `config_type`. Never applies softmax.

    Every model takes any stream as absent (lengths 0) and then gives finite logits; whether they
    are of use depends on its training, which a bundle states (`Bundle.requires`).

    streams: what it takes, in the order of its slots. additive: see FusionOutput.
    slot_readers: by slot, the part of the model that reads it, where a slot's feature depends on
    nothing but that part and the slot's utterance (models.md 2.10). Such a model puts the features
    into explain as `features` [batch, slot, width], and takes them back as `known`.
    """

    config_type: ClassVar[type[Any]]
    additive: bool = False
    streams: Mapping[str, StreamSpec]
    slot_readers: tuple[int, ...] | None = None

    @classmethod
    @abstractmethod
    def small_config(cls, classes: int) -> Any:
        """A config of the smallest useful size: for the contract tests and toy bundles."""

    def start_window(self) -> Window:
        """The context that the model needs, of a dialogue in which nobody has spoken."""
        return UtteranceWindow()

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(dict.fromkeys(spec.modality for spec in self.streams.values()))

    @property
    def stream_modalities(self) -> Mapping[str, Modality]:
        return {name: spec.modality for name, spec in self.streams.items()}

    @property
    def numerics(self) -> str:
        """What it computes in: `fp32`, `bf16` (large products; the rest stays in fp32)."""
        return weights_numerics(self)

    def in_bf16(self) -> FusionModel:
        """The same with what gains from it in bfloat16, for inference alone; inputs and outputs
        stay float32. Itself where nothing gains."""
        return self

    @abstractmethod
    def forward(self, inputs: Inputs) -> FusionOutput:
        """inputs: every one of `streams`. Nothing is read beyond a sequence's length."""


def slots_of(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Streams of one width as slots: values [batch, slot, step, width], zero where padded or
    empty, and lengths [batch, slot]."""
    steps = max(stream.values.shape[2] for stream in inputs.values())
    values = [
        nn.functional.pad(
            stream.values.masked_fill(~stream.mask()[..., None], 0.0),
            (0, 0, 0, steps - stream.values.shape[2]),
        )
        for stream in inputs.values()
    ]
    lengths = [stream.lengths for stream in inputs.values()]
    return torch.stack(values, dim=2).flatten(1, 2), torch.stack(lengths, dim=2).flatten(1, 2)
