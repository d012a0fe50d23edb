"""Values as bytes: frozen dataclasses, tuples, mappings and arrays, and back again.

For what leaves the process (a session's snapshot, in a store that other replicas read). Nothing but
data is in the bytes: a class is named, must be a dataclass, NamedTuple, enum or pydantic model of
our own packages that is loaded already, and is made by its constructor. Pickle could run anything.
Fields go by their order, so a class is named with what its fields are: after an update that changed
them, a state of before is refused and not misread.

What occurs twice is the same object again afterwards, as features of an utterance must be, which
are known by identity.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeAlias
from zlib import crc32

import msgpack
import numpy as np
from pydantic import BaseModel

from emotrace_models.types import frozen_mapping

OURS = ("emotrace_models.", "emotrace_service.", "emotrace_protocol.")
TUPLE, LIST, MAPPING, FROZENSET, ARRAY, SOUND, OBJECT, AGAIN, ENUM, MODEL = range(10)
NUMBERS = re.compile(r"[<|][biuf][1248]")  # as numpy writes types of a fixed size
PLAIN = frozenset({type(None), bool, int, float, str, bytes})
FULL_SCALE = 32_768.0
FAULTS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

Array: TypeAlias = np.ndarray[Any, Any]


class ValueInvalid(ValueError):
    """Bytes that are no value of ours."""


def encode(value: Any) -> bytes:
    """Raises TypeError for what is no value."""
    return Encoder().encode(value)


def decode(data: bytes) -> Any:
    """Raises ValueInvalid."""
    try:
        node = msgpack.unpackb(data, strict_map_key=False)
        return _Decoder().value(node)
    except (*FAULTS, msgpack.UnpackException) as error:
        raise ValueInvalid(f"no value: {error}") from error


class Encoder:
    """Of values of which each has much in common with the one before, as a session's snapshots
    have: an array, which nobody may write to, is not looked at again."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[Array, list[Any]]] = {}

    def encode(self, value: Any) -> bytes:
        """Raises TypeError for what is no value."""
        walk = _Walk(self._before)
        node = walk.node(value)
        self._before = walk.arrays
        return bytes(msgpack.packb(node))


class _Walk:
    """Through one value. arrays: by their addresses, with what became of them."""

    def __init__(self, before: dict[int, tuple[Array, list[Any]]]) -> None:
        self.arrays: dict[int, tuple[Array, list[Any]]] = {}
        self._before = before
        self._known: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no address is used twice meanwhile

    def node(self, value: Any) -> Any:
        (node,) = self.nodes((value,))
        return node

    def nodes(self, values: Iterable[Any]) -> list[Any]:
        known = self._known
        return [
            value
            if type(value) in PLAIN
            else [AGAIN, known[id(value)]]
            if id(value) in known
            else _writer(value.__class__)(self, value)
            for value in values
        ]

    def keep(self, value: Any, node: list[Any]) -> list[Any]:
        """A node of a value that is the same object wherever it occurs."""
        self._known[id(value)] = len(self._kept)
        self._kept.append(value)
        return node

    def array(self, array: Array) -> list[Any]:
        before = self._before.get(id(array))
        node = _array(array) if before is None else before[1]
        self.arrays[id(array)] = array, node  # held, so that no other gets its address
        return self.keep(array, node)


