"""Checkpoints of the laion-clap package (`.pt`) as a CLAP in Hugging Face layout.

Both are one network: names differ, and LAION's audio attention keeps query, key and value in one
matrix. Only unfused checkpoints with HTSAT and RoBERTa are read (630k-best, 630k-audioset-best).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import ClapModel

from emotrace_models.encoders.clap_audio import MEL, ClapAudioConfig
from emotrace_models.encoders.clap_text import ClapTextConfig
from emotrace_models.encoders.mel import mel_filters
from emotrace_models.encoders.subwords import TOKENIZER

_RENAMES = (
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^text_branch\.", "text_model."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"_projection\.([02])\.", lambda found: f"_projection.linear{1 + int(found[1]) // 2}."),
)
# Of training (heads for AudioSet's classes, the second projection of the loss) or rebuilt in code.
_UNUSED = re.compile(
    r"^(audio|text)_transform\.|^audio_branch\.(spectrogram_extractor|logmel_extractor|tscam_conv"
    r"|head)\.|\.attn_mask$|^text_branch\.embeddings\.(position|token_type)_ids$"
)
_QKV = ".attn.qkv."
_HEAD_WIDTH = 64  # RoBERTa's; the weights do not tell it


class BadCheckpoint(ValueError):
    """No LAION checkpoint that can be converted; the message names what is wrong, and the cure."""


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The state dict of a LAION `.pt` file, without the `module.` of multi-GPU training.

    Only tensors and plain numbers are unpickled. Raises BadCheckpoint, OSError.
    """
    scalars = [
        (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
        np._core.multiarray.scalar,  # type: ignore[attr-defined]
        np.dtype,
        *(type(np.dtype(code)) for code in ("f4", "f8", "i8")),
    ]
    try:
        with torch.serialization.safe_globals(scalars):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadCheckpoint(f"{file} is no checkpoint that holds weights only: {error}") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise BadCheckpoint(f"{file} holds no state dict")
    return {key.removeprefix("module."): value for key, value in state.items()}


def configs_of(
    state: Mapping[str, Tensor], text_heads: int | None = None
) -> tuple[ClapAudioConfig, ClapTextConfig]:
    """The sizes that a LAION state dict shows. text_heads: RoBERTa's, else one a 64 of its width.

    Raises BadCheckpoint where it is of another architecture.
    """
    if any(".fusion_model." in key or ".mel_conv" in key for key in state):
        raise BadCheckpoint(
            "this is a fused checkpoint, which reads four spectrograms; take 630k-audioset-best.pt"
        )
    try:
        bias = [
            state[f"audio_branch.layers.{stage}.blocks.0.attn.relative_position_bias_table"]
            for stage in range(4)
        ]
        audio = ClapAudioConfig(
            patch_width=len(state["audio_branch.patch_embed.proj.weight"]),
            depths=tuple(_count(state, f"audio_branch.layers.{s}.blocks.") for s in range(4)),
            heads=tuple(table.shape[1] for table in bias),
            window=(isqrt(len(bias[0])) + 1) // 2,
            projection=len(state["audio_projection.2.bias"]),
        )
        words = state["text_branch.embeddings.word_embeddings.weight"]
        text = ClapTextConfig(
            vocabulary=words.shape[0],
            width=words.shape[1],
            layers=_count(state, "text_branch.encoder.layer."),
            heads=text_heads or max(1, words.shape[1] // _HEAD_WIDTH),
            inner=len(state["text_branch.encoder.layer.0.intermediate.dense.bias"]),
            positions=len(state["text_branch.embeddings.position_embeddings.weight"]),
            projection=len(state["text_projection.2.bias"]),
        )
    except KeyError as error:
        raise BadCheckpoint(
            f"there is no {error}: only CLAP with HTSAT and RoBERTa can be converted"
        ) from None
    filters = state.get("audio_branch.logmel_extractor.melW")
    if filters is not None and (
        filters.shape != (MEL.n_fft // 2 + 1, MEL.bands)
        or not np.allclose(filters.numpy(), mel_filters(MEL), atol=1e-6)
    ):
        raise BadCheckpoint("the checkpoint was trained on another mel spectrum than 50-14,000 Hz")
    return audio, text


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LAION's names and matrices -> those of transformers' ClapModel."""
    return dict(_pairs(state))


def clap_model(state: Mapping[str, Tensor], text_heads: int | None = None) -> ClapModel:
    """A LAION state dict as transformers' ClapModel, in evaluation mode. Raises BadCheckpoint."""
    audio, text = configs_of(state, text_heads)
    model = ClapModel(
        transformers.ClapConfig(
            audio_config=audio.network().to_dict(),
            text_config=text.network().to_dict(),
            projection_dim=audio.projection,
        )
    )
    try:
        missing, unknown = model.load_state_dict(converted(state), strict=False)
    except RuntimeError as error:
        raise BadCheckpoint(f"another architecture: {error}") from error
    rebuilt = ("relative_position_index", "position_ids", "token_type_ids")
    wrong = [*unknown, *(key for key in missing if not key.endswith(rebuilt))]
    if wrong:
        raise BadCheckpoint(f"another architecture: {len(wrong)} names differ, first {wrong[0]}")
    model.train(False)
    return model


def convert(file: Path, folder: Path, tokenizer: Path, text_heads: int | None = None) -> None:
    """Write `file` to `folder` as config.json, model.safetensors and tokenizer.json.

    tokenizer: RoBERTa's tokenizer.json, which no checkpoint holds. `ClapAudio.from_pretrained` and
    `ClapText.from_pretrained` read the folder. Raises BadCheckpoint, OSError.
    """
    kind: Any = transformers.PreTrainedTokenizerFast
    words = kind(tokenizer_file=str(tokenizer), pad_token="<pad>")
    state = read_checkpoint(file)
    model = clap_model(state, text_heads)
    if len(words) > len(state["text_branch.embeddings.word_embeddings.weight"]):
        raise BadCheckpoint(f"{tokenizer} has {len(words)} tokens, more than {file} was trained on")
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    if not (folder / TOKENIZER).exists():
        raise BadCheckpoint(f"{tokenizer} could not be written to {folder / TOKENIZER}")


def _pairs(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        if _UNUSED.search(key):
            continue
        if _QKV in key:
            for name, part in zip(("query", "key", "value"), value.chunk(3), strict=True):
                yield _renamed(key.replace(_QKV, f".attn.{name}.")), part.contiguous()
        else:
            yield _renamed(key), value


def _renamed(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts follow `prefix`."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
