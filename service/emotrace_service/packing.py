"""Packing: a value on its way to another process of ours, and what comes back for it.

A dialogue's parts are known by identity: what was read of an utterance's features belongs to that
very object, what was sensed to the very state of the speaker that it began from. Within one message
identity is kept; across two it would be lost, and all would be computed again. So an answer names
what came with the request by its number, instead of holding a copy: whoever asked gets their own
objects back, and the answer is short.

    request    pack(value)                     ─►  value = unpack(data)
    answer     unpack(data, parts(request))   ◄─   pack(value, parts(request))

Both sides number the parts of the request alike. These are pickles, which can do anything when they
are read: only for messages between our own processes, never for what a client sent.
"""

from __future__ import annotations

import copyreg
import pickle
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Any

import numpy as np

from emotrace_models.decoding import Beam
from emotrace_models.types import frozen_mapping

PROTOCOL = 5


def _reduce_mapping(
    mapping: MappingProxyType[Any, Any],
) -> tuple[Callable[..., Any], tuple[dict[Any, Any]]]:
    """Read-only mappings are not pickled by Python itself."""
    return frozen_mapping, (dict(mapping),)


REDUCERS: Any = ChainMap({MappingProxyType: _reduce_mapping}, copyreg.dispatch_table)


class _Packer(pickle.Pickler):
    def __init__(self, file: BytesIO, theirs: Sequence[object]) -> None:
        super().__init__(file, PROTOCOL)
        self.dispatch_table = REDUCERS
        self._numbers = {id(part): number for number, part in enumerate(theirs)}

    def persistent_id(self, value: object) -> int | None:
        return self._numbers.get(id(value))


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: BytesIO, own: Sequence[object]) -> None:
        super().__init__(file)
        self._own = own

    def persistent_load(self, number: int) -> object:
        return self._own[number]


def pack(value: object, theirs: Sequence[object] = ()) -> bytes:
    """theirs: `parts` of the request that this answers."""
    file = BytesIO()
    _Packer(file, theirs).dump(value)
    return file.getvalue()


def unpack(data: bytes, own: Sequence[object] = ()) -> Any:
    """own: `parts` of the request that was answered."""
    return _Unpacker(BytesIO(data), own).load()


def parts(value: object) -> list[object]:
    """Arrays, mappings, beams and dataclasses in a value, itself included, in a fixed order.

    A value and its unpacked copy have the same number of parts, each at the same place.
    """
    found: dict[int, object] = {}
    _gather(value, found)
    return list(found.values())


def _gather(value: object, found: dict[int, object]) -> None:
    if id(value) in found:
        return
    if isinstance(value, np.ndarray | Beam):  # a beam is never changed: it is new, or it is the old
        found[id(value)] = value
    elif isinstance(value, Mapping):
        found[id(value)] = value
        for key, one in value.items():
            _gather(key, found)
            _gather(one, found)
    elif isinstance(value, tuple):
        for one in value:
            _gather(one, found)
    elif is_dataclass(value) and not isinstance(value, type):
        found[id(value)] = value
        for field in fields(value):
            _gather(getattr(value, field.name), found)
