"""The encoder of a recipe's stream: built, loaded or taken from a bundle, by registered name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from emotrace_models import registry
from emotrace_models.bundle import Bundle, BundleError, bundle_path
from emotrace_models.encoders import Encoder
from emotrace_models.encoders.base import NetworkEncoder
from emotrace_training.recipe import Recipe, RecipeError, Stream

INITIAL_SEED = 0  # of a frozen encoder without weights: one random network for all runs


def key_of(encoder: Encoder, fronts: bool) -> dict[str, Any]:
    """What its features (or what its front end gives, which knows no weights) depend on."""
    files = encoder.asset_files
    key = {
        "encoder": registry.name_of(type(encoder)),
        "config": json.loads(json.dumps(asdict(encoder.config))),
        "assets": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    return {**key, "of": "front"} if fronts else {**key, "weights": weights_hash(encoder)}


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of a module's names and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def build_encoder(
    recipe: Recipe, name: str, texts: Sequence[str], seed: int = INITIAL_SEED
) -> Encoder:
    """The encoder of stream `name`, in evaluation mode. Raises RecipeError.

    texts: of the training split, for an encoder that learns its vocabulary (`from_texts`).
    seed: of the weights that it is not given.
    """
    stream = recipe.streams[name]
    where = f"{recipe.name}: streams.{name}"
    if stream.bundle is not None:
        found = _from_bundle(stream.bundle, name, where)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                found = _built(stream, texts)
            except (registry.UnknownName, registry.BadConfig) as error:
                raise RecipeError(f"{where}: {error}") from error
            except (OSError, ValueError, TypeError) as error:
                raise RecipeError(f"{where}: {stream.encoder}: {error}") from error
    if found.stream != name:
        raise RecipeError(
            f"{where}: this encoder gives the stream {found.stream!r}; name the table so"
        )
    if stream.tune and not isinstance(found, NetworkEncoder):
        raise RecipeError(
            f"{where}: tune: {registry.name_of(type(found))} cannot be trained with the "
            "model; take the key away"
        )
    found.eval()
    return found


def learns_from_texts(stream: Stream) -> bool:
    """Whether the encoder is another one for other training texts."""
    return stream.encoder is not None and hasattr(
        registry.lookup("encoder", stream.encoder), "from_texts"
    )


def _built(stream: Stream, texts: Sequence[str]) -> Encoder:
    kind = cast(Any, registry.lookup("encoder", stream.encoder or ""))
    if hasattr(kind, "from_texts"):
        encoder = kind.from_texts(texts, **stream.config)
        if stream.weights is not None:
            encoder.load_glove(Path(stream.weights))
    elif stream.weights is not None:
        encoder = kind.from_pretrained(stream.weights, **stream.config)
    else:
        encoder = kind(registry.configured("encoder", stream.encoder or "", stream.config), {})
    return cast(Encoder, encoder)


def _from_bundle(source: str, name: str, where: str) -> Encoder:
    try:
        bundle = Bundle.load(bundle_path(source))
    except BundleError as error:
        raise RecipeError(f"{where}: {error}") from error
    for encoder in bundle.encoders:
        if encoder.stream == name:
            return encoder
    streams = ", ".join(encoder.stream for encoder in bundle.encoders)
    raise RecipeError(f"{where}: bundle {source!r} has no stream {name!r}; it has {streams}")
