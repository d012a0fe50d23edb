"""What every encoder does: one utterance in, a vector or a sequence out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from emotrace_models.encoders.buckets import buckets
from emotrace_models.layers.precision import copied, weights_numerics
from emotrace_models.types import FloatArray, Modality, Utterance

# A frozen value that only its encoder understands; None where nothing is kept of a speaker.
SpeakerState = Any


class Encoder(nn.Module):
    """Maps an utterance to a vector [width] or a sequence [step, width] of one modality.

    Subclasses are registered by name and built as `cls(config, assets)`: a frozen config of
    `config_type`, and the files that `assets` names (a tokenizer, say) as bytes by file name.
    Where two encoders hear the same modality, each has a `stream` of its own.
    """

    modality: ClassVar[Modality]
    config_type: ClassVar[type[Any]]
    assets: ClassVar[tuple[str, ...]] = ()
    config: Any
    width: int
    asset_files: Mapping[str, bytes]  # what it was built with, for the bundle it goes into

    def __init__(self, config: Any, assets: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        given = assets or {}
        self.asset_files = {name: given[name] for name in self.assets if name in given}

    @property
    def stream(self) -> str:
        """What a fusion model knows its features by."""
        return self.modality.value

    @property
    def unavailable(self) -> str | None:
        """Why this machine lacks what the encoder needs, and the cure; None where it is ready.

        Without it every utterance lacks the modality, and everything else goes on.
        """
        return None

    @property
    def numerics(self) -> str:
        """What its network computes in: `fp32`, `bf16` (norms and sums may stay in fp32)."""
        return weights_numerics(self)

    def in_bf16(self) -> Encoder:
        """The same with what gains from it in bfloat16, for inference alone; features stay float32.
        Itself where nothing gains."""
        return self

    def copied(self) -> Self:
        """The same with weights of its own; what is no module (a detector, a tokenizer) is shared,
        since not all of it can be copied."""
        return copied(self)

    @classmethod
    @abstractmethod
    def small(cls) -> tuple[Any, Mapping[str, bytes]]:
        """The smallest useful config and assets, for the contract tests and toy bundles."""

    @abstractmethod
    def start(self) -> SpeakerState:
        """The state of a speaker who has not been heard."""

    @abstractmethod
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        """Features float32 and next states, item by item; None where the modality is absent.

        Pure: the result for an item depends neither on its companions nor on earlier calls.
        """


class NetworkEncoder(Encoder):
    """An encoder that keeps nothing of a speaker: a front end without weights, then a network.

    Training may cache what the front end gives and go on fitting the network behind it.

    pads: whether the network's features are the same in a padded batch as alone. Where they are
    not (group normalisation over time), only items of one length share a batch.
    graphed: whether the profile `fast` runs it as an 8-bit graph (onnx_text.py).
    """

    pads: ClassVar[bool] = False
    graphed: ClassVar[bool] = False

    @abstractmethod
    def front(self, utterance: Utterance) -> NDArray[Any] | None:
        """What the network reads [position, ...]; None where the modality is absent."""

    @abstractmethod
    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, position, ...], zeros on the right; lengths [item] positions.

        Gives features [item, step, width], zero beyond an item's steps, and steps [item].
        """

    def start(self) -> SpeakerState:
        return None

    @property
    def device(self) -> torch.device:
        """Where the network computes; the front end is the processor's work."""
        return next((one.device for one in self.parameters()), torch.device("cpu"))

    @torch.inference_mode()
    def encode(
        self, items: Sequence[tuple[SpeakerState, Utterance]]
    ) -> list[tuple[FloatArray | None, SpeakerState]]:
        results: list[tuple[FloatArray | None, SpeakerState]] = [(None, s) for s, _ in items]
        fronts = {
            i: front
            for i, (_, utterance) in enumerate(items)
            if (front := self.front(utterance)) is not None
        }
        there = list(fronts)
        lengths = [len(fronts[i]) for i in there]
        for bucket in buckets(lengths) if self.pads else buckets(lengths, 0.0):
            rows = [there[number] for number in bucket]
            padded, real = padded_fronts([fronts[i] for i in rows])
            features, steps = self(padded.to(self.device), real.to(self.device))
            for i, row, count in zip(rows, features.cpu().numpy(), steps.tolist(), strict=True):
                results[i] = (np.ascontiguousarray(row[:count]), items[i][0])
        return results


def padded_fronts(fronts: Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor]:
    """Arrays [position, ...] -> a batch [item, position, ...], zeros on the right, and lengths."""
    lengths = [len(front) for front in fronts]
    batch = np.zeros((len(fronts), max(lengths), *fronts[0].shape[1:]), dtype=fronts[0].dtype)
    for row, front in zip(batch, fronts, strict=True):
        row[: len(front)] = front
    return torch.from_numpy(batch), torch.tensor(lengths)
