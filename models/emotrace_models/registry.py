"""Names to classes: what a bundle's config may name.

A module is imported when one of its names is first asked for: some need libraries that take seconds
to load, and a server pays for the models that it serves only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any, Literal, TypeVar

Kind = Literal["encoder", "fusion"]
T = TypeVar("T")

# Where each name is registered: the files of encoders/ and fusion/.
MODULES: dict[Kind, dict[str, str]] = {
    "encoder": {
        "clap_audio": "clap_audio",
        "clap_text": "clap_text",
        "compact_acoustic": "compact_acoustic",
        "compact_face": "compact_face",
        "compact_lexical": "compact_lexical",
        "face_frames": "face_frames",
        "hubert": "hubert",
        "mel_frames": "mel_frames",
        "mel_image": "mel_image",
        "mel_segment": "mel_segment",
        "resnet_frames": "resnet_frames",
        "roberta": "roberta",
        "tera": "tera",
        "words": "words",
    },
    "fusion": {
        "base_xlstm": "base_xlstm",
        "dual_stream": "dual_stream",
        "gated_xlstm": "gated_xlstm",
        "gban": "gban",
        "iaan": "iaan",
        "lmf": "low_rank_fusion",
        "lstm": "lstm",
        "mfb": "factorized_bilinear",
        "mlcct": "mlcct",
        "tfn": "tensor_fusion",
        "tucker": "tucker",
    },
}
PACKAGES: dict[Kind, str] = {
    "encoder": "emotrace_models.encoders",
    "fusion": "emotrace_models.fusion",
}

_entries: dict[tuple[Kind, str], type[Any]] = {}


class UnknownName(LookupError):
    """A name that nothing is registered under; the message lists those that are."""


class BadConfig(ValueError):
    """A config that its class refuses; the message names the setting."""


def register(kind: Kind, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator. Each class has a nested or sibling frozen dataclass as `config_type`."""

    def add(cls: type[T]) -> type[T]:
        if (kind, name) in _entries:
            raise ValueError(f"{kind} {name!r} is registered twice")
        _entries[kind, name] = cls
        return cls

    return add


def names(kind: Kind) -> tuple[str, ...]:
    return tuple(sorted(MODULES[kind]))


def lookup(kind: Kind, name: str) -> type[Any]:
    """Raises UnknownName, which lists the known ones."""
    if name not in MODULES[kind]:
        raise UnknownName(f"no {kind} is called {name!r}; there are {', '.join(names(kind))}")
    import_module(f"{PACKAGES[kind]}.{MODULES[kind][name]}")
    return _entries[kind, name]


def configured(kind: Kind, name: str, config: Mapping[str, Any]) -> Any:
    """The frozen config of `name` from plain values; BadConfig names a key it does not have."""
    config_type = lookup(kind, name).config_type
    known = {field.name for field in fields(config_type)}
    if unknown := sorted(set(config) - known):
        raise BadConfig(f"{kind} {name!r} has no setting {', '.join(unknown)}")
    try:
        return config_type(**config)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"{kind} {name!r}: {error}") from error


def name_of(cls: type[Any]) -> str:
    """The name that a class is registered under."""
    for (_, name), registered in _entries.items():
        if registered is cls:
            return name
    raise UnknownName(f"{cls.__name__} is not registered")
