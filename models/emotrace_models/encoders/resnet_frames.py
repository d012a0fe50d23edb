"""ResNet frames: pictures of a speaker -> a sequence of features, one a frame.

Paper: cross-modal attention with Tucker (Kumar et al., 2025), section 2; models.md sections 7.1 and
7.3. The BiGRU behind the frames belongs to the fusion model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from emotrace_models.encoders.base import NetworkEncoder
from emotrace_models.encoders.pictures import centre_square, scaled, spread
from emotrace_models.layers.masking import real_steps
from emotrace_models.layers.resnet import ResNet, ResNetConfig, Stem, config_of, torchvision_names
from emotrace_models.picture_decoding import PictureUnreadable, Pixels, Seeing
from emotrace_models.registry import register
from emotrace_models.types import SAMPLE_RATE, Frame, Modality, Utterance

# Of the pictures that ImageNet's weights were trained on; grey ones are ours.
MEANS = {3: (0.485, 0.456, 0.406), 1: (0.5,)}
DEVIATIONS = {3: (0.229, 0.224, 0.225), 1: (0.25,)}


@dataclass(frozen=True, slots=True)
class ResNetFramesConfig:
    """The defaults are the paper's: 90 pictures of 224 x 224 through ResNet-18.

    frames: spread over `seconds` in the middle of the utterance. size: pixels of a side.
    colours, widths, blocks, stem: of the network (layers/resnet.py).
    """

    frames: int = 90
    seconds: float = 3.0
    size: int = 224
    colours: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem: Stem = "imagenet"

    def __post_init__(self) -> None:
        network = self.network()
        object.__setattr__(self, "widths", network.widths)
        object.__setattr__(self, "blocks", network.blocks)
        for name in ("frames", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0.0 < self.seconds < 3600.0:
            raise ValueError(f"seconds must be above 0, not {self.seconds}")

    def network(self) -> ResNetConfig:
        return ResNetConfig(self.colours, self.widths, self.blocks, self.stem)


@register("encoder", "resnet_frames")
class ResNetFrames(Seeing, NetworkEncoder):
    """A frame that cannot be decoded is left out; without any other there are no features.

    Whoever must not lose frames in silence (training) asks `decode_picture` of each first.
    """

    modality: ClassVar[Modality] = Modality.FACIAL
    config_type: ClassVar[type[ResNetFramesConfig]] = ResNetFramesConfig
    pads: ClassVar[bool] = True
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, config: ResNetFramesConfig, assets: Mapping[str, bytes] | None = None
    ) -> None:
        super().__init__(config, assets)
        self.config = config
        self.network = ResNet(config.network())
        self.width = self.network.width
        for name, values in (("mean", MEANS), ("deviation", DEVIATIONS)):
            pixel = 255.0 * torch.tensor(values[config.colours]).view(-1, 1, 1)
            self.register_buffer(name, pixel, persistent=False)

    @classmethod
    def small(cls) -> tuple[ResNetFramesConfig, Mapping[str, bytes]]:
        return ResNetFramesConfig(
            frames=5, size=12, colours=1, widths=(4, 6), blocks=(1, 1), stem="small"
        ), {}

    @classmethod
    def from_pretrained(
        cls, source: str | Path, frames: int = 90, size: int = 224, seconds: float = 3.0
    ) -> Self:
        """ImageNet's or other weights of a ResNet of basic blocks.

        source: torchvision's `.pth` or its tensors as `.safetensors`; a folder with
        `model.safetensors` as transformers writes it; else a name that transformers knows, such as
        microsoft/resnet-18. Raises ValueError, which names the file.
        """
        try:
            state = torchvision_names(_read(source))
            network = config_of(state)
            encoder = cls(
                ResNetFramesConfig(
                    frames,
                    seconds,
                    size,
                    network.colours,
                    network.widths,
                    network.blocks,
                    network.stem,
                )
            )
            encoder.network.load_state_dict(state)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{source}: {error}") from error
        return encoder.eval()

    def front(self, utterance: Utterance) -> Pixels | None:
        """[frame, size, size, colour], the same picture again where none is newer."""
        pictures: list[tuple[Frame, Pixels]] = []
        for frame in utterance.frames:
            try:
                pictures.append((frame, self.decode(frame.image)))
            except PictureUnreadable:
                continue
        if not pictures:
            return None
        chosen = spread(
            [frame for frame, _ in pictures],
            utterance.start_sample,
            utterance.end_sample,
            round(self.config.seconds * SAMPLE_RATE),
            self.config.frames,
        )
        grey = self.config.colours == 1
        distinct = sorted(set(chosen))
        squares = self.squares(
            [pictures[i][1] for i in distinct], [pictures[i][0].sample for i in distinct]
        )
        ready = {
            i: scaled(square, self.config.size, grey)
            for i, square in zip(distinct, squares, strict=True)
        }
        return np.stack([ready[i] for i in chosen])

    def squares(self, pictures: Sequence[Pixels], samples: Sequence[int]) -> list[Pixels]:
        """What the network sees of pictures in order of time, taken at `samples`: the square in
        the middle of each."""
        return [centre_square(pixels) for pixels in pictures]

    def in_bf16(self) -> Self:
        own = self.copied()
        own.network.to_bf16()
        return own

    def forward(self, fronts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """fronts [item, frame, size, size, colour] uint8 -> [item, frame, width]."""
        real = real_steps(fronts.shape[1], lengths)
        pictures = fronts[real]
        # A picture that stands still is computed once: live, most of the frames are repeats.
        changed = torch.ones(len(pictures), dtype=torch.bool, device=fronts.device)
        changed[1:] = (pictures[1:] != pictures[:-1]).flatten(1).any(1)
        pixels = pictures[changed].permute(0, 3, 1, 2).float()
        features = self.network((pixels - self.mean) / self.deviation)
        out = features.new_zeros(*fronts.shape[:2], self.width)
        return out.masked_scatter(real[..., None], features[changed.cumsum(0) - 1]), lengths


def _read(source: str | Path) -> Mapping[str, Tensor]:
    path = Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.is_file():
            raise ValueError("the folder has no model.safetensors; convert the weights to it")
    if path.suffix == ".safetensors" and path.is_file():
        return load_file(path)
    if path.is_file():
        state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    from transformers import ResNetModel

    try:
        network: torch.nn.Module = ResNetModel.from_pretrained(str(source))
    except OSError as error:
        raise ValueError(f"neither a file, a folder nor a model of the hub: {error}") from error
    return network.state_dict()
