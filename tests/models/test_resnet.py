"""ResNet against transformers' own, and the two layouts that its weights come in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import ResNetConfig as TheirConfig
from transformers import ResNetForImageClassification, ResNetModel

from emotrace_models.encoders.resnet_frames import ResNetFrames
from emotrace_models.layers.resnet import (
    ResNet,
    ResNetConfig,
    config_of,
    torchvision_names,
)

WIDTHS, BLOCKS = (8, 12, 16, 24), (2, 2, 1, 3)


def theirs(layer_type: str = "basic") -> ResNetForImageClassification:
    """A random network of transformers whose batch norms have seen something."""
    torch.manual_seed(2)
    config = TheirConfig(
        embedding_size=8,
        hidden_sizes=list(WIDTHS),
        depths=list(BLOCKS),
        layer_type=layer_type,
        hidden_act="relu",
    )
    network = ResNetForImageClassification(config).eval()
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if "running" in name:
                spread = 0.1 * torch.randn_like(buffer)
                buffer.add_(spread.abs() if "var" in name else spread)
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def pictures() -> Tensor:
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(4))


def test_equals_transformers_with_the_same_weights() -> None:
    network = theirs()
    state = torchvision_names(network.state_dict())
    config = config_of(state)
    assert config == ResNetConfig(3, WIDTHS, BLOCKS, "imagenet")
    ours = ResNet(config).eval()
    ours.load_state_dict(state)
    with torch.inference_mode():
        expected = network.resnet(pictures()).pooler_output.flatten(1)
        found = ours(pictures())
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_gradients_equal_those_of_transformers() -> None:
    network = theirs()
    ours = ResNet(ResNetConfig(3, WIDTHS, BLOCKS)).eval()
    ours.load_state_dict(torchvision_names(network.state_dict()))
    network.resnet(pictures()).pooler_output.square().sum().backward()
    ours(pictures()).square().sum().backward()
    expected = network.resnet.embedder.embedder.convolution.weight.grad
    torch.testing.assert_close(ours.conv1.weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_resnet_18_has_torchvisions_names_and_parameters() -> None:
    """torchvision publishes 11,689,512 for resnet18, of which the classifier has 513,000."""
    with torch.device("meta"):
        network = ResNet(ResNetConfig())
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000
    names = set(network.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight"} <= names
    assert {"layer4.1.conv2.weight", "layer4.1.bn2.num_batches_tracked"} <= names
    assert not any(name.startswith(("layer1.0.downsample", "fc")) for name in names)


def test_both_layouts_load_from_files_by_path(tmp_path: Path) -> None:
    network = theirs()
    network.save_pretrained(tmp_path / "hugging_face")
    state = torchvision_names(network.state_dict())
    classifier = {"fc.weight": torch.ones(5, 24), "fc.bias": torch.ones(5)}
    torch.save(state | classifier, tmp_path / "resnet.pth")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "resnet.safetensors")
    for name in ("hugging_face", "resnet.pth", "resnet.safetensors"):
        encoder = ResNetFrames.from_pretrained(tmp_path / name, frames=7, size=40)
        assert (encoder.config.frames, encoder.config.size, encoder.width) == (7, 40, 24)
        assert (encoder.config.widths, encoder.config.blocks) == (WIDTHS, BLOCKS)
        for key, value in encoder.network.state_dict().items():
            assert torch.equal(value, state[key]), key


def test_a_checkpoint_of_another_architecture_is_named(tmp_path: Path) -> None:
    bottleneck, other = tmp_path / "resnet50.pth", tmp_path / "other.safetensors"
    torch.save(theirs("bottleneck").state_dict(), bottleneck)
    save_file({"linear.weight": torch.ones(2, 2)}, other)
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, message in (
        (bottleneck, r"resnet50\.pth: a ResNet of bottleneck blocks"),
        (other, r"other\.safetensors: no ResNet: it has no conv1"),
        (empty, r"empty: the folder has no model\.safetensors"),
    ):
        with pytest.raises(ValueError, match=message):
            ResNetFrames.from_pretrained(source)


def test_a_network_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    state = torchvision_names(theirs().state_dict())
    del state["layer4.2.bn2.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"(?s)cut\.pth: .*layer4\.2\.bn2\.weight"):
        ResNetFrames.from_pretrained(tmp_path / "cut.pth")


def test_transformers_own_class_is_what_a_name_would_load() -> None:
    """A hub name goes through ResNetModel, whose tensors lack the leading `resnet.`."""
    network = ResNetModel(theirs().config)
    assert config_of(torchvision_names(network.state_dict())).widths == WIDTHS
