"""ResNet with basic blocks (He et al., 2016): pictures in, one vector each out.

Parameters are named as in torchvision's `resnet18`, whose ImageNet weights load as they are, but
for the classifier; `torchvision_names` renames those of the transformers library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotrace_models.layers.precision import entering, joined

Stem = Literal["imagenet", "small", "halving"]
STEMS: dict[Stem, tuple[int, int]] = {"imagenet": (7, 2), "small": (3, 1), "halving": (5, 2)}

_CLASSIFIER = re.compile(r"(fc|classifier\.\d+)\.(weight|bias)")
_RENAMED = (
    (r"^resnet\.", ""),
    (r"^embedder\.embedder\.convolution\.", "conv1."),
    (r"^embedder\.embedder\.normalization\.", "bn1."),
    (r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}."),
    (r"\.layer\.(\d)\.convolution\.", lambda m: f".conv{int(m[1]) + 1}."),
    (r"\.layer\.(\d)\.normalization\.", lambda m: f".bn{int(m[1]) + 1}."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
)


@dataclass(frozen=True, slots=True)
class ResNetConfig:
    """The defaults are ResNet-18. Raises ValueError, which names the setting.

    colours: 3, or 1 for grey. widths, blocks: of each stage, which but the first halve the picture.
    stem: `imagenet`, 7 x 7 with stride 2 and a pool; for faces of some 48 pixels `small`, 3 x 3
        with stride 1, or `halving`, 5 x 5 with stride 2, at a quarter of the cost.
    """

    colours: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem: Stem = "imagenet"

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has only lists
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.colours not in (1, 3):
            raise ValueError(f"colours must be 1 or 3, not {self.colours}")
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError("widths and blocks must have one number for each stage")
        if min(*self.widths, *self.blocks) < 1:
            raise ValueError("widths and blocks must be at least 1")
        if self.stem not in get_args(Stem):
            raise ValueError(f"stem must be one of {', '.join(get_args(Stem))}")


class BasicBlock(nn.Module):
    def __init__(self, narrow: int, wide: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.downsample = nn.Sequential()
        if stride != 1 or narrow != wide:
            self.downsample.append(nn.Conv2d(narrow, wide, 1, stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(wide))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.width = config.widths[-1]
        size, stride = STEMS[config.stem]
        self.conv1 = nn.Conv2d(
            config.colours, config.widths[0], size, stride, size // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(config.widths[0])
        self.pool = nn.MaxPool2d(3, 2, 1) if config.stem == "imagenet" else nn.Identity()
        self.stages = [f"layer{index}" for index in range(1, len(config.widths) + 1)]
        narrow = config.widths[0]
        for index, (name, wide) in enumerate(zip(self.stages, config.widths, strict=True)):
            stage = nn.Sequential()
            for block in range(config.blocks[index]):
                stage.append(BasicBlock(narrow, wide, 2 if index and not block else 1))
                narrow = wide
            self.add_module(name, stage)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """[picture, colour, height, width] -> [picture, last width]."""
        pictures = entering(pictures, self)
        if not torch.is_grad_enabled():  # a fifth quicker on a CPU
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        x: Tensor = self.pool(F.relu(self.bn1(self.conv1(pictures))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return x.float().mean((-2, -1))

    def to_bf16(self) -> None:
        """Convolutions in bfloat16 from now on, each joined with its norm: for inference alone."""
        pairs: list[tuple[nn.Module, str, str]] = [(self, "conv1", "bn1")]
        for block in self.modules():
            if isinstance(block, BasicBlock):
                pairs += [(block, "conv1", "bn1"), (block, "conv2", "bn2")]
                if len(block.downsample):
                    pairs.append((block.downsample, "0", "1"))
        for parent, conv, norm in pairs:
            both = joined(parent.get_submodule(conv), parent.get_submodule(norm))
            parent.add_module(conv, both)
            parent.add_module(norm, nn.Identity())


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision or transformers -> one that ResNet loads, without classifier.

    Raises ValueError for a network of bottleneck blocks (ResNet-50 and larger) and for none at all.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if _CLASSIFIER.fullmatch(key):
            continue
        name = key
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    if "conv1.weight" not in renamed:
        raise ValueError(f"no ResNet: it has no conv1.weight, but {sorted(renamed)[:3]}")
    if any(".conv3." in name for name in renamed):
        raise ValueError("a ResNet of bottleneck blocks; take ResNet-18 or ResNet-34")
    return renamed


def config_of(state: Mapping[str, Tensor]) -> ResNetConfig:
    """The config of a network with these tensors, which `torchvision_names` gave."""
    stages: dict[int, list[Tensor]] = {}
    for name, value in state.items():
        if match := re.fullmatch(r"layer(\d+)\.\d+\.conv1\.weight", name):
            stages.setdefault(int(match[1]), []).append(value)
    stem = state["conv1.weight"]
    return ResNetConfig(
        colours=stem.shape[1],
        widths=tuple(len(stages[stage][0]) for stage in sorted(stages)),
        blocks=tuple(len(stages[stage]) for stage in sorted(stages)),
        stem=next(name for name, (size, _) in STEMS.items() if size == stem.shape[-1]),
    )
