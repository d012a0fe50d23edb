"""Reads HuBERT and wav2vec 2.0 in Hugging Face layout: a folder or a name of the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    HubertForSequenceClassification,
    HubertModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
)

from emotrace_models.encoders.pretrained import load_network
from emotrace_models.types import SAMPLE_RATE

Weights = tuple[dict[str, Tensor], Tensor | None]

_KINDS = {
    "hubert": (HubertModel, HubertForSequenceClassification),
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2ForSequenceClassification),
}
_SETTINGS = {  # ours: theirs
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
    "channels": "conv_dim",
    "kernels": "conv_kernel",
    "strides": "conv_stride",
    "convolution_bias": "conv_bias",
    "convolution_norm": "feat_extract_norm",
    "stable": "do_stable_layer_norm",
    "positions": "num_conv_pos_embeddings",
    "position_groups": "num_conv_pos_embedding_groups",
    "epsilon": "layer_norm_eps",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "feature_dropout": "feat_proj_dropout",
    "layer_drop": "layerdrop",
}


def read_pretrained(source: str | Path) -> tuple[dict[str, Any], Callable[[Any], Weights]]:
    """Settings of HubertConfig, and what reads the weights for a transformers config of them: the
    network's state and, of a classifier that learnt them, its layer weights before softmax.

    Raises ValueError, which names the source and the cure; so does the reader.
    """
    try:
        found = AutoConfig.from_pretrained(str(source))
    except (OSError, ValueError) as error:
        raise ValueError(f"no HuBERT or wav2vec2 at {source}: {_cure()} ({error})") from error
    if found.model_type not in _KINDS:
        raise ValueError(f"{source} is a {found.model_type}, not HuBERT or wav2vec2: {_cure()}")
    if getattr(found, "add_adapter", False) or getattr(found, "adapter_attn_dim", None):
        raise ValueError(f"{source} has adapters, which this encoder has not: {_cure()}")
    if {found.hidden_act, found.feat_extract_activation} != {"gelu"}:
        raise ValueError(f"{source} has an activation other than gelu: {_cure()}")
    values = {ours: getattr(found, theirs) for ours, theirs in _SETTINGS.items()}
    values["family"] = found.model_type
    if found.model_type == "hubert":
        values["feature_norm"] = found.feat_proj_layer_norm
        values["position_norm"] = found.conv_pos_batch_norm
    learnt = found.use_weighted_layer_sum and any(
        name.endswith("ForSequenceClassification") for name in found.architectures or ()
    )
    values["features"] = "weighted" if learnt else "last"
    values["normalise"] = _normalises(source)

    def build(config: Any) -> Weights:
        if learnt:  # its head is read and thrown away, so it must have its size
            config.use_weighted_layer_sum = True
            config.num_labels = found.num_labels
            config.classifier_proj_size = found.classifier_proj_size
        return _weights(source, config, learnt)

    return values, build


def _normalises(source: str | Path) -> bool:
    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(str(source))
    except OSError:  # no preprocessor_config.json
        return True
    if extractor.sampling_rate != SAMPLE_RATE:
        raise ValueError(f"{source} hears {extractor.sampling_rate} Hz, not {SAMPLE_RATE}")
    return bool(extractor.do_normalize)


def _weights(source: str | Path, config: Any, learnt: bool) -> Weights:
    kind: Any = _KINDS[config.model_type][learnt]
    try:
        model = load_network(kind, source, config, dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"no safetensors weights at {source}: {_cure()} ({error})") from error
    if not learnt:
        return model.state_dict(), None
    return getattr(model, config.model_type).state_dict(), model.layer_weights.detach()


def _cure() -> str:
    return (
        "name a folder with config.json and model.safetensors, or a name of the hub such as "
        "facebook/hubert-base-ls960"
    )