@cache
def _writer(kind: type) -> Callable[[_Walk, Any], Any]:
    """Makes nodes of values of that class. Raises TypeError for a class that has none."""
    if issubclass(kind, Enum):
        name = _name(kind)
        return lambda _, value: [ENUM, name, value.value]
    if issubclass(kind, tuple(PLAIN)):
        return lambda _, value: value
    if issubclass(kind, BaseModel):
        name = _name(kind)
        return lambda _, value: [MODEL, name, value.model_dump_json()]
    if is_dataclass(kind):
        name, parts = _name(kind), tuple(one.name for one in fields(kind))
        return lambda walk, value: walk.keep(
            value, [OBJECT, name, *walk.nodes([getattr(value, part) for part in parts])]
        )
    if issubclass(kind, tuple):
        if hasattr(kind, "_fields"):
            name = _name(kind)
            return lambda walk, value: walk.keep(value, [OBJECT, name, *walk.nodes(value)])
        return lambda walk, value: [TUPLE, *walk.nodes(value)]
    if issubclass(kind, list):
        return lambda walk, value: [LIST, *walk.nodes(value)]
    if issubclass(kind, Mapping):
        return lambda walk, value: [
            MAPPING, *walk.nodes([part for item in value.items() for part in item]),
        ]  # fmt: skip
    if issubclass(kind, frozenset):
        return lambda walk, value: [FROZENSET, *walk.nodes(value)]
    if issubclass(kind, np.ndarray):
        return _Walk.array
    raise TypeError(f"{kind.__name__} is no value that can be kept")


def _array(array: Array) -> list[Any]:
    if array.dtype == np.float32 and array.size:
        scaled = array * np.float32(FULL_SCALE)
        short = scaled.astype(np.int16)
        if (short == scaled).all():  # sound that came in 16 bits takes half the room
            return [SOUND, list(array.shape), short.tobytes()]
    return [ARRAY, array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes()]


def _name(kind: type) -> str:
    if not kind.__module__.startswith(OURS):
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} is no class of ours")
    return f"{kind.__module__}:{kind.__qualname__}:{_shape(kind)}"


@cache
def _shape(kind: type) -> str:
    """Of names and types of its fields."""
    if is_dataclass(kind):
        parts = [f"{one.name}: {one.type}" for one in fields(kind)]
    else:
        parts = list(getattr(kind, "_fields", ()))
    return f"{crc32(', '.join(parts).encode()):08x}"


class _Decoder:
    def __init__(self) -> None:
        self._known: list[Any] = []

    def value(self, node: Any) -> Any:
        if not isinstance(node, list):
            return node
        tag, *parts = node
        if tag == AGAIN:
            return self._known[parts[0]]
        value = self._made(tag, parts)
        if tag in (ARRAY, SOUND, OBJECT):
            self._known.append(value)
        return value

    def _made(self, tag: int, parts: list[Any]) -> Any:
        if tag == TUPLE:
            return tuple(map(self.value, parts))
        if tag == LIST:
            return list(map(self.value, parts))
        if tag == MAPPING:
            values = list(map(self.value, parts))
            return frozen_mapping(dict(zip(values[::2], values[1::2], strict=True)))
        if tag == FROZENSET:
            return frozenset(map(self.value, parts))
        if tag == ARRAY:
            dtype, shape, data = parts
            if not NUMBERS.fullmatch(dtype):  # numpy parses much more, some of it as Python
                raise ValueError("an array is not of numbers")
            return np.frombuffer(data, np.dtype(dtype)).reshape(shape)
        if tag == SOUND:
            shape, data = parts
            sound = np.frombuffer(data, np.int16).astype(np.float32) / np.float32(FULL_SCALE)
            sound.setflags(write=False)
            return sound.reshape(shape)
        name, *rest = parts
        kind = _class(name)
        if tag == ENUM and issubclass(kind, Enum):
            return kind(rest[0])
        if tag == MODEL and issubclass(kind, BaseModel):
            return kind.model_validate_json(rest[0])
        if tag == OBJECT and (is_dataclass(kind) or hasattr(kind, "_fields")):
            return kind(*map(self.value, rest))
        raise ValueError(f"{name} is not what is said of it")


def _class(name: str) -> Any:
    module, path, shape = name.split(":")
    if not f"{module}.".startswith(OURS):
        raise ValueError(f"{module} is no module of ours")
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ValueError(f"{name} is no class")
    if _shape(found) != shape:
        raise ValueError(f"{path} has other fields in the version that wrote it")
    return found
