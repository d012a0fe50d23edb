"""s3prl's TERA checkpoints: a pickled dict with `Transformer`, `SpecHead`, `Config` and settings.

Only tensors, plain values and argparse's Namespace are unpickled, so a checkpoint cannot run code.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# s3prl's name of a part of a layer -> ours.
LAYER = {
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attended",
    "attention.output.LayerNorm": "attended_norm",
    "intermediate.dense": "inner",
    "output.dense": "outer",
    "output.LayerNorm": "outer_norm",
}
INPUT = {
    "input_representations.spec_transform": "project",
    "input_representations.LayerNorm": "project_norm",
}


def read_s3prl(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings of a TeraConfig and a state dict of Tera.

    Raises ValueError, which names the file and the cure: what is no such checkpoint, holds objects
    that are not unpickled here, or is a model of another form (other features, pre-norm).
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            states = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file}: holds objects that are not read here for safety. Where you trust it, save "
            "its keys Transformer and Config (or Upstream_Config) alone with torch.save, and name "
            f"that file ({error})"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file}: cannot be read; download it again: {error}") from error
    if not isinstance(states, Mapping) or "Transformer" not in states:
        raise ValueError(f"{file}: no checkpoint of an s3prl Transformer: it has no `Transformer`")
    state = {_ours(file, name): tensor for name, tensor in states["Transformer"].items()}
    if "project.weight" not in state:
        raise ValueError(f"{file}: its Transformer has no input_representations.spec_transform")
    return _settings(file, states, state["project.weight"].shape[1]), state


def _ours(file: Path, name: str) -> str:
    """s3prl's name of a tensor in our words. Old checkpoints call a norm's tensors gamma, beta."""
    module, _, kind = name.rpartition(".")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    if module in INPUT:
        return f"{INPUT[module]}.{kind}"
    _, _, rest = module.partition("encoder.layer.")
    number, _, part = rest.partition(".")
    if part not in LAYER:
        raise ValueError(f"{file}: tensor {name!r} belongs to no TERA of this form")
    return f"layers.{number}.{LAYER[part]}.{kind}"


def _settings(file: Path, states: Mapping[str, Any], bands: int) -> dict[str, Any]:
    for key in ("Config", "Upstream_Config"):
        config = states.get(key)
        if isinstance(config, Mapping) and "transformer" in config:
            break
    else:
        raise ValueError(f"{file}: neither Config nor Upstream_Config holds `transformer`")
    form = config["transformer"]
    refused = {"pre_layer_norm": (False, None), "share_layer": (False, None), "hidden_act": "gelu"}
    for name, allowed in refused.items():
        if form.get(name) not in (allowed if isinstance(allowed, tuple) else (allowed, None)):
            raise ValueError(f"{file}: {name} is {form[name]!r}, which is not TERA's")
    _check_audio(file, config.get("audio"), bands)
    length = int(config.get("task", {}).get("sequence_length", 0))
    try:
        return {
            "bands": bands,
            "layers": int(form["num_hidden_layers"]),
            "width": int(form["hidden_size"]),
            "heads": int(form["num_attention_heads"]),
            "inner": int(form["intermediate_size"]),
            "epsilon": float(form["layer_norm_eps"]),
            "dropout": float(form["hidden_dropout_prob"]),
            **({"frames": length} if length > 0 else {}),
        }
    except KeyError as error:
        raise ValueError(f"{file}: its config has no {error}") from error


def _check_audio(file: Path, audio: Any, bands: int) -> None:
    """Raises ValueError unless the features are those that `tera.normalised_log_mel` computes."""
    if audio is None:
        return  # the oldest checkpoints do not say; their width tells
    source = audio.get("input") if isinstance(audio, Mapping) else None
    expected = {"feat_type": "mel", "log": True, "delta": 0, "cmvn": True}
    timing = {"win_ms": 25, "hop_ms": 10, "n_freq": 201, "n_mels": bands, "target_level": -25}
    if not isinstance(source, Mapping):
        raise ValueError(f"{file}: was trained on other features than log-mel: {audio!r}")
    for name, value in {**expected, **timing}.items():
        found = (source if name in expected else audio).get(name, value)
        if found != value:
            raise ValueError(f"{file}: was trained on audio with {name} {found!r}, not {value!r}")
