"""JSON that means one thing: no key stands twice, no number is NaN or endless, no deep nesting."""

from __future__ import annotations

import json
from typing import Any, NoReturn

DEEPEST = 16  # arrays and objects in one another
MOST_DIGITS = 20  # of an integer: 64 bits have as many


def parse(data: bytes) -> Any:
    """The value of a document in UTF-8. Raises ValueError, which says what is wrong and where."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_constant=_no_number,
        )
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST}") from None
    _check_depth(value, DEEPEST)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(f"nested deeper than {DEEPEST}")
        for one in value.values() if isinstance(value, dict) else value:
            _check_depth(one, left - 1)
