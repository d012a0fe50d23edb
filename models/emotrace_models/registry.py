"""Names to classes: what a bundle's config may name. One dict a kind, filled at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar

Kind = Literal["encoder", "fusion"]
T = TypeVar("T")

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
    return tuple(sorted(name for entry_kind, name in _entries if entry_kind == kind))


def lookup(kind: Kind, name: str) -> type[Any]:
    try:
        return _entries[kind, name]
    except KeyError:
        raise UnknownName(
            f"no {kind} is called {name!r}; there are {', '.join(names(kind))}"
        ) from None


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
