"""Names to classes: what a bundle's config may name. One dict a kind, filled at import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

Kind = Literal["encoder", "fusion"]
T = TypeVar("T")

_entries: dict[tuple[Kind, str], type[Any]] = {}


class UnknownName(KeyError):
    """A name that nothing is registered under; the message lists those that are."""


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


def create(kind: Kind, name: str, config: dict[str, Any]) -> Any:
    """Build `name` from its plain config; TypeError names a key that the config does not have."""
    cls = lookup(kind, name)
    return cls(cls.config_type(**config))
