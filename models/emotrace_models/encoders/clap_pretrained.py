"""Reads one tower of a CLAP in Hugging Face layout: a folder or a name of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, ClapAudioConfig, ClapConfig, ClapTextConfig

from emotrace_models.encoders.pretrained import load_network


def clap_configs(source: str | Path) -> tuple[ClapAudioConfig, ClapTextConfig]:
    """Of the two towers. Raises ValueError where `source` is no CLAP, OSError for no config."""
    config = AutoConfig.from_pretrained(str(source))
    if not isinstance(config, ClapConfig) or not (
        isinstance(config.audio_config, ClapAudioConfig)
        and isinstance(config.text_config, ClapTextConfig)
    ):
        raise ValueError(
            f"{source} is a {config.model_type}, not a CLAP; take a folder that `emotrace-train "
            "convert-clap` wrote, or laion/clap-htsat-unfused"
        )
    return config.audio_config, config.text_config


def clap_tower(kind: Any, source: str | Path, config: Any) -> Any:
    """The tower of class `kind` with the weights of `source`, from safetensors alone.

    Raises ValueError where it lacks some, OSError where there are no safetensors.
    """
    try:
        return load_network(kind, source, config)
    except OSError as error:
        raise OSError(
            f"{error} Only safetensors are read; `emotrace-train convert-clap` makes them of "
            "laion-clap's 630k-audioset-best.pt"
        ) from error
