"""The authors' way of one utterance: both towers in float32, then twelve separate xLSTM stacks.

Paper: GatedxLSTM, equations 1 to 5, and its released code as models.md sections 2.1 to 2.4 tell it.
The weights are those of our own model and share its memory, so outputs can be compared.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_bench.full_size import Model
from emotrace_models.encoders.clap_audio import CLIP, MEL, quantised, repeated, upsampled
from emotrace_models.encoders.mel import mel_filters
from emotrace_models.encoders.subwords import PAD
from emotrace_models.fusion import GatedxLSTM
from emotrace_models.layers import XLSTMStack
from emotrace_models.types import FloatArray

PADDED = 77  # tokens: LAION pads and truncates every text to so many
FLOOR = 1e-10


class PapersNetwork:
    """Works on the device that the model's parts are on when it is made.

    package: whether the stacks are those of the package xlstm; else they are twelve of our own.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.package = importlib.util.find_spec("xlstm") is not None
        make = package_stack if self.package else own_stack
        state = model.fusion.encoders.state_dict()
        count = len(model.fusion.encoders)
        self._projections = [_part(state, f"{slot}.input_proj.") for slot in range(count)]
        self._stacks = [make(model.fusion, _part(state, f"{slot}.xlstm.")) for slot in range(count)]

    @torch.inference_mode()
    def hear(self, mel: Tensor) -> Tensor:
        """Log-mel [frame, band] -> the audio tower's unit vector [width]."""
        tower = self.model.audio.tower
        read = tower.audio_model(input_features=mel[None, None])
        return F.normalize(tower.audio_projection(read.pooler_output), dim=-1)[0]

    @torch.inference_mode()
    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask [token] -> the text tower's unit vector [width]."""
        tower = self.model.text.tower
        read = tower.text_model(input_ids=ids[None], attention_mask=mask[None])
        return F.normalize(tower.text_projection(read.pooler_output), dim=-1)[0]

    @torch.inference_mode()
    def encode(self, slots: Sequence[Tensor]) -> list[Tensor]:
        """Equation 2: vectors [width] by slot -> the last step of each slot's own stack."""
        steps = self.model.fusion.config.steps
        encoded = []
        for vector, projection, stack in zip(slots, self._projections, self._stacks, strict=True):
            x = F.linear(vector.view(1, steps, -1), projection["weight"], projection["bias"])
            encoded.append(stack(x)[0, -1])
        return encoded

    @torch.inference_mode()
    def classify(self, encoded: Sequence[Tensor], heard: Tensor) -> Tensor:
        """Equations 4 and 5: slots' features and the current audio vector -> logits [class]."""
        weights = self.model.fusion.gate(heard).sigmoid()
        gates = torch.cat([torch.ones_like(weights[:1]), weights])
        gated = [gate * feature for gate, feature in zip(gates, encoded, strict=True)]
        logits: Tensor = self.model.fusion.classifier(torch.cat(gated))
        return logits


class LaionFront:
    """LAION's log-mel: a transform by convolution with sines and cosines, as torchlibrosa has it.

    Resampling, quantisation and repetition of short sound are the same functions as ours.
    """

    def __init__(self) -> None:
        bins = MEL.n_fft // 2 + 1
        turns = 2 * np.pi * np.outer(np.arange(bins), np.arange(MEL.n_fft)) / MEL.n_fft
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL.n_fft) / MEL.n_fft)
        waves = np.concatenate([np.cos(turns), -np.sin(turns)]) * window
        self._waves = torch.from_numpy(waves.astype(np.float32))[:, None]
        self._bank = torch.from_numpy(mel_filters(MEL).copy())

    @torch.inference_mode()
    def __call__(self, samples: FloatArray) -> Tensor:
        """samples [sample] at 16 kHz -> [frame, band] in dB."""
        sound = torch.from_numpy(repeated(quantised(upsampled(samples))[:CLIP]))
        half = MEL.n_fft // 2
        padded = F.pad(sound[None, None], (half, half), mode="reflect")
        real, imaginary = F.conv1d(padded, self._waves, stride=MEL.hop)[0].chunk(2)
        power = (real.square() + imaginary.square()).T @ self._bank
        return 10.0 * power.clamp_min(FLOOR).log10()


def padded_tokens(ids: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
    """ids -> ids and mask [token], of `length` tokens at least."""
    missing = max(0, length - len(ids))
    return (
        torch.tensor([*ids, *[PAD] * missing]),
        torch.tensor([1] * len(ids) + [0] * missing),
    )


def package_stack(fusion: GatedxLSTM, state: dict[str, Tensor]) -> nn.Module:
    """A stack of the package xlstm whose tensors are those of `state`."""
    import xlstm

    config = fusion.config
    layer = xlstm.mLSTMLayerConfig(num_heads=config.heads, conv1d_kernel_size=config.kernel)
    stack: nn.Module = xlstm.xLSTMBlockStack(
        xlstm.xLSTMBlockStackConfig(
            xlstm.mLSTMBlockConfig(mlstm=layer),
            context_length=config.steps,
            num_blocks=config.blocks,
            embedding_dim=config.width,
        )
    )
    return _with_weights(stack, state)


def own_stack(fusion: GatedxLSTM, state: dict[str, Tensor]) -> nn.Module:
    config = fusion.config
    stack = XLSTMStack(config.width, config.blocks, config.heads, (), config.kernel)
    return _with_weights(stack, state)


def _with_weights(stack: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    stack.load_state_dict(state, assign=True)
    device = next(iter(state.values())).device
    return stack.to(device).eval()  # buffers follow the weights


def _part(state: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): cast(Tensor, tensor).detach()
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
