"""The header of a safetensors file, checked before the library that reads the tensors sees it.

8 bytes, little endian   length of the header
the header, in JSON      name: {dtype, shape, data_offsets: [begin, end]}
the data                 every byte belongs to exactly one tensor
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import torch

from emotrace_models import strict_json

MOST_BYTES = 1 << 20  # of the header
MOST_DIMENSIONS = 8
LONGEST_NAME = 256
METADATA = "__metadata__"

_LENGTH_BYTES = 8

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class HeaderInvalid(ValueError):
    """No safetensors file, or one that says of itself what cannot be."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a file says of one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def read_header(data: bytes) -> dict[str, TensorSpec]:
    """What the whole file `data` holds, by name. Raises HeaderInvalid."""
    if len(data) < _LENGTH_BYTES:
        raise HeaderInvalid(f"it is {len(data)} bytes long, shorter than any safetensors file")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    begin = _LENGTH_BYTES + length
    if length > MOST_BYTES:
        raise HeaderInvalid(f"its header would be {length} bytes long; at most {MOST_BYTES} are")
    if begin > len(data):
        raise HeaderInvalid(f"its header would end at byte {begin} of {len(data)}")
    header = _parsed(data[_LENGTH_BYTES:begin])
    entries = {name: _entry(name, entry) for name, entry in header.items()}
    _check_places([(place, name) for name, (_, place) in entries.items()], len(data) - begin)
    return {name: spec for name, (spec, _) in entries.items()}


def _parsed(data: bytes) -> dict[str, Any]:
    if not data.startswith(b"{"):
        raise HeaderInvalid("its header does not begin with '{'")
    try:
        header = strict_json.parse(data)
    except ValueError as error:
        raise HeaderInvalid(f"its header is not proper JSON: {error}") from error
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderInvalid(f"{METADATA} of its header is no table of texts")
    found: dict[str, Any] = header
    return found


def _entry(name: str, entry: Any) -> tuple[TensorSpec, tuple[int, int]]:
    if len(name) > LONGEST_NAME:
        raise HeaderInvalid(f"a tensor's name has {len(name)} characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise HeaderInvalid(f"{name!r} must have dtype, shape and data_offsets, and nothing else")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise HeaderInvalid(f"{name!r} is of type {dtype!r}; there are {', '.join(DTYPES)}")
    if not _are_counts(shape) or len(shape) > MOST_DIMENSIONS:
        raise HeaderInvalid(f"{name!r} has no proper shape")
    if not _are_counts(place) or len(place) != 2:
        raise HeaderInvalid(f"{name!r} has no proper data_offsets")
    spec = TensorSpec(DTYPES[dtype], tuple(shape))
    begin, end = place
    if end - begin != prod(shape) * spec.dtype.itemsize:
        raise HeaderInvalid(f"{name!r} of {dtype} {shape} cannot lie in {end - begin} bytes")
    return spec, (begin, end)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _check_places(places: list[tuple[tuple[int, int], str]], size: int) -> None:
    """Raises HeaderInvalid unless the places follow one another from 0 to `size`."""
    places.sort()
    edges = [((0, 0), "its data begin"), *places, ((size, size), "its data end")]
    for ((_, end), one), ((begin, _), other) in pairwise(edges):
        if begin != end:
            what = "overlap" if begin < end else "leave a gap"
            raise HeaderInvalid(f"{one!r} and {other!r} {what} (bytes {begin} and {end})")
